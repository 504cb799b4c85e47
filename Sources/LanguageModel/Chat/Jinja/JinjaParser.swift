/// Parses a template's tokens into statements and expressions, with Jinja's precedences.
struct JinjaParser {
    static let depthMax = 100

    private let tokens: [JinjaToken]
    private var position = 0
    private var depth = 0

    static func parse(_ source: String) throws(JinjaError) -> [JinjaStatement] {
        var parser = JinjaParser(tokens: try JinjaLexer.tokens(of: source))
        let body = try parser.statements(until: [])
        guard parser.kind == .end else { throw parser.unexpected() }
        return body
    }

    private init(tokens: [JinjaToken]) { self.tokens = tokens }

    private var token: JinjaToken { tokens[min(position, tokens.count - 1)] }
    private var kind: JinjaToken.Kind { token.kind }

    private func error(_ problem: String) -> JinjaError { JinjaError(.template, problem, line: token.line) }

    private func unexpected() -> JinjaError {
        switch kind {
        case .name(let name): error("\"\(name)\" is not expected here")
        case .sign(let sign): error("\"\(sign)\" is not expected here")
        case .string(let text): error("the string \(text.debugDescription) is not expected here")
        case .end: error("the template ends too early")
        default: error("a tag ends too early, or begins within another")
        }
    }

    private func isSign(_ sign: String) -> Bool { kind == .sign(sign) }
    private func isName(_ name: String) -> Bool { kind == .name(name) }

    private mutating func take(_ sign: String) -> Bool {
        guard isSign(sign) else { return false }
        position += 1
        return true
    }

    private mutating func takeName(_ name: String) -> Bool {
        guard isName(name) else { return false }
        position += 1
        return true
    }

    private mutating func expect(_ sign: String) throws(JinjaError) { guard take(sign) else { throw unexpected() } }

    private mutating func name() throws(JinjaError) -> String {
        guard case .name(let name) = kind else { throw unexpected() }
        position += 1
        return name
    }

    private mutating func endOfBlock() throws(JinjaError) {
        guard kind == .blockEnd else { throw unexpected() }
        position += 1
    }

    private mutating func nested<T>(_ body: (inout JinjaParser) throws(JinjaError) -> T) throws(JinjaError) -> T {
        depth += 1
        guard depth <= Self.depthMax else { throw error("the template is nested more than \(Self.depthMax) deep") }
        let value = try body(&self)
        depth -= 1
        return value
    }

    // MARK: Statements

    /// Parses statements up to a block that begins with one of these names, and consumes the block's beginning and name.
    private mutating func statements(until ends: Set<String>) throws(JinjaError) -> [JinjaStatement] {
        try nested { parser throws(JinjaError) in try parser.statementList(ends) }
    }

    private mutating func statementList(_ ends: Set<String>) throws(JinjaError) -> [JinjaStatement] {
        var list: [JinjaStatement] = []
        while true {
            let line = token.line
            switch kind {
            case .text(let text):
                position += 1
                list.append(JinjaStatement(line: line, kind: .text(JinjaText(text))))
            case .outputBegin:
                position += 1
                let value = try tuple()
                guard kind == .outputEnd else { throw unexpected() }
                position += 1
                list.append(JinjaStatement(line: line, kind: .output(value)))
            case .blockBegin:
                if position + 1 < tokens.count, case .name(let name) = tokens[position + 1].kind, ends.contains(name) {
                    position += 2
                    return list
                }
                position += 1
                list.append(JinjaStatement(line: line, kind: try statement()))
            default:
                guard ends.isEmpty else { throw error("the block's \"\(ends.sorted().joined(separator: "\" or \""))\" is missing") }
                return list
            }
        }
    }

    private var lastName: String { if position > 0, case .name(let name) = tokens[position - 1].kind { name } else { "" } }

    private mutating func statement() throws(JinjaError) -> JinjaStatement.Kind {
        let keyword = try name()
        switch keyword {
        case "if": return try conditional()
        case "for": return try loop()
        case "set": return try set()
        case "macro":
            let name = try name()
            let parameters = try parameters()
            try endOfBlock()
            return .macro(name, parameters: parameters, try body(until: "endmacro"))
        case "call":
            let parameters = isSign("(") ? try parameters() : []
            let call = try expression()
            try endOfBlock()
            return .call(call, parameters: parameters, try body(until: "endcall"))
        case "filter":
            let filters = try filterNames()
            try endOfBlock()
            return .filterBlock(filters, try body(until: "endfilter"))
        case "with":
            var values: [(JinjaTarget, JinjaExpression)] = []
            while kind != .blockEnd {
                if !values.isEmpty { try expect(",") }
                let target = try target()
                try expect("=")
                values.append((target, try expression()))
            }
            try endOfBlock()
            return .with(values, try body(until: "endwith"))
        case "generation":
            try endOfBlock()
            return .generation(try body(until: "endgeneration"))
        case "break":
            try endOfBlock()
            return .breakLoop
        case "continue":
            try endOfBlock()
            return .continueLoop
        default:
            position -= 1
            throw error("the block \"\(keyword)\" is not known")
        }
    }

    private mutating func body(until end: String) throws(JinjaError) -> [JinjaStatement] {
        let body = try statements(until: [end])
        // `{% endmacro name %}` may repeat the name.
        if case .name = kind { position += 1 }
        try endOfBlock()
        return body
    }

    private mutating func conditional() throws(JinjaError) -> JinjaStatement.Kind {
        var branches: [(JinjaExpression, [JinjaStatement])] = []
        while true {
            let condition = try tuple()
            try endOfBlock()
            branches.append((condition, try statements(until: ["elif", "else", "endif"])))
            switch lastName {
            case "elif": continue
            case "else":
                try endOfBlock()
                return .conditional(branches, otherwise: try body(until: "endif"))
            default:
                try endOfBlock()
                return .conditional(branches, otherwise: [])
            }
        }
    }

    private mutating func loop() throws(JinjaError) -> JinjaStatement.Kind {
        let target = try target()
        guard takeName("in") else { throw unexpected() }
        let list = try tuple(isConditionAllowed: false)
        let condition = takeName("if") ? try expression() : nil
        let isRecursive = takeName("recursive")
        try endOfBlock()
        let body = try statements(until: ["else", "endfor"])
        var otherwise: [JinjaStatement] = []
        if lastName == "else" {
            try endOfBlock()
            otherwise = try statements(until: ["endfor"])
        }
        try endOfBlock()
        return .loop(target, list, condition: condition, body: body, otherwise: otherwise, isRecursive: isRecursive)
    }

    private mutating func set() throws(JinjaError) -> JinjaStatement.Kind {
        let target = try target()
        if take("=") {
            let value = try tuple()
            try endOfBlock()
            return .set(target, value)
        }
        let filters = take("|") ? try filterNames() : []
        try endOfBlock()
        return .setBlock(target, filters: filters, try body(until: "endset"))
    }

    private mutating func filterNames() throws(JinjaError) -> [(String, JinjaCallArguments)] {
        var filters: [(String, JinjaCallArguments)] = []
        repeat {
            let name = try dottedName()
            filters.append((name, isSign("(") ? try arguments() : JinjaCallArguments()))
        } while take("|")
        return filters
    }

    private mutating func dottedName() throws(JinjaError) -> String {
        var whole = try name()
        while take(".") { whole += "." + (try name()) }
        return whole
    }

    /// Parses a name, or several separated by commas. Each may again be such a list in brackets.
    private mutating func target() throws(JinjaError) -> JinjaTarget {
        var list: [JinjaTarget] = []
        repeat {
            if take("(") {
                list.append(try nested { parser throws(JinjaError) in try parser.target() })
                try expect(")")
            } else if case .name(let name) = kind, name != "in" || list.isEmpty {
                position += 1
                list.append(take(".") ? .attribute(name, try self.name()) : .name(name))
            } else if list.isEmpty {
                throw unexpected()
            } else {
                return .tuple(list)
            }
        } while take(",")
        return list.count == 1 ? list[0] : .tuple(list)
    }

    private mutating func parameters() throws(JinjaError) -> [(name: String, standard: JinjaExpression?)] {
        var list: [(name: String, standard: JinjaExpression?)] = []
        try expect("(")
        while !take(")") {
            if !list.isEmpty { try expect(",") }
            if take(")") { break }
            let name = try name()
            list.append((name, take("=") ? try expression() : nil))
        }
        return list
    }

    // MARK: Expressions

    /// Parses one expression, or several separated by commas.
    private mutating func tuple(isConditionAllowed: Bool = true) throws(JinjaError) -> JinjaExpression {
        func ends() -> Bool {
            switch kind {
            case .blockEnd, .outputEnd, .end: true
            case .sign(let sign): [")", "]", "}", "="].contains(sign)
            case .name(let name): ["in", "if", "recursive"].contains(name)
            default: false
            }
        }
        var list = [try isConditionAllowed ? expression() : or()]
        guard isSign(",") else { return list[0] }
        while take(","), !ends() { list.append(try isConditionAllowed ? expression() : or()) }
        return .tuple(list)
    }

    private mutating func expression() throws(JinjaError) -> JinjaExpression {
        try nested { parser throws(JinjaError) in try parser.conditionalExpression() }
    }

    private mutating func conditionalExpression() throws(JinjaError) -> JinjaExpression {
        var value = try or()
        while takeName("if") {
            let condition = try or()
            value = .conditional(condition, then: value, otherwise: takeName("else") ? try expression() : nil)
        }
        return value
    }

    private mutating func or() throws(JinjaError) -> JinjaExpression {
        var value = try and()
        while takeName("or") { value = .or(value, try and()) }
        return value
    }

    private mutating func and() throws(JinjaError) -> JinjaExpression {
        var value = try not()
        while takeName("and") { value = .and(value, try not()) }
        return value
    }

    private mutating func not() throws(JinjaError) -> JinjaExpression {
        guard takeName("not") else { return try comparison() }
        return .not(try nested { parser throws(JinjaError) in try parser.not() })
    }

    private mutating func comparison() throws(JinjaError) -> JinjaExpression {
        let value = try sum()
        var rest: [(String, JinjaExpression)] = []
        while true {
            if case .sign(let sign) = kind, ["==", "!=", "<", ">", "<=", ">="].contains(sign) {
                position += 1
                rest.append((sign, try sum()))
            } else if takeName("in") {
                rest.append(("in", try sum()))
            } else if isName("not"), position + 1 < tokens.count, tokens[position + 1].kind == .name("in") {
                position += 2
                rest.append(("not in", try sum()))
            } else {
                return rest.isEmpty ? value : .comparison(value, rest)
            }
        }
    }

    private mutating func sum() throws(JinjaError) -> JinjaExpression {
        var value = try concatenation()
        while case .sign(let sign) = kind, sign == "+" || sign == "-" {
            position += 1
            value = .arithmetic(sign, value, try concatenation())
        }
        return value
    }

    private mutating func concatenation() throws(JinjaError) -> JinjaExpression {
        var list = [try product()]
        while take("~") { list.append(try product()) }
        return list.count == 1 ? list[0] : .concatenation(list)
    }

    private mutating func product() throws(JinjaError) -> JinjaExpression {
        var value = try unary()
        while case .sign(let sign) = kind, ["*", "/", "//", "%"].contains(sign) {
            position += 1
            value = .arithmetic(sign, value, try unary())
        }
        return value
    }

    private mutating func unary(withFilters: Bool = true) throws(JinjaError) -> JinjaExpression {
        var value: JinjaExpression
        if take("-") {
            value = .negative(try nested { parser throws(JinjaError) in try parser.unary(withFilters: false) })
        } else if take("+") {
            value = .positive(try nested { parser throws(JinjaError) in try parser.unary(withFilters: false) })
        } else {
            value = try postfix(try primary())
            if take("**") {
                value = .arithmetic("**", value, try nested { parser throws(JinjaError) in try parser.unary(withFilters: false) })
            }
        }
        return withFilters ? try filtersAndTests(value) : value
    }

    private mutating func primary() throws(JinjaError) -> JinjaExpression {
        let first = kind
        switch first {
        case .name(let name):
            position += 1
            switch name {
            case "true", "True": return .literal(.bool(true))
            case "false", "False": return .literal(.bool(false))
            case "none", "None": return .literal(.none)
            default: return .name(name)
            }
        case .integer(let value):
            position += 1
            return .literal(.int(value))
        case .float(let value):
            position += 1
            return .literal(.float(value))
        case .string(var text):
            position += 1
            while case .string(let more) = kind {
                text += more
                position += 1
            }
            return .literal(.text(text))
        case .sign("("):
            position += 1
            if take(")") { return .tuple([]) }
            let value = try nested { parser throws(JinjaError) in try parser.tuple() }
            try expect(")")
            return value
        case .sign("["):
            position += 1
            var list: [JinjaExpression] = []
            while !take("]") {
                if !list.isEmpty { try expect(",") }
                if take("]") { break }
                list.append(try expression())
            }
            return .list(list)
        case .sign("{"):
            position += 1
            var entries: [(JinjaExpression, JinjaExpression)] = []
            while !take("}") {
                if !entries.isEmpty { try expect(",") }
                if take("}") { break }
                let key = try expression()
                try expect(":")
                entries.append((key, try expression()))
            }
            return .dictionary(entries)
        default: throw unexpected()
        }
    }

    private mutating func postfix(_ start: JinjaExpression) throws(JinjaError) -> JinjaExpression {
        var value = start
        while true {
            if take(".") {
                if case .integer(let index) = kind {
                    position += 1
                    value = .item(value, .literal(.int(index)))
                } else {
                    value = .attribute(value, try name())
                }
            } else if take("[") {
                value = try subscripted(value)
            } else if isSign("(") {
                value = .call(value, try arguments())
            } else {
                return value
            }
        }
    }

    private mutating func subscripted(_ value: JinjaExpression) throws(JinjaError) -> JinjaExpression {
        var parts: [JinjaExpression?] = [nil]
        var isSlice = false
        while !take("]") {
            if take(":") {
                isSlice = true
                parts.append(nil)
            } else {
                guard parts[parts.count - 1] == nil, parts.count <= 3 else { throw unexpected() }
                parts[parts.count - 1] = try isSlice ? expression() : tuple()
            }
        }
        if !isSlice {
            guard let index = parts[0] else { throw unexpected() }
            return .item(value, index)
        }
        while parts.count < 3 { parts.append(nil) }
        return .slice(value, parts[0], parts[1], parts[2])
    }

    private mutating func arguments() throws(JinjaError) -> JinjaCallArguments {
        var arguments = JinjaCallArguments()
        try expect("(")
        var isFirst = true
        while !take(")") {
            if !isFirst { try expect(",") }
            isFirst = false
            if take(")") { break }
            if take("*") {
                arguments.spread = try expression()
            } else if take("**") {
                arguments.spreadNamed = try expression()
            } else if case .name(let name) = kind, position + 1 < tokens.count, tokens[position + 1].kind == .sign("=") {
                position += 2
                arguments.named.append((name, try expression()))
            } else {
                arguments.positional.append(try expression())
            }
        }
        return arguments
    }

    private mutating func filtersAndTests(_ start: JinjaExpression) throws(JinjaError) -> JinjaExpression {
        var value = start
        while true {
            if take("|") {
                let name = try dottedName()
                value = .filter(value, name, isSign("(") ? try arguments() : JinjaCallArguments())
            } else if takeName("is") {
                let isNegated = takeName("not")
                let name = try dottedName()
                value = .test(value, name, try testArguments(), isNegated: isNegated)
            } else if isSign("(") {
                // `(a | filter)(…)` calls the result of the filter.
                value = .call(value, try arguments())
            } else {
                return value
            }
        }
    }

    /// Parses a test's arguments, in brackets or a single one without: `is divisibleby 3`, `is in [1, 2]`.
    private mutating func testArguments() throws(JinjaError) -> JinjaCallArguments {
        if isSign("(") { return try arguments() }
        switch kind {
        case .name(let name) where ["else", "or", "and", "if", "is", "in", "not", "recursive"].contains(name): return JinjaCallArguments()
        case .name, .string, .integer, .float, .sign("["), .sign("{"):
            return JinjaCallArguments(positional: [try postfix(try primary())])
        default: return JinjaCallArguments()
        }
    }
}
