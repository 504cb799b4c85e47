extension JinjaInterpreter {
    /// Returns a method bound to its value; nil if the value does not have it. Methods that would change a value are left out, as in the
    /// sandbox that transformers uses.
    func method(_ name: String, of object: JinjaValue) -> JinjaValue? {
        switch object {
        case .string(let text):
            Self.stringMethods.contains(name) ? bound(name) { [self] arguments throws(JinjaError) in try call(name, text, arguments) } : nil
        case .dictionary(let dictionary): dictionaryMethod(name, dictionary)
        case .list(let values), .tuple(let values):
            switch name {
            case "index":
                bound(name) { arguments throws(JinjaError) in
                    guard let value = arguments.positional.first, let place = values.firstIndex(where: { $0.equals(value) }) else {
                        throw JinjaError(.value, "the list does not hold what \"index\" looks for")
                    }
                    return .int(place)
                }
            case "count":
                bound(name) { arguments throws(JinjaError) in
                    .int(arguments.positional.first.map { value in values.count { $0.equals(value) } } ?? 0)
                }
            default: nil
            }
        case .object(let object):
            object is JinjaLoop || object is JinjaRecursiveLoop ? loopMethod(name, object) : nil
        default: nil
        }
    }

    private func bound(_ name: String, _ body: @escaping (JinjaArguments) throws(JinjaError) -> JinjaValue) -> JinjaValue {
        .object(JinjaFunction(name, body))
    }

    private func loopMethod(_ name: String, _ loop: JinjaObject) -> JinjaValue? {
        switch name {
        case "cycle":
            bound(name) { arguments throws(JinjaError) in
                guard !arguments.positional.isEmpty, let index = loop.attribute("index0")?.integer else {
                    throw JinjaError(.template, "\"loop.cycle\" needs values")
                }
                return arguments.positional[index % arguments.positional.count]
            }
        case "changed":
            bound(name) { arguments throws(JinjaError) in
                guard let loop = loop as? JinjaLoop else { return .bool(true) }
                let isSame = loop.lastChanged.map { last in
                    last.count == arguments.positional.count && zip(last, arguments.positional).allSatisfy { $0.equals($1) }
                }
                loop.lastChanged = arguments.positional
                return .bool(isSame != true)
            }
        default: nil
        }
    }

    private func dictionaryMethod(_ name: String, _ dictionary: JinjaDictionary) -> JinjaValue? {
        switch name {
        case "get":
            bound(name) { arguments throws(JinjaError) in
                guard let key = arguments.positional.first else { throw JinjaError(.template, "\"get\" needs a key") }
                return dictionary[key] ?? arguments.value(1, "default") ?? .none
            }
        case "items": bound(name) { _ throws(JinjaError) in .list(dictionary.entries.map { .tuple([$0.key, $0.value]) }) }
        case "keys": bound(name) { _ throws(JinjaError) in .list(dictionary.entries.map(\.key)) }
        case "values": bound(name) { _ throws(JinjaError) in .list(dictionary.entries.map(\.value)) }
        case "copy": bound(name) { _ throws(JinjaError) in .dictionary(dictionary) }
        default: nil
        }
    }

    private static let stringMethods: Set<String> = [
        "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "startswith", "endswith", "upper", "lower", "title", "capitalize",
        "replace",
        "find", "rfind", "index", "count", "join", "format", "isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "isnumeric",
        "removeprefix", "removesuffix", "partition", "rpartition", "zfill", "ljust", "rjust", "encode", "casefold",
    ]

    private func call(_ name: String, _ text: JinjaText, _ arguments: JinjaArguments) throws(JinjaError) -> JinjaValue {
        func argument() throws(JinjaError) -> JinjaText {
            guard case .string(let other)? = arguments.positional.first else { throw JinjaError(.value, "\"\(name)\" needs a text") }
            return other
        }
        switch name {
        case "strip", "lstrip", "rstrip":
            return .string(
                text.stripped(
                    left: name != "rstrip", right: name != "lstrip",
                    of: arguments.positional.first.flatMap { value in
                        if case .string(let characters) = value { characters } else { nil }
                    }))
        case "split", "rsplit": return .list(try split(name, text, arguments).map { .string($0) })
        case "splitlines": return .list(text.lines(keepingEnds: arguments.value(0, "keepends")?.isTrue == true).map { .string($0) })
        case "startswith", "endswith":
            let candidates: [JinjaValue]
            if case .tuple(let list)? = arguments.positional.first { candidates = list } else { candidates = [.string(try argument())] }
            for candidate in candidates {
                if name == "startswith" ? text.hasPrefix(candidate.text) : text.hasSuffix(candidate.text) { return .bool(true) }
            }
            return .bool(false)
        case "upper": return .string(text.uppercased)
        case "lower", "casefold": return .string(text.lowercased)
        case "title": return .string(text.titled { !$0.properties.isAlphabetic })
        case "capitalize": return .string(text.capitalized)
        case "replace":
            guard arguments.positional.count >= 2 else { throw JinjaError(.value, "\"replace\" needs two texts") }
            let limit = arguments.value(2, "count")?.integer ?? -1
            return .string(try checked(text.replacing(try argument(), with: arguments.positional[1].text, limit: limit < 0 ? .max : limit)))
        case "find": return .int(text.firstIndex(of: try argument(), from: arguments.value(1, "start")?.integer ?? 0) ?? -1)
        case "rfind": return .int(text.lastIndex(of: try argument()) ?? -1)
        case "index":
            guard let place = text.firstIndex(of: try argument()) else {
                throw JinjaError(.value, "the text does not hold what \"index\" looks for")
            }
            return .int(place)
        case "count": return .int(text.split(try argument()).count - 1)
        case "join":
            guard let items = arguments.positional.first?.items else { throw JinjaError(.value, "\"join\" needs a list") }
            return .string(try checked(joined(items.map(\.text), text)))
        case "format": return .string(try braceFormatted(text, arguments))
        case "removeprefix": return .string(text.hasPrefix(try argument()) ? text[try argument().count..<text.count] : text)
        case "removesuffix": return .string(text.hasSuffix(try argument()) ? text[0..<text.count - (try argument()).count] : text)
        case "partition", "rpartition":
            let separator = try argument()
            guard !separator.isEmpty, let place = name == "partition" ? text.firstIndex(of: separator) : text.lastIndex(of: separator)
            else {
                let empty = JinjaValue.text("")
                return .tuple(name == "partition" ? [.string(text), empty, empty] : [empty, empty, .string(text)])
            }
            return .tuple([.string(text[0..<place]), .string(separator), .string(text[place + separator.count..<text.count])])
        case "zfill", "ljust", "rjust":
            let missing = max(0, min(arguments.positional.first?.integer ?? 0, Limit.range) - text.count)
            let fill = name == "zfill" ? JinjaText("0") : arguments.positional.count > 1 ? arguments.positional[1].text : JinjaText(" ")
            let padding = JinjaText(units: (0..<missing).flatMap { _ in fill.units })
            return .string(name == "ljust" ? text + padding : padding + text)
        default: return try isOfKind(name, text)
        }
    }

    private func isOfKind(_ name: String, _ text: JinjaText) throws(JinjaError) -> JinjaValue {
        let scalars = text.units.map(JinjaText.scalar)
        func all(_ holds: (Unicode.Scalar) -> Bool) -> JinjaValue { .bool(!scalars.isEmpty && scalars.allSatisfy(holds)) }
        switch name {
        case "isdigit": return all { $0.properties.numericType == .decimal || $0.properties.numericType == .digit }
        case "isnumeric": return all { $0.properties.numericType != nil }
        case "isalpha": return all { $0.properties.isAlphabetic }
        case "isalnum": return all { $0.properties.isAlphabetic || $0.properties.numericType != nil }
        case "isspace": return all { $0.properties.isWhitespace }
        case "isupper": return .bool(text == text.uppercased && text != text.lowercased)
        case "islower": return .bool(text == text.lowercased && text != text.uppercased)
        default: throw JinjaError(.template, "the method \"\(name)\" is not known")
        }
    }

    private func split(_ name: String, _ text: JinjaText, _ arguments: JinjaArguments) throws(JinjaError) -> [JinjaText] {
        let limit = arguments.value(1, "maxsplit")?.integer ?? -1
        let most = limit < 0 ? Int.max : limit
        guard case .string(let separator)? = arguments.value(0, "sep") else { return text.splitAtSpaces(limit: most) }
        guard !separator.isEmpty else { throw JinjaError(.value, "a text can't be split at nothing") }
        return name == "split" ? text.split(separator, limit: most) : text.splitFromRight(separator, limit: most)
    }

    // MARK: Formats

    /// Formats `"{} {0} {name}".format(…)`, without format specifications.
    private func braceFormatted(_ format: JinjaText, _ arguments: JinjaArguments) throws(JinjaError) -> JinjaText {
        var out = JinjaText()
        var next = 0
        var i = 0
        let values = format.units.map { $0 & JinjaText.valueMask }
        while i < values.count {
            let isBrace = values[i] == 0x7b || values[i] == 0x7d
            if isBrace, i + 1 < values.count, values[i + 1] == values[i] {
                out.units.append(format.units[i])
                i += 2
            } else if values[i] == 0x7b {
                guard let end = values[i...].firstIndex(of: 0x7d) else {
                    throw JinjaError(.value, "a format has a \"{\" without its \"}\"")
                }
                let field = format[i + 1..<end].string
                let value: JinjaValue?
                if field.isEmpty {
                    value = next < arguments.positional.count ? arguments.positional[next] : nil
                    next += 1
                } else if let place = Int(field) {
                    value = arguments.positional.indices.contains(place) ? arguments.positional[place] : nil
                } else {
                    value = arguments.named.first { $0.name == field }?.value
                }
                guard let value else { throw JinjaError(.value, "a format has no value for \"{\(field)}\"") }
                out.units += value.text.units
                i = end + 1
            } else {
                out.units.append(format.units[i])
                i += 1
            }
        }
        return try checked(out)
    }

    /// Formats `"%s %d" % …`.
    func formatted(_ format: JinjaText, _ value: JinjaValue) throws(JinjaError) -> JinjaText {
        var values: [JinjaValue]
        if case .tuple(let list) = value { values = list } else { values = [value] }
        var out = JinjaText()
        var i = 0
        while i < format.count {
            guard format.units[i] & JinjaText.valueMask == 0x25 else {
                out.units.append(format.units[i])
                i += 1
                continue
            }
            var specification = ""
            i += 1
            while i < format.count, case let scalar = JinjaText.scalar(format.units[i]), "0123456789.-+ ".unicodeScalars.contains(scalar) {
                specification.unicodeScalars.append(scalar)
                i += 1
            }
            guard i < format.count else { throw JinjaError(.value, "a format ends with \"%\"") }
            let kind = JinjaText.scalar(format.units[i])
            i += 1
            if kind == "%" {
                out.units += JinjaText("%").units
                continue
            }
            guard !values.isEmpty else { throw JinjaError(.value, "a format has too few values") }
            out.units += try formatted(values.removeFirst(), kind, specification).units
        }
        return try checked(out)
    }

    private func formatted(_ value: JinjaValue, _ kind: Unicode.Scalar, _ specification: String) throws(JinjaError) -> JinjaText {
        let parts = specification.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        let flags = parts.first ?? ""
        let width = min(Int(flags.filter(\.isNumber)) ?? 0, Limit.range)
        var text: JinjaText
        switch kind {
        case "s": text = value.text
        case "r": text = value.representation
        case "d", "i", "x":
            guard let integer = Self.integer(value) else { throw JinjaError(.value, "a format needs a number, not \(value.typeName)") }
            text = JinjaText(kind == "x" ? String(integer, radix: 16) : String(integer))
        case "f":
            guard let number = value.number else { throw JinjaError(.value, "a format needs a number, not \(value.typeName)") }
            text = JinjaText(JinjaNumber.fixed(number, digits: parts.count > 1 ? min(Int(parts[1]) ?? 0, 30) : 6))
        default: throw JinjaError(.template, "the format \"%\(kind)\" is not known")
        }
        let padding = JinjaText(String(repeating: flags.hasPrefix("0") && kind != "s" ? "0" : " ", count: max(0, width - text.count)))
        text = flags.hasPrefix("-") ? text + padding : padding + text
        return text
    }
}
