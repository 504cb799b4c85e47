import Glibc

/// A lock on a file that one process at a time may hold, for as long as this object lives. The kernel releases the lock when its holder dies, in
/// whatever way. The file stays: a process that deleted it might delete another process's lock.
package final class FileLock: Sendable {
    package enum Failure: Error, Hashable, Sendable {
        case held(by: Int32?)
        case system(errno: Int32)
    }

    private let descriptor: Int32

    package init(_ path: String) throws(Failure) {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .system(errno: errno) }
        guard lockExclusively(descriptor) else {
            let code = errno
            let holder = LockHolder.process(of: descriptor)
            close(descriptor)
            throw code == EWOULDBLOCK ? .held(by: holder) : .system(errno: code)
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}

/// Locks a file. It tries for a moment, because a process that was just killed, or a child of ours between fork and exec, still holds the lock
/// briefly.
package func lockExclusively(_ descriptor: Int32) -> Bool {
    let tries = 20
    let pauseMicroseconds: UInt32 = 25_000
    for _ in 1..<tries {
        if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return true }
        guard errno == EWOULDBLOCK || errno == EINTR else { return false }
        usleep(pauseMicroseconds)
    }
    return flock(descriptor, LOCK_EX | LOCK_NB) == 0
}

/// Finds the holder of a lock in the kernel's own table (proc_locks(5)).
package enum LockHolder {
    /// Returns the holder's process number; nil if it can't be found: the holder is on another host, or in another container.
    package static func process(of descriptor: Int32) -> Int32? {
        var status = stat()
        guard fstat(descriptor, &status) == 0, let table = contents("/proc/locks") else { return nil }
        return process(in: table, device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }

    /// Returns the process that holds the lock of a file. In the table some file systems have another device number than stat(2) gives, so a file
    /// number that appears only once in the table is enough.
    package static func process(in table: String, device: UInt64, inode: UInt64) -> Int32? {
        let (major, minor) = ((device >> 8) & 0xfff | (device >> 32) & ~0xfff, device & 0xff | (device >> 12) & 0xffff_ff00)
        var sameDevice: Int32?
        var sameInode: [Int32] = []
        for line in table.utf8.split(separator: UInt8(ascii: "\n")) {
            // "3: FLOCK  ADVISORY  WRITE 9420 fe:00:16220321 0 EOF". A waiting process has an arrow after the number.
            let words = line.split(separator: UInt8(ascii: " ")).map { String(Substring($0)) }
            guard words.count >= 6, words[1] == "FLOCK", let process = Int32(words[4]) else { continue }
            let place = words[5].utf8.split(separator: UInt8(ascii: ":")).map { String(Substring($0)) }
            guard place.count == 3, UInt64(place[2]) == inode else { continue }
            if UInt64(place[0], radix: 16) == major, UInt64(place[1], radix: 16) == minor { sameDevice = process }
            sameInode.append(process)
        }
        return sameDevice ?? (sameInode.count == 1 ? sameInode[0] : nil)
    }

    /// Returns a text such as "process 4711 (onebyte cluster)".
    package static func text(_ process: Int32?) -> String {
        guard let process else { return "another process, perhaps in another container or on another host" }
        let words = (contents("/proc/\(process)/cmdline") ?? "").utf8.split(separator: 0).prefix(2).map { String(Substring($0)) }
        guard let program = words.first?.utf8.split(separator: UInt8(ascii: "/")).last.map({ String(Substring($0)) }) else {
            return "process \(process)"
        }
        return "process \(process) (\(([program] + words.dropFirst()).joined(separator: " ")))"
    }

    private static let bytesMax = 1 << 20

    private static func contents(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 65_536)
        while bytes.count < bytesMax {
            let count = read(descriptor, &block, block.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            bytes += block[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
