/// Why a template can't be parsed or rendered.
package struct JinjaError: Error, Hashable, Sendable {
    package enum Code: Hashable, Sendable {
        /// The template is malformed or uses an unknown feature.
        case template
        /// The template called `raise_exception` and so refuses this conversation, in its own words.
        case refused
        /// The values of this conversation do not fit the template's program.
        case value
        /// The template takes too many steps, or is nested too deeply or too long.
        case limit
    }

    package let code: Code
    /// Line number from 1; 0 while it is not known.
    package var line: Int
    package let problem: String

    init(_ code: Code, _ problem: String, line: Int = 0) {
        self.code = code
        self.line = line
        self.problem = problem
    }

    func at(_ line: Int) -> JinjaError {
        var error = self
        if error.line == 0 { error.line = line }
        return error
    }
}
