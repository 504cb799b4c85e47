import Synchronization

/// Holds back a thread that hands another one more bytes than it takes. The thread may go on when half of them are taken.
package final class ByteGate: Sendable {
    private struct State {
        var bytes = 0
        var isOpen = false
    }

    private let limit: Int
    private let state = Mutex(State())
    private let signal = WakeSignal()

    package init(limit: Int) { self.limit = limit }

    /// Counts bytes that were handed over, and waits if they are too many. Only one thread may call it.
    package func pass(_ bytes: Int) {
        var mustWait = state.withLock { state in
            state.bytes += bytes
            return state.bytes > limit && !state.isOpen
        }
        while mustWait {
            signal.wait()
            mustWait = state.withLock { $0.bytes > limit / 2 && !$0.isOpen }
        }
    }

    /// Counts bytes that were taken.
    package func take(_ bytes: Int) {
        let isLow = state.withLock { state in
            state.bytes -= bytes
            return state.bytes <= limit / 2
        }
        if isLow { signal.wake() }
    }

    /// Lets everybody pass from now on.
    package func open() {
        state.withLock { $0.isOpen = true }
        signal.wake()
    }
}
