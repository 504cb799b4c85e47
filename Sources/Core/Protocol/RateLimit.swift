/// Lets a number of events through each second and counts the rest: a peer that sends nonsense must not fill a disk with our complaints.
package struct RateLimit: Sendable {
    /// For warnings of coordinators and relays.
    package static let complaintsPerSecond = 20

    private let perSecond: Int
    private var window: Timestamp
    private var passed = 0
    private var heldBack = 0

    package init(perSecond: Int = complaintsPerSecond, at now: Timestamp) {
        self.perSecond = perSecond
        window = now
    }

    /// Returns whether this event passes, and how many were held back in the second that has just ended.
    package mutating func admit(at now: Timestamp) -> (passes: Bool, heldBack: Int) {
        var ended = 0
        if now.seconds(since: window) >= 1 {
            window = now
            passed = 0
            (ended, heldBack) = (heldBack, 0)
        }
        guard passed < perSecond else {
            heldBack += 1
            return (false, ended)
        }
        passed += 1
        return (true, ended)
    }
}
