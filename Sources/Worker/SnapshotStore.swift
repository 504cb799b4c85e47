import Core
import Glibc
import Transport

/// A worker's snapshots on disk. They are not trusted: the state machine checks with the ledger whether a snapshot belongs to its history, and the
/// snapshot's own checksum is checked before any of it is used.
struct SnapshotStore: Sendable {
    private static let suffix = ".snapshot"
    private static let kept = 2

    private let directory: String?
    /// Two workers in one directory would delete each other's snapshots.
    private let lock: FileLock?
    private var paths: [SnapshotPosition: String] = [:]
    /// Reasons why files that are there can't be used.
    private(set) var warnings: [String] = []

    /// Positions of all readable snapshots. Their parameters are not looked at.
    var found: [SnapshotPosition] { Array(paths.keys) }

    /// - Parameters:
    ///   - directory: the worker's directory. It is made if it does not exist.
    ///   - bootstrap: a snapshot from elsewhere, which must exist.
    /// - Throws: `ProcessFailure` if the directory can't be made or the bootstrap file can't be read.
    init(directory: String?, bootstrap: String?) throws(ProcessFailure) {
        self.directory = directory
        if let directory { lock = try Self.lock(directory) } else { lock = nil }
        if let directory {
            guard let names = Self.names(in: directory) else {
                throw ProcessFailure(.cannotCreate, "can't use the state directory \(directory): \(String(cString: strerror(errno)))")
            }
            // Left by a process that was killed while it wrote one.
            for name in Self.names(in: directory, suffix: Self.suffix + ".partial") ?? [] where name.hasPrefix(Self.prefix) {
                unlink("\(directory)/\(name)")
            }
            for name in names {
                let path = "\(directory)/\(name)"
                do {
                    paths[try Self.position(of: path)] = path
                } catch {
                    warnings.append("\(path) is skipped: \(error)")
                }
            }
        }
        if let bootstrap {
            do {
                paths[try Self.position(of: bootstrap)] = bootstrap
            } catch let failure as ProcessFailure {
                throw failure
            } catch {
                throw ProcessFailure(.badData, "\(bootstrap): \(error)")
            }
        }
    }

    /// Makes the directory if it does not exist, and locks it.
    private static func lock(_ directory: String) throws(ProcessFailure) -> FileLock {
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else {
            throw ProcessFailure(.cannotCreate, "can't use the state directory \(directory): \(String(cString: strerror(errno)))")
        }
        do throws(FileLock.Failure) {
            return try FileLock("\(directory)/lock")
        } catch {
            switch error {
            case .held(let process):
                throw ProcessFailure(
                    .temporary, "the state directory \(directory) is in use by \(LockHolder.text(process)); give each worker one of its own")
            case .system(let code):
                throw ProcessFailure(.cannotCreate, "can't use the state directory \(directory): \(String(cString: strerror(code)))")
            }
        }
    }

    /// The basis that an earlier run has left here.
    var basis: [UInt8]? { directory.flatMap { try? withMappedBasis("\($0)/\(Self.basisName)") } }

    private static let basisName = "basis"

    private func withMappedBasis(_ path: String) throws -> [UInt8] {
        var bytes: [UInt8] = []
        try Self.withMapped(path) { bytes = [UInt8]($0) }
        return bytes
    }

    /// Keeps the run's basis for the next start, which then need not download it again. A failure is no reason to stop.
    func keep(basis: [UInt8]) {
        guard let directory, self.basis != basis else { return }
        let (path, partial) = ("\(directory)/\(Self.basisName)", "\(directory)/\(Self.basisName).partial")
        let descriptor = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { return }
        let isWritten = write(descriptor, basis, basis.count) == basis.count
        close(descriptor)
        if !isWritten || rename(partial, path) != 0 { unlink(partial) }
    }

    private static func position(of path: String) throws -> SnapshotPosition {
        try withMapped(path) { try Parameters.positionOfSnapshot($0) }
    }

    func withBytes(of position: SnapshotPosition, _ body: (UnsafeRawBufferPointer) throws -> Void) throws {
        guard let path = paths[position] else { throw ProcessFailure(.missingInput, "the file is gone") }
        do {
            try Self.withMapped(path, body)
        } catch let error as SnapshotError {
            throw ProcessFailure(.badData, "\(path): \(error)")
        }
    }

    /// Has `write` make a snapshot of this many records, and deletes all but the newest ones.
    func keep(_ records: UInt64, _ write: (String) throws -> Void) throws {
        guard let directory else { return }
        try write("\(directory)/\(Self.name(records))")
        // Only files that were written here. A file that somebody has put here stays.
        let names = (Self.names(in: directory) ?? []).filter { $0.hasPrefix(Self.prefix) }
        // The new one, and the newest of the others: those of another run may have higher numbers.
        let others = names.filter { $0 != Self.name(records) }.sorted { ($0.count, $0) < ($1.count, $1) }
        for name in others.dropLast(Self.kept - 1) { unlink("\(directory)/\(name)") }
    }

    /// Returns the names of all snapshots in a directory; nil if it can't be read.
    private static func names(in directory: String, suffix: String = suffix) -> [String]? {
        guard let stream = opendir(directory) else { return nil }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasSuffix(suffix) { names.append(name) }
        }
        return names
    }

    private static let prefix = "parameters-"
    private static func name(_ records: UInt64) -> String { "\(prefix)\(records)\(suffix)" }

    private static func withMapped<Value>(_ path: String, _ body: (UnsafeRawBufferPointer) throws -> Value) throws -> Value {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ProcessFailure(.missingInput, "can't read \(path): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_size > 0 else { throw SnapshotError.truncated }
        guard let address = mmap(nil, Int(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
            throw ProcessFailure(.inputOutput, "can't map \(path): \(String(cString: strerror(errno)))")
        }
        defer { munmap(address, Int(status.st_size)) }
        return try body(UnsafeRawBufferPointer(start: address, count: Int(status.st_size)))
    }
}
