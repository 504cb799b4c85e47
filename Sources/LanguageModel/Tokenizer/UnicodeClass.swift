/// The classes of scalars that pre-tokenizers' patterns distinguish.
package enum UnicodeClass: UInt8 {
    case other = 0
    case letter = 1
    case number = 2
    case space = 3

    /// Two bits per scalar, 272 KiB, made from the ranges once.
    private static let table: [UInt8] = {
        var table = [UInt8](repeating: 0, count: 0x110000 / 4)
        func mark(_ ranges: [UInt32], _ kind: UnicodeClass) {
            for i in stride(from: 0, to: ranges.count, by: 2) {
                for code in ranges[i]..<ranges[i] + ranges[i + 1] { table[Int(code >> 2)] |= kind.rawValue << UInt8((code & 3) * 2) }
            }
        }
        mark(UnicodeTables.letters, .letter)
        mark(UnicodeTables.numbers, .number)
        mark(UnicodeTables.spaces, .space)
        return table
    }()

    package static func of(_ scalar: UInt32) -> UnicodeClass {
        let bits = table.withUnsafeBufferPointer { $0[Int(scalar >> 2)] >> UInt8((scalar & 3) * 2) & 3 }
        return UnicodeClass(rawValue: bits).unsafelyUnwrapped
    }

    /// Whether the `Digits` splitter treats the scalar as a digit.
    package static func isDigit(_ scalar: UInt32) -> Bool {
        if of(scalar) == .number { return true }
        let later = UnicodeTables.laterDigits
        return scalar >= 0x11de0 && stride(from: 0, to: later.count, by: 2).contains { scalar >= later[$0] && scalar - later[$0] < later[$0 + 1] }
    }
}
