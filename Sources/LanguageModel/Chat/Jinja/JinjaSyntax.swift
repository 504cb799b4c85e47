/// An expression of a template.
indirect enum JinjaExpression: Sendable {
    case literal(JinjaValue)
    case name(String)
    case list([JinjaExpression])
    case tuple([JinjaExpression])
    case dictionary([(JinjaExpression, JinjaExpression)])
    case attribute(JinjaExpression, String)
    case item(JinjaExpression, JinjaExpression)
    case slice(JinjaExpression, JinjaExpression?, JinjaExpression?, JinjaExpression?)
    case call(JinjaExpression, JinjaCallArguments)
    /// `target` is nil in a filter block, whose target is the block's text.
    case filter(JinjaExpression?, String, JinjaCallArguments)
    case test(JinjaExpression, String, JinjaCallArguments, isNegated: Bool)
    case negative(JinjaExpression)
    case positive(JinjaExpression)
    case not(JinjaExpression)
    case and(JinjaExpression, JinjaExpression)
    case or(JinjaExpression, JinjaExpression)
    case arithmetic(String, JinjaExpression, JinjaExpression)
    case concatenation([JinjaExpression])
    case comparison(JinjaExpression, [(String, JinjaExpression)])
    case conditional(JinjaExpression, then: JinjaExpression, otherwise: JinjaExpression?)
}

struct JinjaCallArguments: Sendable {
    var positional: [JinjaExpression] = []
    var named: [(name: String, value: JinjaExpression)] = []
    /// `*list`, `**mapping`
    var spread: JinjaExpression?
    var spreadNamed: JinjaExpression?
}

/// The target of `for` and `set`: a name, or a list of targets.
indirect enum JinjaTarget: Sendable {
    case name(String)
    case attribute(String, String)
    case tuple([JinjaTarget])
}

/// A statement of a template, with its line.
struct JinjaStatement: Sendable {
    let line: Int
    let kind: Kind

    indirect enum Kind: Sendable {
        case text(JinjaText)
        case output(JinjaExpression)
        case conditional([(JinjaExpression, [JinjaStatement])], otherwise: [JinjaStatement])
        case loop(
            JinjaTarget, JinjaExpression, condition: JinjaExpression?, body: [JinjaStatement], otherwise: [JinjaStatement],
            isRecursive: Bool)
        case set(JinjaTarget, JinjaExpression)
        /// Sets a name to the text of the body, put through filters.
        case setBlock(JinjaTarget, filters: [(String, JinjaCallArguments)], [JinjaStatement])
        case filterBlock([(String, JinjaCallArguments)], [JinjaStatement])
        case macro(String, parameters: [(name: String, standard: JinjaExpression?)], [JinjaStatement])
        case call(JinjaExpression, parameters: [(name: String, standard: JinjaExpression?)], [JinjaStatement])
        case with([(JinjaTarget, JinjaExpression)], [JinjaStatement])
        /// The assistant's text, as the template itself marks it.
        case generation([JinjaStatement])
        case breakLoop
        case continueLoop
    }
}
