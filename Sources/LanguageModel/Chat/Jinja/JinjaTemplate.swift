/// A template of Jinja's language, as far as chat templates use it: read once, rendered any number of times.
///
/// There is no Debian package of a library for it, and none among Swift's that can be had here, so this is an interpreter of the part that
/// the templates of models use: statements, expressions, the filters, tests and methods that occur in them, with white space treated as
/// transformers has it. A template is a program from outside: its steps, its depth and what it writes are bounded.
package struct JinjaTemplate: Sendable {
    /// A longer one is no template.
    package static let bytesMax = 1 << 20

    private let program: [JinjaStatement]

    /// - Throws: `JinjaError` `.template` with the line.
    package init(_ source: String) throws(JinjaError) {
        guard source.utf8.count <= Self.bytesMax else { throw JinjaError(.limit, "the template is longer than \(Self.bytesMax) bytes") }
        program = try JinjaParser.parse(source)
    }

    /// - Parameter now: what `strftime_now` tells.
    package func render(_ variables: [String: JinjaValue], now: @escaping () -> JinjaDate = { .now }) throws(JinjaError) -> JinjaRendering {
        try JinjaInterpreter(variables, now: now).render(program)
    }
}
