import Core
import Simulator
import TestSupport
import Testing

/// The state machines over links with a limited rate, which all bytes share.
@Suite struct ThinLinkTests {
    /// A link of 9,600 bit/s.
    private static let thin = ThinLink(bytesPerSecond: 1200)

    /// A manifest as long as that of a model with 30 layers.
    private static let largeBase = BaseManifest(
        entries: Samples.base.entries
            + (0..<270).map {
                .init(
                    name: "model.layers.\($0).self_attn.projection.weight", shape: .matrix(rows: 576, columns: 576),
                    digest: .sha256([UInt8($0 % 256), 7]))
            })!

    private static func world(_ spec: RunSpec, workers: Int, links: [Int: ThinLink], computeSeconds: ClosedRange<Double>) -> Simulation.World {
        Simulation.World(
            spec: spec, workers: workers, evaluators: 0, dropProbability: 0, duplicateProbability: 0, delaySeconds: 0.001...0.01,
            fsyncSeconds: 0.001...0.01, computeSeconds: computeSeconds, faultEverySeconds: 1e8, calmAfterSeconds: 5000, operators: false,
            links: links, base: largeBase)
    }

    private static func entries(_ simulation: Simulation) throws -> [LedgerEntry] { try Samples.entries(of: simulation.disk) }

    @Test("Over links of 9,600 bit/s everybody joins from the start, and nothing goes over a link twice")
    func joinsFromTheStart() throws {
        var random = SeededRandom(seed: 5)
        let basis = random.bytes(20_000)
        var spec = Samples.spec(rounds: 40, samplesPerRound: 240, minimumWorkers: 3)
        spec.basisDigest = .sha256(basis)
        var world = Self.world(spec, workers: 3, links: [0: Self.thin, 1: Self.thin, 2: Self.thin], computeSeconds: 0.3...0.4)
        world.basis = basis
        let simulation = try Simulation(seed: 1, world: world)
        try simulation.run()
        let entries = try Self.entries(simulation)
        #expect(entries.count { if case .admission = $0.record { true } else { false } } == 3)
        #expect(!entries.contains { if case .departure(let left) = $0.record { left.reason == .lost } else { false } })
        // The whole ledger without the manifest, which everybody has, and an allowance for headers, commits' frames, heartbeats and signatures.
        let manifest = Self.largeBase.payload.count
        let ups = (0..<3).map { simulation.lines[$0]?.up.bytes ?? 0 }.sorted()
        for worker in 0..<3 {
            let down = simulation.lines[worker]?.down.bytes ?? 0
            #expect(down < (simulation.disk.count - manifest) * 8 / 5, "worker \(worker) got \(down) bytes of \(simulation.disk.count)")
        }
        // One of them has sent the manifest, and the others only its hash.
        #expect(ups[1] + manifest / 2 < ups[2])
        print("3 workers at 9,600 bit/s: \(Int(simulation.seconds)) s, up \(ups) bytes, ledger \(simulation.disk.count)")
    }

    @Test("A newcomer at 9,600 bit/s downloads the ledger once and takes part")
    func newcomer() throws {
        let spec = Samples.spec(rounds: 900, samplesPerRound: 400, minimumWorkers: 2, digestEvery: 50)
        var world = Self.world(spec, workers: 3, links: [2: Self.thin], computeSeconds: 1.0...1.1)
        world.startSeconds = [2: 320]
        let simulation = try Simulation(seed: 2, world: world)
        try simulation.run()
        let entries = try Self.entries(simulation)
        let joined = try #require(entries.first { if case .admission(let admission) = $0.record { admission.name == "w2" } else { false } })
        #expect(joined.offset > 120_000)
        #expect(!entries.contains { if case .departure(let left) = $0.record { left.reason == .lost } else { false } })
        let down = simulation.lines[2]?.down.bytes ?? 0
        print("newcomer: admitted at \(joined.offset) of \(simulation.disk.count) bytes; \(down) came down")
        #expect(down < simulation.disk.count * 7 / 5)
    }

    /// An outage of the newcomer's link while it downloads, or of all links while the run goes on.
    enum Outage: CaseIterable {
        case short, long, repeated, halfOpen, coordinatorRestart, everybody
    }

    @Test("After an outage all machines come back with equal parameters, and a download resumes where it was", arguments: Outage.allCases)
    func outages(_ outage: Outage) throws {
        for seed: UInt64 in 0..<10 {
            let spec = Samples.spec(rounds: 260, samplesPerRound: 300, minimumWorkers: 2, digestEvery: 20)
            let links = outage == .everybody ? [0: Self.thin, 1: Self.thin, 2: Self.thin] : [2: Self.thin]
            var world = Self.world(spec, workers: 3, links: links, computeSeconds: 1.0...1.1)
            world.startSeconds = [2: 120]
            let simulation = try Simulation(seed: seed, world: world)
            switch outage {
            case .short: simulation.schedule(.cutLink(2, seconds: 5, isNoticed: true), after: 135)
            case .long: simulation.schedule(.cutLink(2, seconds: 60, isNoticed: true), after: 135)
            case .repeated: for at in 0..<8 { simulation.schedule(.cutLink(2, seconds: 3, isNoticed: true), after: 130 + 9 * Double(at)) }
            case .halfOpen: simulation.schedule(.cutLink(2, seconds: 25, isNoticed: false), after: 140)
            case .coordinatorRestart: simulation.schedule(.crashCoordinator, after: 140)
            case .everybody: for worker in 0..<3 { simulation.schedule(.cutLink(worker, seconds: 20, isNoticed: worker > 0), after: 200) }
            }
            try simulation.run()
            let entries = try Self.entries(simulation)
            #expect(entries.contains { if case .admission(let admission) = $0.record { admission.name == "w2" } else { false } })
            let down = simulation.lines[2]?.down.bytes ?? 0
            #expect(down < simulation.disk.count * 7 / 5, "\(outage), seed \(seed): \(down) bytes for a ledger of \(simulation.disk.count)")
        }
    }
}
