import Coordinator
import Core
import Foundation
import Synchronization

/// A run that is being led here, as its coordinator's events tell it; asked by displays, the dashboard and the status file.
final class RunMonitor: Sendable {
    private struct State {
        var progress: RunProgress
        var history = RunHistory()
    }

    private let state: Mutex<State>

    /// - Parameter past: what is known of the run from before.
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

    /// The run as it stands now.
    var status: RunStatus { RunStatus(progress, at: Date().timeIntervalSince1970) }
}

/// What the events of a run told, read from its directory.
package struct RunRecord: Sendable {
    package var progress: RunProgress
    package var history = RunHistory()
    /// Lines that can't be read, as after a crash.
    package var unread = 0

    package init(_ progress: RunProgress) { self.progress = progress }

    package mutating func take(_ news: CoordinatorProgress) {
        progress.take(news)
        history.take(news, progress)
    }

    /// Takes all that `metrics.jsonl` holds; nothing where there is none.
    package mutating func read(_ directory: RunDirectory) {
        guard let data = FileManager.default.contents(atPath: directory.metrics) else { return }
        let decoder = JSONDecoder()
        for line in data.split(separator: UInt8(ascii: "\n")) {
            // A line that a crash cut short is none.
            if let event = try? decoder.decode(CoordinatorProgress.self, from: Data(line)) { take(event) } else { unread += 1 }
        }
    }
}
