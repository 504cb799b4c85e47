import Core
import Glibc
import Synchronization
import UnixSignals

/// Why a process was asked to stop.
package enum StopSignal: Error, Hashable, Sendable {
    /// Ctrl-C.
    case interrupt
    case terminate
}

/// Runs `body`. The first SIGINT, SIGTERM or SIGHUP cancels its task, so that it can stop in order. A second one ends the process at once;
/// nothing committed is lost, since every process may be killed at any time.
///
/// - Parameter onStop: called at the first signal, before the cancellation.
/// - Returns: the result of `body`, and the signal that stopped it, if any.
/// - Throws: the errors of `body`. If it was stopped by a signal and ends with an error or a cancellation, the `StopSignal`.
func stoppingOnSignals<Result: Sendable>(
    onStop: @escaping @Sendable () -> Void, _ body: @escaping @Sendable () async throws -> Result
) async throws -> (result: Result, stop: StopSignal?) {
    let trapped: [UnixSignal] = [.sigint, .sigterm] + (ignoresHangup ? [] : [.sighup])
    let signals = await UnixSignalsSequence(trapping: trapped)
    let (stops, post) = AsyncStream.makeStream(of: StopSignal.self)
    // This task is outside the group, because the first signal cancels the group and the second must still be seen.
    let watch = Task.detached {
        var first: StopSignal?
        for await signal in signals {
            if let first { _exit(ExitStatus(first).rawValue) }
            let stop: StopSignal = signal == .sigint ? .interrupt : .terminate
            first = stop
            onStop()
            post.yield(stop)
        }
    }
    defer {
        watch.cancel()
        // Nobody listens any more, so signals get their default action again.
        for signal in trapped { Glibc.signal(signal.rawValue, SIG_DFL) }
    }
    return try await withThrowingTaskGroup(of: Outcome<Result>.self) { group in
        defer { group.cancelAll() }
        group.addTask {
            do { return .finished(.success(try await body())) } catch { return .finished(.failure(error)) }
        }
        group.addTask {
            for await stop in stops { return .stopped(stop) }
            return .unwatched
        }
        var stop: StopSignal?
        while let outcome = try await group.next() {
            switch outcome {
            case .finished(.success(let result)): return (result, stop)
            case .finished(.failure(let error)): throw stop ?? error
            case .stopped(let signal):
                stop = signal
                group.cancelAll()
            case .unwatched: continue
            }
        }
        throw CancellationError()
    }
}

/// Runs work that blocks this thread and would leave something behind if a signal ended the process. At the first SIGINT, SIGTERM or SIGHUP
/// `isStopped` becomes true; `body` checks it and ends with an error. A second signal ends the process at once.
///
/// - Throws: the errors of `body`; the `StopSignal` if a signal stopped it.
func stoppable<Result>(_ body: (_ isStopped: @escaping @Sendable () -> Bool) throws -> Result) throws -> Result {
    // This is done before handlers are installed, because a handler must not initialise a global on its first use.
    askedToStop.store(0, ordering: .sequentiallyConsistent)
    let trapped = [SIGINT, SIGTERM] + (ignoresHangup ? [] : [SIGHUP])
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { askedToStop.store($0, ordering: .sequentiallyConsistent) }
    action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND)) | SA_RESTART
    var unblocked = sigset_t()
    sigemptyset(&unblocked)
    var before = trapped.map { _ in sigaction() }
    for (i, signal) in trapped.enumerated() {
        sigaction(signal, &action, &before[i])
        sigaddset(&unblocked, signal)
    }
    // The parent process may have left these signals blocked.
    pthread_sigmask(SIG_UNBLOCK, &unblocked, nil)
    defer { for (i, signal) in trapped.enumerated() { sigaction(signal, &before[i], nil) } }
    do {
        return try body { askedToStop.load(ordering: .relaxed) != 0 }
    } catch {
        switch askedToStop.load(ordering: .sequentiallyConsistent) {
        case 0: throw error
        case SIGINT: throw StopSignal.interrupt
        default: throw StopSignal.terminate
        }
    }
}

/// The signal that arrived, or 0. Storing it is all that a handler may do.
private let askedToStop = Atomic<Int32>(0)

/// Whether SIGHUP is ignored: a process started by `nohup` outlives its terminal.
private var ignoresHangup: Bool {
    var action = sigaction()
    guard sigaction(SIGHUP, nil, &action) == 0 else { return false }
    // Function pointers can't be compared, so their addresses are; SIG_IGN is 1.
    return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
}

private enum Outcome<Result: Sendable>: Sendable {
    case finished(Swift.Result<Result, any Error>)
    case stopped(StopSignal)
    case unwatched
}
