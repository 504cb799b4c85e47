import CZeroMQ
import Dispatch
import Glibc

/// A thread outside Swift's cooperative pool, whose threads must never wait for a socket, a disk or a long computation. The code that starts a thread
/// must join it.
package struct NamedThread: ~Copyable {
    private let handle: pthread_t
    private let hasEnded = DispatchSemaphore(value: 0)
    private var isJoined = false

    /// - Parameter name: shown by `top -H` and debuggers; the kernel keeps 15 bytes of it.
    package init(_ name: String, _ body: @escaping @Sendable () -> Void) throws(TransportError) {
        var handle = pthread_t()
        let hasEnded = hasEnded
        let box = Unmanaged.passRetained(
            ThreadBody(name: name) {
                body()
                hasEnded.signal()
            })
        let status = pthread_create(
            &handle, nil,
            { argument in
                guard let argument else { return nil }
                let body = Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
                onebyte_name_this_thread(body.name)
                body.run()
                return nil
            }, box.toOpaque())
        guard status == 0 else {
            box.release()
            throw TransportError(.system, "can't start the thread \(name): \(String(cString: strerror(status)))")
        }
        self.handle = handle
    }

    package consuming func join() {
        pthread_join(handle, nil)
        isJoined = true
    }

    /// Waits for the thread for at most `seconds`. A thread that has not ended by then is left alone.
    ///
    /// - Returns: whether it has ended.
    package consuming func join(within seconds: Double) -> Bool {
        let milliseconds = Int(min(max(seconds, 0), 3600) * 1000)
        guard hasEnded.wait(timeout: .now() + .milliseconds(milliseconds)) == .success else { return false }
        join()
        return true
    }

    deinit { if !isJoined { pthread_detach(handle) } }
}

private final class ThreadBody: Sendable {
    let name: String
    let run: @Sendable () -> Void
    init(name: String, run: @escaping @Sendable () -> Void) {
        self.name = name
        self.run = run
    }
}

/// Runs `work` here while `body` runs on its own thread, and waits for both. `work` must make sure that `body` ends.
package func withThread<Value>(
    named name: String, _ body: @escaping @Sendable () -> Void, during work: () throws -> Value
) throws -> Value {
    let thread = try NamedThread(name, body)
    let result = Result { try work() }
    thread.join()
    return try result.get()
}

/// Runs `work` here while `body` runs on its own thread. Waits for `work`, and then for `body` as long as `patience` allows.
///
/// - Parameter patience: returns seconds; nil: until `body` ends.
/// - Returns: the result of `work`, and whether `body` has ended.
package func withThread<Value>(
    named name: String, _ body: @escaping @Sendable () -> Void, during work: () throws -> Value, patience: () -> Double?
) throws -> (Value, hasEnded: Bool) {
    let thread = try NamedThread(name, body)
    let result = Result { try work() }
    guard let seconds = patience() else {
        thread.join()
        return (try result.get(), true)
    }
    let hasEnded = thread.join(within: seconds)
    return (try result.get(), hasEnded)
}

/// Runs `body` on its own thread and waits for it without holding a thread of the pool.
package func onThread<Value: Sendable>(
    named name: String, _ body: @escaping @Sendable () throws -> Value
) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        do {
            _ = try NamedThread(name) { continuation.resume(with: Result(catching: body)) }
        } catch {
            continuation.resume(throwing: error)
        }
    }
}
