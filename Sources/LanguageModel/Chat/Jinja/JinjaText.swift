/// A string of a template. Each scalar remembers whether it came from a conversation. Whatever a template does with a message's content
/// (trimming, cutting, joining) moves scalars, so the rendering still tells a user's words from the template's own.
package struct JinjaText: Hashable, Sendable {
    /// The scalars. The bits above a scalar's value mark it as content and hold its message's number.
    package var units: [UInt32]

    static let contentMark: UInt32 = 1 << 31
    static let valueMask: UInt32 = 0x1f_ffff
    static let markMask: UInt32 = ~valueMask
    /// Number of messages with distinct marks. Messages whose numbers differ by this have the same mark.
    package static let messagesMax = 1 << 10

    /// Returns the mark for the content of message `number`; nil means other text from outside, such as a tool's description.
    package static func mark(message number: Int?) -> UInt32 { contentMark | UInt32((number ?? messagesMax - 1) % messagesMax) << 21 }

    package static func isContent(_ unit: UInt32) -> Bool { unit & contentMark != 0 }

    package init() { units = [] }

    init(units: some Sequence<UInt32>) { self.units = Array(units) }

    /// - Parameter mark: 0 for text that is not content.
    package init(_ text: String, mark: UInt32 = 0) {
        units = text.unicodeScalars.map { $0.value | mark }
    }

    package var count: Int { units.count }
    package var isEmpty: Bool { units.isEmpty }

    package var string: String {
        var text = String.UnicodeScalarView()
        for unit in units { text.append(Self.scalar(unit)) }
        return String(text)
    }

    static func scalar(_ unit: UInt32) -> Unicode.Scalar { Unicode.Scalar(unit & valueMask) ?? "\u{fffd}" }

    package static func == (a: Self, b: Self) -> Bool {
        a.units.count == b.units.count && zip(a.units, b.units).allSatisfy { $0 & valueMask == $1 & valueMask }
    }

    package func hash(into hasher: inout Hasher) { for unit in units { hasher.combine(unit & Self.valueMask) } }

    static func + (a: Self, b: Self) -> Self { JinjaText(units: a.units + b.units) }

    /// Compares as Python compares strings.
    func precedes(_ other: Self) -> Bool {
        units.lazy.map { $0 & Self.valueMask }.lexicographicallyPrecedes(other.units.lazy.map { $0 & Self.valueMask })
    }

    // MARK: What Python's strings do

    static func isSpace(_ unit: UInt32) -> Bool {
        let scalar = scalar(unit)
        return scalar.properties.isWhitespace || (0x1c...0x1f).contains(scalar.value)
    }

    func stripped(left: Bool = true, right: Bool = true, _ isStripped: (UInt32) -> Bool = isSpace) -> Self {
        var range = units[...]
        if left { range = range.drop(while: isStripped) }
        if right { while let last = range.last, isStripped(last) { range.removeLast() } }
        return JinjaText(units: range)
    }

    func stripped(left: Bool, right: Bool, of characters: JinjaText?) -> Self {
        guard let characters else { return stripped(left: left, right: right) }
        let set = Set(characters.units.map { $0 & Self.valueMask })
        return stripped(left: left, right: right) { set.contains($0 & Self.valueMask) }
    }

    func hasPrefix(_ other: Self) -> Bool { matches(other, at: 0) }
    func hasSuffix(_ other: Self) -> Bool { matches(other, at: count - other.count) }

    private func matches(_ other: Self, at start: Int) -> Bool {
        guard start >= 0, start + other.count <= count else { return false }
        for i in 0..<other.count where (units[start + i] ^ other.units[i]) & Self.valueMask != 0 { return false }
        return true
    }

    /// Returns the first position of `other` at or after `start`.
    func firstIndex(of other: Self, from start: Int = 0) -> Int? {
        guard other.count <= count else { return nil }
        var i = max(0, start)
        while i + other.count <= count {
            if matches(other, at: i) { return i }
            i += 1
        }
        return nil
    }

    func lastIndex(of other: Self) -> Int? {
        var i = count - other.count
        while i >= 0 {
            if matches(other, at: i) { return i }
            i -= 1
        }
        return nil
    }

    /// - Parameter limit: largest number of cuts; the rest stays in one piece.
    func split(_ separator: Self, limit: Int = .max) -> [Self] {
        var parts: [Self] = []
        var start = 0
        while parts.count < limit, let found = firstIndex(of: separator, from: start) {
            parts.append(self[start..<found])
            start = found + separator.count
        }
        return parts + [self[start..<count]]
    }

    func splitFromRight(_ separator: Self, limit: Int) -> [Self] {
        var parts: [Self] = []
        var rest = self
        while parts.count < limit, let found = rest.lastIndex(of: separator) {
            parts.insert(rest[found + separator.count..<rest.count], at: 0)
            rest = rest[0..<found]
        }
        return [rest] + parts
    }

    func splitAtSpaces(limit: Int = .max) -> [Self] {
        var parts: [Self] = []
        var rest = units[...].drop(while: Self.isSpace)
        while !rest.isEmpty {
            if parts.count >= limit { return parts + [JinjaText(units: rest).stripped(left: false)] }
            let word = rest.prefix { !Self.isSpace($0) }
            parts.append(JinjaText(units: word))
            rest = rest.dropFirst(word.count).drop(while: Self.isSpace)
        }
        return parts
    }

    func lines(keepingEnds: Bool = false) -> [Self] {
        var lines: [Self] = []
        var start = 0
        var i = 0
        while i < count {
            let value = units[i] & Self.valueMask
            let next = i + 1
            guard [0x0a, 0x0b, 0x0c, 0x0d, 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029].contains(value) else {
                i = next
                continue
            }
            let end = value == 0x0d && next < count && units[next] & Self.valueMask == 0x0a ? next + 1 : next
            lines.append(self[start..<(keepingEnds ? end : i)])
            start = end
            i = end
        }
        if start < count { lines.append(self[start..<count]) }
        return lines
    }

    func replacing(_ old: Self, with new: Self, limit: Int = .max) -> Self {
        if old.isEmpty {
            guard limit > 0 else { return self }
            var out = new.units
            for (i, unit) in units.enumerated() { out += i + 1 < limit ? [unit] + new.units : [unit] }
            return JinjaText(units: out)
        }
        var out: [UInt32] = []
        for (i, part) in split(old, limit: limit).enumerated() { out += i == 0 ? part.units : new.units + part.units }
        return JinjaText(units: out)
    }

    func mapped(_ map: (Unicode.Scalar) -> String) -> Self {
        JinjaText(units: units.flatMap { unit in map(Self.scalar(unit)).unicodeScalars.map { $0.value | unit & Self.markMask } })
    }

    var lowercased: Self { mapped { $0.properties.lowercaseMapping } }
    var uppercased: Self { mapped { $0.properties.uppercaseMapping } }
    var capitalized: Self { self[0..<min(1, count)].mapped { $0.properties.titlecaseMapping } + self[min(1, count)..<count].lowercased }

    /// - Parameter isWordEnd: whether a new word begins after this scalar.
    func titled(isWordEnd: (Unicode.Scalar) -> Bool) -> Self {
        var atStart = true
        return mapped { scalar in
            defer { atStart = isWordEnd(scalar) }
            return atStart ? scalar.properties.titlecaseMapping : scalar.properties.lowercaseMapping
        }
    }

    subscript(range: Range<Int>) -> Self { range.isEmpty ? JinjaText() : JinjaText(units: units[range]) }
}
