import Core

/// The display of a run: a few lines that stay in place on a terminal, or a plain line now and then elsewhere.
package struct LiveView {
    private let stream: LineStream
    private let live: Bool
    private var drawnLines = 0
    private var lastPlain: (seconds: Double, measurement: HeldOutScore?, line: String)?
    /// Interval of lines without a terminal: often enough for a log.
    private static let secondsBetweenPlainLines = 5.0

    init(_ stream: LineStream) {
        self.stream = stream
        live = stream.isLive
    }

    mutating func show(_ progress: RunProgress, seconds: Double) {
        if live {
            redraw(progress)
        } else {
            let news = lastPlain.map { progress.latest != $0.measurement || seconds - $0.seconds >= Self.secondsBetweenPlainLines }
            let line = Self.line(of: progress)
            guard news ?? true, line != lastPlain?.line else { return }
            lastPlain = (seconds, progress.latest, line)
            stream.write(line)
        }
    }

    /// Leaves the last picture on the screen and continues below it.
    mutating func end(_ progress: RunProgress) {
        if live { redraw(progress) } else { stream.write(Self.line(of: progress)) }
        drawnLines = 0
    }

    /// Prints a line above the picture.
    mutating func note(_ text: String) {
        if drawnLines > 0 {
            // Moves the cursor up and clears to the end of the screen.
            stream.writeRaw("\u{1B}[\(drawnLines)A\r\u{1B}[J")
            drawnLines = 0
        }
        stream.write(text)
    }

    private mutating func redraw(_ progress: RunProgress) {
        let lines = Self.picture(of: progress, columns: stream.columns, colour: stream.hasColour)
        let up = drawnLines > 0 ? "\u{1B}[\(drawnLines)A\r\u{1B}[J" : ""
        stream.writeRaw(up + lines.map { $0 + "\n" }.joined())
        drawnLines = lines.count
    }
}

extension LiveView {
    /// Returns the progress as one dense line.
    package static func line(of progress: RunProgress) -> String {
        guard !progress.isWaiting else {
            let measured = progress.latest.map { "; \(progress.measures.name): \($0.brief)" } ?? ""
            return "preparing: \(phases(of: progress))\(measured)"
        }
        var parts = ["round \(progress.roundsDone)/\(progress.rounds)"]
        if let loss = progress.trainingLoss {
            parts.append(progress.isScored ? "training score \(fixed(-loss, 4))" : "training loss \(fixed(loss, 4))")
        }
        if let latest = progress.latest { parts.append("\(progress.measures.name) at \(latest.round ?? 0): \(latest.brief)") }
        if let bytes = progress.wireBytesPerSample { parts.append("\(fixed(bytes, 2)) B/sample on the wire") }
        if let rate = progress.samplesPerSecond { parts.append("\(grouped(whole(rate))) samples/s") }
        if let left = progress.secondsLeft { parts.append("\(duration(left)) left") }
        if let caches = caches(of: progress) { parts.append("(\(caches))") }
        return parts.joined(separator: ", ")
    }

    /// Returns the lines for a terminal; each fits the width.
    package static func picture(of progress: RunProgress, columns: Int, colour: Bool) -> [String] {
        let width = max(10, min(columns - 26, 50))
        let full = progress.rounds > 0 ? width * progress.roundsDone / progress.rounds : 0
        let bar = String(repeating: "━", count: min(full, width)) + String(repeating: "─", count: max(0, width - full))
        var lines = ["  \(bar) round \(progress.roundsDone)/\(progress.rounds)"]
        if progress.isWaiting {
            lines.append("  \(phases(of: progress))")
        } else {
            let loss =
                progress.trainingLoss.map { (progress.isScored ? "training score \(fixed(-$0, 4))" : "training loss \(fixed($0, 4))") + "   " } ?? ""
            let rate = progress.samplesPerSecond.map { "\(grouped(whole($0))) samples/s   " } ?? ""
            let left = progress.secondsLeft.map { "\(duration($0)) left" } ?? ""
            lines.append("  \(loss)\(rate)\(left)")
            if let caches = caches(of: progress) { lines.append("  \(caches)") }
        }
        if let latest = progress.latest {
            let before = progress.first.flatMap { $0.round != latest.round ? "   (before: \($0.brief))" : nil } ?? ""
            lines.append("  \(progress.measures.name): \(latest.brief)\(before)")
        }
        if let bytes = progress.wireBytesPerSample {
            lines.append("  on the wire: 1 byte a sample, \(fixed(bytes, 2)) with all that is around it")
        }
        if let digest = progress.digest, let round = progress.digestRound {
            lines.append("  all machines share \(digest.short) at round \(round)")
        }
        let cut = lines.map { String(printable($0, onOneLine: true).prefix(max(20, columns - 1))) }
        return colour ? ["\u{1B}[1m\(cut[0])\u{1B}[0m"] + cut.dropFirst() : cut
    }

    private static func phases(of progress: RunProgress) -> String {
        let phases = progress.machines.sorted { $0.key < $1.key }.map { key, phase in
            let name = printable(key, onOneLine: true)
            if phase.fillsCache { return "\(name) \(phase.name), cache \(part(of: phase))" }
            return phase.isUnderWay ? "\(name) \(phase.name) \(part(of: phase))" : "\(name) \(phase.name)"
        }
        return phases.isEmpty ? "waiting for the workers" : phases.joined(separator: "; ")
    }

    /// Returns what prefix caches still lack while the run trains; nil if all are full.
    private static func caches(of progress: RunProgress) -> String? {
        let filling = progress.machines.filter { $0.value.fillsCache }.sorted { ($0.value.progress, $0.key) < ($1.value.progress, $1.key) }
        guard !filling.isEmpty else { return nil }
        let named = filling.prefix(3).map { "\(printable($0.key, onOneLine: true)) cache \(part(of: $0.value))" }
        return (named + (filling.count > 3 ? ["\(filling.count - 3) more"] : [])).joined(separator: "; ")
    }

    /// Formats a phase's progress, such as "70 %, 0:12 left".
    private static func part(of phase: RunProgress.Phase) -> String {
        "\(whole(phase.progress * 100)) %" + (phase.secondsLeft.map { ", \(duration($0)) left" } ?? "")
    }
}
