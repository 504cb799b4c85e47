import Core
import Glibc

/// A whole file, mapped read-only while this object lives.
package final class MappedFile: Sendable {
    package let path: String
    package let count: Int
    // The mapping is read-only and lives until deinit, so reading it from any thread is safe.
    private nonisolated(unsafe) let base: UnsafeRawPointer?

    package init(path: String) throws(ModelError) {
        self.path = path
        // Without O_NONBLOCK, a named pipe would be waited for; it is refused below.
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw ModelError(errno == ENOENT ? .notFound : .inputOutput, file: path, "cannot be opened: \(errnoText())")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw ModelError(.inputOutput, file: path, "cannot be examined: \(errnoText())")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw ModelError(.inputOutput, file: path, "is not a regular file")
        }
        count = Int(status.st_size)
        guard count > 0 else {
            base = nil
            return
        }
        guard let address = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
            throw ModelError(.inputOutput, file: path, "cannot be mapped into memory: \(errnoText())")
        }
        base = UnsafeRawPointer(address)
    }

    deinit {
        if let base { munmap(UnsafeMutableRawPointer(mutating: base), count) }
    }

    /// The file's bytes, valid while this object lives; keep it alive with `withExtendedLifetime`.
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }
}

extension MappedFile {
    /// Returns the file's format if it is recognised as one that does not belong here.
    ///
    /// - Parameters:
    ///   - mayBeMarkup: true for a corpus of plain lines, which may well begin as a web page does.
    ///   - keepsName: true for a file that is looked for under this very name.
    package func foreignFormat(mayBeMarkup: Bool = false, keepsName: Bool = false) -> ForeignFormat? {
        withExtendedLifetime(self) {
            ForeignFormat(
                start: Array(bytes.prefix(ForeignFormat.bytesNeeded)), path: path, mayBeMarkup: mayBeMarkup, keepsName: keepsName,
                isTaken: isFile)
        }
    }

    /// Refuses a file whose format is recognised as one that does not belong here.
    ///
    /// - Parameter keepsName: true for a file that is looked for under this very name.
    /// - Throws: `ModelError` `.malformed` with the file's format, if that is recognised.
    package func refuseForeignFormat(keepsName: Bool = false) throws(ModelError) {
        guard let foreign = foreignFormat(keepsName: keepsName) else { return }
        throw ModelError(.malformed, file: path, foreign.problem, remedy: foreign.remedy)
    }
}

/// Whether there is something at this path.
package func isFile(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
}

/// The text of `errno`, such as `No such file or directory`.
package func errnoText() -> String { String(cString: strerror(errno)) }

/// Returns the bytes of a small file (configuration, tokenizer); refuses files above `limit` bytes.
package func readSmallFile(_ path: String, limit: Int) throws(ModelError) -> [UInt8] {
    let file = try MappedFile(path: path)
    guard file.count <= limit else {
        throw ModelError(.malformed, file: path, "is \(file.count) bytes long; at most \(limit) are read")
    }
    return withExtendedLifetime(file) { Array(file.bytes) }
}
