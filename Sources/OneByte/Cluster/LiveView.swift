import Coordinator
import Core

/// The display of a run: a table that stays in place on a terminal, or a plain line now and then elsewhere.
package struct LiveView {
    private let stream: LineStream
    private let live: Bool
    private var drawnLines = 0
    private var lastPlain: (seconds: Double, measurement: HeldOutScore?, line: String)?
    private var saidNotes: Set<String> = []
    /// Interval of lines without a terminal: often enough for a log.
    private static let secondsBetweenPlainLines = 5.0
    /// Largest number of sentences that are remembered as written, because peers choose the names in them.
    private static let notesMax = 4096

    init(_ stream: LineStream) {
        self.stream = stream
        live = stream.isLive
    }

    /// - Parameters:
    ///   - seconds: time since the view began.
    ///   - now: Unix seconds.
    mutating func show(_ progress: RunProgress, seconds: Double, at now: Double) {
        let status = RunStatus(progress, at: now)
        if live {
            redraw(status)
        } else {
            sayNotes(of: status)
            let news = lastPlain.map { progress.latest != $0.measurement || seconds - $0.seconds >= Self.secondsBetweenPlainLines }
            let line = Self.line(of: progress, at: now)
            guard news ?? true, line != lastPlain?.line else { return }
            lastPlain = (seconds, progress.latest, line)
            stream.write(line)
        }
    }

    /// Writes once what is wrong with a worker, if there is no table to show it.
    private mutating func sayNotes(of status: RunStatus) {
        for note in status.markNotes where note.mark != .silent && saidNotes.count < Self.notesMax && saidNotes.insert(note.key).inserted {
            stream.write("note: \(note.text)")
        }
    }

    /// Leaves the last picture on the screen and continues below it.
    mutating func end(_ progress: RunProgress, at now: Double) {
        if live { redraw(RunStatus(progress, at: now)) } else { stream.write(Self.line(of: progress, at: now)) }
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

    /// Draws a status over the one before.
    mutating func redraw(_ status: RunStatus) {
        let lines = Self.picture(of: status, columns: stream.columns, rows: stream.rows, colour: stream.hasColour)
        let up = drawnLines > 0 ? "\u{1B}[\(drawnLines)A\r\u{1B}[J" : ""
        stream.writeRaw(up + lines.map { $0 + "\n" }.joined())
        drawnLines = lines.count
    }
}

extension LiveView {
    /// Returns the progress as one dense line.
    package static func line(of progress: RunProgress, at now: Double) -> String {
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
        if let rate = progress.samplesPerSecond { parts.append("\(RunStatus.rate(rate)) samples/s") }
        if let left = progress.secondsLeft { parts.append("\(duration(left)) left") }
        if let caches = caches(of: progress) { parts.append("(\(caches))") }
        if let waiting = RunStatus(progress, at: now).waitingFor { parts.append(waiting) }
        return parts.joined(separator: ", ")
    }

    /// Returns the lines for a terminal. Each fits the width. Workers are left out so that all lines fit the height.
    package static func picture(of status: RunStatus, columns: Int, rows: Int = .max, colour: Bool) -> [String] {
        // The last column stays free, because some terminals wrap at it.
        let width = max(20, columns - 1)
        let header = StatusText.header(status, width: width)
        let notes = StatusText.notes(status, width: width)
        // Three lines are for the heading, the number of workers that are left out, and the cursor.
        let room = max(3, rows == .max ? .max : rows - header.count - notes.count - 3)
        let table = StatusText.table(status, width: width, rowsMax: room)
        let lines = (header + table + notes).map { printable($0, onOneLine: true) }
        guard colour else { return lines }
        return lines.enumerated().map { index, line in
            if index == 0 { return "\u{1B}[1m\(line)\u{1B}[0m" }
            if index == header.count, !table.isEmpty { return "\u{1B}[2m\(line)\u{1B}[0m" }
            return line.hasPrefix("  ! ") ? "\u{1B}[33m\(line)\u{1B}[0m" : line
        }
    }

    private static func phases(of progress: RunProgress) -> String {
        let phases = progress.workers.present.filter { $0.phase != "greeted" }.map { row in
            let name = printable(row.name, onOneLine: true)
            if let cache = row.cache, cache > 0, cache < 1 { return "\(name) \(row.phase), cache \(StatusText.part(cache, row.cacheSecondsLeft))" }
            guard let part = row.progress, part > 0, part < 1 else { return "\(name) \(row.phase)" }
            return "\(name) \(row.phase) \(StatusText.part(part, row.secondsLeft))"
        }
        return phases.isEmpty ? "waiting for the workers" : phases.joined(separator: "; ")
    }

    /// Returns what prefix caches still lack while the run trains; nil if all are full.
    private static func caches(of progress: RunProgress) -> String? {
        let filling = progress.workers.present.compactMap { row in row.cache.flatMap { $0 > 0 && $0 < 1 ? (row: row, part: $0) : nil } }
            .sorted { ($0.part, $0.row.name) < ($1.part, $1.row.name) }
        guard !filling.isEmpty else { return nil }
        let named = filling.prefix(3).map { "\(printable($0.row.name, onOneLine: true)) cache \(StatusText.part($0.part, $0.row.cacheSecondsLeft))" }
        return (named + (filling.count > 3 ? ["\(filling.count - 3) more"] : [])).joined(separator: "; ")
    }
}
