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
    /// One JSON object a line: everything that happened.
    public var metrics: String { path + "/metrics.jsonl" }

    /// Goes on with the ledger that is there, or begins one. `onReading` hears now and then how far a long one is read.
    func openLedger(
        spec: RunSpec?, basis: [UInt8]?, base: BaseManifest?, onReading: (LedgerFile.Reading) -> Void
    ) throws -> LedgerFile {
        if access(ledger, F_OK) == 0 {
            let file = try LedgerFile.open(at: ledger, onReading: onReading)
            if let spec, try spec.digest() != file.summary.specDigest {
                throw ProcessFailure(
                    .configuration,
                    "\(path) holds another run (\(file.summary.specDigest.short), not \(try spec.digest().short)); "
                        + "choose an empty run directory, or start with the settings in \(self.spec)")
            }
            return file
        }
        guard let spec else {
            throw ProcessFailure(.missingInput, "\(path) holds no ledger to go on with; give the settings of a new run")
        }
        try makeDirectory()
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

    private func makeDirectory() throws(ProcessFailure) {
        var end = path.startIndex
        while end < path.endIndex {
            end = path[path.index(after: end)...].firstIndex(of: "/") ?? path.endIndex
            if mkdir(String(path[..<end]), 0o755) == 0 {
                syncParent(of: path[..<end])
                continue
            }
            guard errno == EEXIST || errno == EISDIR else {
                throw ProcessFailure(
                    .cannotCreate,
                    "can't make the run directory \(path): \(String(cString: strerror(errno))); choose one that this user may write to")
            }
        }
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
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
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
