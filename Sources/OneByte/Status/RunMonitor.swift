import Coordinator
import Core
import Foundation
import Synchronization

/// The state of a run whose coordinator runs in this process, built from its events. Displays, the dashboard and the status file read it.
final class RunMonitor: Sendable {
    private struct State {
        var progress: RunProgress
        var history = RunHistory()
    }

    private let state: Mutex<State>

    /// - Parameter past: progress of the run before this process.
    init(_ past: RunRecord) {
        state = Mutex(State(progress: past.progress, history: past.history))
    }

    func take(_ news: CoordinatorProgress) {
        state.withLock { state in
            state.progress.take(news)
            state.history.take(news, state.progress)
        }
    }

    var progress: RunProgress { state.withLock { $0.progress } }
    var history: RunHistory { state.withLock { $0.history } }

    /// The present status of the run.
    var status: RunStatus { RunStatus(progress, at: Date().timeIntervalSince1970) }
}

/// The events of a run, read from its directory.
package struct RunRecord: Sendable {
    package var progress: RunProgress
    package var history = RunHistory()
    /// Number of lines that can't be read, as after a crash.
    package var unread = 0

    package init(_ progress: RunProgress) { self.progress = progress }

    package mutating func take(_ news: CoordinatorProgress) {
        progress.take(news)
        history.take(news, progress)
    }

    /// Takes all events of `metrics.jsonl`, if it exists.
    package mutating func read(_ directory: RunDirectory) {
        guard let data = FileManager.default.contents(atPath: directory.metrics) else { return }
        let decoder = JSONDecoder()
        for line in data.split(separator: UInt8(ascii: "\n")) {
            // Skip a line that a crash cut short.
            if let event = try? decoder.decode(CoordinatorProgress.self, from: Data(line)) { take(event) } else { unread += 1 }
        }
    }
}
