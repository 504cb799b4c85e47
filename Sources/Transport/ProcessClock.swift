import Core
import Glibc

/// The clock of a process: the monotonic clock, set once by the wall clock.
package struct ProcessClock: Sendable {
    private let offset: UInt64

    package init() {
        offset = Self.nanoseconds(CLOCK_REALTIME) &- Self.nanoseconds(CLOCK_MONOTONIC)
    }

    package var now: Timestamp { Timestamp(nanoseconds: Self.nanoseconds(CLOCK_MONOTONIC) &+ offset) }

    private static func nanoseconds(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        // A clock that was never set may show a time before 1970.
        return UInt64(max(time.tv_sec, 0)) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
