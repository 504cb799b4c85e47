/// A set of Unicode scalars, such as a class like `[^\s\p{L}]` matches. Membership takes constant time.
package struct ScalarSet: Hashable, Sendable {
    package static let last: UInt32 = 0x10ffff

    /// Ranges, disjoint, ascending and not adjacent.
    package let ranges: [ClosedRange<UInt32>]
    private let ascii: (low: UInt64, high: UInt64)
    /// For each block of 256 scalars its position in `blocks`; each block has four words of bits.
    private let blockOf: [UInt16]
    private let blocks: [UInt64]

    /// - Parameter ranges: in any order, possibly overlapping.
    package init(_ ranges: [ClosedRange<UInt32>]) {
        var merged: [ClosedRange<UInt32>] = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let before = merged.last, range.lowerBound <= before.upperBound &+ 1 {
                merged[merged.count - 1] = before.lowerBound...max(before.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        self.ranges = merged
        (blockOf, blocks) = Self.table(merged)
        ascii = (blocks[Int(blockOf[0]) * 4], blocks[Int(blockOf[0]) * 4 + 1])
    }

    package init(_ scalars: some Sequence<UInt32>) { self.init(scalars.map { $0...$0 }) }

    package static func == (a: Self, b: Self) -> Bool { a.ranges == b.ranges }
    package func hash(into hasher: inout Hasher) { hasher.combine(ranges) }

    private static func table(_ ranges: [ClosedRange<UInt32>]) -> (blockOf: [UInt16], blocks: [UInt64]) {
        var blockOf: [UInt16] = []
        var blocks: [UInt64] = []
        var known: [[UInt64]: UInt16] = [:]
        var first = 0
        for block in 0...(last >> 8) {
            let start = block << 8
            var bits = [UInt64](repeating: 0, count: 4)
            while first < ranges.count, ranges[first].upperBound < start { first += 1 }
            var i = first
            while i < ranges.count, ranges[i].lowerBound <= start + 255 {
                for code in max(ranges[i].lowerBound, start)...min(ranges[i].upperBound, start + 255) {
                    bits[Int(code - start) >> 6] |= 1 << UInt64(code & 63)
                }
                i += 1
            }
            if let place = known[bits] {
                blockOf.append(place)
            } else {
                let place = UInt16(blocks.count / 4)
                known[bits] = place
                blocks += bits
                blockOf.append(place)
            }
        }
        return (blockOf, blocks)
    }

    package func contains(_ scalar: UInt32) -> Bool {
        if scalar < 64 { return ascii.low >> UInt64(scalar) & 1 != 0 }
        if scalar < 128 { return ascii.high >> UInt64(scalar - 64) & 1 != 0 }
        guard scalar <= Self.last else { return false }
        let word = blockOf.withUnsafeBufferPointer { Int($0[Int(scalar >> 8)]) * 4 + Int(scalar & 255) >> 6 }
        return blocks.withUnsafeBufferPointer { $0[word] >> UInt64(scalar & 63) & 1 != 0 }
    }

    package func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(ranges + other.ranges) }

    package var inverted: ScalarSet {
        var rest: [ClosedRange<UInt32>] = []
        var next: UInt32 = 0
        for range in ranges {
            if range.lowerBound > next { rest.append(next...range.lowerBound - 1) }
            next = range.upperBound + 1
        }
        if next <= Self.last { rest.append(next...Self.last) }
        return ScalarSet(rest)
    }

    package func intersection(_ other: ScalarSet) -> ScalarSet { inverted.union(other.inverted).inverted }

    /// The set with the other cases of its letters, if these are single scalars. Sets of thousands are returned unchanged, because they
    /// already hold both cases.
    package var ignoringCase: ScalarSet {
        guard ranges.reduce(0, { $0 + $1.count }) < 4096 else { return self }
        var more = ranges
        func add(_ scalars: String.UnicodeScalarView) {
            if scalars.count == 1, let scalar = scalars.first { more.append(scalar.value...scalar.value) }
        }
        for scalar in ranges.joined().compactMap(Unicode.Scalar.init) {
            add(scalar.properties.lowercaseMapping.unicodeScalars)
            add(scalar.properties.uppercaseMapping.unicodeScalars)
            switch scalar {  // three letters that only fold into ASCII's or Latin-1's
            case "s", "S": more.append(0x17f...0x17f)
            case "k", "K": more.append(0x212a...0x212a)
            case "å", "Å": more.append(0x212b...0x212b)
            default: break
            }
        }
        return ScalarSet(more)
    }
}

extension ScalarSet {
    package static let spaces = ScalarSet(pairs: UnicodeTables.spaces)
    /// `\w`
    package static let words = ScalarSet(pairs: UnicodeTables.words).union(category("L")).union(category("M")).union(category("Nd")).union(
        category("Pc"))
    package static let digits = category("Nd")
    package static let lineBreak = ScalarSet([0x0a])
    /// Scalars that the `Digits` splitter treats as digits.
    package static let numeric = ScalarSet(pairs: UnicodeTables.numbers).union(ScalarSet(pairs: UnicodeTables.laterDigits))
    /// Scalars that the `Punctuation` splitter treats as punctuation.
    package static let punctuation: ScalarSet = {
        let ascii = ScalarSet([0x21...0x2f, 0x3a...0x40, 0x5b...0x60, 0x7b...0x7e])
        let later = ScalarSet(pairs: UnicodeTables.laterPunctuation)
        return ascii.union(category("P").intersection(later.inverted)).union(ScalarSet(pairs: UnicodeTables.otherPunctuation))
    }()

    private init(pairs: [UInt32]) {
        self.init(stride(from: 0, to: pairs.count, by: 2).map { pairs[$0]...pairs[$0] + pairs[$0 + 1] - 1 })
    }

    private static let categoryNames = [
        "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So",
        "Zs",
        "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
    ]

    private static let categories: [String: [ClosedRange<UInt32>]] = {
        var found: [String: [ClosedRange<UInt32>]] = [:]
        var code: UInt32 = 0
        var name = ""
        var length: UInt32 = 0
        func finish() {
            guard !name.isEmpty else { return }
            let count = max(1, length)
            found[name, default: []].append(code...code + count - 1)
            code += count
        }
        UnicodeTables.categories.withUTF8Buffer { text in
            for byte in text {
                switch byte {
                case 0x30...0x39: length = length * 10 + UInt32(byte - 0x30)
                case 0x41...0x5a, 0x61...0x64:
                    finish()
                    name = categoryNames[byte < 0x61 ? Int(byte - 0x41) : Int(byte - 0x61) + 26]
                    length = 0
                default: break
                }
            }
        }
        finish()
        return found
    }()

    private static func category(_ name: String) -> ScalarSet { property(name) ?? ScalarSet([UInt32]()) }

    private static let scripts: [String: [UInt32]] = [
        "han": UnicodeTables.han, "hiragana": UnicodeTables.hiragana, "katakana": UnicodeTables.katakana, "hangul": UnicodeTables.hangul,
    ]

    /// Returns a general category (`Lu`), a group of them (`L`), or one of a few scripts (`Han`); nil for an unknown name.
    package static func property(_ name: String) -> ScalarSet? {
        if let ranges = categories[name] { return ScalarSet(ranges) }
        if name.count == 1 {
            let group = categories.filter { $0.key.hasPrefix(name) }.flatMap(\.value)
            return group.isEmpty ? nil : ScalarSet(group)
        }
        return scripts[name.lowercased()].map { ScalarSet(pairs: $0) }
    }
}
