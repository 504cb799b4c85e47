import Glibc

/// The public key by which a peer proves its identity (CURVE): 32 bytes, written as 64 hexadecimal digits. ZeroMQ's own spelling, Z85, is not used,
/// because shells and addresses give another meaning to its `&`, `?`, `$` and `#`.
public struct PublicKey: Hashable, Sendable, CustomStringConvertible {
    public static let byteCount = 32
    public let bytes: [UInt8]

    /// - Throws: `TransportError` `.key` unless `hex` is 64 hexadecimal digits.
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

extension PublicKey {
    /// Reads an allow list. Each line has a public key and then anything, such as a name. `#` begins a comment.
    public static func list(contentsOf path: String) throws(TransportError) -> Set<PublicKey> {
        var keys: Set<PublicKey> = []
        for (index, line) in try readSmallFile(path).enumerated() {
            guard let word = line.unicodeScalars.prefix(while: { $0 != "#" }).split(whereSeparator: \.properties.isWhitespace).first else { continue }
            do throws(TransportError) {
                keys.insert(try PublicKey(hex: String(Substring(word))))
            } catch {
                throw TransportError(.key, "\(path):\(index + 1): \(error.message)")
            }
        }
        return keys
    }
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

/// Reads the lines of a key file or an allow list.
func readSmallFile(_ path: String) throws(TransportError) -> [String] {
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
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.removeFirst(3) }
    // Split by bytes: Swift takes the two characters of a Windows line break for one character, which is not a line feed.
    return bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { line in
        String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
    }
}
