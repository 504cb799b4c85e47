import CZeroMQ
import Core
import Glibc

/// What a reactor's owner gets to see, one at a time, on the reactor's thread.
package enum ReactorEvent<Letter: Sendable>: Sendable {
    case link(LinkEvent)
    /// From another thread of this process.
    case letter(Letter)
    case tick
}

package enum ReactorStep { case goOn, finish }

/// The loop of the one thread that owns a process's sockets. Sleeps in `zmq_poll` until a socket, a letter or the next tick;
/// computes nothing itself and never waits for anything else, so a peer is answered however busy the process is.
///
/// Returns when `handle` says `finish`, after what it sent has been handed to ZeroMQ (or `LinkLimits.lingerMilliseconds` have
/// passed).
package func runReactor<L: Link & ~Copyable, Letter: Sendable>(
    _ link: inout L, mailbox: Mailbox<Letter>, clock: ProcessClock, tickSeconds: Double = ProtocolLimits.tickSeconds,
    _ handle: (ReactorEvent<Letter>, inout L) throws -> ReactorStep
) throws {
    var nextTick = clock.now
    while true {
        try poll(link, wake: mailbox.wakeDescriptor, until: nextTick, clock)
        for letter in mailbox.takeAll() where try handle(.letter(letter), &link) == .finish {
            return try flush(&link, clock)
        }
        for event in try link.service() where try handle(.link(event), &link) == .finish {
            return try flush(&link, clock)
        }
        if clock.now >= nextTick {
            if try handle(.tick, &link) == .finish { return try flush(&link, clock) }
            nextTick = clock.now.advanced(bySeconds: tickSeconds)
        }
    }
}

private func poll<L: Link & ~Copyable>(
    _ link: borrowing L, wake: Int32?, until: Timestamp, _ clock: ProcessClock
) throws(TransportError) {
    var items = link.pollItems()
    if let wake { items.append(zmq_pollitem_t(socket: nil, fd: wake, events: Int16(ZMQ_POLLIN), revents: 0)) }
    var milliseconds = (until.seconds(since: clock.now) * 1000).rounded(.up)
    if let retry = link.retryAfter { milliseconds = min(milliseconds, Double(retry)) }
    // EINTR: a signal; whoever handles it posts a letter.
    if zmq_poll(&items, Int32(items.count), Int(milliseconds)) < 0 && zmq_errno() != EINTR {
        throw .lastCall("can't wait for the sockets")
    }
}

private func flush<L: Link & ~Copyable>(_ link: inout L, _ clock: ProcessClock) throws {
    let end = clock.now.advanced(bySeconds: Double(LinkLimits.lingerMilliseconds) / 1000)
    while !link.isFlushed, clock.now < end {
        try poll(link, wake: nil, until: end, clock)
        _ = try link.service()
    }
}
