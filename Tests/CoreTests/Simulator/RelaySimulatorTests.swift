import Core
import Simulator
import TestSupport
import Testing

/// Runs with relays in the simulator. `SimulatorTests` has them too, with everything that can break.
@Suite struct RelaySimulatorTests {
    private static func world(_ spec: RunSpec, workers: Int, relays: Int) -> Simulation.World {
        Simulation.World(
            spec: spec, workers: workers, evaluators: 0, dropProbability: 0, duplicateProbability: 0, delaySeconds: 0.005...0.01,
            fsyncSeconds: 0.001...0.002, computeSeconds: 0.05...0.06, faultEverySeconds: 1e8, calmAfterSeconds: 100, operators: false,
            relays: relays, isPartlyDirect: false)
    }

    @Test("For three sites of sixteen workers, far links behind relays carry less than half up and an eighth down, with the same result")
    func threeSites() throws {
        let spec = Samples.spec(rounds: 200, samplesPerRound: 240, minimumWorkers: 48, digestEvery: 50)
        let direct = try Simulation(seed: 1, world: Self.world(spec, workers: 48, relays: 0))
        try direct.run()
        let relayed = try Simulation(seed: 1, world: Self.world(spec, workers: 48, relays: 3))
        try relayed.run()
        let before = (up: direct.directBytes.up, down: direct.directBytes.down)
        let after = relayed.relays.reduce((up: 0, down: 0)) { ($0.up + $1.up, $0.down + $1.down) }
        print("3 sites × 16 workers, \(Int(direct.seconds)) and \(Int(relayed.seconds)) s: direct \(before), by relays \(after)")
        #expect(after.up * 2 < before.up)
        #expect(after.down * 8 < before.down)
        // The machines' bytes are functions of parameters and names here, so equal orders give equal ledgers.
        let digests = try [direct, relayed].map { try Samples.summary(of: $0.disk).lastDigest?.digest }
        #expect(digests[0] != nil && digests[0] == digests[1])
    }

    @Test("Whatever breaks, a run behind relays ends with the parameters that its ledger gives", arguments: 0..<40)
    func faults(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let spec = Samples.spec(
            rounds: 25, samplesPerRound: 12, minimumWorkers: 2, digestEvery: 5, staleness: Int.random(in: 0...2, using: &random))
        var world = Self.world(spec, workers: 4, relays: 1 + seed % 3)
        world.isPartlyDirect = seed % 2 == 0
        world.dropProbability = Double.random(in: 0...0.15, using: &random)
        world.duplicateProbability = Double.random(in: 0...0.1, using: &random)
        world.delaySeconds = 0.001...Double.random(in: 0.01...0.6, using: &random)
        world.computeSeconds = 0.05...0.5
        world.faultEverySeconds = Double.random(in: 1...6, using: &random)
        world.calmAfterSeconds = 60
        try Simulation(seed: UInt64(seed), world: world).run()
    }
}
