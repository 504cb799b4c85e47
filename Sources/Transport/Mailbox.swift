import Synchronization

/// A queue through which other threads reach the thread that reads it, with a waker that tells it when the queue is no longer empty.
///
/// The queue has no limit of its own. Its senders are threads of this process that wait for answers (one task in hand, one append in hand), and a
/// person's commands.
package final class Mailbox<Letter: Sendable>: Sendable {
    private struct State {
        var letters: [Letter] = []
        var waker: any Waker
    }

    private let state: Mutex<State>
    private let signal: WakeSignal

    package init() {
        let signal = WakeSignal()
        self.signal = signal
        state = Mutex(State(waker: signal))
    }

    /// Sets the waker that letters use from now on. It is used at once if letters wait. The reader does not use `waitAndTakeAll` then.
    package func wake(by waker: any Waker) {
        let isEmpty = state.withLock { state in
            state.waker = waker
            return state.letters.isEmpty
        }
        if !isEmpty { waker.wake() }
    }

    package func post(_ letter: Letter) {
        // Only the first of several letters wakes the reader, because the reader takes them all.
        let waker: (any Waker)? = state.withLock { state in
            state.letters.append(letter)
            return state.letters.count == 1 ? state.waker : nil
        }
        waker?.wake()
    }

    /// Returns all letters so far, in order.
    package func takeAll() -> [Letter] {
        state.withLock { state in
            let taken = state.letters
            state.letters.removeAll(keepingCapacity: true)
            return taken
        }
    }

    /// Whether the mailbox is empty at this moment.
    package var isEmpty: Bool { state.withLock { $0.letters.isEmpty } }

    /// Waits until there is a letter. It is for a thread that waits for nothing else.
    package func waitAndTakeAll() -> [Letter] {
        while true {
            let letters = takeAll()
            if !letters.isEmpty { return letters }
            signal.wait()
        }
    }
}
