extension JinjaInterpreter {
    func filter(_ name: String, _ value: JinjaValue, _ arguments: JinjaArguments) throws(JinjaError) -> JinjaValue {
        try step()
        switch name {
        case "trim": return .string(value.text.stripped(left: true, right: true, of: arguments.value(0, "chars")?.text))
        case "lower": return .string(value.text.lowercased)
        case "upper": return .string(value.text.uppercased)
        case "capitalize": return .string(value.text.capitalized)
        case "title": return .string(value.text.titled { !$0.properties.isAlphabetic && $0.properties.numericType == nil && $0 != "'" })
        case "string", "safe": return .string(value.text)
        case "escape", "e", "forceescape":
            return .string(value.text.mapped { ["&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", "\"": "&#34;"][$0] ?? String($0) })
        case "length", "count": return .int(try list(value, name).count)
        case "default", "d":
            let uses = value.isUndefined || arguments.value(1, "boolean")?.isTrue == true && !value.isTrue
            return uses ? arguments.value(0, "default_value") ?? .text("") : value
        case "tojson": return .string(try json(value, arguments))
        case "join": return .string(try join(value, arguments))
        case "replace":
            guard let old = arguments.value(0, "old"), let new = arguments.value(1, "new") else { throw missing(name, "two texts") }
            return .string(try checked(value.text.replacing(old.text, with: new.text, limit: arguments.value(2, "count")?.integer ?? .max)))
        case "indent": return .string(try checked(indent(value.text, arguments)))
        case "items":
            switch value {
            case .dictionary(let dictionary): return .list(dictionary.entries.map { .tuple([$0.key, $0.value]) })
            case .undefined: return .list([])
            default: throw JinjaError(.value, "\(value.typeName) has no items: a mapping is needed")
            }
        case "int": return .int(Self.integer(value) ?? arguments.value(0, "default")?.integer ?? 0)
        case "float": return .float(value.number ?? Double(value.text.stripped().string) ?? arguments.value(0, "default")?.number ?? 0)
        case "abs":
            if let integer = value.integer, integer != .min { return .int(abs(integer)) }
            guard let number = value.number else { throw JinjaError(.value, "\(value.typeName) has no absolute value") }
            return .float(abs(number))
        case "round": return .float(try round(value, arguments))
        case "wordcount": return .int(value.text.splitAtSpaces().count)
        case "format": return .string(try formatted(value.text, .tuple(arguments.positional)))
        case "attr": return try evaluate(.attribute(.literal(value), arguments.value(0, "name")?.text.string ?? ""))
        case "pprint": return .string(value.representation)
        default: return try listFilter(name, value, arguments)
        }
    }

    private func listFilter(_ name: String, _ value: JinjaValue, _ arguments: JinjaArguments) throws(JinjaError) -> JinjaValue {
        // As in Jinja, these filters return an empty list for any false value, even for none.
        if ["map", "select", "reject", "selectattr", "rejectattr"].contains(name), !value.isTrue { return .list([]) }
        switch name {
        case "list": return .list(try list(value, name))
        case "first": return try list(value, name).first ?? .undefined(name: "the list is empty, so it has no first item")
        case "last": return try list(value, name).last ?? .undefined(name: "the list is empty, so it has no last item")
        case "reverse":
            if case .string(let text) = value { return .string(JinjaText(units: text.units.reversed())) }
            return .list(try list(value, name).reversed())
        case "sum":
            var sum = arguments.value(1, "start") ?? .int(0)
            for item in try mapped(list(value, name), arguments.value(0, "attribute")) {
                sum = try evaluate(.arithmetic("+", .literal(sum), .literal(item)))
            }
            return sum
        case "min", "max": return try extreme(try list(value, name), isMaximum: name == "max")
        case "sort", "unique":
            return .list(try name == "sort" ? sorted(try list(value, name), arguments) : unique(try list(value, name), arguments))
        case "dictsort": return try sortedDictionary(value, arguments)
        case "map": return .list(try map(try list(value, name), arguments))
        case "select", "reject": return .list(try select(try list(value, name), arguments, attribute: nil, isKept: name == "select"))
        case "selectattr", "rejectattr":
            var rest = arguments
            guard !rest.positional.isEmpty else { throw missing(name, "an attribute") }
            let attribute = rest.positional.removeFirst()
            return .list(try select(try list(value, name), rest, attribute: attribute, isKept: name == "selectattr"))
        default: throw JinjaError(.template, "the filter \"\(name)\" is not known")
        }
    }

    private func missing(_ filter: String, _ what: String) -> JinjaError { JinjaError(.template, "the filter \"\(filter)\" needs \(what)") }

    private func list(_ value: JinjaValue, _ filter: String) throws(JinjaError) -> [JinjaValue] {
        guard let items = value.items else { throw JinjaError(.value, "the filter \"\(filter)\" does not go with \(value.typeName)") }
        return items
    }

    static func integer(_ value: JinjaValue) -> Int? {
        if let integer = value.integer { return integer }
        if case .float(let number) = value { return Int(exactly: number.rounded(.towardZero)) }
        let text = value.text.stripped().string
        return Int(text) ?? Double(text).flatMap { Int(exactly: $0.rounded(.towardZero)) }
    }

    private func round(_ value: JinjaValue, _ arguments: JinjaArguments) throws(JinjaError) -> Double {
        guard let number = value.number else { throw JinjaError(.value, "\(value.typeName) can't be rounded") }
        let scale = JinjaNumber.power(10, Double(arguments.value(0, "precision")?.integer ?? 0))
        switch arguments.value(1, "method")?.text.string ?? "common" {
        case "ceil": return (number * scale).rounded(.up) / scale
        case "floor": return (number * scale).rounded(.down) / scale
        default: return (number * scale).rounded(.toNearestOrEven) / scale
        }
    }

    private func join(_ value: JinjaValue, _ arguments: JinjaArguments) throws(JinjaError) -> JinjaText {
        let parts = try mapped(try list(value, "join"), arguments.value(1, "attribute")).map(\.text)
        return try checked(joined(parts, arguments.value(0, "d")?.text ?? JinjaText()))
    }

    func joined(_ parts: [JinjaText], _ separator: JinjaText) -> JinjaText {
        var out = JinjaText()
        for (i, part) in parts.enumerated() { out.units += (i > 0 ? separator.units : []) + part.units }
        return out
    }

    private func indent(_ text: JinjaText, _ arguments: JinjaArguments) -> JinjaText {
        let width = arguments.value(0, "width")
        let blanks: JinjaText
        if case .string(let text)? = width {
            blanks = text
        } else {
            blanks = JinjaText(String(repeating: " ", count: min(max(width?.integer ?? 4, 0), 1000)))
        }
        let indentsBlank = arguments.value(2, "blank")?.isTrue == true
        // As in Jinja, a line break at the end begins one more line.
        let lines = (text + JinjaText("\n")).lines()
        var out: [JinjaText] = []
        for (i, line) in lines.enumerated() { out.append(i == 0 || line.isEmpty && !indentsBlank ? line : blanks + line) }
        let whole = joined(out, JinjaText("\n"))
        return arguments.value(1, "first")?.isTrue == true ? blanks + whole : whole
    }

    // MARK: Lists

    private func attributeValue(_ item: JinjaValue, _ attribute: JinjaValue) throws(JinjaError) -> JinjaValue {
        if let place = attribute.integer { return try evaluate(.item(.literal(item), .literal(.int(place)))) }
        var value = item
        for part in attribute.text.split(JinjaText(".")) {
            let name = part.string
            value = try evaluate(.item(.literal(value), .literal(Int(name).map { .int($0) } ?? .text(name))))
        }
        return value
    }

    private func mapped(_ items: [JinjaValue], _ attribute: JinjaValue?) throws(JinjaError) -> [JinjaValue] {
        guard let attribute else { return items }
        var values: [JinjaValue] = []
        for item in items { values.append(try attributeValue(item, attribute)) }
        return values
    }

    private func map(_ items: [JinjaValue], _ arguments: JinjaArguments) throws(JinjaError) -> [JinjaValue] {
        var values: [JinjaValue] = []
        if let attribute = arguments.named.first(where: { $0.name == "attribute" })?.value {
            let standard = arguments.named.first { $0.name == "default" }?.value
            for item in items {
                let value = try attributeValue(item, attribute)
                values.append(value.isUndefined ? standard ?? value : value)
            }
            return values
        }
        guard let name = arguments.positional.first?.text.string else { throw missing("map", "a filter or an attribute") }
        let rest = JinjaArguments(positional: Array(arguments.positional.dropFirst()), named: arguments.named)
        for item in items { values.append(try filter(name, item, rest)) }
        return values
    }

    private func select(
        _ items: [JinjaValue], _ arguments: JinjaArguments, attribute: JinjaValue?, isKept: Bool
    ) throws(JinjaError) -> [JinjaValue] {
        var kept: [JinjaValue] = []
        let rest = JinjaArguments(positional: Array(arguments.positional.dropFirst()), named: arguments.named)
        for item in items {
            let value = try attribute.map { attribute throws(JinjaError) in try attributeValue(item, attribute) } ?? item
            let holds =
                try arguments.positional.first.map { name throws(JinjaError) in try test(name.text.string, value, rest) } ?? value.isTrue
            if holds == isKept { kept.append(item) }
        }
        return kept
    }

    private func key(_ value: JinjaValue, _ isCaseSensitive: Bool) -> JinjaValue {
        if !isCaseSensitive, case .string(let text) = value { return .string(text.lowercased) }
        return value
    }

    /// Sorts stably by merging; throws if two keys can't be compared.
    private func merge(_ items: [(key: JinjaValue, item: JinjaValue)]) throws(JinjaError) -> [(key: JinjaValue, item: JinjaValue)] {
        if items.count < 2 { return items }
        let left = try merge(Array(items[..<(items.count / 2)]))
        let right = try merge(Array(items[(items.count / 2)...]))
        var out: [(key: JinjaValue, item: JinjaValue)] = []
        var (i, j) = (0, 0)
        while i < left.count, j < right.count {
            guard let isLess = try precedes(right[j].key, left[i].key) else {
                throw JinjaError(.value, "\(left[i].key.typeName) and \(right[j].key.typeName) have no order")
            }
            if isLess {
                out.append(right[j])
                j += 1
            } else {
                out.append(left[i])
                i += 1
            }
        }
        return out + left[i...] + right[j...]
    }

    private func sorted(_ items: [JinjaValue], _ arguments: JinjaArguments) throws(JinjaError) -> [JinjaValue] {
        let isCaseSensitive = arguments.value(1, "case_sensitive")?.isTrue == true
        let keys = try mapped(items, arguments.value(2, "attribute"))
        let sorted = try merge(zip(keys, items).map { (key($0, isCaseSensitive), $1) }).map(\.item)
        return arguments.value(0, "reverse")?.isTrue == true ? sorted.reversed() : sorted
    }

    private func unique(_ items: [JinjaValue], _ arguments: JinjaArguments) throws(JinjaError) -> [JinjaValue] {
        let isCaseSensitive = arguments.value(0, "case_sensitive")?.isTrue == true
        var seen: [JinjaValue] = []
        var kept: [JinjaValue] = []
        for (value, item) in zip(try mapped(items, arguments.value(1, "attribute")), items) {
            try step()
            let key = key(value, isCaseSensitive)
            if !seen.contains(where: { $0.equals(key) }) {
                seen.append(key)
                kept.append(item)
            }
        }
        return kept
    }

    private func extreme(_ items: [JinjaValue], isMaximum: Bool) throws(JinjaError) -> JinjaValue {
        guard var best = items.first else { return .undefined(name: "the list is empty, so it has no extreme") }
        for item in items.dropFirst() {
            guard let isLess = try isMaximum ? precedes(key(best, false), key(item, false)) : precedes(key(item, false), key(best, false))
            else {
                throw JinjaError(.value, "\(best.typeName) and \(item.typeName) have no order")
            }
            if isLess { best = item }
        }
        return best
    }

    private func sortedDictionary(_ value: JinjaValue, _ arguments: JinjaArguments) throws(JinjaError) -> JinjaValue {
        guard case .dictionary(let dictionary) = value else {
            throw JinjaError(.value, "the filter \"dictsort\" does not go with \(value.typeName)")
        }
        let isCaseSensitive = arguments.value(0, "case_sensitive")?.isTrue == true
        let byValue = arguments.value(1, "by")?.text.string == "value"
        let items = dictionary.entries.map {
            (key: key(byValue ? $0.value : $0.key, isCaseSensitive), item: JinjaValue.tuple([$0.key, $0.value]))
        }
        let sorted = try merge(items).map(\.item)
        return .list(arguments.value(2, "reverse")?.isTrue == true ? sorted.reversed() : sorted)
    }
}
