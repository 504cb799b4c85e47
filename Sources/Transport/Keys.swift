import CZeroMQ
import Glibc

/// A CURVE public key: 32 bytes, written as 64 hexadecimal digits. Not as Z85, ZeroMQ's own way, whose `&`, `?`, `$` and `#`
/// shells and addresses take for something else.
public struct PublicKey: Hashable, Sendable, CustomStringConvertible {
    public static let byteCount = 32
    public let bytes: [UInt8]

    public init(hex: String) throws(TransportError) {
        guard let bytes = bytesOfHex(hex), bytes.count == Self.byteCount else {
            throw TransportError(.key, "a public key has 64 hexadecimal digits, this has \(hex.count) characters: \(hex)")
        }
        self.bytes = bytes
    }

    init(bytes: [UInt8]) {
        precondition(bytes.count == Self.byteCount)
        self.bytes = bytes
    }

    public var description: String { hexOf(bytes) }
}

/// A CURVE key pair. It never prints its secret.
public struct KeyPair: Sendable, CustomStringConvertible, CustomReflectable {
    public let publicKey: PublicKey
    let secret: [UInt8]

    public var description: String { "key pair with the public key \(publicKey)" }
    public var customMirror: Mirror { Mirror(self, children: ["publicKey": publicKey]) }

    public static func generate() throws(TransportError) -> KeyPair {
        var publicText = [CChar](repeating: 0, count: 41)
        var secretText = [CChar](repeating: 0, count: 41)
        guard zmq_curve_keypair(&publicText, &secretText) == 0 else {
            throw TransportError(.key, "this libzmq was built without CURVE; install Debian's libzmq5, which has it")
        }
        return KeyPair(publicKey: PublicKey(bytes: decodeZ85(publicText)), secret: decodeZ85(secretText))
    }

    /// Writes the secret to `path` (mode 0600) and the public key to `path`.pub. Never overwrites.
    public func write(to path: String) throws(TransportError) {
        try writeNew(path, hexOf(secret) + "\n", mode: 0o600)
        do {
            try writeNew(path + ".pub", "\(publicKey)\n", mode: 0o644)
        } catch {
            // Half a pair would be in the way of the next attempt.
            unlink(path)
            throw error
        }
    }

    /// Reads a secret key file; the public key follows from it.
    public init(contentsOf path: String) throws(TransportError) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw TransportError(errno == ENOENT ? .missing : .key, "can't read the key file \(path): \(String(cString: strerror(errno)))")
        }
        // systemd hands a credential to its service as group-readable where the service has a user of its own; its directory
        // keeps everybody else out.
        let isCredential = getenv("CREDENTIALS_DIRECTORY").map { path.hasPrefix(String(cString: $0) + "/") } ?? false
        guard status.st_mode & (isCredential ? 0o007 : 0o077) == 0 else {
            throw TransportError(.key, "the key file \(path) can be read by others; run: chmod 600 \(path)")
        }
        let text = try readSmallFile(path)
        guard let secret = bytesOfHex(text.first ?? ""), secret.count == 32 else {
            throw TransportError(.key, "\(path) is no secret key file: 64 hexadecimal digits on the first line are missing")
        }
        var secretText = [CChar](repeating: 0, count: 41)
        var publicText = [CChar](repeating: 0, count: 41)
        guard zmq_z85_encode(&secretText, secret, 32) != nil, zmq_curve_public(&publicText, &secretText) == 0 else {
            throw TransportError(.key, "this libzmq was built without CURVE; install Debian's libzmq5, which has it")
        }
        self.secret = secret
        publicKey = PublicKey(bytes: decodeZ85(publicText))
    }

    private init(publicKey: PublicKey, secret: [UInt8]) {
        self.publicKey = publicKey
        self.secret = secret
    }
}

extension PublicKey {
    /// Reads an allow list: a public key on each line, then anything (a name, say); `#` begins a comment.
    public static func list(contentsOf path: String) throws(TransportError) -> Set<PublicKey> {
        var keys: Set<PublicKey> = []
        for (index, line) in try readSmallFile(path).enumerated() {
            guard let word = line.prefix(while: { $0 != "#" }).split(whereSeparator: \.isWhitespace).first else { continue }
            do throws(TransportError) {
                keys.insert(try PublicKey(hex: String(word)))
            } catch {
                throw TransportError(.key, "\(path):\(index + 1): \(error.message)")
            }
        }
        return keys
    }
}

private func decodeZ85(_ text: [CChar]) -> [UInt8] {
    var text = text
    var bytes = [UInt8](repeating: 0, count: 32)
    zmq_z85_decode(&bytes, &text)
    return bytes
}

func hexOf(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef")
    return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
}

func bytesOfHex(_ text: String) -> [UInt8]? {
    let nibbles = text.compactMap(\.hexDigitValue)
    guard nibbles.count == text.count, nibbles.count % 2 == 0 else { return nil }
    return stride(from: 0, to: nibbles.count, by: 2).map { UInt8(nibbles[$0] << 4 | nibbles[$0 + 1]) }
}

private let keyFileBytesMax = 1 << 20

private func readSmallFile(_ path: String) throws(TransportError) -> [String] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw TransportError(.key, "can't read \(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 12)
    while true {
        let count = read(descriptor, &buffer, buffer.count)
        if count < 0 && errno == EINTR { continue }
        guard count >= 0 else { throw TransportError(.key, "can't read \(path): \(String(cString: strerror(errno)))") }
        if count == 0 { break }
        bytes += buffer[..<count]
        guard bytes.count <= keyFileBytesMax else { throw TransportError(.key, "\(path) is no key file: it is longer than 1 MB") }
    }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
}

private func writeNew(_ path: String, _ text: String, mode: mode_t) throws(TransportError) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else {
        let remedy = errno == EEXIST ? "; delete it first if its key is no longer used" : ""
        throw TransportError(.system, "can't write \(path): \(String(cString: strerror(errno)))\(remedy)")
    }
    defer { close(descriptor) }
    let bytes = Array(text.utf8)
    guard write(descriptor, bytes, bytes.count) == bytes.count, fsync(descriptor) == 0 else {
        let failure = TransportError(.system, "can't write \(path): \(String(cString: strerror(errno)))")
        unlink(path)
        throw failure
    }
}
