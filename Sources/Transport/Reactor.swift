import Core

/// An event for a reactor's owner. The owner gets them one at a time, on the reactor's thread.
package enum ReactorEvent<Letter: Sendable>: Sendable {
    case link(LinkEvent)
    /// A message from another thread of this process.
    case letter(Letter)
    case tick
}

/// Whether the reactor's loop goes on.
package enum LoopControl: Sendable { case `continue`, finish }

/// Runs the loop of the thread that owns a process's link. The loop waits for a frame, a letter or the next tick. It computes nothing itself and
/// never waits for anything else, so a peer is answered however busy the process is.
///
/// It returns when `handle` returns `finish`, after the frames that were sent have been handed to the connections, or after
/// `LinkLimits.lingerMilliseconds`.
///
/// - Parameter dueAt: returns the time of a tick that is needed before the ordinary one; nil: none is.
package func runReactor<Letter: Sendable>(
    _ link: any Link, mailbox: Mailbox<Letter>, clock: ProcessClock, tickSeconds: Double = ProtocolLimits.tickSeconds,
    dueAt: () -> Timestamp? = { nil }, _ handle: (ReactorEvent<Letter>) throws -> LoopControl
) throws {
    mailbox.wake(by: link.waker)
    var nextTick = clock.now
    while true {
        if let due = dueAt(), due < nextTick { nextTick = due }
        try link.wait(seconds: nextTick.seconds(since: clock.now))
        for letter in mailbox.takeAll() where try handle(.letter(letter)) == .finish {
            return try flush(link, clock)
        }
        for event in try link.service() where try handle(.link(event)) == .finish {
            return try flush(link, clock)
        }
        if clock.now >= nextTick {
            if try handle(.tick) == .finish { return try flush(link, clock) }
            nextTick = clock.now.advanced(bySeconds: tickSeconds)
        }
    }
}

private func flush(_ link: any Link, _ clock: ProcessClock) throws {
    let end = clock.now.advanced(bySeconds: Double(LinkLimits.lingerMilliseconds) / 1000)
    while !link.isFlushed, clock.now < end {
        try link.wait(seconds: end.seconds(since: clock.now))
        _ = try link.service()
    }
}
