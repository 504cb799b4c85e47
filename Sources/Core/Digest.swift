/// A SHA-256 value (FIPS 180-4).
public struct Digest: Hashable, Sendable, Codable, CustomStringConvertible {
    public static let byteCount = 32
    /// Exactly 32 bytes.
    public let bytes: [UInt8]

    /// Returns nil unless there are exactly 32 bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = Array(bytes)
    }

    /// 64 hexadecimal digits.
    public var description: String { bytes.map { hexByte($0) }.joined() }

    /// The first 12 digits, short enough to compare by eye.
    public var short: String { String(description.prefix(Self.shortDigits)) }
    private static let shortDigits = 12

    /// Returns this digest and another one, shortened so that a person can tell them apart: the first 12 digits, and where these are the same, also
    /// 12 digits from where the two begin to differ.
    public func contrasted(with other: Digest) -> (own: String, other: String) {
        let (mine, theirs) = (Array(description.utf8), Array(other.description.utf8))
        let place = zip(mine, theirs).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? 0
        guard place >= Self.shortDigits else { return (short, other.short) }
        let start = min(place, mine.count - Self.shortDigits)
        func text(_ digits: [UInt8]) -> String {
            String(decoding: digits.prefix(4), as: UTF8.self) + "…" + String(decoding: digits[start..<start + Self.shortDigits], as: UTF8.self)
        }
        return (text(mine), text(theirs))
    }

    /// Returns nil unless `hex` is 64 hexadecimal digits.
    public init?(hex: String) {
        let digits = Array(hex.utf8)
        guard digits.count == 2 * Self.byteCount else { return nil }
        var bytes: [UInt8] = []
        for i in stride(from: 0, to: digits.count, by: 2) {
            guard let high = Character(UnicodeScalar(digits[i])).hexDigitValue,
                let low = Character(UnicodeScalar(digits[i + 1])).hexDigitValue
            else { return nil }
            bytes.append(UInt8(high << 4 | low))
        }
        self.bytes = bytes
    }

    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let digest = Digest(hex: text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "not a SHA-256 in 64 hexadecimal digits: \(text)"))
        }
        self = digest
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

private func hexByte(_ byte: UInt8) -> String {
    let digits = Array("0123456789abcdef")
    return String([digits[Int(byte >> 4)], digits[Int(byte & 15)]])
}
