import Glibc

/// A new file, written from front to back.
package final class OutputFile {
    package let path: String
    private let descriptor: Int32

    /// Creates the file; fails if it exists.
    package init(path: String) throws(ModelError) {
        self.path = path
        descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw ModelError(.inputOutput, file: path, "cannot be created: \(errnoText())") }
    }

    deinit { close(descriptor) }

    package func write(_ bytes: UnsafeRawBufferPointer) throws(ModelError) {
        var rest = bytes
        while let base = rest.baseAddress, rest.count > 0 {
            let written = Glibc.write(descriptor, base, rest.count)
            if written < 0, errno == EINTR { continue }
            guard written > 0 else {
                throw ModelError(
                    .inputOutput, file: path, "cannot be written: \(errnoText())",
                    remedy: errno == ENOSPC ? "free some space or choose another disk" : nil)
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[written...])
        }
    }

    package func write(_ bytes: [UInt8]) throws(ModelError) {
        try bytes.withUnsafeBufferPointer { bytes throws(ModelError) in try write(UnsafeRawBufferPointer(bytes)) }
    }

    /// Gives the file its full length. What is not written yet reads as zeros.
    package func setLength(_ length: Int) throws(ModelError) {
        guard ftruncate(descriptor, length) == 0 else { throw ModelError(.inputOutput, file: path, "cannot be given its length: \(errnoText())") }
    }

    /// Waits until everything is on the disk.
    package func sync() throws(ModelError) {
        guard fsync(descriptor) == 0 else { throw ModelError(.inputOutput, file: path, "cannot be written: \(errnoText())") }
    }
}
