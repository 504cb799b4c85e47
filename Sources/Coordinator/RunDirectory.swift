import Core
import Glibc

/// The files that a coordinator keeps on disk.
public struct RunDirectory: Hashable, Sendable {
    public let path: String
    public init(_ path: String) { self.path = path }

    /// The run itself: base model + this file = fine-tuned model.
    public var ledger: String { path + "/ledger" }
    /// The canonical spec, for people and scripts. The ledger holds it too, and the ledger's counts.
    public var spec: String { path + "/run.json" }
    /// The secret key with which the coordinator signs the ledger. The file with the suffix `.pub` has the public half.
    public var signingKey: String { path + "/signing.key" }
    /// Everything that happened, one JSON object on each line.
    public var metrics: String { path + "/metrics.jsonl" }

    /// The lock of the process that writes here.
    public var lock: String { path + "/lock" }

    /// Takes the lock of an existing run directory.
    ///
    /// - Throws: `RunLockError.held` while another process has it.
    public func acquireLock() throws(RunLockError) -> RunLock { try RunLock(lock) }

    /// Makes the directory and those above it if they do not exist, and takes its lock.
    ///
    /// - Parameter holder: the process that started this one and has the lock for both; nil: this process takes it.
    /// - Throws: `ProcessFailure` `.temporary` while another process has the lock, `.cannotCreate` if there can be no such directory.
    public func createAndLock(under holder: Int32? = nil) throws(ProcessFailure) -> RunLock {
        try makeDirectory()
        do { return try RunLock(lock, under: holder) } catch { throw ProcessFailure(error, directory: path) }
    }

    /// Takes the coordinator's lock. For a new run the directory is made; for one that is resumed it must exist.
    func lock(beginning: Bool, under holder: Int32?) throws(ProcessFailure) -> RunLock {
        guard beginning || access(ledger, F_OK) == 0 else {
            throw ProcessFailure(.missingInput, "\(path) holds no ledger to resume; give the settings of a new run")
        }
        return try createAndLock(under: holder)
    }

    /// Makes a new directory: the first of `path`, `path-2`, `path-3`, … that does not exist. mkdir(2) makes it for one process alone, even if
    /// several ask in the same second.
    ///
    /// - Throws: the errors of `createAndLock`.
    public static func createNew(_ path: String) throws(ProcessFailure) -> (directory: RunDirectory, lock: RunLock) {
        if let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex {
            try RunDirectory(String(path[..<slash])).makeDirectory()
        }
        var number = 1
        while true {
            let directory = RunDirectory(number == 1 ? path : "\(path)-\(number)")
            if mkdir(directory.path, 0o700) == 0 {
                directory.syncParent(of: directory.path[...])
                return (directory, try directory.createAndLock())
            }
            guard errno == EEXIST else { throw cannotMake(directory.path) }
            number += 1
        }
    }

    /// Resumes the existing ledger, or begins one, under the directory's lock. `onReading` receives from time to time how far a long ledger is read.
    func openLedger(
        spec: RunSpec?, basis: [UInt8]?, base: BaseManifest?, onReading: (LedgerFile.Reading) -> Void
    ) throws -> LedgerFile {
        if access(ledger, F_OK) == 0 { return try openExisting(spec: spec, base: base, onReading: onReading) }
        guard let spec else {
            throw ProcessFailure(.missingInput, "\(path) holds no ledger to resume; give the settings of a new run")
        }
        let file = try LedgerFile.create(at: ledger, spec: spec, basis: basis, base: base)
        try write(try spec.canonicalBytes() + [0x0a], to: self.spec)
        return file
    }

    /// The spec of the existing ledger, from its first record; nil if there is no ledger or the record can't be read.
    var ledgerSpec: RunSpec? {
        let descriptor = open(ledger, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: LedgerFormat.headerBytes + ProtocolLimits.jsonBytes)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        guard count > 0 else { return nil }
        var decoder = LedgerDecoder()
        decoder.push(bytes.prefix(count))
        guard case .spec(let canonical)? = (try? decoder.next())?.record else { return nil }
        return try? RunSpec(canonicalBytes: canonical)
    }

    private func openExisting(spec: RunSpec?, base: BaseManifest?, onReading: (LedgerFile.Reading) -> Void) throws -> LedgerFile {
        do {
            let file = try LedgerFile.open(at: ledger, onReading: onReading)
            if let spec, try spec.digest() != file.summary.specDigest {
                let digests = file.summary.specDigest.contrasted(with: try spec.digest())
                throw ProcessFailure(
                    .configuration,
                    "\(path) holds another run (\(digests.own), not \(digests.other)); "
                        + "choose an empty run directory, or start with the settings in \(self.spec)")
            }
            guard try appendBase(base, to: file) else { return file }
        }
        // The file is read again with the record that it has now. Its lock was given up with the first opening.
        return try LedgerFile.open(at: ledger)
    }

    /// Checks that a given base is the run's. A run that has no base yet gets it.
    ///
    /// - Returns: whether the base was written.
    private func appendBase(_ base: BaseManifest?, to file: LedgerFile) throws -> Bool {
        guard let base else { return false }
        if let known = file.summary.base {
            guard let first = known.differences(from: base).first else { return false }
            throw ProcessFailure(.configuration, "\(path) holds a run of another base model: \(first); give the model that it began with, or none")
        }
        var summary = file.summary
        let record: [UInt8]
        do {
            record = try summary.append(.baseManifest(base))
        } catch {
            throw ProcessFailure(.badData, "\(path): \(error.reason)")
        }
        try file.append(record)
        return true
    }

    private func makeDirectory() throws(ProcessFailure) {
        var end = path.startIndex
        while end < path.endIndex {
            // By bytes: a combining letter after a slash would hide the slash from a comparison by characters.
            end = path.utf8[path.utf8.index(after: end)...].firstIndex(of: UInt8(ascii: "/")) ?? path.endIndex
            if mkdir(String(path[..<end]), 0o700) == 0 {
                syncParent(of: path[..<end])
                continue
            }
            guard errno == EEXIST || errno == EISDIR else { throw Self.cannotMake(path) }
        }
        // An existing entry may be a file.
        var status = stat()
        guard stat(path, &status) == 0 else { throw Self.cannotMake(path) }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw ProcessFailure(.cannotCreate, "can't make the run directory \(path): a file of that name is there; choose another")
        }
    }

    private static func cannotMake(_ path: String) -> ProcessFailure {
        ProcessFailure(
            .cannotCreate, "can't make the run directory \(path): \(String(cString: strerror(errno))); choose one that this user may write to")
    }

    /// Syncs the directory above: a new directory survives a crash only if its name is on disk too. If that fails, the run goes on, because only the
    /// ledger's own syncs are promised.
    private func syncParent(of directory: Substring) {
        let parent = directory.lastIndex(of: "/").map { $0 == directory.startIndex ? "/" : String(directory[..<$0]) } ?? "."
        let descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }

    private func write(_ bytes: [UInt8], to path: String) throws(ProcessFailure) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw ProcessFailure(.inputOutput, "can't write \(path): \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
            throw ProcessFailure(.inputOutput, "can't write \(path): \(String(cString: strerror(errno)))")
        }
    }
}

extension LedgerFileError {
    /// The exit status of a process that can't read, open or make a ledger.
    public var status: ExitStatus {
        switch self {
        case .missing: .missingInput
        case .locked: .temporary
        case .exists, .spec, .unusable: .configuration
        case .noSpec, .damaged: .badData
        case .range: .internalError
        case .system: .inputOutput
        }
    }
}
