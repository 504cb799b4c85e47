import ArgumentParser
import Coordinator
import Core
import Foundation

struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Show a run's curves, workers and events: as a page to mail, a table, or for TensorBoard.",
        discussion: joined(
            """
            A page in one file, which needs no network, for any run directory, even during the run:

              onebyte report runs/reviews --html reviews.html

            The curves as a table (one value a line), or all that is known as JSON:

              onebyte report runs/reviews --format csv > curves.csv
              onebyte report runs/reviews --format json --output run.json

            Event files in a directory that TensorBoard reads:

              onebyte report runs/reviews --format tensorboard --output board/reviews
              tensorboard --logdir board

            Without flags it shows the state of the run, as `onebyte status` does.
            """))

    enum Format: String, CaseIterable, ExpressibleByArgument {
        case csv, json, tensorboard
    }

    @Argument(help: ArgumentHelp("A run directory.", valueName: "run")) var path: String
    @Option(help: ArgumentHelp("Write a page with everything in it here.", valueName: "file")) var html: String?
    @Option(help: "Write the curves: csv, json or tensorboard.") var format: Format?
    @Option(help: ArgumentHelp("Where the curves go: a file, or a directory for tensorboard. (default: standard output)", valueName: "path"))
    var output: String?

    func validate() throws {
        if output != nil, format == nil { throw ValidationError("--output says where --format's curves go; give --format csv, json or tensorboard") }
        if format == .tensorboard, output == nil {
            throw ValidationError("--format tensorboard writes a file into a directory; give it with --output")
        }
    }

    func run() throws {
        let directory = RunDirectory(path)
        let past = try RunStatus.past(directory)
        let status = directory.isLocked ? try RunStatus.read(path) : past.status
        if let remark = past.record.remark(directory) { standardError.write("note: \(remark)") }
        if html != nil || format != nil, let omission = past.record.history.omission {
            standardError.write("note: \(omission); \(directory.metrics) has every event")
        }
        if let html { try writeWhole(Data(RunPage.whole(status, past.record.history).utf8), to: html) }
        if let format { try write(format, status, past.record.history.points) }
        guard html == nil, format == nil else { return }
        let lines = StatusCommand.title(status).filter { !$0.isEmpty } + StatusText.picture(status, width: 160, hasBar: false)
        for line in lines { standardOutput.write(line) }
    }

    private func write(_ format: Format, _ status: RunStatus, _ points: [RunHistory.Point]) throws {
        let text: String
        switch format {
        case .csv: text = CurvesText.csv(points)
        case .json: text = try json(DashboardSource.Update(status: status, points: points)) + "\n"
        case .tensorboard:
            guard let output else { return }
            do {
                try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
            } catch {
                throw ProcessFailure(.cannotCreate, "can't make the directory \(output): \(describe(error))")
            }
            return try writeWhole(Data(TensorBoard.file(points)), to: "\(output)/\(TensorBoard.fileName(points))")
        }
        guard let output else { return standardOutput.writeContents(text) }
        try writeWhole(Data(text.utf8), to: output)
    }
}
