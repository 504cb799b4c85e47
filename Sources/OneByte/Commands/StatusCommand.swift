import ArgumentParser
import Core
import Foundation

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the state of a run once: rounds, losses, and a line for each worker.",
        discussion: joined(
            """
            A run directory, whether its coordinator is running or not:

              onebyte status runs/reviews

            A coordinator elsewhere that was started with --dashboard:

              onebyte status coordinator:8080

            For programs (the same as the dashboard's /api/status):

              onebyte status runs/reviews --json
            """))

    @Argument(help: ArgumentHelp("A run directory, or the address of a coordinator's dashboard.", valueName: "run|address")) var place: String
    @Flag(name: .customLong("json"), help: "As JSON.") var isJSON = false

    func run() async throws {
        let status = try await StatusPlace(place).status()
        if isJSON { return standardOutput.write(try json(status)) }
        let width = isatty(standardOutput.descriptor) == 1 ? standardOutput.columns - 1 : Self.widthOfFiles
        let title = TextTable.flow(Self.title(status), width: width, indent: 0)
        for line in title + StatusText.picture(status, width: width, hasBar: false) { standardOutput.write(line) }
    }

    /// Width of lines that go to a file or a program, where little has to be cut.
    private static let widthOfFiles = 160

    static func title(_ status: RunStatus) -> [String] {
        ["\(status.run.map { "run \($0.prefix(12))" } ?? "run"): \(status.state.rawValue)", status.ending ?? ""]
    }
}

struct TopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Watch a run that is under way, from another terminal or another host.",
        discussion: joined(
            """
            It refreshes every second until the run ends, or until Ctrl-C, which does not stop the run:

              onebyte top runs/reviews

            A coordinator elsewhere that was started with --dashboard:

              onebyte top coordinator:8080
            """))

    @Argument(help: ArgumentHelp("A run directory, or the address of a coordinator's dashboard.", valueName: "run|address")) var place: String
    @Option(help: ArgumentHelp("Seconds between two updates.", valueName: "seconds")) var interval = 1.0

    /// Number of failures in a row after which it gives up. A few are allowed, because a coordinator may restart.
    private static let failuresMax = 10

    func validate() throws {
        guard (0.1...3600).contains(interval) else { throw ValidationError("--interval must be within 0.1 … 3600") }
    }

    func run() async throws {
        let place = try StatusPlace(place)
        let interval = interval
        do {
            _ = try await stoppingOnSignals(onStop: {}) { try await Self.watch(place, interval) }
        } catch StopSignal.interrupt {
            // Ctrl-C is the usual way to stop watching, so it is no failure.
        }
    }

    private static func watch(_ place: StatusPlace, _ interval: Double) async throws {
        var view = LiveView(standardOutput)
        var failures = 0
        var hasSeen = false
        while true {
            do {
                let status = try await place.status()
                failures = 0
                if standardOutput.isLive {
                    view.redraw(status)
                } else {
                    let lines = StatusCommand.title(status) + StatusText.picture(status, width: 160, hasBar: false)
                    standardOutput.write(lines.filter { !$0.isEmpty }.joined(separator: "\n") + "\n")
                }
                if !status.state.isLive {
                    return standardOutput.write("the run: \(StatusCommand.title(status).filter { !$0.isEmpty }.joined(separator: "; "))")
                }
                hasSeen = true
            } catch let error as ProcessFailure where hasSeen && failures < failuresMax {
                failures += 1
                view.note("\(error.message); trying again")
            }
            try await Task.sleep(for: .seconds(interval))
        }
    }
}
