extension JinjaInterpreter {
    func evaluate(_ expression: JinjaExpression) throws(JinjaError) -> JinjaValue {
        try step()
        return try deeper { () throws(JinjaError) in try value(of: expression) }
    }

    private func value(of expression: JinjaExpression) throws(JinjaError) -> JinjaValue {
        switch expression {
        case .literal(let value): return value
        case .name(let name): return scope.value(name) ?? .undefined(name: name)
        case .list(let list): return .list(try values(list))
        case .tuple(let list): return .tuple(try values(list))
        case .dictionary(let entries):
            var dictionary = JinjaDictionary()
            for (key, value) in entries { dictionary[try evaluate(key)] = try evaluate(value) }
            return .dictionary(dictionary)
        case .attribute(let object, let name): return try attribute(name, of: try evaluate(object))
        case .item(let object, let index): return try item(try evaluate(index), of: try evaluate(object))
        case .slice(let object, let start, let stop, let step):
            return try slice(try evaluate(object), try start.map(evaluate), try stop.map(evaluate), try step.map(evaluate))
        case .call(let function, let arguments): return try call(function, arguments)
        case .filter(let target, let name, let arguments):
            guard let target else { throw JinjaError(.template, "the filter \"\(name)\" has nothing to work on") }
            return try filter(name, try evaluate(target), try self.arguments(arguments))
        case .test(let target, let name, let arguments, let isNegated):
            return .bool(try test(name, try evaluate(target), try self.arguments(arguments)) != isNegated)
        case .negative(let value):
            let value = try evaluate(value)
            if let integer = value.integer { return try self.integer(Int(0).subtractingReportingOverflow(integer)) }
            guard let number = value.number else { throw mismatch("-", value) }
            return .float(-number)
        case .positive(let value): return try evaluate(value)
        case .not(let value): return .bool(!(try evaluate(value).isTrue))
        case .and(let a, let b):
            let first = try evaluate(a)
            return first.isTrue ? try evaluate(b) : first
        case .or(let a, let b):
            let first = try evaluate(a)
            return first.isTrue ? first : try evaluate(b)
        case .arithmetic(let sign, let a, let b): return try arithmetic(sign, try evaluate(a), try evaluate(b))
        case .concatenation(let parts):
            var text = JinjaText()
            for part in parts { text.units += try evaluate(part).text.units }
            return .string(try checked(text))
        case .comparison(let first, let rest):
            var left = try evaluate(first)
            for (sign, next) in rest {
                let right = try evaluate(next)
                guard try compare(sign, left, right) else { return .bool(false) }
                left = right
            }
            return .bool(true)
        case .conditional(let condition, let then, let otherwise):
            if try evaluate(condition).isTrue { return try evaluate(then) }
            return try otherwise.map(evaluate) ?? .undefined(name: "a condition without \"else\" is false")
        }
    }

    private func values(_ list: [JinjaExpression]) throws(JinjaError) -> [JinjaValue] {
        var values: [JinjaValue] = []
        for expression in list { values.append(try evaluate(expression)) }
        return values
    }

    func arguments(_ expressions: JinjaCallArguments) throws(JinjaError) -> JinjaArguments {
        var arguments = JinjaArguments(positional: try values(expressions.positional))
        if let spread = expressions.spread { arguments.positional += try evaluate(spread).items ?? [] }
        for (name, value) in expressions.named { arguments.named.append((name, try evaluate(value))) }
        if let spread = expressions.spreadNamed, case .dictionary(let dictionary) = try evaluate(spread) {
            for entry in dictionary.entries { arguments.named.append((entry.key.text.string, entry.value)) }
        }
        return arguments
    }

    // MARK: Access

    private func attribute(_ name: String, of object: JinjaValue) throws(JinjaError) -> JinjaValue {
        if case .undefined(let missing) = object { throw JinjaError(.value, "\"\(missing)\" is not defined, so it has no \"\(name)\"") }
        if case .object(let object) = object, let value = object.attribute(name) { return value }
        if let method = method(name, of: object) { return method }
        if case .dictionary(let dictionary) = object, let value = dictionary[name] { return value }
        return .undefined(name: name)
    }

    private func item(_ index: JinjaValue, of object: JinjaValue) throws(JinjaError) -> JinjaValue {
        switch object {
        case .undefined(let missing): throw JinjaError(.value, "\"\(missing)\" is not defined, so it has no items")
        case .dictionary(let dictionary): if let value = dictionary[index] { return value }
        case .list(let values), .tuple(let values):
            if let place = index.integer {
                let wrapped = place < 0 ? place + values.count : place
                return values.indices.contains(wrapped) ? values[wrapped] : .undefined(name: "the list has no item \(place)")
            }
        case .string(let text):
            if let place = index.integer {
                let wrapped = place < 0 ? place + text.count : place
                return text.units.indices.contains(wrapped)
                    ? .string(text[wrapped..<wrapped + 1]) : .undefined(name: "the text has no character \(place)")
            }
        case .object(let object): if case .string(let name) = index, let value = object.attribute(name.string) { return value }
        default: break
        }
        if case .string(let name) = index, let method = method(name.string, of: object) { return method }
        return .undefined(name: index.text.string)
    }

    private func slice(
        _ object: JinjaValue, _ start: JinjaValue?, _ stop: JinjaValue?, _ step: JinjaValue?
    ) throws(JinjaError) -> JinjaValue {
        func bound(_ value: JinjaValue?) throws(JinjaError) -> Int? {
            guard let value else { return nil }
            if case .none = value { return nil }
            guard let integer = value.integer else { throw JinjaError(.value, "a slice needs integers, not \(value.typeName)") }
            return integer
        }
        let step = try bound(step) ?? 1
        guard step != 0 else { throw JinjaError(.value, "a slice's step is 0") }
        let count: Int
        switch object {
        case .list(let values), .tuple(let values): count = values.count
        case .string(let text): count = text.count
        case .undefined(let name): throw JinjaError(.value, "\"\(name)\" is not defined, so it can't be cut")
        default: throw JinjaError(.value, "\(object.typeName) can't be cut")
        }
        func clamped(_ value: Int?, _ standard: Int) -> Int {
            guard let value else { return standard }
            let wrapped = value < 0 ? value &+ count : value
            return step > 0 ? min(max(wrapped, 0), count) : min(max(wrapped, -1), count - 1)
        }
        let first = clamped(try bound(start), step > 0 ? 0 : count - 1)
        let last = clamped(try bound(stop), step > 0 ? count : -1)
        let places = Array(stride(from: first, to: last, by: step))
        switch object {
        case .list(let values): return .list(places.map { values[$0] })
        case .tuple(let values): return .tuple(places.map { values[$0] })
        case .string(let text): return .string(JinjaText(units: places.map { text.units[$0] }))
        default: return object
        }
    }

    private func call(_ function: JinjaExpression, _ expressions: JinjaCallArguments) throws(JinjaError) -> JinjaValue {
        let target = try evaluate(function)
        let arguments = try arguments(expressions)
        switch target {
        case .object(let object):
            if let function = object as? JinjaFunction { return try function.body(arguments) }
            if let macro = object as? JinjaMacro { return try call(macro, arguments) }
            if let loop = object as? JinjaRecursiveLoop, let list = arguments.positional.first { return try loop.enter(list) }
        case .undefined(let name): throw JinjaError(.template, "\"\(name)\" is not defined, so it can't be called")
        default: break
        }
        throw JinjaError(.value, "\(target.typeName) can't be called")
    }

    // MARK: Operators

    private func mismatch(_ sign: String, _ values: JinjaValue...) -> JinjaError {
        for case .undefined(let name) in values {
            return JinjaError(.value, "\"\(name)\" is not defined, so \"\(sign)\" has nothing to work on")
        }
        return JinjaError(.value, "\"\(sign)\" does not go with \(values.map(\.typeName).joined(separator: " and "))")
    }

    private func integer(_ result: (partialValue: Int, overflow: Bool)) throws(JinjaError) -> JinjaValue {
        guard !result.overflow else { throw JinjaError(.limit, "a number grows beyond 64 bits") }
        return .int(result.partialValue)
    }

    private func arithmetic(_ sign: String, _ a: JinjaValue, _ b: JinjaValue) throws(JinjaError) -> JinjaValue {
        switch (sign, a, b) {
        case ("+", .string(let x), .string(let y)):
            guard x.count + y.count <= Limit.length else {
                throw JinjaError(.limit, "the template writes more than \(Limit.length) characters")
            }
            return .string(x + y)
        case ("+", .list(let x), .list(let y)): return .list(x + y)
        case ("+", .tuple(let x), .tuple(let y)): return .tuple(x + y)
        case ("%", .string(let format), _): return .string(try formatted(format, b))
        case ("*", .string(let text), _): if let times = b.integer { return .string(try repeated(text, times)) }
        case ("*", _, .string(let text)): if let times = a.integer { return .string(try repeated(text, times)) }
        case ("*", .list(let values), _): if let times = b.integer { return .list(try repeated(values, times)) }
        default: break
        }
        if let x = a.integer, let y = b.integer { return try integers(sign, x, y) }
        guard let x = a.number, let y = b.number else { throw mismatch(sign, a, b) }
        switch sign {
        case "+": return .float(x + y)
        case "-": return .float(x - y)
        case "*": return .float(x * y)
        case "**": return .float(JinjaNumber.power(x, y))
        default:
            guard y != 0 else { throw JinjaError(.value, "a number is divided by 0") }
            let floor = (x / y).rounded(.down)
            return .float(sign == "/" ? x / y : sign == "//" ? floor : x - floor * y)
        }
    }

    private func integers(_ sign: String, _ x: Int, _ y: Int) throws(JinjaError) -> JinjaValue {
        switch sign {
        case "+": return try integer(x.addingReportingOverflow(y))
        case "-": return try integer(x.subtractingReportingOverflow(y))
        case "*": return try integer(x.multipliedReportingOverflow(by: y))
        case "**":
            guard y >= 0 else { return .float(JinjaNumber.power(Double(x), Double(y))) }
            guard y <= 64 || abs(x) <= 1 else { throw JinjaError(.limit, "a number grows beyond 64 bits") }
            var result = JinjaValue.int(1)
            for _ in 0..<(abs(x) <= 1 ? y % 2 + 2 : y) { result = try integers("*", result.integer ?? 0, x) }
            return y == 0 ? .int(1) : result
        default:
            guard y != 0 else { throw JinjaError(.value, "a number is divided by 0") }
            if sign == "/" { return .float(Double(x) / Double(y)) }
            let (quotient, overflow) = x.dividedReportingOverflow(by: y)
            guard !overflow else { throw JinjaError(.limit, "a number grows beyond 64 bits") }
            let rest = x - quotient * y
            let isBelow = rest != 0 && (rest < 0) != (y < 0)
            return .int(sign == "//" ? (isBelow ? quotient - 1 : quotient) : (isBelow ? rest + y : rest))
        }
    }

    private func repeated(_ text: JinjaText, _ times: Int) throws(JinjaError) -> JinjaText {
        guard times > 0, !text.isEmpty else { return JinjaText() }
        guard times <= Limit.length / text.count else {
            throw JinjaError(.limit, "the template writes more than \(Limit.length) characters")
        }
        return JinjaText(units: (0..<times).flatMap { _ in text.units })
    }

    private func repeated(_ values: [JinjaValue], _ times: Int) throws(JinjaError) -> [JinjaValue] {
        guard times > 0, !values.isEmpty else { return [] }
        guard times <= Limit.range / values.count else { throw JinjaError(.limit, "the template makes a list of more than \(Limit.range)") }
        return (0..<times).flatMap { _ in values }
    }

    private func compare(_ sign: String, _ a: JinjaValue, _ b: JinjaValue) throws(JinjaError) -> Bool {
        switch sign {
        case "==": return a.equals(b)
        case "!=": return !a.equals(b)
        case "in": return try contains(b, a)
        case "not in": return !(try contains(b, a))
        default:
            guard let isLess = try precedes(a, b), let isMore = try precedes(b, a) else { throw mismatch(sign, a, b) }
            switch sign {
            case "<": return isLess
            case ">": return isMore
            case "<=": return !isMore
            default: return !isLess
            }
        }
    }

    /// Returns whether `a < b`; nil if the two can't be compared.
    func precedes(_ a: JinjaValue, _ b: JinjaValue) throws(JinjaError) -> Bool? {
        if case .string(let x) = a, case .string(let y) = b { return x.precedes(y) }
        if let x = a.integer, let y = b.integer { return x < y }
        if let x = a.number, let y = b.number { return x < y }
        switch (a, b) {
        case (.list(let x), .list(let y)), (.tuple(let x), .tuple(let y)):
            for (p, q) in zip(x, y) where !p.equals(q) { return try precedes(p, q) }
            return x.count < y.count
        default: return nil
        }
    }

    func contains(_ container: JinjaValue, _ value: JinjaValue) throws(JinjaError) -> Bool {
        switch container {
        case .string(let text):
            guard case .string(let part) = value else {
                throw JinjaError(.value, "\(value.typeName) can't be in a string")
            }
            return text.firstIndex(of: part) != nil
        case .dictionary(let dictionary): return dictionary[value] != nil
        case .list(let values), .tuple(let values): return values.contains { $0.equals(value) }
        case .undefined: return false
        case .object(let object):
            if case .string(let name) = value { return object.attribute(name.string) != nil }
            return false
        default: throw JinjaError(.value, "\(container.typeName) holds nothing")
        }
    }
}
