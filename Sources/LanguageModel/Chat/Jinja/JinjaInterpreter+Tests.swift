extension JinjaInterpreter {
    /// Evaluates `value is name(arguments)`.
    func test(_ name: String, _ value: JinjaValue, _ arguments: JinjaArguments) throws(JinjaError) -> Bool {
        func other() throws(JinjaError) -> JinjaValue {
            guard let other = arguments.positional.first else { throw JinjaError(.template, "the test \"\(name)\" needs a value") }
            return other
        }
        switch name {
        case "defined": return !value.isUndefined
        case "undefined": return value.isUndefined
        case "none": if case .none = value { return true } else { return false }
        case "true": if case .bool(true) = value { return true } else { return false }
        case "false": if case .bool(false) = value { return true } else { return false }
        case "boolean": if case .bool = value { return true } else { return false }
        case "string": if case .string = value { return true } else { return false }
        case "mapping": if case .dictionary = value { return true } else { return false }
        case "integer": if case .int = value { return true } else { return false }
        case "float": if case .float = value { return true } else { return false }
        case "number": return value.number != nil
        case "iterable": return value.items != nil
        case "sequence": return value.items != nil
        case "callable":
            if case .object(let object) = value { return object is JinjaFunction || object is JinjaMacro } else { return false }
        case "odd", "even", "divisibleby":
            guard let number = value.integer else { throw JinjaError(.value, "the test \"\(name)\" does not go with \(value.typeName)") }
            if name != "divisibleby" { return (number % 2 != 0) == (name == "odd") }
            guard let divisor = try other().integer, divisor != 0 else {
                throw JinjaError(.value, "the test \"divisibleby\" needs a number")
            }
            return divisor == -1 || number % divisor == 0
        case "lower": return value.text == value.text.lowercased
        case "upper": return value.text == value.text.uppercased
        case "equalto", "eq", "==": return value.equals(try other())
        case "ne", "!=": return !value.equals(try other())
        case "sameas":
            let other = try other()
            return value.typeName == other.typeName && value.equals(other)
        case "in": return try contains(try other(), value)
        case "lt", "lessthan", "<": return try precedes(value, try other()) ?? false
        case "gt", "greaterthan", ">": return try precedes(try other(), value) ?? false
        case "le", "<=": return !(try precedes(try other(), value) ?? true)
        case "ge", ">=": return !(try precedes(value, try other()) ?? true)
        default: throw JinjaError(.template, "the test \"\(name)\" is not known")
        }
    }
}
