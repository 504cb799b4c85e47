/// Why a template can't be read, or can't be rendered.
package struct JinjaError: Error, Hashable, Sendable {
    package enum Code: Hashable, Sendable {
        /// The template itself is wrong, or uses what is not known here.
        case template
        /// `raise_exception`: the template refuses this conversation, in its own words.
        case refused
        /// The values of this conversation don't fit the template's program.
        case value
        /// It takes too many steps, is too deep or too long.
        case limit
    }

    package let code: Code
    /// Counted from 1; 0 where it is not known yet.
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
