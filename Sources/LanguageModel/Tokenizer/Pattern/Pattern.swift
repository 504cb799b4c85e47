/// A tokenizer's regular expression. It is compiled once and matched by backtracking: the first alternative that matches wins, as in
/// Oniguruma.
///
/// Long searches remember where they failed, so that none takes exponential time.
package struct Pattern: Sendable {
    enum Instruction: Sendable {
        case set(Int)
        /// Matches as many scalars of a set as possible, at least `least` and at most `most`.
        case run(set: Int, least: Int, most: Int, mode: RepeatMode)
        /// Continues at the first instruction, and at the second if that fails.
        case split(Int, Int)
        case jump(Int)
        case lookahead(program: Int, negative: Bool)
        case lookbehind(set: Int, negative: Bool)
        case atomic(program: Int)
        case assertion(PatternAssertion)
        case match
    }

    /// Largest number of instructions; no tokenizer's pattern needs more.
    static let instructionsMax = 50_000

    /// The program of the pattern, followed by those of its lookaheads and atomic groups.
    let programs: [[Instruction]]
    let sets: [ScalarSet]

    /// - Throws: `PatternError` for syntax that tokenizers' patterns do not use.
    package init(_ source: String) throws(PatternError) {
        var compiler = PatternCompiler()
        try compiler.compileProgram(try PatternParser.parse(source))
        programs = compiler.programs
        sets = compiler.sets
    }

    /// Calls `body` with each match, leftmost first and without overlaps; empty matches are left out.
    ///
    /// - Parameters:
    ///   - text: valid UTF-8.
    ///   - range: the part that the pattern sees; its ends count as the ends of the text.
    package func forEachMatch(in text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
        var matcher = PatternMatcher(self, text, range)
        var start = range.lowerBound
        while start < range.upperBound {
            if let end = matcher.match(at: start), end > start {
                body(start..<end)
                start = end
                matcher.forgetFailures()
            } else {
                start += scalarLength(text[start])
            }
        }
    }
}

/// Returns the length of the UTF-8 sequence that begins with this byte.
func scalarLength(_ lead: UInt8) -> Int { lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4 }

private struct PatternCompiler {
    var programs: [[Pattern.Instruction]] = []
    var sets: [ScalarSet] = []
    private var code: [Pattern.Instruction] = []
    private var count = 0

    @discardableResult
    mutating func compileProgram(_ node: PatternNode) throws(PatternError) -> Int {
        let place = programs.count
        programs.append([])
        let outer = code
        code = []
        try compile(node)
        code.append(.match)
        programs[place] = code
        code = outer
        return place
    }

    private mutating func index(_ set: ScalarSet) -> Int {
        if let known = sets.firstIndex(of: set) { return known }
        sets.append(set)
        return sets.count - 1
    }

    private mutating func compile(_ node: PatternNode) throws(PatternError) {
        count += 1
        guard count <= Pattern.instructionsMax else { throw PatternError(problem: "is too long") }
        switch node {
        case .set(let set): code.append(.set(index(set)))
        case .sequence(let list): for part in list { try compile(part) }
        case .alternatives(let list): try compile(alternatives: list)
        case .repeated(.set(let set), let least, let most, let mode):
            code.append(.run(set: index(set), least: least, most: most, mode: mode))
        case .repeated(let part, let least, let most, .possessive):
            code.append(.atomic(program: try compileProgram(.repeated(part, least: least, most: most, mode: .greedy))))
        case .repeated(let part, let least, let most, let mode): try compile(part, least, most, isLazy: mode == .lazy)
        case .lookahead(let part, let negative): code.append(.lookahead(program: try compileProgram(part), negative: negative))
        case .lookbehind(let set, let negative): code.append(.lookbehind(set: index(set), negative: negative))
        case .atomic(let part): code.append(.atomic(program: try compileProgram(part)))
        case .assertion(let assertion): code.append(.assertion(assertion))
        }
    }

    private mutating func compile(alternatives list: [PatternNode]) throws(PatternError) {
        var ends: [Int] = []
        for (i, part) in list.enumerated() {
            let split = code.count
            if i < list.count - 1 { code.append(.split(split + 1, 0)) }
            try compile(part)
            if i < list.count - 1 {
                ends.append(code.count)
                code.append(.jump(0))
                code[split] = .split(split + 1, code.count)
            }
        }
        for end in ends { code[end] = .jump(code.count) }
    }

    private mutating func compile(_ part: PatternNode, _ least: Int, _ most: Int, isLazy: Bool) throws(PatternError) {
        func split(_ inside: Int, _ outside: Int) -> Pattern.Instruction { isLazy ? .split(outside, inside) : .split(inside, outside) }
        for _ in 0..<least { try compile(part) }
        if most == .max {
            let start = code.count
            code.append(.jump(0))
            try compile(part)
            code.append(.jump(start))
            code[start] = split(start + 1, code.count)
        } else {
            var splits: [Int] = []
            for _ in least..<most {
                splits.append(code.count)
                code.append(.jump(0))
                try compile(part)
            }
            for place in splits { code[place] = split(place + 1, code.count) }
        }
    }
}
