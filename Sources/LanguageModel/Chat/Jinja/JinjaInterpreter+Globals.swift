import Foundation

extension JinjaInterpreter {
    /// Functions that are available in every template.
    static let globals: [(String, @Sendable (JinjaArguments) throws(JinjaError) -> JinjaValue)] = [
        (
            "raise_exception",
            { arguments throws(JinjaError) in throw JinjaError(.refused, arguments.value(0, "message")?.text.string ?? "") }
        ),
        ("range", { arguments throws(JinjaError) in try range(arguments) }),
        (
            "namespace",
            { arguments throws(JinjaError) in
                let namespace = JinjaNamespace()
                if case .dictionary(let dictionary)? = arguments.positional.first {
                    for entry in dictionary.entries { namespace.values[entry.key.text.string] = entry.value }
                }
                for (name, value) in arguments.named { namespace.values[name] = value }
                return .object(namespace)
            }
        ),
        (
            "dict",
            { arguments throws(JinjaError) in
                var dictionary = JinjaDictionary()
                if case .dictionary(let other)? = arguments.positional.first { dictionary = other }
                for (name, value) in arguments.named { dictionary[.text(name)] = value }
                return .dictionary(dictionary)
            }
        ),
    ]

    private static func range(_ arguments: JinjaArguments) throws(JinjaError) -> JinjaValue {
        let numbers = arguments.positional.map(\.integer)
        guard (1...3).contains(numbers.count), !numbers.contains(nil) else {
            throw JinjaError(.value, "\"range\" needs one to three integers")
        }
        let values = numbers.map { $0 ?? 0 }
        let (start, stop, step) = values.count == 1 ? (0, values[0], 1) : (values[0], values[1], values.count > 2 ? values[2] : 1)
        guard step != 0 else { throw JinjaError(.value, "\"range\" has the step 0") }
        var list: [JinjaValue] = []
        for value in stride(from: start, to: stop, by: step) {
            guard list.count < Limit.range else { throw JinjaError(.limit, "a \"range\" has more than \(Limit.range) numbers") }
            list.append(.int(value))
        }
        return .list(list)
    }
}

/// Numbers as Python writes them.
enum JinjaNumber {
    static func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }
    static func fixed(_ value: Double, digits: Int) -> String { String(format: "%.\(digits)f", value) }
}

/// A point in time, in the local time zone.
package struct JinjaDate: Sendable {
    private let seconds: time_t

    package init(secondsSince1970 seconds: Int) { self.seconds = time_t(seconds) }
    package static var now: JinjaDate { JinjaDate(secondsSince1970: Int(Date().timeIntervalSince1970)) }

    /// Formats the time by C's `strftime`.
    func formatted(_ format: String) -> String {
        var (moment, parts) = (seconds, tm())
        localtime_r(&moment, &parts)
        var buffer = [CChar](repeating: 0, count: 1024)
        let count = strftime(&buffer, buffer.count, format, &parts)
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension JinjaInterpreter {
    /// Returns the JSON that `json.dumps` writes as transformers calls it: not escaped for HTML, non-ASCII characters unchanged.
    func json(_ value: JinjaValue, _ arguments: JinjaArguments) throws(JinjaError) -> JinjaText {
        func named(_ name: String) -> JinjaValue? { arguments.named.first { $0.name == name }?.value }
        let indentValue = named("indent") ?? (arguments.positional.count > 1 ? arguments.positional[1] : nil)
        var indent: JinjaText?
        if let width = indentValue?.integer { indent = JinjaText(String(repeating: " ", count: min(max(width, 0), 1000))) }
        if case .string(let text)? = indentValue { indent = text }
        var separators = (item: JinjaText(indent == nil ? ", " : ","), key: JinjaText(": "))
        if let pair = named("separators")?.items, pair.count == 2 { separators = (pair[0].text, pair[1].text) }
        var writer = JinjaJSONWriter(
            indent: indent, separators: separators,
            ensuresASCII: named("ensure_ascii")?.isTrue == true || arguments.positional.first?.isTrue == true,
            sortsKeys: named("sort_keys")?.isTrue == true)
        try writer.write(value, 0)
        return try checked(writer.out)
    }
}

private struct JinjaJSONWriter {
    let indent: JinjaText?
    let separators: (item: JinjaText, key: JinjaText)
    let ensuresASCII: Bool
    let sortsKeys: Bool
    var out = JinjaText()

    mutating func write(_ value: JinjaValue, _ level: Int) throws(JinjaError) {
        guard level <= JinjaInterpreter.Limit.depth else {
            throw JinjaError(.limit, "a value is nested more than \(JinjaInterpreter.Limit.depth) deep")
        }
        switch value {
        case .none: add("null")
        case .bool(let value): add(value ? "true" : "false")
        case .int(let value): add(String(value))
        case .float(let value):
            add(value.isNaN ? "NaN" : value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : JinjaValue.text(of: value))
        case .string(let text): write(text)
        case .list(let values), .tuple(let values):
            try group("[", "]", values, level) { writer, value throws(JinjaError) in try writer.write(value, level + 1) }
        case .dictionary(let dictionary):
            let entries = sortsKeys ? dictionary.entries.sorted { $0.key.text.precedes($1.key.text) } : dictionary.entries
            try group("{", "}", entries, level) { writer, entry throws(JinjaError) in
                writer.write(entry.key.text)
                writer.out.units += writer.separators.key.units
                try writer.write(entry.value, level + 1)
            }
        case .undefined(let name): throw JinjaError(.value, "\"\(name)\" is not defined, so it can't be written as JSON")
        case .object: throw JinjaError(.value, "\(value.typeName) can't be written as JSON")
        }
    }

    private mutating func add(_ text: String) { out.units += JinjaText(text).units }

    private mutating func group<T>(
        _ begin: String, _ end: String, _ items: [T], _ level: Int, _ body: (inout Self, T) throws(JinjaError) -> Void
    ) throws(JinjaError) {
        add(begin)
        for (i, item) in items.enumerated() {
            if i > 0 { out.units += separators.item.units }
            newline(level + 1)
            try body(&self, item)
        }
        if !items.isEmpty { newline(level) }
        add(end)
    }

    private mutating func newline(_ level: Int) {
        guard let indent else { return }
        add("\n")
        for _ in 0..<level { out.units += indent.units }
    }

    private mutating func write(_ text: JinjaText) {
        add("\"")
        out.units +=
            text.mapped { scalar in
                switch scalar {
                case "\"": return "\\\""
                case "\\": return "\\\\"
                case "\n": return "\\n"
                case "\r": return "\\r"
                case "\t": return "\\t"
                case "\u{8}": return "\\b"
                case "\u{c}": return "\\f"
                case "\u{0}"..<"\u{20}": return "\\u" + JinjaValue.padded(String(scalar.value, radix: 16), 4)
                default:
                    guard ensuresASCII, scalar.value >= 0x7f else { return String(scalar) }
                    return UTF16.encode(scalar).map { $0.map { "\\u" + JinjaValue.padded(String($0, radix: 16), 4) }.joined() } ?? ""
                }
            }.units
        add("\"")
    }
}
