/// A value in a template: Python's values, as far as chat templates use them.
package indirect enum JinjaValue: Sendable {
    /// A missing value; `name` is what was looked up.
    case undefined(name: String)
    case none
    case bool(Bool)
    case int(Int)
    case float(Double)
    case string(JinjaText)
    case list([JinjaValue])
    case tuple([JinjaValue])
    case dictionary(JinjaDictionary)
    case object(JinjaObject)

    package static func text(_ text: String) -> JinjaValue { .string(JinjaText(text)) }

    /// Converts a JSON value.
    ///
    /// - Parameter mark: mark for its strings, which are content and so can't hold control tokens.
    package init(_ json: JSON, mark: UInt32) {
        switch json {
        case .null: self = .none
        case .bool(let value): self = .bool(value)
        case .number(let text): self = Int(text).map { .int($0) } ?? .float(Double(text) ?? 0)
        case .string(let text): self = .string(JinjaText(text, mark: mark))
        case .array(let values): self = .list(values.map { JinjaValue($0, mark: mark) })
        case .object(let members):
            self = .dictionary(
                JinjaDictionary(members.map { (.string(JinjaText($0.key, mark: mark)), JinjaValue($0.value, mark: mark)) }))
        }
    }
}

/// A dictionary that keeps the order of its entries.
package struct JinjaDictionary: Sendable {
    package var entries: [(key: JinjaValue, value: JinjaValue)]
    /// Number of the message in the conversation that this dictionary is; nil for others.
    package var message: Int?

    package init(_ entries: [(key: JinjaValue, value: JinjaValue)] = [], message: Int? = nil) {
        self.entries = []
        self.message = message
        for entry in entries { self[entry.key] = entry.value }
    }

    subscript(key: JinjaValue) -> JinjaValue? {
        get { entries.first { $0.key.equals(key) }?.value }
        set {
            guard let newValue else { return }
            if let i = entries.firstIndex(where: { $0.key.equals(key) }) {
                entries[i].value = newValue
            } else {
                entries.append((key, newValue))
            }
        }
    }

    subscript(key: String) -> JinjaValue? { self[.text(key)] }
}

/// A value with identity. Only the thread that renders uses it.
package class JinjaObject: @unchecked Sendable {
    var typeName: String { "object" }
    func attribute(_ name: String) -> JinjaValue? { nil }
}

/// `namespace(…)`
final class JinjaNamespace: JinjaObject, @unchecked Sendable {
    var values: [String: JinjaValue] = [:]
    override var typeName: String { "namespace" }
    override func attribute(_ name: String) -> JinjaValue? { values[name] }
}

/// The arguments of a call.
struct JinjaArguments {
    var positional: [JinjaValue] = []
    var named: [(name: String, value: JinjaValue)] = []

    /// Returns an argument by its position or its name.
    func value(_ place: Int, _ name: String) -> JinjaValue? {
        place < positional.count ? positional[place] : named.first { $0.name == name }?.value
    }
}

/// A function of the environment, or a method of a value.
final class JinjaFunction: JinjaObject, @unchecked Sendable {
    let name: String
    let body: (JinjaArguments) throws(JinjaError) -> JinjaValue
    override var typeName: String { "function" }

    init(_ name: String, _ body: @escaping (JinjaArguments) throws(JinjaError) -> JinjaValue) {
        self.name = name
        self.body = body
    }
}

/// `{% macro %}`, or the body of `{% call %}`.
final class JinjaMacro: JinjaObject, @unchecked Sendable {
    let name: String
    let parameters: [(name: String, standard: JinjaExpression?)]
    let body: [JinjaStatement]
    let scope: JinjaScope
    override var typeName: String { "macro" }
    override func attribute(_ name: String) -> JinjaValue? { name == "name" ? .text(self.name) : nil }

    init(name: String, parameters: [(name: String, standard: JinjaExpression?)], body: [JinjaStatement], scope: JinjaScope) {
        self.name = name
        self.parameters = parameters
        self.body = body
        self.scope = scope
    }
}

/// `loop` within a `{% for %}`.
final class JinjaLoop: JinjaObject, @unchecked Sendable {
    var index = 0
    let items: [JinjaValue]
    let depth: Int
    var lastChanged: [JinjaValue]?
    override var typeName: String { "loop" }

    init(_ items: [JinjaValue], depth: Int) {
        self.items = items
        self.depth = depth
    }

    override func attribute(_ name: String) -> JinjaValue? {
        switch name {
        case "index": .int(index + 1)
        case "index0": .int(index)
        case "revindex": .int(items.count - index)
        case "revindex0": .int(items.count - index - 1)
        case "first": .bool(index == 0)
        case "last": .bool(index == items.count - 1)
        case "length": .int(items.count)
        case "depth": .int(depth)
        case "depth0": .int(depth - 1)
        case "previtem": index > 0 ? items[index - 1] : .undefined(name: "there is no previous item")
        case "nextitem": index + 1 < items.count ? items[index + 1] : .undefined(name: "there is no next item")
        default: nil
        }
    }
}

/// Names and their values; a loop's body and a macro have a scope of their own.
final class JinjaScope {
    var values: [String: JinjaValue] = [:]
    let parent: JinjaScope?

    init(parent: JinjaScope?) { self.parent = parent }

    func value(_ name: String) -> JinjaValue? {
        var scope: JinjaScope? = self
        while let current = scope {
            if let value = current.values[name] { return value }
            scope = current.parent
        }
        return nil
    }
}

extension JinjaValue {
    /// Name of the type, for messages.
    var typeName: String {
        switch self {
        case .undefined: "an undefined value"
        case .none: "none"
        case .bool: "a truth value"
        case .int: "an integer"
        case .float: "a number"
        case .string: "a string"
        case .list: "a list"
        case .tuple: "a tuple"
        case .dictionary: "a mapping"
        case .object(let object): "a \(object.typeName)"
        }
    }

    var isUndefined: Bool { if case .undefined = self { true } else { false } }

    var isTrue: Bool {
        switch self {
        case .undefined, .none: false
        case .bool(let value): value
        case .int(let value): value != 0
        case .float(let value): value != 0
        case .string(let text): !text.isEmpty
        case .list(let values), .tuple(let values): !values.isEmpty
        case .dictionary(let dictionary): !dictionary.entries.isEmpty
        case .object: true
        }
    }

    /// Python's `==`: numbers and truth values are compared by value.
    func equals(_ other: JinjaValue) -> Bool {
        switch (self, other) {
        case (.undefined, .undefined), (.none, .none): true
        case (.string(let a), .string(let b)): a == b
        case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)): a.count == b.count && zip(a, b).allSatisfy { $0.equals($1) }
        case (.dictionary(let a), .dictionary(let b)):
            a.entries.count == b.entries.count && a.entries.allSatisfy { entry in b[entry.key].map { entry.value.equals($0) } ?? false }
        case (.object(let a), .object(let b)): a === b
        default:
            if let a = integer, let b = other.integer { a == b } else if let a = number, let b = other.number { a == b } else { false }
        }
    }

    /// The value as an integer; Python counts a truth value as one.
    var integer: Int? {
        switch self {
        case .int(let value): value
        case .bool(let value): value ? 1 : 0
        default: nil
        }
    }

    var number: Double? {
        if case .float(let value) = self { return value }
        return integer.map(Double.init)
    }

    var items: [JinjaValue]? {
        switch self {
        case .list(let values), .tuple(let values): values
        case .string(let text): text.units.map { .string(JinjaText(units: [$0])) }
        case .dictionary(let dictionary): dictionary.entries.map(\.key)
        case .undefined: []
        default: nil
        }
    }

    /// Python's `str(…)`.
    var text: JinjaText {
        switch self {
        case .undefined: JinjaText()
        case .string(let text): text
        default: representation
        }
    }

    /// Python's `repr(…)`.
    var representation: JinjaText {
        switch self {
        case .undefined: return JinjaText("Undefined")
        case .none: return JinjaText("None")
        case .bool(let value): return JinjaText(value ? "True" : "False")
        case .int(let value): return JinjaText(String(value))
        case .float(let value): return JinjaText(Self.text(of: value))
        case .string(let text): return Self.quoted(text)
        case .list(let values): return Self.joined(values.map(\.representation), "[", "]")
        case .tuple(let values): return Self.joined(values.map(\.representation), "(", values.count == 1 ? ",)" : ")")
        case .dictionary(let dictionary):
            return Self.joined(dictionary.entries.map { $0.key.representation + JinjaText(": ") + $0.value.representation }, "{", "}")
        case .object(let object): return JinjaText("<\(object.typeName)>")
        }
    }

    static func joined(_ parts: [JinjaText], _ begin: String, _ end: String, _ separator: String = ", ") -> JinjaText {
        var out = JinjaText(begin)
        for (i, part) in parts.enumerated() {
            if i > 0 { out.units += JinjaText(separator).units }
            out.units += part.units
        }
        return out + JinjaText(end)
    }

    /// Python's `repr` of a number: 1.0, 1e+16, 1.5e-07.
    static func text(of value: Double) -> String {
        if value.isNaN { return "nan" }
        if value.isInfinite { return value < 0 ? "-inf" : "inf" }
        let text = value.description
        guard let mark = text.firstIndex(of: "e") else {
            // Swift uses an exponent from 1e16 on, as Python does.
            return text
        }
        var mantissa = String(text[..<mark])
        if mantissa.hasSuffix(".0") { mantissa.removeLast(2) }
        let exponent = Int(text[text.index(after: mark)...]) ?? 0
        let digits = String(abs(exponent))
        return mantissa + "e" + (exponent < 0 ? "-" : "+") + (digits.count < 2 ? "0" : "") + digits
    }

    private static func quoted(_ text: JinjaText) -> JinjaText {
        let hasSingle = text.units.contains { $0 & JinjaText.valueMask == 0x27 }
        let hasDouble = text.units.contains { $0 & JinjaText.valueMask == 0x22 }
        let quote = hasSingle && !hasDouble ? "\"" : "'"
        let inner = text.mapped { scalar in
            switch scalar {
            case "\\": return "\\\\"
            case "\n": return "\\n"
            case "\r": return "\\r"
            case "\t": return "\\t"
            case "'" where quote == "'": return "\\'"
            case "\u{0}"..<"\u{20}", "\u{7f}"..<"\u{a1}", "\u{ad}": return "\\x" + padded(String(scalar.value, radix: 16), 2)
            default: return String(scalar)
            }
        }
        return JinjaText(quote) + inner + JinjaText(quote)
    }

    static func padded(_ text: String, _ width: Int) -> String { String(repeating: "0", count: max(0, width - text.count)) + text }
}
