import CZeroMQ
import Glibc
import Synchronization

/// How other threads reach a reactor: a queue, and an eventfd that wakes its poll. An eventfd and not an inproc socket,
/// since any thread may write to it.
///
/// The queue has no limit of its own: its senders are threads of this process that wait for answers (one task in hand, one
/// append in hand) and a person's commands.
package final class Mailbox<Letter: Sendable>: Sendable {
    private let letters = Mutex<[Letter]>([])
    let wakeDescriptor: Int32

    package init() throws(TransportError) {
        wakeDescriptor = onebyte_eventfd()
        guard wakeDescriptor >= 0 else {
            throw TransportError(.system, "can't make an eventfd: \(String(cString: strerror(errno)))")
        }
    }

    deinit { close(wakeDescriptor) }

    package func post(_ letter: Letter) {
        letters.withLock { $0.append(letter) }
        var one: UInt64 = 1
        // EAGAIN means that the counter is at its top: the reader is awake anyway.
        while write(wakeDescriptor, &one, 8) < 0 && errno == EINTR {}
    }

    /// All letters so far, in order.
    package func takeAll() -> [Letter] {
        var count: UInt64 = 0
        // First the eventfd, then the queue: a letter that comes in between wakes the reader once too often, never once too little.
        _ = read(wakeDescriptor, &count, 8)
        return letters.withLock { queue in
            let taken = queue
            queue.removeAll(keepingCapacity: true)
            return taken
        }
    }

    /// Whether nothing is in it at this moment.
    package var isEmpty: Bool { letters.withLock { $0.isEmpty } }

    /// Waits until there is something in it; for a thread that has nothing else to poll.
    package func waitAndTakeAll() -> [Letter] {
        while true {
            let letters = takeAll()
            if !letters.isEmpty { return letters }
            var item = pollfd(fd: wakeDescriptor, events: Int16(POLLIN), revents: 0)
            _ = poll(&item, 1, -1)
        }
    }
}
