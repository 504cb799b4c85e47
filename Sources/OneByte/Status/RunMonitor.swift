import Coordinator
import Core
import Foundation
import Synchronization

/// The state of a run whose coordinator runs in this process, built from its events. Displays, the dashboard and the status file read it.
final class RunMonitor: Sendable {
    private struct State {
        var record: RunRecord
        var isListening = false
    }

    private let state: Mutex<State>

    /// - Parameter past: what is known of the run from earlier processes.
    init(_ past: RunRecord) { state = Mutex(State(record: past)) }

    func take(_ news: CoordinatorProgress) {
        state.withLock { state in
            state.record.take(news)
            if case .listening = news.event { state.isListening = true }
        }
    }

    /// Whether this process's coordinator has begun to listen. What earlier processes did is not asked.
    var isListening: Bool { state.withLock { $0.isListening } }
    var progress: RunProgress { state.withLock { $0.record.progress } }
    var history: RunHistory { state.withLock { $0.record.history } }

    /// The present status of the run.
    var status: RunStatus { RunStatus(progress, at: Date().timeIntervalSince1970) }
}

/// The events of a run, read from its directory.
package struct RunRecord: Sendable {
    package var progress: RunProgress
    package var history = RunHistory()
    /// Number of lines that can't be read, as after a crash.
    package var unread = 0
    /// Whether there is no file of events although the ledger holds rounds.
    package var isMissing = false

    package init(_ progress: RunProgress) { self.progress = progress }

    /// Reads what a directory holds about a run with this spec.
    package init(of spec: RunSpec, in directory: RunDirectory, measures: MeasuredData = .unknown) {
        self.init(RunProgress(rounds: spec.rounds, isScored: spec.task.objective == .command, measures: measures, privacy: spec.privacyOfRounds))
        read(directory)
    }

    /// What a user should know about the file of events; nil if it was read whole.
    package func remark(_ directory: RunDirectory) -> String? {
        if isMissing { return "there is no \(directory.metrics); what it told of is left out" }
        guard unread > 0 else { return nil }
        let (lines, they) = unread == 1 ? ("a line", "it") : ("\(grouped(unread)) lines", "they")
        return "\(lines) of \(directory.metrics) can't be read, as after a crash; what \(they) told of is left out"
    }

    package mutating func take(_ news: CoordinatorProgress) {
        progress.take(news)
        history.take(news, progress)
    }

    /// Takes all events of `metrics.jsonl`, if it exists.
    package mutating func read(_ directory: RunDirectory) {
        guard let data = FileManager.default.contents(atPath: directory.metrics) else {
            isMissing = (try? LedgerArchive(directory.ledger).history.nextRound) ?? 0 > 0
            return
        }
        let decoder = JSONDecoder()
        for line in data.split(separator: UInt8(ascii: "\n")) {
            // Skip a line that a crash cut short.
            if let event = try? decoder.decode(CoordinatorProgress.self, from: Data(line)) { take(event) } else { unread += 1 }
        }
    }
}
