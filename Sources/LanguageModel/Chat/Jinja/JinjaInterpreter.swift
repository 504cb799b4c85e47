/// The output of a template, and what is known about its parts.
package struct JinjaRendering: Sendable {
    package internal(set) var text = JinjaText()
    /// Ranges of `text` that were written while a loop was at a message of the conversation, with the message's number.
    package internal(set) var blocks: [(message: Int, range: Range<Int>)] = []
    /// Ranges of `text` that `{% generation %}` blocks wrote.
    package internal(set) var generated: [Range<Int>] = []
    /// Whether the template asked for the time.
    package internal(set) var readsTime = false
}

/// Runs a template's program within limits, because the program is not trusted.
final class JinjaInterpreter {
    enum Limit {
        static let steps = 5_000_000
        static let depth = 120
        /// Largest number of scalars in any string and in the output.
        static let length = 32 << 20
        /// Largest number of elements in a `range`, as in Jinja's sandbox.
        static let range = 100_000
    }

    enum Flow { case proceeds, breaks, continues }

    let root: JinjaScope
    var scope: JinjaScope
    private var output = JinjaRendering()
    /// Whether output is collected for `set`, `macro` and similar statements, so that it belongs to no message yet.
    private var isCollecting = false
    private var message: Int?
    private var steps = 0
    private var depth = 0
    private var loopDepth = 0
    let now: () -> JinjaDate
    private let clock = Clock()

    /// Whether a program asked for the time.
    private final class Clock { var wasRead = false }

    init(_ variables: [String: JinjaValue], now: @escaping () -> JinjaDate) {
        root = JinjaScope(parent: nil)
        scope = root
        self.now = now
        for (name, function) in Self.globals { root.values[name] = .object(JinjaFunction(name, function)) }
        root.values["strftime_now"] = .object(
            JinjaFunction("strftime_now") { [clock] arguments throws(JinjaError) in
                clock.wasRead = true
                return .text(now().formatted(arguments.value(0, "format")?.text.string ?? ""))
            })
        for (name, value) in variables { root.values[name] = value }
    }

    func render(_ program: [JinjaStatement]) throws(JinjaError) -> JinjaRendering {
        _ = try run(program)
        output.readsTime = clock.wasRead
        return output
    }

    func step() throws(JinjaError) {
        steps += 1
        guard steps <= Limit.steps else { throw JinjaError(.limit, "the template takes more than \(Limit.steps) steps") }
    }

    func deeper<T>(_ body: () throws(JinjaError) -> T) throws(JinjaError) -> T {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Limit.depth else {
            throw JinjaError(.limit, "the template calls itself, or is nested, more than \(Limit.depth) deep")
        }
        return try body()
    }

    func checked(_ text: JinjaText) throws(JinjaError) -> JinjaText {
        guard text.count <= Limit.length else { throw JinjaError(.limit, "the template writes more than \(Limit.length) characters") }
        return text
    }

    // MARK: Output

    private func write(_ text: JinjaText) throws(JinjaError) {
        guard !text.isEmpty else { return }
        let start = output.text.count
        output.text.units += text.units
        _ = try checked(output.text)
        guard !isCollecting, let message else { return }
        if let last = output.blocks.last, last.message == message, last.range.upperBound == start {
            output.blocks[output.blocks.count - 1].range = last.range.lowerBound..<output.text.count
        } else {
            output.blocks.append((message, start..<output.text.count))
        }
    }

    /// Returns what the body writes, instead of writing it.
    func collect(_ body: () throws(JinjaError) -> Void) throws(JinjaError) -> JinjaText {
        let (before, wasCollecting) = (output, isCollecting)
        (output, isCollecting) = (JinjaRendering(), true)
        defer { (output, isCollecting) = (before, wasCollecting) }
        try body()
        return output.text
    }

    // MARK: Statements

    private func run(_ statements: [JinjaStatement]) throws(JinjaError) -> Flow {
        for statement in statements {
            do throws(JinjaError) {
                try step()
                let flow = try deeper { () throws(JinjaError) in try run(statement) }
                if flow != .proceeds { return flow }
            } catch {
                throw error.at(statement.line)
            }
        }
        return .proceeds
    }

    private func run(_ statement: JinjaStatement) throws(JinjaError) -> Flow {
        switch statement.kind {
        case .text(let text): try write(text)
        case .output(let expression): try write(try evaluate(expression).text)
        case .conditional(let branches, let otherwise):
            for (condition, body) in branches where try evaluate(condition).isTrue { return try run(body) }
            return try run(otherwise)
        case .loop(let target, let list, let condition, let body, let otherwise, let isRecursive):
            try loop(target, try evaluate(list), condition, body, otherwise, isRecursive)
        case .set(let target, let value): try bind(target, try evaluate(value))
        case .setBlock(let target, let filters, let body):
            let text = try collect { () throws(JinjaError) in _ = try inScope { () throws(JinjaError) in try run(body) } }
            try bind(target, try filtered(.string(text), filters))
        case .filterBlock(let filters, let body):
            let text = try collect { () throws(JinjaError) in _ = try inScope { () throws(JinjaError) in try run(body) } }
            try write(try filtered(.string(text), filters).text)
        case .macro(let name, let parameters, let body):
            scope.values[name] = .object(JinjaMacro(name: name, parameters: parameters, body: body, scope: scope))
        case .call(let call, let parameters, let body):
            let caller = JinjaMacro(name: "caller", parameters: parameters, body: body, scope: scope)
            try write(
                try inScope { () throws(JinjaError) in
                    guard case .call(let function, var arguments) = call else {
                        throw JinjaError(.template, "a \"call\" block needs a call")
                    }
                    arguments.named.append(("caller", .literal(.object(caller))))
                    return try evaluate(.call(function, arguments)).text
                })
        case .with(let values, let body):
            return try inScope { () throws(JinjaError) in
                for (target, value) in values { try bind(target, try evaluate(value)) }
                return try run(body)
            }
        case .generation(let body):
            let start = output.text.count
            let flow = try inScope { () throws(JinjaError) in try run(body) }
            if !isCollecting { output.generated.append(start..<output.text.count) }
            return flow
        case .breakLoop: return .breaks
        case .continueLoop: return .continues
        }
        return .proceeds
    }

    func inScope<T>(_ parent: JinjaScope? = nil, _ body: () throws(JinjaError) -> T) throws(JinjaError) -> T {
        let before = scope
        scope = JinjaScope(parent: parent ?? scope)
        defer { scope = before }
        return try body()
    }

    private func filtered(_ value: JinjaValue, _ filters: [(String, JinjaCallArguments)]) throws(JinjaError) -> JinjaValue {
        var value = value
        for (name, arguments) in filters { value = try filter(name, value, try self.arguments(arguments)) }
        return value
    }

    private func bind(_ target: JinjaTarget, _ value: JinjaValue) throws(JinjaError) {
        switch target {
        case .name(let name): scope.values[name] = value
        case .attribute(let name, let attribute):
            guard case .object(let object)? = scope.value(name), let namespace = object as? JinjaNamespace else {
                throw JinjaError(.template, "\"\(name)\" is no namespace, so \"\(name).\(attribute)\" can't be set")
            }
            namespace.values[attribute] = value
        case .tuple(let targets):
            guard let values = value.items, values.count == targets.count else {
                throw JinjaError(.value, "\(value.typeName) can't be taken apart into \(targets.count) names")
            }
            for (target, value) in zip(targets, values) { try bind(target, value) }
        }
    }

    private func loop(
        _ target: JinjaTarget, _ list: JinjaValue, _ condition: JinjaExpression?, _ body: [JinjaStatement], _ otherwise: [JinjaStatement],
        _ isRecursive: Bool
    ) throws(JinjaError) {
        guard var items = list.items else { throw JinjaError(.value, "\(list.typeName) can't be looped over") }
        if let condition {
            var kept: [JinjaValue] = []
            for item in items {
                let isKept = try inScope { () throws(JinjaError) in
                    try step()
                    try bind(target, item)
                    return try evaluate(condition).isTrue
                }
                if isKept { kept.append(item) }
            }
            items = kept
        }
        if items.isEmpty { return try inScope { () throws(JinjaError) in _ = try run(otherwise) } }
        loopDepth += 1
        let outerMessage = message
        defer {
            loopDepth -= 1
            message = outerMessage
        }
        let state = JinjaLoop(items, depth: loopDepth)
        for (i, item) in items.enumerated() {
            state.index = i
            message = Self.message(of: item) ?? outerMessage
            let flow = try inScope { () throws(JinjaError) in
                try step()
                scope.values["loop"] = isRecursive ? .object(recursion(state, target, condition, body)) : .object(state)
                try bind(target, item)
                return try run(body)
            }
            if flow == .breaks { break }
        }
    }

    private static func message(of item: JinjaValue) -> Int? {
        if case .dictionary(let dictionary) = item { return dictionary.message }
        // Handles loops such as `for i, message in …`.
        if case .tuple(let parts) = item { return parts.lazy.compactMap(message).first }
        return nil
    }

    /// Evaluates `loop(…)` within a recursive loop.
    private func recursion(
        _ state: JinjaLoop, _ target: JinjaTarget, _ condition: JinjaExpression?, _ body: [JinjaStatement]
    ) -> JinjaRecursiveLoop {
        JinjaRecursiveLoop(state) { [self] list throws(JinjaError) in
            .string(
                try collect { () throws(JinjaError) in
                    try deeper { () throws(JinjaError) in try loop(target, list, condition, body, [], true) }
                })
        }
    }

    // MARK: Calls

    func call(_ macro: JinjaMacro, _ arguments: JinjaArguments) throws(JinjaError) -> JinjaValue {
        try deeper { () throws(JinjaError) in
            try inScope(macro.scope) { () throws(JinjaError) in
                guard arguments.positional.count <= macro.parameters.count else {
                    throw JinjaError(
                        .value, "the macro \"\(macro.name)\" takes \(macro.parameters.count) values, not \(arguments.positional.count)")
                }
                for (i, parameter) in macro.parameters.enumerated() {
                    if let value = arguments.value(i, parameter.name) {
                        scope.values[parameter.name] = value
                    } else if let standard = parameter.standard {
                        scope.values[parameter.name] = try evaluate(standard)
                    } else {
                        scope.values[parameter.name] = .undefined(name: parameter.name)
                    }
                }
                for (name, value) in arguments.named where !macro.parameters.contains(where: { $0.name == name }) {
                    guard name == "caller" else { throw JinjaError(.value, "the macro \"\(macro.name)\" takes no \"\(name)\"") }
                    scope.values[name] = value
                }
                return .string(try collect { () throws(JinjaError) in _ = try run(macro.body) })
            }
        }
    }
}

/// `loop` of a recursive loop, which can also be called with the next level's list.
final class JinjaRecursiveLoop: JinjaObject, @unchecked Sendable {
    private let state: JinjaLoop
    let enter: (JinjaValue) throws(JinjaError) -> JinjaValue
    override var typeName: String { "loop" }
    override func attribute(_ name: String) -> JinjaValue? { state.attribute(name) }

    init(_ state: JinjaLoop, _ enter: @escaping (JinjaValue) throws(JinjaError) -> JinjaValue) {
        self.state = state
        self.enter = enter
    }
}
