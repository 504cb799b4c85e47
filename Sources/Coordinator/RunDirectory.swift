import Core
import Glibc

/// What a coordinator keeps on disk.
public struct RunDirectory: Hashable, Sendable {
    public let path: String
    public init(_ path: String) { self.path = path }

    /// The run itself: base model + this file = fine-tuned model.
    public var ledger: String { path + "/ledger" }
    /// The canonical spec, for people and scripts; the ledger holds it too, and that one counts.
    public var spec: String { path + "/run.json" }
    /// The secret with which the coordinator signs the ledger; `.pub` beside it is the public half.
    public var signingKey: String { path + "/signing.key" }
    /// One JSON object a line: everything that happened.
    public var metrics: String { path + "/metrics.jsonl" }

    /// Held by whoever writes here.
    public var lock: String { path + "/lock" }

    /// Takes the lock of a run directory that is there.
    ///
    /// - Throws: `RunLockError` `.held` while another process has it.
    public func acquireLock() throws(RunLockError) -> RunLock { try RunLock(lock) }

    /// Makes the directory if need be, with those above it, and takes its lock.
    ///
    /// - Throws: `ProcessFailure`: `.temporary` while another process has the lock, `.cannotCreate` where there can be no such directory.
    public func createAndLock(under holder: Int32? = nil) throws(ProcessFailure) -> RunLock {
        try makeDirectory()
        do { return try RunLock(lock, under: holder) } catch { throw ProcessFailure(error, directory: path) }
    }

    /// The coordinator's: of a new run, or of one to go on with, for which no directory is made.
    func lock(beginning: Bool, under holder: Int32?) throws(ProcessFailure) -> RunLock {
        guard beginning || access(ledger, F_OK) == 0 else {
            throw ProcessFailure(.missingInput, "\(path) holds no ledger to go on with; give the settings of a new run")
        }
        return try createAndLock(under: holder)
    }

    /// A new directory: the first of `path`, `path-2`, `path-3`, … that is not there. mkdir(2) makes it for one process alone, also where
    /// several ask in the same second.
    ///
    /// - Throws: as `createAndLock`.
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

    /// Goes on with the ledger that is there, or begins one, under the directory's lock. `onReading` hears now and then how far a long one is read.
    func openLedger(
        spec: RunSpec?, basis: [UInt8]?, base: BaseManifest?, onReading: (LedgerFile.Reading) -> Void
    ) throws -> LedgerFile {
        if access(ledger, F_OK) == 0 { return try openExisting(spec: spec, base: base, onReading: onReading) }
        guard let spec else {
            throw ProcessFailure(.missingInput, "\(path) holds no ledger to go on with; give the settings of a new run")
        }
        let file = try LedgerFile.create(at: ledger, spec: spec, basis: basis, base: base)
        try write(try spec.canonicalBytes() + [0x0a], to: self.spec)
        return file
    }

    /// The spec of the ledger that is there, by its first record; nil where there is none, or it can't be read so easily.
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
        // Read again with the record that it has now; its lock was given up with the first opening.
        return try LedgerFile.open(at: ledger)
    }

    /// A base that is given must be the run's; a run that has none yet gets it.
    ///
    /// - Returns: whether it was written.
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
            // By bytes: a letter that joins the slash before it is no reason to miss the slash.
            end = path.utf8[path.utf8.index(after: end)...].firstIndex(of: UInt8(ascii: "/")) ?? path.endIndex
            if mkdir(String(path[..<end]), 0o700) == 0 {
                syncParent(of: path[..<end])
                continue
            }
            guard errno == EEXIST || errno == EISDIR else { throw Self.cannotMake(path) }
        }
        // What is there already may be a file.
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

    /// A new directory survives a crash only when the one that names it is on disk. Where that can't be had the run goes on:
    /// the ledger's own syncs are what is promised.
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
    /// How a process ends that can't read, open or make a ledger.
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
