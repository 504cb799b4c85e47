/// A template in Jinja's language, as far as chat templates use it. It is parsed once and rendered any number of times.
///
/// No library for Jinja is available to this project, so this is an interpreter of the part that models' templates use: statements,
/// expressions, and the filters, tests and methods that occur in them. White space is treated as in transformers. A template is not
/// trusted: its steps, its depth and its output are limited.
package struct JinjaTemplate: Sendable {
    /// Largest size of a template in bytes.
    package static let bytesMax = 1 << 20

    private let program: [JinjaStatement]

    /// - Throws: `JinjaError` `.template` with the line.
    package init(_ source: String) throws(JinjaError) {
        guard source.utf8.count <= Self.bytesMax else { throw JinjaError(.limit, "the template is longer than \(Self.bytesMax) bytes") }
        program = try JinjaParser.parse(source)
    }

    /// Runs the template with these variables.
    ///
    /// - Parameter now: returns the time for `strftime_now`.
    package func render(_ variables: [String: JinjaValue], now: @escaping () -> JinjaDate = { .now }) throws(JinjaError) -> JinjaRendering {
        try JinjaInterpreter(variables, now: now).render(program)
    }
}
