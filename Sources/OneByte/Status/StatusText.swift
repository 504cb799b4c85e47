import Core

/// A run's status as text for a terminal: the live view, `onebyte status` and `onebyte top`.
package enum StatusText {
    /// Returns the lines above the table.
    package static func header(_ status: RunStatus, width: Int, hasBar: Bool = true) -> [String] {
        let count = "round \(grouped(status.round))/\(grouped(status.rounds))"
        var lines = [hasBar ? bar(status, count, width: width) : TextTable.cut("  \(count)", to: width)]
        var parts: [String] = []
        if let loss = status.trainingLoss {
            parts.append(status.isScored ? "training score \(fixed(-loss, 4))" : "training loss \(fixed(loss, 4))")
        }
        if let rate = status.samplesPerSecond, status.state.isLive { parts.append("\(RunStatus.rate(rate)) samples/s") }
        if let left = status.secondsLeft { parts.append("\(duration(left)) left") }
        if let rate = status.learningRate { parts.append("learning rate \(significant(rate))") }
        if let privacy = status.privacy {
            parts.append(
                "private: ε \(fixed(privacy.epsilon, 2)) of \(significant(privacy.budget)) at δ \(significant(privacy.delta)), of the ledger's bytes")
        }
        lines += TextTable.flow(parts, width: width)
        if let latest = status.latest {
            let before = status.before.flatMap { $0.round != latest.round ? "(before: \($0.brief))" : nil } ?? ""
            lines += TextTable.flow(["\(status.evaluationName) at round \(latest.round ?? 0): \(latest.brief)", before], width: width)
        }
        if let bytes = status.wire?.perSample {
            lines += TextTable.flow(["on the wire: 1 byte a sample, \(fixed(bytes, 2)) with all that is around it"], width: width)
        }
        if let digest = status.digest, let round = status.digestRound {
            lines += TextTable.flow(["all machines share \(digest.prefix(12)) at round \(grouped(round))"], width: width)
        }
        return lines
    }

    private static func bar(_ status: RunStatus, _ count: String, width: Int) -> String {
        let room = min(width - count.count - 3, 50)
        guard room >= 10 else { return TextTable.cut("  \(count)", to: width) }
        // The numbers may come from another host.
        let part = status.rounds > 0 ? Double(status.round) / Double(status.rounds) : 0
        let full = Int(Double(room) * min(max(part, 0), 1))
        return "  " + String(repeating: "━", count: full) + String(repeating: "─", count: room - full) + " " + count
    }

    private static let columns: [TextTable.Column] = [
        .init("worker", shrinksTo: 8), .init("#", .right, rank: 5), .init("state"), .init("samples/s", .right, rank: 1),
        .init("loss", .right), .init("heard", .right, rank: 4), .init("cache", .right, rank: 3), .init("bytes", .right, rank: 6),
        .init("share", .right, rank: 2),
    ]

    /// - Parameter rowsMax: largest number of workers' rows. If not all fit, workers with marks come first, and a last line counts the others.
    package static func table(_ status: RunStatus, width: Int, rowsMax: Int = .max) -> [String] {
        guard !status.workers.isEmpty else { return [] }
        var shown = status.workers
        var hidden = 0
        if shown.count > max(1, rowsMax) {
            let order = shown.indices.sorted { (rank(shown[$0]), $0) < (rank(shown[$1]), $1) }.prefix(max(1, rowsMax - 1))
            hidden = shown.count - order.count
            shown = order.sorted().map { shown[$0] }
        }
        let lines = TextTable.lines(columns, shown.map(row), width: width)
        return hidden > 0 ? lines + [TextTable.cut("  … and \(grouped(hidden)) more", to: width)] : lines
    }

    private static func rank(_ worker: RunStatus.Worker) -> Int {
        if !worker.marks.isEmpty { return 0 }
        return worker.isPresent ? 1 : 2
    }

    private static func row(_ worker: RunStatus.Worker) -> [String] {
        let progress = worker.progress.flatMap { $0 > 0 && $0 < 1 ? " \(part($0, worker.secondsLeft))" : nil } ?? ""
        let words = worker.marks.filter { $0 != .silent }.map { $0 == .disagrees ? "left out" : $0.rawValue }
        let state = ([worker.state + progress] + words).joined(separator: ", ")
        return [
            printable(worker.name, onOneLine: true), worker.machine.map { "\($0)" } ?? "", state,
            worker.samplesPerSecond.map { RunStatus.rate($0) } ?? "", worker.trainingLoss.map { fixed($0, 3) } ?? "",
            worker.heard.map(heard) ?? "",
            worker.cache.map { $0 < 1 ? part($0, worker.cacheSecondsLeft) : "full" } ?? "",
            worker.trains ? grouped(worker.bytes) : "",
            worker.trains ? worker.share.map { "\(whole($0 * 100)) %" } ?? "" : "",
        ]
    }

    private static func heard(_ seconds: Double) -> String { seconds < 60 ? "\(whole(seconds)) s" : duration(seconds) }

    /// Formats progress, such as "70 %, 0:12 left".
    static func part(_ part: Double, _ left: Double?) -> String { "\(whole(part * 100)) %" + (left.map { ", \(duration($0)) left" } ?? "") }

    /// Returns the lines below the table: what the run waits for, and the notes.
    package static func notes(_ status: RunStatus, width: Int) -> [String] {
        let waiting = status.state.isLive ? status.waitingFor.map { ["… \($0)"] } ?? [] : []
        return (waiting + status.notes.map { "! \($0)" }).flatMap { TextTable.flow([$0], width: width) }
    }

    /// Returns all lines: those above the table, the table, and those below it.
    package static func picture(_ status: RunStatus, width: Int, rowsMax: Int = .max, hasBar: Bool = true) -> [String] {
        header(status, width: width, hasBar: hasBar) + table(status, width: width, rowsMax: rowsMax) + notes(status, width: width)
    }
}
