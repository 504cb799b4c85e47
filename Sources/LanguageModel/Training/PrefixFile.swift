import Core
import Glibc

/// A prefix cache on disk: header, floats, CRC-32C. It is written under another name and renamed when it is whole, so
/// a file with the right name is whole or was damaged afterwards, which the checksum finds.
///
/// Layout, little-endian: "OBPREFIX", UInt32 version, UInt32 0, 32 bytes key, UInt64 number of floats, UInt64 0 (64 bytes in all);
/// the floats; UInt32 CRC-32C of header and floats.
final class PrefixFile {
    private static let magic = Array("OBPREFIX".utf8)
    private static let version: UInt32 = 1
    private static let headerBytes = 64
    private static let trailerBytes = 4

    let floats: UnsafeMutablePointer<Float>
    private(set) var isComplete: Bool
    private let path: String
    private let partialPath: String
    private let descriptor: Int32
    private let mapping: UnsafeMutableRawPointer
    private let byteCount: Int

    private init(path: String, partialPath: String, descriptor: Int32, mapping: UnsafeMutableRawPointer, byteCount: Int, complete: Bool) {
        self.path = path
        self.partialPath = partialPath
        self.descriptor = descriptor
        self.mapping = mapping
        self.byteCount = byteCount
        isComplete = complete
        floats = (mapping + Self.headerBytes).assumingMemoryBound(to: Float.self)
    }

    deinit {
        munmap(mapping, byteCount)
        close(descriptor)
        if !isComplete { unlink(partialPath) }
    }

    /// Opens the file of this key, or begins it. The warning says why a file that was there is not used.
    static func open(directory: String, key: Digest, floatCount: Int) throws(TrainingError) -> (PrefixFile, warning: String?) {
        let path = "\(directory)/prefix-\(key.description.prefix(32)).cache"
        let byteCount = headerBytes + floatCount * MemoryLayout<Float>.stride + trailerBytes
        var warning: String?
        if access(path, F_OK) == 0 {
            if let file = existing(path, key: key, floatCount: floatCount, byteCount: byteCount) { return (file, nil) }
            warning = "\(path) is damaged or can't be read; the hidden states are computed again"
        }
        // Where even this fails, opening the file says why.
        mkdir(directory, 0o755)
        return (try begin(path, key: key, floatCount: floatCount, byteCount: byteCount), warning)
    }

    private static func header(key: Digest, floatCount: Int) -> [UInt8] {
        var bytes = magic
        withUnsafeBytes(of: version.littleEndian) { bytes += $0 }
        bytes += [0, 0, 0, 0]
        bytes += key.bytes
        withUnsafeBytes(of: UInt64(floatCount).littleEndian) { bytes += $0 }
        bytes += Array(repeating: 0, count: headerBytes - bytes.count)
        return bytes
    }

    private static func existing(_ path: String, key: Digest, floatCount: Int, byteCount: Int) -> PrefixFile? {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_size == byteCount,
            let mapping = mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0), mapping != MAP_FAILED
        else {
            close(descriptor)
            return nil
        }
        let file = PrefixFile(
            path: path, partialPath: path, descriptor: descriptor, mapping: mapping, byteCount: byteCount, complete: true)
        let bytes = UnsafeRawBufferPointer(start: mapping, count: byteCount)
        guard bytes.prefix(headerBytes).elementsEqual(header(key: key, floatCount: floatCount)),
            bytes.loadUnaligned(fromByteOffset: byteCount - trailerBytes, as: UInt32.self) == file.checksum().littleEndian
        else { return nil }
        return file
    }

    private static func begin(_ path: String, key: Digest, floatCount: Int, byteCount: Int) throws(TrainingError) -> PrefixFile {
        let partial = "\(path).partial-\(getpid())"
        let descriptor = Glibc.open(partial, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure(partial, "can't be made", errno) }
        // The blocks are taken now: a full disk is then an error here and not a SIGBUS in the middle of a pass.
        let status = posix_fallocate(descriptor, 0, byteCount)
        guard status == 0 else {
            close(descriptor)
            unlink(partial)
            throw failure(partial, "needs \(byteCount) bytes", status)
        }
        guard let mapping = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), mapping != MAP_FAILED else {
            let code = errno
            close(descriptor)
            unlink(partial)
            throw failure(partial, "can't be mapped", code)
        }
        mapping.copyMemory(from: header(key: key, floatCount: floatCount), byteCount: headerBytes)
        return PrefixFile(
            path: path, partialPath: partial, descriptor: descriptor, mapping: mapping, byteCount: byteCount, complete: false)
    }

    /// All floats are there: checks them in, makes them durable and gives the file its name.
    func complete() throws(TrainingError) {
        guard !isComplete else { return }
        mapping.storeBytes(of: checksum().littleEndian, toByteOffset: byteCount - Self.trailerBytes, as: UInt32.self)
        guard msync(mapping, byteCount, MS_SYNC) == 0, fsync(descriptor) == 0, rename(partialPath, path) == 0 else {
            throw Self.failure(partialPath, "can't be written", errno)
        }
        isComplete = true
    }

    private func checksum() -> UInt32 {
        CRC32C.checksum(UnsafeRawBufferPointer(start: mapping, count: byteCount - Self.trailerBytes))
    }

    private static func failure(_ path: String, _ problem: String, _ code: Int32) -> TrainingError {
        TrainingError(
            .cacheFile, "the prefix cache file \(path) \(problem): \(String(cString: strerror(code))) (give another directory or more memory)")
    }
}
