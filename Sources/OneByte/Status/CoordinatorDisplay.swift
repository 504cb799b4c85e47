import Coordinator
import Core
import Foundation
import Logging

/// The coordinator's display: events for programs, the live view on a terminal, else log lines.
struct CoordinatorDisplay: Sendable {
    enum News: Sendable {
        case progress(CoordinatorProgress)
        /// Time passed without an event.
        case tick
    }

    let writesEvents: Bool
    let announcer: JoinAnnouncer
    let monitor: RunMonitor
    let directory: RunDirectory
    /// The effective settings; nil if the run is resumed by its ledger alone.
    let settings: String?
    static let drawInterval = Duration.milliseconds(250)
    /// Time between two writes of the status file.
    private static let statusInterval = Duration.seconds(1)

    func show(_ stream: AsyncStream<News>) async {
        let logger = Logger(label: "coordinator")
        var view = LiveView(standardError)
        var saidNotes: Set<String> = []
        var lastWritten: ContinuousClock.Instant?
        for await item in stream {
            switch item {
            case .progress(let news):
                // From here on the directory exists and is locked. A local cluster has already written its own settings.
                if case .listening = news.event, let settings, ParentWatch.parent == nil {
                    do {
                        try directory.write(settings, to: directory.configuration)
                    } catch {
                        logger.warning("\(describe(error)); the run goes on, and its settings are in the ledger alone")
                    }
                }
                if writesEvents, let line = news.jsonLine { standardOutput.writeContents(String(decoding: line, as: UTF8.self)) }
                if !standardError.isLive {
                    log(news.event, to: logger)
                } else if let text = text(news.event) {
                    view.note(text)
                }
            case .tick:
                // Before the coordinator listens there is nothing to draw.
                guard monitor.isListening else { continue }
                let isDue = lastWritten.map { $0.duration(to: .now) >= Self.statusInterval } ?? true
                guard isDue || standardError.isLive else { continue }
                let status = monitor.status
                if isDue {
                    lastWritten = .now
                    write(status)
                    if !standardError.isLive { sayMarks(of: status, &saidNotes, to: logger) }
                }
                if standardError.isLive { view.redraw(status) }
            }
        }
        guard monitor.isListening else { return }
        write(monitor.status)
        if standardError.isLive { view.end(monitor.progress, at: Date().timeIntervalSince1970) }
    }

    /// Writes the status file for `onebyte status` and `onebyte top`. If that fails, they use the events, and training continues.
    private func write(_ status: RunStatus) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if let bytes = try? encoder.encode(status) { try? bytes.write(to: URL(filePath: directory.status), options: .atomic) }
    }

    /// Logs once what is wrong with a worker.
    private func sayMarks(of status: RunStatus, _ said: inout Set<String>, to logger: Logger) {
        guard said.count < 4096 else { return }
        for note in status.markNotes where note.mark != .silent && said.insert(note.key).inserted { logger.warning("\(note.text)") }
    }

    /// Returns a peer's name in a form that can't be taken for a line of this program.
    private static func named(_ name: String) -> String { printable(name, onOneLine: true) }

    /// Returns the text of an event that gets a line of its own above the live view; nil for other events.
    private func text(_ event: CoordinatorProgress.Event) -> String? {
        switch event {
        case .reading(let reading): "reading the ledger: \(reading.bytes * 100 / max(reading.of, 1)) %"
        case .listening(let listening): announcer.announce(listening)
        case .joined(let joined): "\(Self.named(joined.name)) joined as \(joined.machine) at round \(joined.round)"
        case .left(let left): "\(Self.named(left.name)) left at round \(left.round): \(left.reason)"
        case .refused(let worker): "\(Self.named(worker.name)) was turned away: \(worker.reason)" + worker.details.map { "\n  \($0)" }.joined()
        case .digests(let digests) where digests.digest == nil: "at round \(digests.round) the digests differ: \(digests.groups)"
        case .connection(let text), .warning(let text): text
        case .finished(let finished):
            "\(finished.finish.outcome.rawValue): \(finished.finish.message)" + (finished.chain.map { "\n  ledger's chain \($0)" } ?? "")
                + (finished.signer.map { ", signed by \($0)" } ?? "")
        default: nil
        }
    }

    private func log(_ event: CoordinatorProgress.Event, to logger: Logger) {
        switch event {
        case .round(let round):
            logger.info(
                "round committed",
                metadata: [
                    "round": "\(round.round)", "machines": "\(round.machines)", "samples": "\(round.samples)",
                    "magnitude": "\(fixed(round.meanMagnitude, 1))", "S": "\(round.scaleExponent)", "lr": "\(round.learningRate)",
                    "seconds": "\(fixed(round.seconds, 3))",
                ])
        case .evaluation(let heldOut):
            logger.info("evaluation data measured", metadata: ["round": "\(heldOut.round)", "result": "\(HeldOutScore(heldOut).brief)"])
        case .trial(let trial):
            logger.info(
                trial.isChosen ? "learning rate chosen" : "learning rate tried",
                metadata: ["lr": "\(trial.learningRate)", "validation-loss": "\(trial.loss.map { fixed($0, 4) } ?? "not finite")"])
        case .digests(let digests) where digests.digest != nil:
            logger.info("digests agree", metadata: ["round": "\(digests.round)", "digest": "\(digests.digest?.short ?? "")"])
        case .worker(let worker):
            logger.debug("worker", metadata: ["name": "\(worker.name)", "phase": "\(worker.phase)", "progress": "\(worker.progress ?? 0)"])
        case .waiting(let waiting):
            logger.info("waiting for machines", metadata: ["there": "\(waiting.machines)", "needed": "\(waiting.of)"])
        case .greeted(let greeting): logger.debug("worker called", metadata: ["name": "\(greeting.name)"])
        case .hold(let held):
            logger.debug("waiting", metadata: ["for": "\(held.reason.rawValue)", "workers": "\(held.workers.joined(separator: ", "))"])
        case .late(let late): logger.debug("late bytes", metadata: ["machine": "\(late.machine.rawValue)", "samples": "\(late.samples)"])
        case .warning, .refused, .digests, .connection: logger.warning("\(text(event) ?? "")")
        case .reading, .listening, .joined, .left, .finished: logger.info("\(text(event) ?? "")")
        }
    }
}
