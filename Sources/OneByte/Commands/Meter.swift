/// Progress of a long operation, shown only on a terminal.
struct Meter {
    private let title: String
    private let clock = ContinuousClock()
    private let began: ContinuousClock.Instant
    private var lastShown: ContinuousClock.Instant?

    init(_ title: String) {
        self.title = title
        began = clock.now
    }

    /// - Returns: true, so that a progress closure can end with this call and continue the work.
    @discardableResult
    mutating func show(_ done: Int, of total: Int) -> Bool {
        let now = clock.now
        let isDue = lastShown.map { now - $0 > .milliseconds(200) } ?? (now - began > .milliseconds(500))
        guard standardError.isLive, isDue, total > 0, done > 0 else { return true }
        lastShown = now
        let left = (now - began) / .seconds(1) * Double(total - done) / Double(done)
        standardError.writeRaw("\r\u{1B}[K\(title) \(100 * done / total) %, \(duration(left)) left")
        return true
    }

    mutating func end() {
        if lastShown != nil { standardError.writeRaw("\r\u{1B}[K") }
        lastShown = nil
    }
}
