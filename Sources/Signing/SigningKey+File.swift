import Core
import Glibc

/// The reason why a key file can't be used.
public struct SigningKeyError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable { case missing, exists, unsafe, malformed, inputOutput }
    public let code: Code
    public let description: String
}

extension SigningKey {
    private static let fileBytesMax = 4096

    /// Reads a secret key file: 64 hexadecimal digits on its first line.
    ///
    /// - Throws: `SigningKeyError`, also if anybody but the owner may read the file.
    public init(contentsOf path: String) throws(SigningKeyError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw SigningKeyError(
                code: errno == ENOENT ? .missing : .inputOutput,
                description: "can't read the signing key \(path): \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        var status = stat()
        // systemd may hand a credential to its service as group-readable. The credential's directory keeps everybody else out.
        let isCredential = getenv("CREDENTIALS_DIRECTORY").map { path.hasPrefix(String(cString: $0) + "/") } ?? false
        guard fstat(descriptor, &status) == 0, status.st_mode & (isCredential ? 0o007 : 0o077) == 0 else {
            throw SigningKeyError(code: .unsafe, description: "the signing key \(path) can be read by others; run: chmod 600 \(path)")
        }
        var bytes = [UInt8](repeating: 0, count: Self.fileBytesMax)
        let count = read(descriptor, &bytes, bytes.count)
        let line = String(decoding: bytes.prefix(max(count, 0)).prefix { $0 != 0x0a }, as: UTF8.self)
        guard let key = SignerKey(hex: line).flatMap({ SigningKey(seed: $0.bytes) }) else {
            throw SigningKeyError(code: .malformed, description: "\(path) is no signing key: its first line is not 64 hexadecimal digits")
        }
        self = key
    }

    /// Writes the secret to `path` (mode 0600) and the public key to `path`.pub. Never overwrites.
    public func write(to path: String) throws(SigningKeyError) {
        try Self.writeNew(path, seed.map { $0 }, mode: 0o600)
        do {
            try Self.writeNew(path + ".pub", publicKey.bytes, mode: 0o644)
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Returns the key in `path`. If there is none, it makes one.
    public static func kept(in path: String) throws(SigningKeyError) -> SigningKey {
        do {
            return try SigningKey(contentsOf: path)
        } catch  where error.code == .missing {
            let key = SigningKey()
            // A public half without its secret is useless and would be in the way.
            unlink(path + ".pub")
            try key.write(to: path)
            return key
        }
    }

    private static func writeNew(_ path: String, _ bytes: [UInt8], mode: mode_t) throws(SigningKeyError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard descriptor >= 0 else {
            let isThere = errno == EEXIST
            throw SigningKeyError(
                code: isThere ? .exists : .inputOutput,
                description:
                    "can't write \(path): \(String(cString: strerror(errno)))\(isThere ? "; delete it first if its key is no longer used" : "")")
        }
        defer { close(descriptor) }
        let text = SignerKey(bytes: bytes).map { Array("\($0)\n".utf8) } ?? []
        guard Glibc.write(descriptor, text, text.count) == text.count, fsync(descriptor) == 0 else {
            let failure = SigningKeyError(code: .inputOutput, description: "can't write \(path): \(String(cString: strerror(errno)))")
            unlink(path)
            throw failure
        }
    }
}

extension SignerKey {
    /// Reads a list of trusted keys: each line has a public key, then a name. `#` begins a comment.
    public static func names(contentsOf path: String) throws(SigningKeyError) -> [SignerKey: String] {
        guard let file = fopen(path, "re") else {
            throw SigningKeyError(
                code: errno == ENOENT ? .missing : .inputOutput, description: "can't read \(path): \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var names: [SignerKey: String] = [:]
        var buffer = [CChar](repeating: 0, count: 4096)
        var number = 0
        while fgets(&buffer, Int32(buffer.count), file) != nil {
            number += 1
            let line = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace)
            guard let first = words.first else { continue }
            guard let key = SignerKey(hex: String(first)) else {
                throw SigningKeyError(
                    code: .malformed, description: "\(path):\(number): a public key has 64 hexadecimal digits, not: \(first.prefix(80))")
            }
            names[key] = words.dropFirst().joined(separator: " ")
        }
        return names
    }
}
