import Foundation
import Simulator
import Testing

/// The state machines under everything that can go wrong, chosen by a seed. `ONEBYTE_SIM_SEEDS=10000` runs more seeds, and `ONEBYTE_SEED=n` runs one
/// of them with its trace.
@Suite struct SimulatorTests {
    private static func number(_ name: String) -> UInt64? { ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } }

    @Test("Whatever breaks, the run ends with the parameters that its ledger gives")
    func seeds() throws {
        if let seed = Self.number("ONEBYTE_SEED") {
            let simulation = try Simulation(seed: seed)
            simulation.keepsTrace = true
            defer { print(simulation.trace.joined(separator: "\n")) }
            try simulation.run()
            return
        }
        let first = Self.number("ONEBYTE_SIM_FIRST") ?? 0
        let count = Self.number("ONEBYTE_SIM_SEEDS") ?? 400
        var total = Simulation.Statistics()
        var failures = 0
        for seed in first..<first + count {
            let simulation = try Simulation(seed: seed)
            do {
                try simulation.run()
            } catch {
                failures += 1
                Issue.record("seed \(seed): \(error). Replay it with ONEBYTE_SEED=\(seed)")
                if failures >= 10 { break }
            }
            let found = simulation.statistics
            total.faults += found.faults
            total.rounds += found.rounds
            total.coordinatorCrashes += found.coordinatorCrashes
            total.workerCrashes += found.workerCrashes
            total.tornTails += found.tornTails
            total.rebuilds += found.rebuilds
            total.late += found.late
            total.restores += found.restores
            total.relayCrashes += found.relayCrashes
            total.events += found.events
            total.seconds += found.seconds
        }
        print(
            "\(count) seeds: \(total.events) events in \(Int(total.seconds)) simulated s, \(total.rounds) rounds, \(total.faults) faults, "
                + "\(total.coordinatorCrashes) coordinator, \(total.workerCrashes) worker and \(total.relayCrashes) relay crashes, \(total.tornTails) torn tails, "
                + "\(total.rebuilds) rebuilds, \(total.late) late contributions taken, "
                + "\(total.restores) starts from snapshots")
    }

    @Test("The same seed gives the same run")
    func deterministic() throws {
        func trace(_ seed: UInt64) throws -> [String] {
            let simulation = try Simulation(seed: seed)
            simulation.keepsTrace = true
            try simulation.run()
            return simulation.trace
        }
        for seed: UInt64 in [3, 4] { #expect(try trace(seed) == trace(seed)) }
    }

    @Test("A planted bug is noticed", arguments: Simulation.Bug.allCases)
    func plantedBugs(bug: Simulation.Bug) throws {
        let seeds: UInt64 = 60
        var caught = 0
        for seed in 0..<seeds {
            do {
                try Simulation(seed: seed, bug: bug).run()
            } catch {
                caught += 1
            }
        }
        print("\(bug): caught in \(caught) of \(seeds) seeds")
        #expect(caught > 0)
    }
}
