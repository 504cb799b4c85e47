import LanguageModel

/// A prompt with fields to fill in: `Review: {text}` takes the field `text` of an example. `{{` and `}}` stand for braces.
public struct Template: Hashable, Sendable {
    package enum Part: Hashable, Sendable {
        case literal(String)
        case field(String)
    }

    package let parts: [Part]
    /// Names of the fields, each once, in the order of their first appearance.
    package let fields: [String]

    /// - Throws: `DataError` `.task` for an unclosed or empty field, and for a template without fields.
    public init(_ text: String) throws(DataError) {
        var parts: [Part] = []
        var literal = ""
        // Works on scalars, because Swift treats a brace and a following combining accent as one character.
        var rest = text.unicodeScalars[...]
        while let scalar = rest.popFirst() {
            switch scalar {
            case "{" where rest.first == "{", "}" where rest.first == "}":
                rest.removeFirst()
                literal.unicodeScalars.append(scalar)
            case "{":
                guard let end = rest.firstIndex(of: "}") else {
                    throw DataError(.task, "template \"\(text)\": \"{\" without \"}\"; write {{ for a brace")
                }
                let name = String(rest[..<end])
                guard !name.isEmpty, !name.unicodeScalars.contains("{") else {
                    throw DataError(.task, "template \"\(text)\": a field needs a name, such as {text}")
                }
                rest = rest[rest.index(after: end)...]
                if !literal.isEmpty { parts.append(.literal(literal)) }
                literal = ""
                parts.append(.field(name))
            case "}":
                throw DataError(.task, "template \"\(text)\": \"}\" without \"{\"; write }} for a brace")
            default:
                literal.unicodeScalars.append(scalar)
            }
        }
        if !literal.isEmpty { parts.append(.literal(literal)) }
        var fields: [String] = []
        for case .field(let name) in parts where !fields.contains(name) { fields.append(name) }
        guard !fields.isEmpty else {
            throw DataError(.task, "template \"\(text)\" uses no field of the example; put {text} where its text goes")
        }
        self.parts = parts
        self.fields = fields
    }

    private init(parts: [Part], fields: [String]) {
        self.parts = parts
        self.fields = fields
    }

    func filled(with values: [String: String]) -> String {
        parts.map { part in
            switch part {
            case .literal(let text): text
            case .field(let name): values[name] ?? ""
            }
        }.joined()
    }

    /// Splits off the spaces at the template's end. The label word must bring them: byte-level tokenizers have ` great` as one token, which
    /// never follows a prompt that already ends in the space.
    package func splittingTrailingSpace() -> (template: Template, space: String) {
        guard case .literal(let last)? = parts.last else { return (self, "") }
        let kept = last.reversed().drop { $0 == " " }.count
        guard kept < last.count else { return (self, "") }
        let head = String(last.prefix(kept))
        let trimmed = parts.dropLast() + (head.isEmpty ? [] : [.literal(head)])
        return (Template(parts: Array(trimmed), fields: fields), String(last.dropFirst(kept)))
    }
}
