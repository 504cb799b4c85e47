import CZeroMQ
import Glibc

/// A CURVE key pair. It never prints its secret.
public struct KeyPair: Sendable, CustomStringConvertible, CustomReflectable {
    public let publicKey: PublicKey
    let secret: [UInt8]

    public var description: String { "key pair with the public key \(publicKey)" }
    public var customMirror: Mirror { Mirror(self, children: ["publicKey": publicKey]) }

    /// Makes a new key pair.
    ///
    /// - Throws: `TransportError` `.key` if libzmq was built without CURVE.
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
        // systemd may hand a credential to its service as group-readable, if the service has its own user. The credential's directory keeps everybody
        // else out.
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

private func decodeZ85(_ text: [CChar]) -> [UInt8] {
    var text = text
    var bytes = [UInt8](repeating: 0, count: 32)
    zmq_z85_decode(&bytes, &text)
    return bytes
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
