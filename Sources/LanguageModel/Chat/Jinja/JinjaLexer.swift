/// A token of a template.
struct JinjaToken {
    enum Kind: Equatable {
        /// Text outside of tags.
        case text(String)
        case outputBegin, outputEnd, blockBegin, blockEnd
        case name(String)
        case integer(Int)
        case float(Double)
        case string(String)
        case sign(String)
        case end
    }

    let kind: Kind
    let line: Int
}

/// Splits a template into tokens. White space around tags is treated as in transformers: the line break after a block is removed
/// (`trim_blocks`), and so are blanks before a block at the beginning of a line (`lstrip_blocks`).
struct JinjaLexer {
    private let source: [Unicode.Scalar]
    private var position = 0
    private var line = 1
    private var tokens: [JinjaToken] = []
    /// Whether the text read last ended a line.
    private var atLineStart = true

    static func tokens(of source: String) throws(JinjaError) -> [JinjaToken] {
        var lexer = JinjaLexer(source)
        try lexer.run()
        return lexer.tokens
    }

    private init(_ source: String) {
        var scalars = Array(source.unicodeScalars)
        // Line ends become "\n", and a final one is not part of the template.
        var out: [Unicode.Scalar] = []
        var i = 0
        while i < scalars.count {
            if scalars[i] == "\r" {
                out.append("\n")
                if i + 1 < scalars.count, scalars[i + 1] == "\n" { i += 1 }
            } else {
                out.append(scalars[i])
            }
            i += 1
        }
        scalars = out
        if scalars.last == "\n" { scalars.removeLast() }
        self.source = scalars
    }

    private func has(_ text: StaticString, at place: Int) -> Bool {
        guard place >= 0, place + text.utf8CodeUnitCount <= source.count else { return false }
        return text.withUTF8Buffer { bytes in bytes.indices.allSatisfy { source[place + $0].value == UInt32(bytes[$0]) } }
    }

    private mutating func advance(to end: Int) {
        for i in position..<end where source[i] == "\n" { line += 1 }
        if end > position { atLineStart = source[end - 1] == "\n" }
        position = end
    }

    private mutating func add(_ kind: JinjaToken.Kind) { tokens.append(JinjaToken(kind: kind, line: line)) }

    private mutating func run() throws(JinjaError) {
        while position < source.count {
            var start = position
            while start < source.count, !has("{{", at: start), !has("{%", at: start), !has("{#", at: start) { start += 1 }
            guard start < source.count else {
                addText(position..<source.count)
                break
            }
            let isOutput = has("{{", at: start)
            let control = start + 2 < source.count ? source[start + 2] : " "
            var end = start
            if control == "-" {
                while end > position, Self.isSpace(source[end - 1]) { end -= 1 }
            } else if !isOutput, control != "+" {
                var lineStart = end
                while lineStart > position, source[lineStart - 1] != "\n" { lineStart -= 1 }
                let beginsLine = lineStart > position || atLineStart
                if beginsLine, source[lineStart..<end].allSatisfy(Self.isSpace) { end = lineStart }
            }
            addText(position..<end)
            advance(to: start)
            if has("{#", at: start) {
                try comment()
            } else {
                try tag(isOutput: isOutput, hasControl: control == "-" || control == "+")
            }
        }
        add(.end)
    }

    static func isSpace(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.isWhitespace || (0x1c...0x1f).contains(scalar.value) }

    private mutating func addText(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        var text = String.UnicodeScalarView()
        text.append(contentsOf: source[range])
        add(.text(String(text)))
    }

    private mutating func comment() throws(JinjaError) {
        var end = position + 2
        while end < source.count, !has("#}", at: end) { end += 1 }
        guard end < source.count else { throw JinjaError(.template, "a comment \"{#\" does not end", line: line) }
        finishTag(end, isOutput: false)
    }

    /// Finishes a tag whose closing mark is at `end`: white space after it is treated as its sign says.
    private mutating func finishTag(_ end: Int, isOutput: Bool) {
        let sign = end > 0 ? source[end - 1] : " "
        advance(to: end + 2)
        if sign == "-" {
            var next = position
            while next < source.count, Self.isSpace(source[next]) { next += 1 }
            advance(to: next)
        } else if sign != "+", !isOutput, has("\n", at: position) {
            advance(to: position + 1)
        }
    }

    private mutating func tag(isOutput: Bool, hasControl: Bool) throws(JinjaError) {
        let startLine = line
        advance(to: position + (hasControl ? 3 : 2))
        if !isOutput, try raw() { return }
        add(isOutput ? .outputBegin : .blockBegin)
        var open: [Unicode.Scalar] = []
        while true {
            while position < source.count, Self.isSpace(source[position]) { advance(to: position + 1) }
            guard position < source.count else { throw JinjaError(.template, "a tag does not end", line: startLine) }
            if open.isEmpty {
                let signed = source[position] == "-" || source[position] == "+" && !isOutput
                let end = signed ? position + 1 : position
                if isOutput ? has("}}", at: end) : has("%}", at: end) {
                    add(isOutput ? .outputEnd : .blockEnd)
                    finishTag(end, isOutput: isOutput)
                    return
                }
            }
            try token(&open)
        }
    }

    /// Reads `{% raw %}`, whose content is text.
    private mutating func raw() throws(JinjaError) -> Bool {
        var i = position
        func skipSpace() { while i < source.count, Self.isSpace(source[i]) { i += 1 } }
        skipSpace()
        guard has("raw", at: i) else { return false }
        i += 3
        skipSpace()
        if i < source.count, source[i] == "-" { i += 1 }
        guard has("%}", at: i) else { return false }
        let startLine = line
        finishTag(i, isOutput: false)
        var end = position
        while end < source.count {
            var j = end
            if has("{%", at: j) {
                j += 2
                let strips = j < source.count && source[j] == "-"
                if strips { j += 1 }
                i = j
                skipSpace()
                if has("endraw", at: i) {
                    i += 6
                    skipSpace()
                    if i < source.count, source[i] == "-" { i += 1 }
                    guard has("%}", at: i) else { break }
                    var textEnd = end
                    if strips { while textEnd > position, Self.isSpace(source[textEnd - 1]) { textEnd -= 1 } }
                    addText(position..<textEnd)
                    advance(to: end)
                    finishTag(i, isOutput: false)
                    return true
                }
            }
            end += 1
        }
        throw JinjaError(.template, "a \"raw\" block does not end", line: startLine)
    }

    private static let signs = [
        "**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "(", ")", "[", "]", "{", "}", ">", "<", "=", ".", ":", "|", ",",
        ";",
    ].map { Array($0.unicodeScalars) }

    private mutating func token(_ open: inout [Unicode.Scalar]) throws(JinjaError) {
        let first = source[position]
        if first == "'" || first == "\"" { return try string(first) }
        if (0x30...0x39).contains(first.value) { return try number() }
        if first == "_" || first.properties.isXIDStart {
            var end = position + 1
            while end < source.count, source[end] == "_" || source[end].properties.isXIDContinue { end += 1 }
            var name = String.UnicodeScalarView()
            name.append(contentsOf: source[position..<end])
            add(.name(String(name)))
            return advance(to: end)
        }
        guard
            let sign = Self.signs.first(where: {
                position + $0.count <= source.count && source[position..<position + $0.count].elementsEqual($0)
            })
        else {
            throw JinjaError(.template, "the character \(String(first).debugDescription) is not expected", line: line)
        }
        switch sign[0] {
        case "(", "[", "{": open.append(sign[0])
        case ")", "]", "}":
            let pairs: [Unicode.Scalar: Unicode.Scalar] = [")": "(", "]": "[", "}": "{"]
            guard let last = open.popLast(), last == pairs[sign[0]] else {
                throw JinjaError(.template, "a \"\(sign[0])\" has no beginning", line: line)
            }
        default: break
        }
        var text = String.UnicodeScalarView()
        text.append(contentsOf: sign)
        add(.sign(String(text)))
        advance(to: position + sign.count)
    }

    private mutating func number() throws(JinjaError) {
        var end = position
        func digits() {
            while end < source.count, (0x30...0x39).contains(source[end].value) || source[end] == "_" { end += 1 }
        }
        digits()
        var isFloat = false
        if end + 1 < source.count, source[end] == ".", (0x30...0x39).contains(source[end + 1].value) {
            isFloat = true
            end += 1
            digits()
        }
        if end < source.count, source[end] == "e" || source[end] == "E" {
            var after = end + 1
            if after < source.count, source[after] == "+" || source[after] == "-" { after += 1 }
            if after < source.count, (0x30...0x39).contains(source[after].value) {
                isFloat = true
                end = after
                digits()
            }
        }
        let text = String(String.UnicodeScalarView(source[position..<end].filter { $0 != "_" }))
        if isFloat, let value = Double(text) {
            add(.float(value))
        } else if let value = Int(text) {
            add(.integer(value))
        } else {
            throw JinjaError(.template, "the number \(text) is too large", line: line)
        }
        advance(to: end)
    }

    private mutating func string(_ quote: Unicode.Scalar) throws(JinjaError) {
        let startLine = line
        var text = String.UnicodeScalarView()
        var i = position + 1
        while i < source.count, source[i] != quote {
            guard source[i] == "\\", i + 1 < source.count else {
                text.append(source[i])
                i += 1
                continue
            }
            i += 1
            let simple: [Unicode.Scalar: Unicode.Scalar] = [
                "n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", "\"": "\"", "a": "\u{7}", "b": "\u{8}", "f": "\u{c}", "v": "\u{b}",
            ]
            if let scalar = simple[source[i]] {
                text.append(scalar)
                i += 1
            } else if source[i] == "\n" {
                i += 1
            } else if let width = (["x": 2, "u": 4, "U": 8] as [Unicode.Scalar: Int])[source[i]], i + width < source.count,
                let value = UInt32(String(String.UnicodeScalarView(source[i + 1...i + width])), radix: 16),
                let scalar = Unicode.Scalar(value)
            {
                text.append(scalar)
                i += 1 + width
            } else if (0x30...0x37).contains(source[i].value) {
                var value: UInt32 = 0
                var count = 0
                while count < 3, i < source.count, (0x30...0x37).contains(source[i].value) {
                    value = value * 8 + source[i].value - 0x30
                    i += 1
                    count += 1
                }
                text.append(Unicode.Scalar(value) ?? "\u{fffd}")
            } else {
                text.append("\\")
            }
        }
        guard i < source.count else { throw JinjaError(.template, "a string does not end", line: startLine) }
        add(.string(String(text)))
        advance(to: i + 1)
    }
}
