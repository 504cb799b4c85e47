/// A JSON document exactly as its file has it: members in order, numbers as written. Duplicate keys are refused.
///
/// Foundation's decoders lose what is needed here: the order and the text of numbers (a configuration is written out unchanged), duplicate
/// keys (which hostile safetensors headers use), and the difference between canonically equivalent strings (which are different tokens).
package enum JSON: Hashable, Sendable {
    case null
    case bool(Bool)
    case number(String)
    case string(String)
    case array([JSON])
    case object([Member])

    package struct Member: Hashable, Sendable {
        package var key: String
        package var value: JSON

        package init(key: String, value: JSON) {
            self.key = key
            self.value = value
        }
    }

    package static let depthMax = 64

    package subscript(key: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.key == key }?.value
    }

    /// Replaces the member's value, or appends the member; has no effect on a value that is not an object.
    package mutating func set(_ key: String, _ value: JSON) {
        guard case .object(var members) = self else { return }
        if let i = members.firstIndex(where: { $0.key == key }) {
            members[i].value = value
        } else {
            members.append(Member(key: key, value: value))
        }
        self = .object(members)
    }

    /// Removes a member.
    package mutating func remove(_ key: String) {
        guard case .object(let members) = self else { return }
        self = .object(members.filter { $0.key != key })
    }

    package static func integer(_ value: some BinaryInteger) -> JSON { .number(String(value)) }

    package var isNull: Bool { self == .null }

    package var string: String? {
        if case .string(let value) = self { value } else { nil }
    }

    package var bool: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    package var integer: Int? {
        if case .number(let text) = self { Int(text) } else { nil }
    }

    package var double: Double? {
        if case .number(let text) = self { Double(text) } else { nil }
    }

    package var array: [JSON]? {
        if case .array(let values) = self { values } else { nil }
    }

    package var members: [Member]? {
        if case .object(let members) = self { members } else { nil }
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(integerLiteral value: Int) { self = .number(String(value)) }
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSON)...) { self = .object(elements.map { Member(key: $0, value: $1) }) }
}

// MARK: Reading

extension JSON {
    /// - Parameter file: name of the file, for error messages.
    package init(_ bytes: UnsafeRawBufferPointer, file: String) throws(ModelError) {
        var parser = Parser(bytes: bytes, file: file)
        self = try parser.document()
    }

    package static func read(_ path: String, limit: Int = 256 << 20) throws(ModelError) -> JSON {
        let file = try MappedFile(path: path)
        guard file.count <= limit else {
            throw ModelError(.malformed, file: path, "is \(file.count) bytes long; at most \(limit) are read")
        }
        defer { withExtendedLifetime(file) {} }
        try file.refuseForeignFormat(keepsName: true)
        // Some editors put a byte order mark at the beginning.
        let start = file.bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
        return try JSON(UnsafeRawBufferPointer(rebasing: file.bytes[start...]), file: path)
    }

    private struct Parser {
        let bytes: UnsafeRawBufferPointer
        let file: String
        var position = 0

        func error(_ what: String) -> ModelError {
            let line = bytes[..<min(position, bytes.count)].reduce(1) { $0 + ($1 == 0x0a ? 1 : 0) }
            return ModelError(.malformed, file: file, subject: "line \(line), byte \(position)", "is not JSON: \(what)")
        }

        mutating func document() throws(ModelError) -> JSON {
            let value = try value(depth: 0)
            skipSpace()
            guard position == bytes.count else { throw error("something follows the end of the document") }
            return value
        }

        var next: UInt8? { position < bytes.count ? bytes[position] : nil }

        mutating func skipSpace() {
            while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
        }

        mutating func take(_ byte: UInt8) -> Bool {
            guard next == byte else { return false }
            position += 1
            return true
        }

        mutating func value(depth: Int) throws(ModelError) -> JSON {
            guard depth <= JSON.depthMax else { throw error("nested more than \(JSON.depthMax) deep") }
            skipSpace()
            guard let byte = next else { throw error("the text ends too early") }
            switch byte {
            case UInt8(ascii: "{"): return try object(depth: depth)
            case UInt8(ascii: "["): return try array(depth: depth)
            case UInt8(ascii: "\""): return .string(try string())
            case UInt8(ascii: "t"): return try word("true", .bool(true))
            case UInt8(ascii: "f"): return try word("false", .bool(false))
            case UInt8(ascii: "n"): return try word("null", .null)
            default: return try number()
            }
        }

        mutating func word(_ text: StaticString, _ value: JSON) throws(ModelError) -> JSON {
            let count = text.utf8CodeUnitCount
            let expected = UnsafeBufferPointer(start: text.utf8Start, count: count)
            guard bytes.count - position >= count, bytes[position..<position + count].elementsEqual(expected) else {
                throw error("an unknown word")
            }
            position += count
            return value
        }

        mutating func object(depth: Int) throws(ModelError) -> JSON {
            position += 1
            var members: [Member] = []
            // Keys are compared byte by byte: String's == treats canonically equivalent keys as equal.
            var keys: Set<[UInt8]> = []
            skipSpace()
            if take(UInt8(ascii: "}")) { return .object(members) }
            while true {
                skipSpace()
                guard next == UInt8(ascii: "\"") else { throw error("a key is expected") }
                let key = try string()
                guard keys.insert(Array(key.utf8)).inserted else { throw error("the key \(key.debugDescription) appears twice") }
                skipSpace()
                guard take(UInt8(ascii: ":")) else { throw error("a colon is expected") }
                members.append(Member(key: key, value: try value(depth: depth + 1)))
                skipSpace()
                if take(UInt8(ascii: "}")) { return .object(members) }
                guard take(UInt8(ascii: ",")) else { throw error("a comma or } is expected") }
            }
        }

        mutating func array(depth: Int) throws(ModelError) -> JSON {
            position += 1
            var values: [JSON] = []
            skipSpace()
            if take(UInt8(ascii: "]")) { return .array(values) }
            while true {
                values.append(try value(depth: depth + 1))
                skipSpace()
                if take(UInt8(ascii: "]")) { return .array(values) }
                guard take(UInt8(ascii: ",")) else { throw error("a comma or ] is expected") }
            }
        }

        mutating func number() throws(ModelError) -> JSON {
            let start = position
            _ = take(UInt8(ascii: "-"))
            let integerStart = position
            guard digits() > 0, position - integerStart == 1 || bytes[integerStart] != UInt8(ascii: "0") else {
                position = start
                throw error("a value is expected")
            }
            if take(UInt8(ascii: ".")), digits() == 0 { throw error("a digit is expected") }
            if let byte = next, byte | 0x20 == UInt8(ascii: "e") {
                position += 1
                if let sign = next, sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { position += 1 }
                if digits() == 0 { throw error("a digit is expected") }
            }
            return .number(String(decoding: bytes[start..<position], as: UTF8.self))
        }

        mutating func digits() -> Int {
            let start = position
            while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
            return position - start
        }

        mutating func string() throws(ModelError) -> String {
            position += 1
            let start = position
            while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { position += 1 }
            if next == UInt8(ascii: "\"") {  // nearly all strings: no escapes
                defer { position += 1 }
                return try text(bytes[start..<position])
            }
            var buffer = Array(bytes[start..<position])
            while true {
                guard let byte = next else { throw error("the text ends within a string") }
                position += 1
                switch byte {
                case UInt8(ascii: "\""): return try text(buffer)
                case UInt8(ascii: "\\"): try escape(&buffer)
                case ..<0x20: throw error("a control character within a string")
                default: buffer.append(byte)
                }
            }
        }

        func text(_ bytes: some Sequence<UInt8>) throws(ModelError) -> String {
            guard let text = String(validating: bytes, as: UTF8.self) else { throw error("a string is not UTF-8") }
            return text
        }

        mutating func escape(_ buffer: inout [UInt8]) throws(ModelError) {
            guard let byte = next else { throw error("the text ends within a string") }
            position += 1
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): buffer.append(byte)
            case UInt8(ascii: "b"): buffer.append(0x08)
            case UInt8(ascii: "f"): buffer.append(0x0c)
            case UInt8(ascii: "n"): buffer.append(0x0a)
            case UInt8(ascii: "r"): buffer.append(0x0d)
            case UInt8(ascii: "t"): buffer.append(0x09)
            case UInt8(ascii: "u"):
                var code = try hexadecimal()
                if (0xd800..<0xdc00).contains(code) {
                    guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else { throw error("half of a surrogate pair") }
                    let low = try hexadecimal()
                    guard (0xdc00..<0xe000).contains(low) else { throw error("half of a surrogate pair") }
                    code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
                }
                guard let scalar = Unicode.Scalar(code) else { throw error("half of a surrogate pair") }
                buffer.append(contentsOf: UTF8.encode(scalar).unsafelyUnwrapped)
            default: throw error("an unknown escape")
            }
        }

        mutating func hexadecimal() throws(ModelError) -> UInt32 {
            var code: UInt32 = 0
            for _ in 0..<4 {
                guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                    throw error("four hexadecimal digits are expected")
                }
                code = code << 4 | UInt32(digit)
                position += 1
            }
            return code
        }
    }
}

// MARK: Writing

extension JSON {
    /// Returns the document's text. Non-ASCII characters stay as they are.
    ///
    /// - Parameter indent: spaces per level; 0 writes everything on one line without white space.
    package func text(indent: Int = 2) -> String {
        var out = ""
        write(to: &out, indent: indent, level: 0)
        return out
    }

    private func write(to out: inout String, indent: Int, level: Int) {
        func newline(_ level: Int) {
            if indent > 0 { out += "\n" + String(repeating: " ", count: indent * level) }
        }
        switch self {
        case .null: out += "null"
        case .bool(let value): out += value ? "true" : "false"
        case .number(let text): out += text
        case .string(let text): JSON.write(text, to: &out)
        case .array(let values):
            out += "["
            for (i, value) in values.enumerated() {
                if i > 0 { out += "," }
                newline(level + 1)
                value.write(to: &out, indent: indent, level: level + 1)
            }
            if !values.isEmpty { newline(level) }
            out += "]"
        case .object(let members):
            out += "{"
            for (i, member) in members.enumerated() {
                if i > 0 { out += "," }
                newline(level + 1)
                JSON.write(member.key, to: &out)
                out += indent > 0 ? ": " : ":"
                member.value.write(to: &out, indent: indent, level: level + 1)
            }
            if !members.isEmpty { newline(level) }
            out += "}"
        }
    }

    private static func write(_ text: String, to out: inout String) {
        out += "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case "\u{0}"..<"\u{20}":
                let digits = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: out.unicodeScalars.append(scalar)
            }
        }
        out += "\""
    }
}
