import Core
import Foundation
import Glibc
import LanguageModel

/// A prefix cache on disk in blocks that each have a CRC-32C. Whole blocks survive a killed process. The file is written under another name
/// and renamed when it is complete. It takes disk space block by block, so that a killed process leaves no more than it has computed.
///
/// A second file, `.underway`, keeps the blocks that a stop has caught between two layers (`UnderwayFile`).
///
/// Layout, little-endian: "OBPREFIX", UInt32 version, UInt32 number of blocks, 32 bytes key, UInt64 number of floats, UInt64 0 (64 bytes in
/// all); the floats; for each block UInt32 CRC-32C of its floats (1 if that is 0), or 0 for a missing block; UInt32 CRC-32C of header and
/// table once all blocks are there.
final class PrefixFile {
    private static let magic = Array("OBPREFIX".utf8)
    private static let version: UInt32 = 2
    private static let headerBytes = 64
    private static let checksumBytes = 4
    /// A cache takes at most one part in so many of the disk's free space.
    private static let partOfDisk = 2.0
    /// Age in seconds at which an unfinished file that nobody fills is removed.
    private static let forsakenAfter = 7 * 86400

    let floats: UnsafeMutablePointer<Float>
    private(set) var isComplete: Bool
    private let path: String
    /// Name of the file until it is complete; nil for a private file without a name, while another process fills the file of this key.
    private let partialPath: String?
    private let descriptor: Int32
    private let mapping: UnsafeMutableRawPointer
    private let blocks: [Range<Int>]
    private let key: Digest
    private var isWhole: [Bool]

    private init(
        path: String, partialPath: String?, descriptor: Int32, mapping: UnsafeMutableRawPointer, key: Digest, blocks: [Range<Int>],
        complete: Bool
    ) {
        self.path = path
        self.partialPath = partialPath
        self.descriptor = descriptor
        self.mapping = mapping
        self.key = key
        self.blocks = blocks
        isComplete = complete
        isWhole = Array(repeating: complete, count: blocks.count)
        floats = (mapping + Self.headerBytes).assumingMemoryBound(to: Float.self)
    }

    deinit {
        // Whole blocks are kept for the next process; a file without any is not worth the disk space.
        if let partialPath, !isComplete, !isWhole.contains(true) { unlink(partialPath) }
        munmap(mapping, Self.byteCount(blocks))
        close(descriptor)
    }

    /// Opens the file of this key, resumes an unfinished one, or creates it.
    ///
    /// - Parameter blocks: ranges of the floats, one after the other.
    /// - Returns: the file, and a remark if an existing file is not used or is used only in part.
    static func open(directory: String, key: Digest, blocks: [Range<Int>]) throws(TrainingError) -> (PrefixFile, remark: String?) {
        let path = "\(directory)/prefix-\(key.description.prefix(32)).cache"
        var remark: String?
        if access(path, F_OK) == 0 {
            if let file = existing(path, key: key, blocks: blocks) { return (file, nil) }
            remark = "\(path) is damaged or can't be read; the hidden states are computed again"
        }
        // If this fails too, opening the file reports the cause.
        if let slash = directory.lastIndex(of: "/"), slash > directory.startIndex { mkdir(String(directory[..<slash]), 0o755) }
        mkdir(directory, 0o700)
        removeForsaken(in: directory)
        let file = try begin(path, key: key, blocks: blocks)
        let found = file.isWhole.count { $0 }
        if let partial = file.partialPath, found > 0 {
            remark = "\(partial) was not finished; \(found) of its \(blocks.count) blocks of hidden states are whole and used"
        }
        return (file, remark)
    }

    /// Whether the block's floats are there.
    func holds(_ block: Int) -> Bool { isWhole[block] }

    /// Takes disk space for a block before its floats are written: a full disk is an error here and not a SIGBUS in the middle of a pass.
    func reserve(_ block: Int) throws(TrainingError) {
        guard !isComplete else { return }
        let stride = MemoryLayout<Float>.stride
        let code = posix_fallocate(
            descriptor, Self.headerBytes + blocks[block].lowerBound * stride, max(blocks[block].count * stride, 1))
        guard code == 0 else { throw Self.failure(partialPath ?? path, "can't grow", code) }
    }

    /// Marks a block as whole after its floats were written.
    func checkIn(_ block: Int) {
        isWhole[block] = true
        guard !isComplete else { return }
        storeTable(stamp(of: block), at: block)
    }

    /// Makes the file durable once all blocks are there, and gives it its final name if it has one.
    func complete() throws(TrainingError) {
        guard !isComplete else { return }
        storeTable(tableChecksum(), at: blocks.count)
        if let partialPath {
            guard msync(mapping, Self.byteCount(blocks), MS_SYNC) == 0, fsync(descriptor) == 0, rename(partialPath, path) == 0 else {
                throw Self.failure(partialPath, "can't be written", errno)
            }
            unlink(underwayPath)
            flock(descriptor, LOCK_UN)
        }
        isComplete = true
    }

    // MARK: Blocks underway

    private var underwayPath: String { "\(path).underway" }

    /// Keeps blocks that are between two layers, if this process fills the file of this key. A failure costs the next process some time and
    /// nothing else.
    func keep(_ blocks: [PrefixBlock]) {
        guard partialPath != nil, !isComplete else { return }
        UnderwayFile.write(blocks.filter { $0.layer > 0 }, key: key, to: underwayPath)
    }

    /// Returns the blocks that an earlier process has kept, if this process fills the file of this key.
    func underway(of cache: PrefixCache) -> [PrefixBlock] {
        guard partialPath != nil, !isComplete else { return [] }
        return UnderwayFile.read(underwayPath, key: key, of: cache).filter { !isWhole[$0.number] }
    }

    // MARK: Opening

    private static func existing(_ path: String, key: Digest, blocks: [Range<Int>]) -> PrefixFile? {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        var status = stat()
        let byteCount = byteCount(blocks)
        guard fstat(descriptor, &status) == 0, status.st_size == byteCount,
            let mapping = mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0), mapping != MAP_FAILED
        else {
            close(descriptor)
            return nil
        }
        let file = PrefixFile(
            path: path, partialPath: path, descriptor: descriptor, mapping: mapping, key: key, blocks: blocks, complete: true)
        guard file.hasOwnHeader, file.table(blocks.count) == file.tableChecksum(),
            blocks.indices.allSatisfy({ file.table($0) == file.stamp(of: $0) })
        else { return nil }
        return file
    }

    private static func begin(_ path: String, key: Digest, blocks: [Range<Int>]) throws(TrainingError) -> PrefixFile {
        let shared = "\(path).partial"
        if let descriptor = try openPartial(shared) {
            var (held, named) = (stat(), stat())
            // The process that held the lock may just have finished and renamed the file that was opened here.
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0, fstat(descriptor, &held) == 0, lstat(shared, &named) == 0, held.st_ino == named.st_ino {
                return try map(descriptor, path, partial: shared, key: key, blocks: blocks)
            }
            close(descriptor)
        }
        // A private file has no name and disappears with the process; the process with the lock completes the shared one. mkstemp puts random
        // letters in the place of the six X.
        var name = Array("\(path).XXXXXX".utf8CString)
        let descriptor = mkstemp(&name)
        guard descriptor >= 0 else { throw failure(path, "can't be made", errno) }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        unlink(name)
        return try map(descriptor, path, partial: nil, key: key, blocks: blocks)
    }

    /// Removes what processes have left unfinished long ago. Nobody may ever ask for those examples again.
    private static func removeForsaken(in directory: String) {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        where name.hasPrefix("prefix-") && [".partial", ".underway", ".new"].contains(where: name.hasSuffix) {
            let path = "\(directory)/\(name)"
            let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            var status = stat()
            // Whoever fills a file has it locked.
            guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_mtim.tv_sec < time(nil) - forsakenAfter,
                flock(descriptor, LOCK_EX | LOCK_NB) == 0
            else { continue }
            unlink(path)
        }
    }

    private static func openPartial(_ path: String) throws(TrainingError) -> Int32? {
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        if descriptor >= 0 { return descriptor }
        // A file of another user is not ours to use.
        if errno == EACCES, access(path, F_OK) == 0 { return nil }
        throw failure(path, "can't be made", errno)
    }

    private static func map(
        _ descriptor: Int32, _ path: String, partial: String?, key: Digest, blocks: [Range<Int>]
    ) throws(TrainingError) -> PrefixFile {
        let byteCount = byteCount(blocks)
        var status = stat()
        let isOld = partial != nil && fstat(descriptor, &status) == 0 && status.st_size == byteCount
        if !isOld { ftruncate(descriptor, 0) }
        func refuse(_ problem: String, _ code: Int32) -> TrainingError {
            close(descriptor)
            if let partial, !isOld { unlink(partial) }
            return failure(partial ?? path, problem, code)
        }
        // The task, which decides the size, may be a stranger's; he is not to fill this machine's disk.
        var disk = statvfs()
        if fstatvfs(descriptor, &disk) == 0, disk.f_blocks > 0 {
            let free = Double(disk.f_bavail) * Double(disk.f_frsize)
            let wanted = byteCount - (isOld ? Int(status.st_blocks) * 512 : 0)
            guard Double(wanted) <= free / partOfDisk else {
                throw refuse("needs \(byteCount) bytes, and \(String(format: "%.0f", free)) are free, of which it may take half", ENOSPC)
            }
        }
        guard ftruncate(descriptor, byteCount) == 0 else { throw refuse("can't have \(byteCount) bytes", errno) }
        let tableStart = byteCount - (blocks.count + 1) * checksumBytes
        for (start, count) in [(0, headerBytes), (tableStart, byteCount - tableStart)] {
            let code = posix_fallocate(descriptor, start, count)
            guard code == 0 else { throw refuse("can't be made", code) }
        }
        guard let mapping = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), mapping != MAP_FAILED else {
            throw refuse("can't be mapped", errno)
        }
        let file = PrefixFile(
            path: path, partialPath: partial, descriptor: descriptor, mapping: mapping, key: key, blocks: blocks, complete: false)
        if isOld, file.hasOwnHeader {
            for block in blocks.indices {
                // A missing block may not even be on the disk yet.
                let stored = file.table(block)
                file.isWhole[block] = stored != 0 && stored == file.stamp(of: block)
                if !file.isWhole[block] { file.storeTable(0, at: block) }
            }
        } else {
            mapping.copyMemory(from: file.header, byteCount: headerBytes)
            for entry in 0...blocks.count { file.storeTable(0, at: entry) }
        }
        return file
    }

    // MARK: Layout

    private static func byteCount(_ blocks: [Range<Int>]) -> Int {
        headerBytes + (blocks.last?.upperBound ?? 0) * MemoryLayout<Float>.stride + (blocks.count + 1) * checksumBytes
    }

    private var header: [UInt8] {
        var bytes = Self.magic
        withUnsafeBytes(of: Self.version.littleEndian) { bytes += $0 }
        withUnsafeBytes(of: UInt32(truncatingIfNeeded: blocks.count).littleEndian) { bytes += $0 }
        bytes += key.bytes
        withUnsafeBytes(of: UInt64(blocks.last?.upperBound ?? 0).littleEndian) { bytes += $0 }
        bytes += Array(repeating: 0, count: Self.headerBytes - bytes.count)
        return bytes
    }

    private var hasOwnHeader: Bool { UnsafeRawBufferPointer(start: mapping, count: Self.headerBytes).elementsEqual(header) }

    private var tableStart: Int { Self.headerBytes + (blocks.last?.upperBound ?? 0) * MemoryLayout<Float>.stride }

    private func table(_ entry: Int) -> UInt32 {
        UInt32(littleEndian: mapping.loadUnaligned(fromByteOffset: tableStart + entry * Self.checksumBytes, as: UInt32.self))
    }

    private func storeTable(_ value: UInt32, at entry: Int) {
        mapping.storeBytes(of: value.littleEndian, toByteOffset: tableStart + entry * Self.checksumBytes, as: UInt32.self)
    }

    /// Returns the CRC of a block's floats as the table stores it; 0 is reserved for missing blocks.
    private func stamp(of block: Int) -> UInt32 {
        max(1, CRC32C.checksum(UnsafeRawBufferPointer(UnsafeBufferPointer(start: floats + blocks[block].lowerBound, count: blocks[block].count))))
    }

    private func tableChecksum() -> UInt32 {
        let table = UnsafeRawBufferPointer(start: mapping + tableStart, count: blocks.count * Self.checksumBytes)
        return CRC32C.checksum(header + Array(table))
    }

    private static func failure(_ path: String, _ problem: String, _ code: Int32) -> TrainingError {
        TrainingError(
            .cacheFile, "the prefix cache file \(path) \(problem): \(String(cString: strerror(code))) (give another directory or more memory)")
    }
}
