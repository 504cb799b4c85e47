/// Progress of a long operation: shown on a terminal or, with `tells`, written as lines for the process that started this one.
struct Meter {
    private let title: String
    private let clock = ContinuousClock()
    private let began: ContinuousClock.Instant
    private var lastShown: ContinuousClock.Instant?
    private let tells: Bool

    /// - Parameter tells: whether to write a line to standard output now and then, for a cluster that waits for this process.
    init(_ title: String, tells: Bool = false) {
        self.title = title
        self.tells = tells && ParentWatch.parent != nil
        began = clock.now
    }

    /// - Returns: true, so that a progress closure can end with this call and continue the work.
    @discardableResult
    mutating func show(_ done: Int, of total: Int) -> Bool {
        let now = clock.now
        let isDue = lastShown.map { now - $0 > .milliseconds(200) } ?? (now - began > .milliseconds(500))
        guard standardError.isLive || tells, isDue, total > 0, done > 0 else { return true }
        lastShown = now
        let left = (now - began) / .seconds(1) * Double(total - done) / Double(done)
        guard !tells else {
            standardOutput.write("\(title): \(100 * done / total) %, \(duration(left)) left")
            return true
        }
        standardError.writeRaw("\r\u{1B}[K\(title) \(100 * done / total) %, \(duration(left)) left")
        return true
    }

    mutating func end() {
        if lastShown != nil, !tells { standardError.writeRaw("\r\u{1B}[K") }
        lastShown = nil
    }
}
