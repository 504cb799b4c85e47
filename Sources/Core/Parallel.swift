import Dispatch
import Synchronization

/// Runs `body` once for each chunk of `0 ..< count`, on up to `threads` threads. A thread that has finished a chunk takes the next one. A fixed share
/// for each thread would be slower, because the speed of a machine's cores differs from one moment to the next.
package func forEachChunk(of count: Int, size: Int, threads: Int, _ body: @Sendable (Range<Int>) -> Void) {
    precondition(size > 0)
    let chunks = (count + size - 1) / size
    let workers = min(max(threads, 1), chunks)
    guard workers > 1 else {
        for chunk in 0..<chunks { body(chunk * size..<min(count, (chunk + 1) * size)) }
        return
    }
    let next = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: workers) { _ in
        while true {
            let chunk = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard chunk < chunks else { return }
            body(chunk * size..<min(count, (chunk + 1) * size))
        }
    }
}
