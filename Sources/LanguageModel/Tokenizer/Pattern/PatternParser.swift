/// A node of a regular expression.
indirect enum PatternNode {
    case set(ScalarSet)
    case sequence([PatternNode])
    case alternatives([PatternNode])
    case repeated(PatternNode, least: Int, most: Int, mode: RepeatMode)
    /// `(?=…)`, `(?!…)`
    case lookahead(PatternNode, negative: Bool)
    /// `(?<=…)`, `(?<!…)`, each with a single scalar.
    case lookbehind(ScalarSet, negative: Bool)
    /// `(?>…)`
    case atomic(PatternNode)
    case assertion(PatternAssertion)
}

enum RepeatMode { case greedy, lazy, possessive }

enum PatternAssertion {
    case textStart, textEnd, lineStart, lineEnd, wordBoundary, noWordBoundary
    /// The end of the text, or the position before a final line break.
    case lastLineEnd
}

/// Why a pattern can't be parsed: an unknown construct, or a mistake.
package struct PatternError: Error, Hashable {
    package let problem: String
}

/// Parses the part of Oniguruma's syntax that tokenizers use.
struct PatternParser {
    /// Limit on `{n,m}`, which copies what it repeats.
    static let repetitionsMax = 1024
    static let depthMax = 64

    private let scalars: [Unicode.Scalar]
    private var position = 0
    private var ignoresCase = false
    private var depth = 0

    private init(_ source: String) { scalars = Array(source.unicodeScalars) }

    static func parse(_ source: String) throws(PatternError) -> PatternNode {
        var parser = PatternParser(source)
        let node = try parser.alternatives()
        guard parser.position == parser.scalars.count else { throw PatternError(problem: "has a \")\" too many") }
        return node
    }

    private var next: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard next == scalar else { return false }
        position += 1
        return true
    }

    private mutating func take(_ text: String) -> Bool {
        let expected = Array(text.unicodeScalars)
        guard scalars.count - position >= expected.count, scalars[position..<position + expected.count].elementsEqual(expected) else {
            return false
        }
        position += expected.count
        return true
    }

    private func unknown(_ what: String) -> PatternError { PatternError(problem: "has \(what), which is not known here") }

    private mutating func alternatives() throws(PatternError) -> PatternNode {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.depthMax else { throw PatternError(problem: "is nested more than \(Self.depthMax) deep") }
        var list = [try sequence()]
        while take("|") { list.append(try sequence()) }
        return list.count == 1 ? list[0] : .alternatives(list)
    }

    private mutating func sequence() throws(PatternError) -> PatternNode {
        var list: [PatternNode] = []
        while let scalar = next, scalar != "|", scalar != ")" { list.append(try quantified()) }
        return list.count == 1 ? list[0] : .sequence(list)
    }

    private mutating func quantified() throws(PatternError) -> PatternNode {
        var node = try atom()
        while let scalar = next {
            var least = 0
            var most = Int.max
            var isCounted = false
            switch scalar {
            case "*": position += 1
            case "+":
                position += 1
                least = 1
            case "?":
                position += 1
                most = 1
            case "{":
                guard let bounds = counts() else { return node }
                (least, most) = bounds
                isCounted = true
            default: return node
            }
            guard least <= Self.repetitionsMax, most == .max || most <= Self.repetitionsMax, least <= most else {
                throw PatternError(problem: "repeats something more than \(Self.repetitionsMax) times")
            }
            var mode = RepeatMode.greedy
            if take("?") {
                mode = .lazy
            } else if !isCounted, take("+") {  // after {n,m} a + is one more quantifier
                mode = .possessive
            }
            node = .repeated(node, least: least, most: most, mode: mode)
        }
        return node
    }

    /// Parses `{2}`, `{2,}`, `{,3}`, `{2,3}`; nil if the brace is literal.
    private mutating func counts() -> (least: Int, most: Int)? {
        let start = position
        position += 1
        func number() -> Int? {
            var value: Int?
            while let digit = next?.value, (0x30...0x39).contains(digit), (value ?? 0) < 1_000_000 {
                value = (value ?? 0) * 10 + Int(digit - 0x30)
                position += 1
            }
            return value
        }
        let first = number()
        if take("}"), let first { return (first, first) }
        if take(",") {
            let second = number()
            if take("}"), first != nil || second != nil { return (first ?? 0, second ?? .max) }
        }
        position = start
        return nil
    }

    private mutating func atom() throws(PatternError) -> PatternNode {
        guard let scalar = next else { throw PatternError(problem: "ends too early") }
        position += 1
        switch scalar {
        case "(": return try group()
        case "[": return set(try characterClass())
        case ".": return .set(ScalarSet.lineBreak.inverted)
        case "^": return .assertion(.lineStart)
        case "$": return .assertion(.lineEnd)
        case "\\": return try escape()
        case "*", "+", "?": throw PatternError(problem: "has nothing before \"\(scalar)\"")
        default: return set(ScalarSet([scalar.value]))
        }
    }

    private func set(_ set: ScalarSet) -> PatternNode { .set(ignoresCase ? set.ignoringCase : set) }

    private mutating func group() throws(PatternError) -> PatternNode {
        let before = ignoresCase
        defer { ignoresCase = before }
        var wrap: (PatternNode) throws(PatternError) -> PatternNode = { $0 }
        if take("?:") {
        } else if take("?=") || take("?!") {
            let negative = scalars[position - 1] == "!"
            wrap = { .lookahead($0, negative: negative) }
        } else if take("?<=") || take("?<!") {
            let negative = scalars[position - 1] == "!"
            wrap = { node throws(PatternError) in
                guard case .set(let set) = node else {
                    throw PatternError(problem: "looks behind at more than one character, which is not known here")
                }
                return .lookbehind(set, negative: negative)
            }
        } else if take("?>") {
            wrap = { .atomic($0) }
        } else if take("?i:") {
            ignoresCase = true
        } else if take("?i)") {
            // The option holds up to the end of the enclosing group.
            ignoresCase = true
            let rest = try alternatives()
            return rest
        } else if take("?<") || take("?P<") {
            while let scalar = next, scalar != ">" {
                guard scalar.properties.isAlphabetic || scalar == "_" || scalar.properties.numericType != nil else {
                    throw unknown("a group \"(?<\(scalar)\"")
                }
                position += 1
            }
            guard take(">") else { throw PatternError(problem: "has a group whose name does not end") }
        } else if next == "?" {
            throw unknown("the group \"(?\(position + 1 < scalars.count ? String(scalars[position + 1]) : "")\"")
        }
        let node = try alternatives()
        guard take(")") else { throw PatternError(problem: "has a \"(\" without its \")\"") }
        return try wrap(node)
    }

    private mutating func escape() throws(PatternError) -> PatternNode {
        switch next {
        case "b":
            position += 1
            return .assertion(.wordBoundary)
        case "B":
            position += 1
            return .assertion(.noWordBoundary)
        case "A":
            position += 1
            return .assertion(.textStart)
        case "z":
            position += 1
            return .assertion(.textEnd)
        case "Z":
            position += 1
            return .assertion(.lastLineEnd)
        default: return set(try escapedSet())
        }
    }

    /// Parses what follows a backslash, as a set: `\p{L}`, `\s`, `\n`, `\.`.
    private mutating func escapedSet() throws(PatternError) -> ScalarSet {
        guard let scalar = next else { throw PatternError(problem: "ends with a backslash") }
        position += 1
        switch scalar {
        case "p", "P":
            guard take("{") else { throw unknown("\"\\\(scalar)\" without braces") }
            var isInverted = scalar == "P"
            if take("^") { isInverted.toggle() }
            var name = ""
            while let part = next, part != "}" {
                name.unicodeScalars.append(part)
                position += 1
            }
            guard take("}"), let set = ScalarSet.property(name) else { throw unknown("the property \"\\p{\(name)}\"") }
            return isInverted ? set.inverted : set
        case "s": return .spaces
        case "S": return ScalarSet.spaces.inverted
        case "d": return .digits
        case "D": return ScalarSet.digits.inverted
        case "w": return .words
        case "W": return ScalarSet.words.inverted
        case "h": return ScalarSet([0x30...0x39, 0x41...0x46, 0x61...0x66])
        case "n": return ScalarSet([0x0a])
        case "r": return ScalarSet([0x0d])
        case "t": return ScalarSet([0x09])
        case "f": return ScalarSet([0x0c])
        case "v": return ScalarSet([0x0b])
        case "a": return ScalarSet([0x07])
        case "e": return ScalarSet([0x1b])
        case "0": return ScalarSet([0x00])
        case "x": return ScalarSet([try hexadecimal(take("{") ? nil : 2)])
        case "u": return ScalarSet([try hexadecimal(4)])
        default:
            if scalar.properties.isAlphabetic || (0x31...0x39).contains(scalar.value) { throw unknown("\"\\\(scalar)\"") }
            return ScalarSet([scalar.value])
        }
    }

    /// - Parameter digits: number of digits; nil means up to a brace.
    private mutating func hexadecimal(_ digits: Int?) throws(PatternError) -> UInt32 {
        var value: UInt32 = 0
        var count = 0
        while count < digits ?? 8, let digit = next.flatMap({ Character($0).hexDigitValue }) {
            value = value << 4 | UInt32(digit)
            count += 1
            position += 1
        }
        guard count > 0, value <= ScalarSet.last, digits != nil || take("}") else {
            throw PatternError(problem: "has a broken number of a character")
        }
        return value
    }

    /// Parses a class after `[`: members, ranges, nested classes, and `&&` for intersections.
    private mutating func characterClass() throws(PatternError) -> ScalarSet {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.depthMax else { throw PatternError(problem: "is nested more than \(Self.depthMax) deep") }
        let isInverted = take("^")
        var whole: ScalarSet?
        var members: [ClosedRange<UInt32>] = []
        func side() -> ScalarSet { whole.map { $0.intersection(ScalarSet(members)) } ?? ScalarSet(members) }
        var isFirst = true
        while true {
            guard let scalar = next else { throw PatternError(problem: "has a \"[\" without its \"]\"") }
            if scalar == "]", !isFirst {
                position += 1
                let set = ignoresCase ? side().ignoringCase : side()
                return isInverted ? set.inverted : set
            }
            isFirst = false
            if take("&&") {
                whole = side()
                members = []
                continue
            }
            if take("[:") {
                members += try posixClass().ranges
                continue
            }
            let set = try member()
            // The hyphen makes a range unless it is the last member.
            if next == "-", position + 1 < scalars.count, scalars[position + 1] != "]", set.ranges.count == 1, set.ranges[0].count == 1 {
                position += 1
                let end = try member()
                guard end.ranges.count == 1, end.ranges[0].count == 1, set.ranges[0].lowerBound <= end.ranges[0].lowerBound else {
                    throw PatternError(problem: "has a range of characters that runs backwards")
                }
                members.append(set.ranges[0].lowerBound...end.ranges[0].lowerBound)
            } else {
                members += set.ranges
            }
        }
    }

    private mutating func member() throws(PatternError) -> ScalarSet {
        guard let scalar = next else { throw PatternError(problem: "has a \"[\" without its \"]\"") }
        position += 1
        switch scalar {
        case "[": return try characterClass()
        case "\\":
            return next == "b"
                ? {
                    position += 1
                    return ScalarSet([0x08])
                }() : try escapedSet()
        default: return ScalarSet([scalar.value])
        }
    }

    private mutating func posixClass() throws(PatternError) -> ScalarSet {
        let known: [(String, ScalarSet)] = [("space", .spaces), ("digit", .digits), ("word", .words)]
        let properties = [("alpha", "L"), ("punct", "P"), ("upper", "Lu"), ("lower", "Ll")]
        let isInverted = take("^")
        for (name, set) in known where take(name + ":]") { return isInverted ? set.inverted : set }
        for (name, property) in properties where take(name + ":]") {
            guard let set = ScalarSet.property(property) else { break }
            return isInverted ? set.inverted : set
        }
        throw unknown("a class \"[:\"")
    }
}
