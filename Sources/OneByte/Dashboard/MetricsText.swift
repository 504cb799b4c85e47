import Coordinator
import Core
import Foundation

/// A run's metrics at one moment in Prometheus' text format (version 0.0.4). They are a pure function of the status, so they always agree with page
/// and terminal.
package struct MetricsText {
    package let text: String

    /// - Parameter process: figures of this process; nil leaves them out.
    package init(_ status: RunStatus, process: ProcessFigures? = .current) {
        var writer = Writer()
        for metric in Metric.allCases { metric.write(status, process, to: &writer) }
        text = writer.text
    }

    struct Writer {
        private(set) var text = ""
        private var metric: Metric?

        /// Adds a sample. A metric without any sample is left out, including its heading.
        mutating func add(_ metric: Metric, _ value: Double?, _ labels: KeyValuePairs<String, String> = [:]) {
            guard let value else { return }
            if self.metric != metric {
                text += "# HELP \(metric.name) \(metric.help)\n# TYPE \(metric.name) \(metric.isCounter ? "counter" : "gauge")\n"
                self.metric = metric
            }
            let inner = labels.map { "\($0.key)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
            text += "\(metric.name)\(inner.isEmpty ? "" : "{\(inner)}") \(Self.number(value))\n"
        }

        private static func escaped(_ text: String) -> String {
            printable(text, onOneLine: true).replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        }

        private static func number(_ value: Double) -> String {
            if value.isNaN { return "NaN" }
            if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
            return value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
        }
    }
}

/// Linux's figures of this process.
package struct ProcessFigures: Hashable, Sendable {
    package var residentBytes: Double
    package var cpuSeconds: Double
    package var startSeconds: Double

    package init(residentBytes: Double, cpuSeconds: Double, startSeconds: Double) {
        (self.residentBytes, self.cpuSeconds, self.startSeconds) = (residentBytes, cpuSeconds, startSeconds)
    }

    private static let began = Date().timeIntervalSince1970

    /// Nil if `/proc` can't be read.
    package static var current: ProcessFigures? {
        let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ") ?? []
        guard fields.count > 1, let pages = Double(fields[1]) else { return nil }
        var usage = rusage()
        guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return nil }
        let seconds = Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
        return ProcessFigures(residentBytes: pages * Double(sysconf(Int32(_SC_PAGESIZE))), cpuSeconds: seconds, startSeconds: began)
    }
}

/// Every metric. The page docs/reference/metrics.md is made from this list.
package enum Metric: CaseIterable, Sendable {
    case buildInfo, runInfo, runState, hold
    case rounds, roundsPlanned, samples, samplesPerSecond, secondsLeft
    case trainingLoss, evaluationLoss, evaluationAccuracy, evaluationRound, learningRate
    case wireBytes, wireBytesWhole
    case workers, workerUp, workerMark, workerLoss, workerRate, workerHeard, workerCache, workerBytes
    case digestChecks, digestDisagreements
    case residentBytes, cpuSeconds, startSeconds

    package var name: String { "\(isOfProcess ? "process" : "onebyte")_\(facts.name)" }
    package var help: String { facts.help }
    package var labels: [String] { facts.labels }
    package var isCounter: Bool { name.hasSuffix("_total") }

    private var isOfProcess: Bool { [.residentBytes, .cpuSeconds, .startSeconds].contains(self) }

    private var facts: (name: String, help: String, labels: [String]) {
        switch self {
        case .buildInfo: ("build_info", "1; the program's version and this process's role.", ["version", "role"])
        case .runInfo: ("run_info", "1; the SHA-256 of the run's spec.", ["run"])
        case .runState: ("run_state", "1 for the state that the run is in, 0 for the others.", ["state"])
        case .hold: ("run_waiting", "1 while the run waits for something. The status says what for.", [])
        case .rounds: ("rounds_in_force", "Rounds that count. The number falls when rounds are taken back.", [])
        case .roundsPlanned: ("rounds_planned", "Rounds that the run will have.", [])
        case .samples: ("samples_total", "Bytes in the ledger, one per sample.", [])
        case .samplesPerSecond: ("samples_per_second", "Committed samples per second, smoothed.", [])
        case .secondsLeft: ("left_seconds", "Estimate of the time until the last round.", [])
        case .trainingLoss: ("training_loss", "Training loss, smoothed over all workers.", [])
        case .evaluationLoss: ("evaluation_loss", "Loss on the data that judge the run, at its last measurement.", [])
        case .evaluationAccuracy: ("evaluation_accuracy_ratio", "Accuracy on the data that judge the run, 0 to 1, at its last measurement.", [])
        case .evaluationRound: ("evaluation_round", "Round before which the last measurement was.", [])
        case .learningRate: ("learning_rate", "Learning rate of the last round.", [])
        case .wireBytes:
            ("wire_bytes_total", "Bytes through this coordinator's socket since it started, with their framing.", ["direction", "kind"])
        case .wireBytesWhole: ("run_wire_bytes", "Bytes through the sockets of all coordinators that the run has had.", [])
        case .workers: ("workers", "Present workers, by role.", ["role"])
        case .workerUp:
            ("worker_up", "1 while a worker takes part; 0 if it is silent or was lost; none if it left or was removed.", ["worker", "machine"])
        case .workerMark: ("worker_mark", "1 if a worker has this mark: bad, disagrees, slow or silent.", ["worker", "machine", "mark"])
        case .workerLoss: ("worker_training_loss", "A worker's own training loss, smoothed.", ["worker", "machine"])
        case .workerRate: ("worker_samples_per_second", "Samples per second while a worker computes, smoothed.", ["worker", "machine"])
        case .workerHeard: ("worker_last_heard_seconds", "Seconds since a worker's last message.", ["worker", "machine"])
        case .workerCache: ("worker_cache_ratio", "Part of a worker's prefix cache that is filled, 0 to 1.", ["worker", "machine"])
        case .workerBytes: ("worker_samples_total", "Bytes of a worker in the ledger, one per sample.", ["worker", "machine"])
        case .digestChecks: ("digest_checks_total", "Comparisons at which all machines had the same parameters.", [])
        case .digestDisagreements: ("digest_disagreements_total", "Comparisons at which machines had different parameters.", [])
        case .residentBytes: ("resident_memory_bytes", "Resident memory.", [])
        case .cpuSeconds: ("cpu_seconds_total", "Processor time, in user and kernel mode.", [])
        case .startSeconds: ("start_time_seconds", "Start of the process, in Unix seconds.", [])
        }
    }

    fileprivate func write(_ status: RunStatus, _ process: ProcessFigures?, to writer: inout MetricsText.Writer) {
        switch self {
        case .buildInfo: writer.add(self, 1, ["version": status.version, "role": status.role])
        case .runInfo: if let run = status.run { writer.add(self, 1, ["run": run]) }
        case .runState:
            for state in RunStatus.State.allCases { writer.add(self, state == status.state ? 1 : 0, ["state": state.rawValue]) }
        case .hold: writer.add(self, status.waitingFor != nil && status.state.isLive ? 1 : 0)
        case .rounds: writer.add(self, Double(status.round))
        case .roundsPlanned: writer.add(self, Double(status.rounds))
        case .samples: writer.add(self, Double(status.samples))
        case .samplesPerSecond: writer.add(self, status.samplesPerSecond)
        case .secondsLeft: writer.add(self, status.secondsLeft)
        case .trainingLoss: writer.add(self, status.trainingLoss)
        case .evaluationLoss: writer.add(self, status.latest?.loss)
        case .evaluationAccuracy: writer.add(self, status.latest?.accuracy)
        case .evaluationRound: writer.add(self, status.latest?.round.map(Double.init))
        case .learningRate: writer.add(self, status.learningRate)
        case .digestChecks: writer.add(self, Double(status.digestChecks))
        case .digestDisagreements: writer.add(self, Double(status.digestDisagreements))
        case .wireBytes, .wireBytesWhole: writeWire(status.wire, to: &writer)
        case .workers, .workerUp, .workerMark, .workerLoss, .workerRate, .workerHeard, .workerCache, .workerBytes:
            writeWorkers(status, to: &writer)
        case .residentBytes: writer.add(self, process?.residentBytes)
        case .cpuSeconds: writer.add(self, process?.cpuSeconds)
        case .startSeconds: writer.add(self, process?.startSeconds)
        }
    }

    private func writeWire(_ wire: RunStatus.Wire?, to writer: inout MetricsText.Writer) {
        guard let wire else { return }
        guard self == .wireBytes else {
            writer.add(self, Double(wire.total))
            return
        }
        writer.add(self, Double(wire.contributions), ["direction": "in", "kind": "rounds"])
        writer.add(self, Double(wire.commits), ["direction": "out", "kind": "rounds"])
        writer.add(self, Double(wire.controlIn), ["direction": "in", "kind": "control"])
        writer.add(self, Double(wire.controlOut), ["direction": "out", "kind": "control"])
    }

    private func writeWorkers(_ status: RunStatus, to writer: inout MetricsText.Writer) {
        if self == .workers {
            let present = status.workers.filter(\.isPresent)
            writer.add(self, Double(present.count(where: \.trains)), ["role": "trains"])
            writer.add(self, Double(present.count(where: \.evaluates)), ["role": "evaluates"])
            return
        }
        // Two workers of one name that were never admitted would be the same series twice, which scrapers reject.
        for worker in status.workers {
            guard let machine = worker.machine.map({ "\($0)" }) else { continue }
            switch self {
            case .workerUp:
                // Nobody misses a worker that left, or that a person removed.
                guard worker.isPresent || worker.isMissed else { continue }
                let isUp = worker.isPresent && !worker.marks.contains(.silent) && status.state.isLive
                writer.add(self, isUp ? 1 : 0, ["worker": worker.name, "machine": machine])
            case .workerMark:
                for mark in RunStatus.Mark.allCases {
                    writer.add(
                        self, worker.marks.contains(mark) ? 1 : 0, ["worker": worker.name, "machine": machine, "mark": mark.rawValue])
                }
            case .workerLoss: writer.add(self, worker.trainingLoss, ["worker": worker.name, "machine": machine])
            case .workerRate: writer.add(self, worker.samplesPerSecond, ["worker": worker.name, "machine": machine])
            case .workerHeard: writer.add(self, worker.heard, ["worker": worker.name, "machine": machine])
            case .workerCache: writer.add(self, worker.cache, ["worker": worker.name, "machine": machine])
            case .workerBytes: writer.add(self, worker.trains ? Double(worker.bytes) : nil, ["worker": worker.name, "machine": machine])
            default: return
            }
        }
    }
}
