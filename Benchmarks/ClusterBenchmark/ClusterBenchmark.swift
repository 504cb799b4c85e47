import ArgumentParser

/// Measures the cost of a coordinator, with workers that answer at once.
@main
struct ClusterBenchmark: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ClusterBenchmark",
        abstract: "What a coordinator costs: real sockets, a real ledger, workers that answer with canned bytes.",
        discussion: "Progress goes to stderr, figures to stdout: one JSON object a line with key, value and unit.",
        subcommands: [
            Rounds.self, Sockets.self, Memory.self, Ledger.self, CatchUp.self, CoordinatorNode.self, SwarmNode.self, OpenLedgerNode.self,
        ])
}
