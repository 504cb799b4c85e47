/// A search of one pattern through one text.
struct PatternMatcher {
    /// Number of steps of an attempt after which failures are remembered.
    private static let plainSteps = 512

    private let pattern: Pattern
    private let text: UnsafeBufferPointer<UInt8>
    private let range: Range<Int>
    /// Triples (program, instruction, position) from which there is no match, while failures are remembered.
    private var failures: Set<Failure> = []
    private var remembers = false
    private var stack: [Choice] = []
    /// The last run of scalars of each set. Later attempts within it need not count it again.
    private var runs: [Range<Int>]
    /// For each run in the main program, the ends of a run from which there was no match. A later run with the same end has none either.
    private var failedRuns: [Range<Int>]
    /// Runs that the present attempt has entered.
    private var enteredRuns: [(instruction: Int, ends: Range<Int>)] = []

    private struct Failure: Hashable {
        let place: UInt32
        let position: Int
    }

    /// Where to continue when an attempt fails: at `instruction`, from `position`, or one scalar further towards `limit`.
    private struct Choice {
        let instruction: Int
        var position: Int
        /// Last position to try: below `position` for a greedy run, above it for a lazy one.
        let limit: Int
        let isLazyRun: Bool
    }

    init(_ pattern: Pattern, _ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) {
        self.pattern = pattern
        self.text = text
        self.range = range
        runs = [Range<Int>](repeating: 0..<0, count: pattern.sets.count)
        failedRuns = [Range<Int>](repeating: 0..<0, count: pattern.programs[0].count)
    }

    /// Forgets failures after a match. They would still hold, but are seldom needed again.
    mutating func forgetFailures() {
        remembers = false
        if !failures.isEmpty { failures.removeAll() }
    }

    /// Returns the end of the match that begins at `start`; nil if there is none.
    mutating func match(at start: Int) -> Int? {
        enteredRuns.removeAll(keepingCapacity: true)
        if let end = run(0, at: start) { return end }
        for run in enteredRuns { failedRuns[run.instruction] = run.ends }
        return nil
    }

    private mutating func run(_ program: Int, at start: Int) -> Int? {
        let base = stack.count
        defer { stack.removeLast(stack.count - base) }
        let code = pattern.programs[program]
        var at = 0
        var position = start
        var steps = 0
        while true {
            steps += 1
            if steps > Self.plainSteps { remembers = true }
            var isAlive = true
            if remembers {
                isAlive = failures.insert(Failure(place: UInt32(program) << 16 | UInt32(at & 0xffff), position: position)).inserted
            }
            if isAlive {
                switch code[at] {
                case .match:
                    if remembers { forgetSuccess() }
                    return position
                case .set(let set):
                    if let end = step(set, position) {
                        position = end
                        at += 1
                    } else {
                        isAlive = false
                    }
                case .run(let set, let least, let most, let mode):
                    if let end = enterRun(set, position, least, most, mode, next: at + 1, isRemembered: program == 0) {
                        position = end
                        at += 1
                    } else {
                        isAlive = false
                    }
                case .split(let first, let second):
                    stack.append(Choice(instruction: second, position: position, limit: position, isLazyRun: false))
                    at = first
                case .jump(let target): at = target
                case .lookahead(let program, let negative):
                    isAlive = (nested(program, at: position) != nil) != negative
                    at += 1
                case .lookbehind(let set, let negative):
                    isAlive = (position > range.lowerBound && pattern.sets[set].contains(scalar(before: position).value)) != negative
                    at += 1
                case .atomic(let program):
                    if let end = nested(program, at: position) {
                        position = end
                        at += 1
                    } else {
                        isAlive = false
                    }
                case .assertion(let assertion):
                    isAlive = holds(assertion, position)
                    at += 1
                }
            }
            guard !isAlive else { continue }
            guard let choice = nextChoice(base) else { return nil }
            (at, position) = choice
        }
    }

    /// Runs a lookahead or an atomic group as a search of its own. Its memory must not contain what led to a match.
    private mutating func nested(_ program: Int, at position: Int) -> Int? {
        let (remembered, before) = (remembers, failures)
        (remembers, failures) = (false, [])
        defer { (remembers, failures) = (remembered, before) }
        return run(program, at: position)
    }

    /// Clears the memory after a match, because what led to a match is not a failure.
    private mutating func forgetSuccess() { failures.removeAll() }

    private mutating func nextChoice(_ base: Int) -> (Int, Int)? {
        guard stack.count > base else { return nil }
        let top = stack.count - 1
        let choice = stack[top]
        if choice.position == choice.limit {
            stack.removeLast()
        } else if choice.isLazyRun {
            stack[top].position += scalarLength(text[choice.position])
        } else {
            stack[top].position -= scalar(before: choice.position).length
        }
        return (choice.instruction, choice.position)
    }

    /// Returns the position after a run and leaves the shorter (or longer) runs as choices; nil if the run is too short.
    private mutating func enterRun(_ set: Int, _ start: Int, _ least: Int, _ most: Int, _ mode: RepeatMode, next: Int, isRemembered: Bool)
        -> Int?
    {
        var end = start
        var minimum = start
        if most == .max, least <= 1 {
            end = runEnd(set, start)
            if least == 1 {
                guard end > start else { return nil }
                minimum = start + scalarLength(text[start])
            }
        } else {
            var count = 0
            while count < most, let after = step(set, end) {
                end = after
                count += 1
                if count == least { minimum = end }
            }
            guard count >= least else { return nil }
        }
        if mode == .possessive { return end }
        if isRemembered {
            let failed = failedRuns[next - 1]
            if failed.upperBound == end + 1, failed.lowerBound <= minimum { return nil }
            enteredRuns.append((next - 1, minimum..<end + 1))
        }
        guard end > minimum else { return end }
        switch mode {
        case .possessive: return end
        case .greedy:
            stack.append(Choice(instruction: next, position: end - scalar(before: end).length, limit: minimum, isLazyRun: false))
            return end
        case .lazy:
            stack.append(Choice(instruction: next, position: minimum + scalarLength(text[minimum]), limit: end, isLazyRun: true))
            return minimum
        }
    }

    private mutating func runEnd(_ set: Int, _ start: Int) -> Int {
        let known = runs[set]
        if known.lowerBound <= start, start < known.upperBound { return known.upperBound }
        var end = start
        let members = pattern.sets[set]
        while end < range.upperBound {
            let (value, length) = scalar(at: end)
            guard members.contains(value) else { break }
            end += length
        }
        if end > start { runs[set] = start..<end }
        return end
    }

    private func step(_ set: Int, _ position: Int) -> Int? {
        guard position < range.upperBound else { return nil }
        let (value, length) = scalar(at: position)
        return pattern.sets[set].contains(value) ? position + length : nil
    }

    private func scalar(at position: Int) -> (value: UInt32, length: Int) {
        let b0 = UInt32(text[position])
        if b0 < 0x80 { return (b0, 1) }
        func tail(_ i: Int) -> UInt32 { UInt32(text[position + i] & 0x3f) }
        if b0 < 0xe0 { return ((b0 & 0x1f) << 6 | tail(1), 2) }
        if b0 < 0xf0 { return ((b0 & 0x0f) << 12 | tail(1) << 6 | tail(2), 3) }
        return ((b0 & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4)
    }

    private func scalar(before position: Int) -> (value: UInt32, length: Int) {
        var start = position - 1
        while start > range.lowerBound, text[start] & 0xc0 == 0x80 { start -= 1 }
        return scalar(at: start)
    }

    private func holds(_ assertion: PatternAssertion, _ position: Int) -> Bool {
        func isWord(_ value: UInt32) -> Bool { ScalarSet.words.contains(value) }
        switch assertion {
        case .textStart: return position == range.lowerBound
        case .textEnd: return position == range.upperBound
        case .lineStart: return position == range.lowerBound || text[position - 1] == 0x0a && position < range.upperBound
        case .lineEnd: return position == range.upperBound || text[position] == 0x0a
        case .lastLineEnd: return position == range.upperBound || position == range.upperBound - 1 && text[position] == 0x0a
        case .wordBoundary, .noWordBoundary:
            let before = position > range.lowerBound && isWord(scalar(before: position).value)
            let after = position < range.upperBound && isWord(scalar(at: position).value)
            return (before != after) == (assertion == .wordBoundary)
        }
    }
}
