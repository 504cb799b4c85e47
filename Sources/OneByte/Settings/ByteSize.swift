/// A number of bytes in the notation that people use: 512MB, 2GB (powers of 1,000), 2GiB (powers of 1,024), or plain bytes.
package struct ByteSize: Hashable, Sendable {
    package let bytes: Int

    init(bytes: Int) { self.bytes = bytes }

    private static let units: [(name: String, bytes: Double)] = [
        ("kib", 0x1p10), ("mib", 0x1p20), ("gib", 0x1p30), ("tib", 0x1p40), ("kb", 1e3), ("mb", 1e6), ("gb", 1e9), ("tb", 1e12), ("b", 1), ("", 1),
    ]

    /// Returns nil for malformed text or more than a petabyte.
    package init?(_ text: String) {
        let lower = text.lowercased()
        guard let unit = Self.units.first(where: { lower.hasSuffix($0.name) }) else { return nil }
        let number = lower.dropLast(unit.name.count).split(separator: " ").joined()
        // Only digits and one decimal point are allowed: no signs, exponents or names of numbers.
        guard number.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == ".") }), let value = Double(number), value * unit.bytes <= 1e15 else {
            return nil
        }
        bytes = Int(value * unit.bytes)
    }
}
