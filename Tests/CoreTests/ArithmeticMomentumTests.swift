import Core
import Simulator
import Synchronization
import TestSupport
import Testing

@Suite struct ArithmeticMomentumTests {
    /// One adapter of one coordinate, so that a sample's step is M·q·2^(E+24) with the sign of its direction.
    private struct One {
        let adapter = TrainedTensor(adapterAt: .final, rows: 1, columns: 1)
        let directions: Directions

        init(momentum: Double?) throws {
            directions = try Directions(seed: RunSeed(1), family: .rank1, sampling: .orthogonal, tensors: [adapter], momentum: momentum)
        }

        /// Returns rounds that subtract these deltas.
        func rounds(_ deltas: [Int8]) -> [RoundRecord] {
            deltas.enumerated().map { number, delta in
                let name = SampleName(machine: MachineID(1), sample: UInt32(number))
                var z: Int8 = 0
                directions.dense(of: adapter, name, elements: 0..<1, into: &z)
                return RoundRecord(
                    round: RoundNumber(number), scaleExponent: 0, step: StepSize(multiplier: 1 << 15, exponent: -39),
                    contributions: [Contribution(machine: name.machine, firstSample: name.sample, bytes: [delta * z])])
            }
        }

        func integers(_ rounds: [RoundRecord]) throws -> [Int32] {
            let parameters = try Parameters(tensors: [adapter]) { _, _ in }
            return rounds.map { round in
                parameters.apply([round], directions: directions, threads: 1)
                return parameters.integers(at: 0)[0]
            }
        }
    }

    @Test("Momentum gives the numbers that were worked out by hand")
    func byHand() throws {
        let without = try One(momentum: nil)
        #expect(try without.integers(without.rounds([100, 0, -50])) == [-100, -100, -50])
        let one = try One(momentum: 0.9)
        // t = 0, μ = 0: v = −100, k = −100. t = 1, μ = ¼: v = 0·(−100) − 40, k = −100 − 40 − 10.
        // t = 2, μ = 26214/65536: v = −10 − 0, k = −150 − 4. t = 3, μ = ½: v = −4 + 60, k = −154 + 60 + 28.
        #expect(try one.integers(one.rounds([100, 40, 0, -60])) == [-100, -150, -154, -66])
        // If a rewind makes the first two void, the third begins as the run's first round does.
        #expect(try one.integers(Array(one.rounds([100, 40, 20, -60])[2...])) == [-20, 55])
        #expect(try one.integers([0, 2, 3].map { one.rounds([100, 40, 20, -60])[$0] }) == [-100, -120, -45])
        // The cap holds from the start: μ = ⅛ from t = 1 on. v = −80; −10 − 0; −1.25 → −1.
        let capped = try One(momentum: 0.125)
        #expect(try capped.integers(capped.rounds([0, 80, 0, 0])) == [0, -90, -91, -91])
    }

    @Test("A history with retractions and rewinds equals a replay of what is left, whenever it is read")
    func histories() throws {
        for kind in [RunKind.momentum, .momentumAtRandom] {
            let seed = UInt64.random(in: 0 ... .max)
            var random = SeededRandom(seed: seed)
            let run = kind.run(seed: seed, largest: 8, samples: 1...6)
            let parameters = try run.parameters()
            var history = EffectiveHistory()
            for _ in 0..<120 {
                let next = history.nextRound
                let record: LedgerRecord =
                    switch Int.random(in: 0..<12, using: &random) {
                    case 0 where next > 0:
                        .rewind(Rewind(round: .random(in: next - min(next, 6)...next, using: &random), rateShift: 0, isFinal: false))
                    case 1 where next > 0:
                        .retraction(
                            Retraction(
                                machine: MachineID(.random(in: 0...6, using: &random)), rounds: .random(in: 0..<next, using: &random)..<next))
                    default:
                        .round(
                            RoundRecord(
                                round: next, scaleExponent: 0, step: run.rounds[Int(next) % 5].step,
                                contributions: run.rounds[Int.random(in: 0..<5, using: &random)].contributions))
                    }
                let threads = Int.random(in: 1...4, using: &random)
                for change in try history.fold(record) {
                    switch change {
                    case .apply(let round): parameters.apply([round], directions: run.directions, threads: threads)
                    case .revert(let round): parameters.revert(round, directions: run.directions, threads: threads)
                    case .replace(let old, let new): parameters.replace(old, with: new, directions: run.directions, threads: threads)
                    }
                }
                if random.chance(0.4) { #expect(try parameters.digest() == run.digest(history.rounds), "seed \(seed)") }
            }
            #expect(try parameters.digest() == run.digest(history.rounds, threads: 3), "seed \(seed)")
        }
    }

    @Test("Whichever thread reads first after a change, all threads see the new parameters")
    func readers() throws {
        let run = RunKind.momentum.run(seed: 4, largest: 60)
        let expected = try run.parameters()
        expected.apply(Array(run.rounds.dropLast()), directions: run.directions, threads: 1)
        let wanted = (0..<expected.tensors.count).map { Array(expected.integers(at: $0)) }
        for _ in 0..<20 {
            let parameters = try run.parameters()
            parameters.apply(run.rounds, directions: run.directions, threads: 2)
            #expect(parameters.largestMagnitude() > 0)
            parameters.revert(run.rounds[4], directions: run.directions, threads: 2)
            nonisolated(unsafe) let shared = parameters
            let right = Atomic(0)
            forEachChunk(of: 12, size: 1, threads: 4) { range in
                let position = range.lowerBound % wanted.count
                if Array(shared.integers(at: position)) == wanted[position] { right.add(1, ordering: .relaxed) }
            }
            #expect(right.load(ordering: .relaxed) == 12)
        }
    }

    @Test("Parameters that are rebuilt in place begin at zero velocity and round 0")
    func assigning() throws {
        let run = RunKind.momentum.run(seed: 5)
        let parameters = try run.parameters()
        parameters.apply(run.rounds, directions: run.directions, threads: 1)
        #expect(parameters.assign(try run.parameters()))
        #expect(try parameters.digest() == run.parameters().digest())
        parameters.apply(run.rounds, directions: run.directions, threads: 1)
        #expect(try parameters.digest() == run.digest(run.rounds))
        // Rounds that were applied but not read yet are copied too.
        let copy = try run.parameters()
        parameters.revert(run.rounds[1], directions: run.directions, threads: 1)
        #expect(copy.assign(parameters))
        copy.revert(run.rounds[2], directions: run.directions, threads: 1)
        #expect(try copy.digest() == run.digest([run.rounds[0], run.rounds[3], run.rounds[4]]))
    }

    @Test("A snapshot of a run with momentum can be read")
    func snapshots() throws {
        let run = RunKind.momentum.run(seed: 6)
        let parameters = try run.parameters()
        parameters.apply(run.rounds, directions: run.directions, threads: 1)
        parameters.revert(run.rounds[3], directions: run.directions, threads: 1)
        var bytes: [UInt8] = []
        parameters.writeSnapshot(SnapshotPosition(run: .sha256([1]), nextRound: 5, ledger: nil)) { bytes += $0 }
        let copy = try bytes.withUnsafeBytes { try Parameters(tensors: run.tensors, snapshot: $0) }
        var rest = run.rounds
        rest.remove(at: 3)
        #expect(try copy.digest() == run.digest(rest))
    }

    @Test("Rounds whose steps are rounded to nothing change nothing, and a probe reports that")
    func vanishingSteps() throws {
        let run = RunKind.momentum.run(seed: 7)
        let parameters = try run.parameters()
        let probe = ParameterProbe(parameters)
        let tiny = run.rounds.map {
            RoundRecord(round: $0.round, scaleExponent: 0, step: StepSize(multiplier: 40000, exponent: -90), contributions: $0.contributions)
        }
        parameters.apply(tiny, directions: run.directions, threads: 1)
        #expect(probe.unchangedPart(in: parameters) == 1)
        parameters.apply(run.rounds, directions: run.directions, threads: 1)
        #expect(probe.unchangedPart(in: parameters) < 1)
    }

    @Test("A spec without momentum is spelt as before; with it, it reads back, and it requires that only adapters are trained")
    func specs() throws {
        var spec = Samples.spec()
        #expect(!String(decoding: try spec.canonicalBytes(), as: UTF8.self).contains("momentum"))
        spec.momentum = 0.9
        #expect(throws: RunSpecError.self) { try spec.validate() }
        spec.train = ["adapter:final"]
        let bytes = try spec.canonicalBytes()
        #expect(String(decoding: bytes, as: UTF8.self).contains(#""momentum":0.9,"#))
        #expect(try RunSpec(canonicalBytes: bytes) == spec)
        let adapter = TrainedTensor(adapterAt: .final, rows: 1, columns: 4)
        #expect(try Directions(spec, tensors: [adapter]).momentum == Momentum(cap: 0.9))
        for bad in [0, -0.5, 1.01, .nan, .infinity] {
            spec.momentum = bad
            #expect(throws: RunSpecError.self) { try spec.validate() }
        }
        #expect(Momentum(cap: .nan) == Momentum(cap: 0) && Momentum(cap: 7) == Momentum(cap: 1) && Momentum(cap: 0.9) == Momentum(cap: 58982 / 65536))
    }
}
