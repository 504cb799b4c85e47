import Core
import Glibc
import Transport

/// The ledger on disk. It has one writer, and every append is on disk before it returns.
public final class LedgerFile {
    /// The bytes that were cut off a file's end when it was opened: a record that a crash left half-written.
    public struct TornTail: Hashable, Sendable {
        /// The offset at which the file ends now.
        public let offset: UInt64
        /// Number of bytes that were cut.
        public let bytes: UInt64
    }

    public let path: String
    /// Summary of the file when it was opened or created. A state machine continues from it.
    public let summary: LedgerSummary
    /// The torn tail that was cut off when the file was opened; nil if there was none.
    public let tornTail: TornTail?
    /// Number of bytes that are on disk. The next record begins here.
    public private(set) var durableBytes: UInt64
    /// Number of records that are on disk.
    public private(set) var durableRecords: UInt64
    private let descriptor: Int32

    /// Creates a ledger that holds the spec and what else is known from the start, and syncs it and its directory.
    public static func create(
        at path: String, spec: RunSpec, basis: [UInt8]? = nil, base: BaseManifest? = nil
    ) throws(LedgerFileError) -> LedgerFile {
        let canonical: [UInt8]
        do {
            try spec.validate()
            canonical = try spec.canonicalBytes()
        } catch {
            throw .spec(error)
        }
        let header = LedgerFormat.header(specDigest: Digest.sha256(canonical))
        var bytes = header
        var position = LedgerFormat.start(header: header)
        var records: [LedgerRecord] = [.spec(canonical)]
        if let base { records.append(.baseManifest(base)) }
        if let basis { records.append(.basis(basis)) }
        for record in records {
            guard record.payload().count <= ProtocolLimits.recordPayloadBytes else {
                throw .unusable(path: path, reason: "its \(record.kind) takes more than \(ProtocolLimits.recordPayloadBytes) bytes")
            }
            let (encoded, next) = position.appending(record)
            bytes += encoded
            position = next
        }
        try judge(bytes, spec: spec, path: path)
        // The ledger is created whole or not at all, so a crash here leaves no half of a first record. link() gives it its name, because link() never
        // replaces an existing ledger.
        let temporary = "\(path).\(getpid()).new"
        unlink(temporary)
        let descriptor = Glibc.open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .system(.create, path: path, errno: errno) }
        defer {
            close(descriptor)
            unlink(temporary)
        }
        try write(bytes, to: descriptor, at: 0, path: path)
        guard fsync(descriptor) == 0 else { throw .system(.sync, path: path, errno: errno) }
        guard link(temporary, path) == 0 else {
            throw errno == EEXIST ? .exists(path: path) : .system(.create, path: path, errno: errno)
        }
        try syncDirectory(of: path)
        return try open(at: path)
    }

    /// Refuses a ledger that nobody could resume. Under the ledger's name it would be in the way.
    private static func judge(_ bytes: [UInt8], spec: RunSpec, path: String) throws(LedgerFileError) {
        guard spec.needsBasis == (spec.basisDigest != nil) else {
            throw .unusable(path: path, reason: "a run has a basis exactly where it damps components or trains adapters")
        }
        var decoder = LedgerDecoder()
        decoder.push(bytes)
        do throws(LedgerError) {
            guard let first = try decoder.next() else { throw .damagedHeader }
            var summary = try LedgerSummary(first: first)
            while let entry = try decoder.next() { try summary.fold(entry) }
            guard summary.basis == spec.basisDigest, decoder.unread == 0 else {
                throw .invalidRecord(offset: summary.position.offset, index: summary.position.records, reason: "the spec's basis is missing")
            }
        } catch {
            throw .unusable(path: path, reason: "\(error)")
        }
    }

    /// How far a ledger is read, in bytes of its file.
    public struct Reading: Hashable, Sendable, Codable {
        public let bytes: UInt64
        public let of: UInt64

        package init(bytes: UInt64, of: UInt64) {
            self.bytes = bytes
            self.of = of
        }
    }

    /// Opens a ledger to resume it: locks it, reads all of it, and cuts off a torn tail.
    ///
    /// - Parameters:
    ///   - path: the ledger's file.
    ///   - readingSeconds: seconds between two calls of `onReading`, and before the first.
    ///   - onReading: receives how far a ledger is read that takes this long.
    public static func open(
        at path: String, readingSeconds: Double = 2, onReading: (Reading) -> Void = { _ in }
    ) throws(LedgerFileError) -> LedgerFile {
        let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw errno == ENOENT ? .missing(path: path) : .system(.open, path: path, errno: errno) }
        do throws(LedgerFileError) {
            guard lockExclusively(descriptor) else {
                let code = errno
                throw code == EWOULDBLOCK
                    ? LedgerFileError.locked(path: path, by: LockHolder.process(of: descriptor)) : .system(.lock, path: path, errno: code)
            }
            var reader = try LedgerReader(descriptor: descriptor, path: path)
            guard let first = try reader.next() else {
                throw reader.tail.isEmpty ? LedgerFileError.noSpec(path: path) : .damaged(path: path, .damagedHeader)
            }
            var summary = try folding(path) { () throws(LedgerError) in try LedgerSummary(first: first) }
            let size = UInt64(max(lseek(descriptor, 0, SEEK_END), 0))
            let clock = ProcessClock()
            var nextWord = clock.now.advanced(bySeconds: readingSeconds)
            while let entry = try reader.next() {
                try folding(path) { () throws(LedgerError) in try summary.fold(entry) }
                if summary.position.records % recordsBetweenLooks == 0, clock.now >= nextWord {
                    nextWord = clock.now.advanced(bySeconds: readingSeconds)
                    onReading(Reading(bytes: summary.position.offset, of: size))
                }
            }
            let end = summary.position.offset
            let torn = reader.tail.isEmpty ? nil : TornTail(offset: end, bytes: UInt64(reader.tail.count))
            if torn != nil {
                guard ftruncate(descriptor, off_t(end)) == 0 else { throw LedgerFileError.system(.cut, path: path, errno: errno) }
            }
            // What is read here may only be in the page cache: a process that was killed may have written it without a sync, and from now on it is
            // announced.
            guard fsync(descriptor) == 0 else { throw LedgerFileError.system(.sync, path: path, errno: errno) }
            return LedgerFile(path: path, descriptor: descriptor, summary: summary, tornTail: torn)
        } catch {
            close(descriptor)
            throw error
        }
    }

    /// Number of records that are read between two looks at the clock.
    private static let recordsBetweenLooks: UInt64 = 1024

    private init(path: String, descriptor: Int32, summary: LedgerSummary, tornTail: TornTail?) {
        self.path = path
        self.descriptor = descriptor
        self.summary = summary
        self.tornTail = tornTail
        durableBytes = summary.position.offset
        durableRecords = summary.position.records
    }

    deinit { close(descriptor) }

    /// Appends one whole record and syncs. After an error the file is as it was before, as far as the disk allows.
    public func append(_ record: [UInt8]) throws(LedgerFileError) {
        do throws(LedgerFileError) {
            try Self.write(record, to: descriptor, at: durableBytes, path: path)
            guard fdatasync(descriptor) == 0 else { throw LedgerFileError.system(.sync, path: path, errno: errno) }
        } catch {
            // If the file can't be cut, zeros are written over the beginning of what may be a whole record. A record of length and kind 0 is none for
            // any reader. The next append writes over the same bytes, and the next open cuts them.
            if ftruncate(descriptor, off_t(durableBytes)) != 0 {
                try? Self.write(
                    [UInt8](repeating: 0, count: min(record.count, LedgerFormat.recordOverheadBytes)), to: descriptor, at: durableBytes, path: path)
            }
            fdatasync(descriptor)
            throw error
        }
        durableBytes += UInt64(record.count)
        durableRecords += 1
    }

    /// Reads bytes that are on disk, for a worker that joins.
    public func read(offset: UInt64, count: Int) throws(LedgerFileError) -> [UInt8] {
        guard count >= 0, offset <= durableBytes, UInt64(count) <= durableBytes - offset else {
            throw .range(path: path, offset: offset, count: count, durable: durableBytes)
        }
        return try readBytes(descriptor, at: offset, count: count, path: path)
    }

    private static func write(_ bytes: [UInt8], to descriptor: Int32, at offset: UInt64, path: String) throws(LedgerFileError) {
        var done = 0
        while done < bytes.count {
            let wrote = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress?.advanced(by: done), $0.count - done, off_t(offset) + off_t(done))
            }
            if wrote < 0 {
                if errno == EINTR { continue }
                throw .system(.write, path: path, errno: errno)
            }
            done += wrote
        }
    }

    /// Syncs the directory of `path`: a new name is on disk only when its directory is.
    private static func syncDirectory(of path: String) throws(LedgerFileError) {
        let directory = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(.sync, path: directory, errno: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw .system(.sync, path: directory, errno: errno) }
    }
}

private func folding<Value>(_ path: String, _ body: () throws(LedgerError) -> Value) throws(LedgerFileError) -> Value {
    do {
        return try body()
    } catch {
        throw .damaged(path: path, error)
    }
}

private func readBytes(_ descriptor: Int32, at offset: UInt64, count: Int, path: String) throws(LedgerFileError) -> [UInt8] {
    var failure: Int32?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        while filled < count {
            let got = pread(descriptor, buffer.baseAddress?.advanced(by: filled), count - filled, off_t(offset) + off_t(filled))
            if got < 0 {
                if errno == EINTR { continue }
                failure = errno
                return
            }
            if got == 0 { return }
            filled += got
        }
    }
    if let failure { throw .system(.read, path: path, errno: failure) }
    return bytes
}

/// Reads a ledger record by record, with memory for one record, however long the file is.
public struct LedgerReader: ~Copyable {
    private static let blockBytes = 1 << 20
    private let descriptor: Int32
    private let isOwner: Bool
    private let path: String
    private var decoder = LedgerDecoder()
    private var offset: UInt64 = 0
    private var isAtEnd = false
    /// The bytes after the last whole record, once `next` has returned nil: an append that was cut short, or nothing.
    public private(set) var tail: [UInt8] = []

    /// The position after the last record read; nil before the first.
    public var position: LedgerPosition? { decoder.position }

    /// Opens a ledger for reading only. Another process may be writing it.
    public init(path: String) throws(LedgerFileError) {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw errno == ENOENT ? .missing(path: path) : .system(.open, path: path, errno: errno) }
        self.descriptor = descriptor
        self.path = path
        isOwner = true
    }

    /// Reads a file that its caller closes.
    fileprivate init(descriptor: Int32, path: String) throws(LedgerFileError) {
        self.descriptor = descriptor
        self.path = path
        isOwner = false
    }

    deinit { if isOwner { close(descriptor) } }

    /// Returns the next record; nil at the end of the file or before a torn tail. A damaged record that whole records follow is an error that names
    /// its offset.
    public mutating func next() throws(LedgerFileError) -> LedgerEntry? {
        if isAtEnd { return nil }
        while true {
            do throws(LedgerError) {
                if let entry = try decoder.next() { return entry }
            } catch {
                guard case .damagedRecord(let at, _, _) = error else { throw .damaged(path: path, error) }
                try endAtDamage(error, at: at)
                return nil
            }
            let block = try readBytes(descriptor, at: offset, count: Self.blockBytes, path: path)
            offset += UInt64(block.count)
            if block.isEmpty {
                isAtEnd = true
                guard let position = decoder.position else {
                    throw .damaged(path: path, decoder.unread == 0 ? .notALedger : .damagedHeader)
                }
                if decoder.unread > 0 {
                    // The record claims to be longer than the file. That may be a torn append, or a damaged length; after a damaged length whole
                    // records may follow.
                    try endAtDamage(
                        .damagedRecord(offset: position.offset, index: position.records, reason: "length"), at: position.offset)
                }
                return nil
            }
            decoder.push(block)
        }
    }

    /// Ends the reading at a torn append. Anything else is damage.
    private mutating func endAtDamage(_ error: LedgerError, at: UInt64) throws(LedgerFileError) {
        isAtEnd = true
        let limit = ProtocolLimits.recordPayloadBytes + LedgerFormat.recordOverheadBytes
        let rest = try readBytes(descriptor, at: at, count: limit + 1, path: path)
        guard rest.count <= limit, !LedgerFormat.holdsRecord(rest.dropFirst()) else { throw .damaged(path: path, error) }
        tail = rest
    }
}

/// An error with a ledger file. Its description says what to do.
public enum LedgerFileError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Action: String, Sendable { case create, open, lock, read, write, sync, cut }

    /// There is no ledger at the path.
    case missing(path: String)
    /// A new ledger would replace an existing one.
    case exists(path: String)
    /// Another process is writing the ledger; `by` is its process number, if it can be found out.
    case locked(path: String, by: Int32?)
    /// The ledger holds no run spec.
    case noSpec(path: String)
    /// The bytes are not a ledger, or a record is damaged or breaks a rule of the run.
    case damaged(path: String, LedgerError)
    /// A new run's spec is invalid.
    case spec(RunSpecError)
    /// A new run's spec, basis and base do not make a ledger.
    case unusable(path: String, reason: String)
    /// Bytes were asked for that are not there.
    case range(path: String, offset: UInt64, count: Int, durable: UInt64)
    /// A system call failed.
    case system(Action, path: String, errno: Int32)

    public var description: String {
        switch self {
        case .missing(let path): "\(path): there is no ledger; start the coordinator with a run file to make one"
        case .exists(let path): "\(path): there is a ledger already; resume it, or choose another run directory"
        case .locked(let path, let process): "\(path): is in use by \(LockHolder.text(process)); stop it, or choose another run directory"
        case .noSpec(let path): "\(path): the ledger holds no run spec; take it from another copy"
        case .damaged(let path, let error): "\(path): \(error)"
        case .spec(let error): "\(error)"
        case .unusable(let path, let reason): "\(path): no ledger can be made of these settings: \(reason)"
        case .range(let path, let offset, let count, let durable):
            "\(path): \(count) bytes from byte \(offset) on are not on disk, \(durable) bytes are"
        case .system(let action, let path, let code): "\(path): can't \(action.rawValue): \(String(cString: strerror(code)))\(remedy(code))"
        }
    }

    private func remedy(_ code: Int32) -> String {
        switch code {
        case ENOSPC, EDQUOT: "; make room on the disk (a running coordinator then goes on by itself)"
        case EROFS: "; the file system is read-only, mount it writable or choose another run directory"
        case EACCES, EPERM: "; check the owner and the permissions of the run directory"
        default: ""
        }
    }
}
