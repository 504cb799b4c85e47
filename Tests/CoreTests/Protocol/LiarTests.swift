import Core
import Foundation
import TestSupport
import Testing

/// A task whose accuracy can be measured at once: on which side of a plane do points lie? An adapter of 16 numbers learns it from orthogonal samples.
/// Each machine has its own points.
private struct PlaneTask {
    static let dimensions = 16
    private let seed: UInt64
    private let normal: [Double]

    init(seed: UInt64) {
        self.seed = seed
        var random = SeededRandom(seed: seed)
        normal = (0..<Self.dimensions).map { _ in Self.gaussian(&random) }
    }

    private static func gaussian(_ random: inout SeededRandom) -> Double {
        (0..<12).reduce(-6) { sum, _ in sum + Double.random(in: 0...1, using: &random) }
    }

    /// Returns points, and the side of each. One in twenty has the wrong side.
    func points(_ count: Int, of machine: UInt64) -> [(x: [Double], y: Double)] {
        var random = SeededRandom(seed: seed &* 1000 &+ machine)
        return (0..<count).map { _ in
            let x = (0..<Self.dimensions).map { _ in Self.gaussian(&random) }
            let side = zip(x, normal).reduce(0) { $0 + $1.0 * $1.1 } > 0 ? 1.0 : -1.0
            return (x, Double.random(in: 0...1, using: &random) < 0.05 ? -side : side)
        }
    }

    /// Returns the gradient of the logistic loss.
    static func gradient(_ weights: [Double], _ points: [(x: [Double], y: Double)]) -> [Double] {
        var sum = [Double](repeating: 0, count: dimensions)
        for point in points {
            let margin = point.y * zip(point.x, weights).reduce(0) { $0 + $1.0 * $1.1 }
            let factor = -point.y / (1 + exp(margin)) / Double(points.count)
            for i in sum.indices { sum[i] += factor * point.x[i] }
        }
        return sum
    }

    static func accuracy(_ weights: [Double], _ points: [(x: [Double], y: Double)]) -> Double {
        let right = points.count { point in zip(point.x, weights).reduce(0) { $0 + $1.0 * $1.1 } * point.y > 0 }
        return Double(right) / Double(points.count)
    }

    static func loss(_ weights: [Double], _ points: [(x: [Double], y: Double)]) -> Double {
        points.reduce(0) { sum, point in
            sum + log1p(exp(-point.y * zip(point.x, weights).reduce(0) { $0 + $1.0 * $1.1 }))
        } / Double(points.count)
    }
}

/// The way in which a machine lies.
enum Lie: String, Sendable, CaseIterable, CustomTestStringConvertible {
    case flippedSign, constant, random
    var testDescription: String { rawValue }

    func bytes(_ honest: [Int8], _ random: inout SeededRandom) -> [Int8] {
        switch self {
        case .flippedSign: honest.map { -$0 }
        case .constant: honest.map { _ in 126 }
        case .random: honest.map { _ in Int8.random(in: -127...127, using: &random) }
        }
    }
}

/// A run of the plane task on the real coordinator, with liars among its machines.
private struct LiarRun {
    let accuracy: Double
    let loss: Double
    let warnings: [String]
    /// Number of bytes that count, of liars and of honest machines.
    let counted: (liars: Int, honest: Int)
    /// Number of bytes, and of those that the filter left out, as the coordinator told.
    let told: (samples: Int, leftOut: Int)

    /// - Parameter parts: the fraction of its share that each machine contributes, as in time-boxed rounds.
    init(
        machines: Int, liars: Set<UInt32>, lie: Lie?, filter: RoundFilter?, seed: UInt64, rounds: Int = 30, blocks: Int = 2,
        startsAt scale: Double = 1
    ) throws {
        let task = PlaneTask(seed: seed)
        let d = PlaneTask.dimensions
        let side = { (count: Int) throws in
            try FixedPointVectors(length: d, exponents: [Int8](repeating: 0, count: count), values: [Int16](repeating: 1, count: count * d))
        }
        let basis = try RunBasis(spaces: [], adapters: [AdapterBasis(place: AdapterPlace.finalName, outputs: side(1), inputs: side(d))]).encoded()
        var spec = RunSpec(
            seed: seed, train: ["adapter:final"], sampling: .orthogonal, basisDigest: .sha256(basis), learningRate: 1.5 / scale / scale,
            schedule: .constant,
            rounds: rounds, samplesPerRound: machines * blocks * d, task: TaskSpec(kind: .text, maxLength: 16), digestEvery: 0,
            minimumWorkers: machines)
        spec.filter = filter
        var run = try CoordinatorHarness(spec, [.baseManifest(Samples.base), .basis(basis)])
        let adapter = TrainedTensor(adapterAt: .final, rows: 1, columns: d)
        let parameters = try Parameters(tensors: [adapter]) { _, _ in }
        let directions = try Directions(spec, tensors: [adapter])
        let names = (1...machines).map { UInt8(10 + $0) }
        for name in names { run.join(name) }
        let data = (1...machines).map { task.points(400, of: UInt64($0)) }
        var random = SeededRandom(seed: seed &+ 99)
        var counted = (liars: 0, honest: 0)
        for _ in 0..<rounds {
            var floats = [Float](repeating: 0, count: d)
            parameters.copyFloats(at: 0, elements: 0..<d, into: &floats)
            let weights = floats.map { Double($0) * scale }
            guard let opening = run.lastOpening else { break }
            for share in opening.shares {
                let gradient = PlaneTask.gradient(weights, data[Int(share.machine.rawValue) - 1]).map { $0 * scale }
                var bytes = try (0..<share.count).map { sample in
                    let z = try Self.direction(directions, adapter, share.machine, share.firstSample + sample)
                    return ByteCodec.encode(zip(gradient, z).reduce(0) { $0 + $1.0 * $1.1 }, scaleExponent: opening.scaleExponent)
                }
                if let lie, liars.contains(share.machine.rawValue) { bytes = lie.bytes(bytes, &random) }
                try run.answer(names[Int(share.machine.rawValue) - 1], machine: share.machine.rawValue, bytes: bytes)
            }
            guard case .round(let record)? = run.lastRecord(.round) else { break }
            parameters.apply([record], directions: directions, threads: 1)
            for contribution in record.contributions {
                if liars.contains(contribution.machine.rawValue) {
                    counted.liars += contribution.validCount
                } else {
                    counted.honest += contribution.validCount
                }
            }
        }
        var floats = [Float](repeating: 0, count: d)
        parameters.copyFloats(at: 0, elements: 0..<d, into: &floats)
        let heldOut = task.points(2000, of: 0)
        accuracy = PlaneTask.accuracy(floats.map { Double($0) * scale }, heldOut)
        loss = PlaneTask.loss(floats.map { Double($0) * scale }, heldOut)
        warnings = run.notices.compactMap { if case .warning(let text) = $0 { text } else { nil } }
        self.counted = counted
        told = run.notices.reduce(into: (0, 0)) { sums, notice in
            guard case .roundCommitted(let round) = notice else { return }
            sums.0 += round.samples
            sums.1 += round.leftOut
        }
    }

    /// Returns z of a sample: what one byte of 1 with a step of 1 subtracts.
    private static func direction(_ directions: Directions, _ adapter: TrainedTensor, _ machine: MachineID, _ sample: SampleNumber) throws -> [Double]
    {
        let parameters = try Parameters(tensors: [adapter]) { _, _ in }
        let step = StepSize(multiplier: 1 << 15, exponent: -39)
        let contribution = Contribution(machine: machine, firstSample: sample, bytes: [1])
        parameters.apply([RoundRecord(round: 0, scaleExponent: 0, step: step, contributions: [contribution])], directions: directions, threads: 1)
        return parameters.integers(at: 0).map { -Double($0) }
    }
}

@Suite struct LiarTests {
    private static let robust = RoundFilter(kind: .robust)

    @Test("One liar in three costs less than two points of accuracy", arguments: Lie.allCases, [UInt64(1), 2, 3])
    func oneInThree(lie: Lie, seed: UInt64) throws {
        let honest = try LiarRun(machines: 3, liars: [], lie: nil, filter: Self.robust, seed: seed)
        let found = try LiarRun(machines: 3, liars: [2], lie: lie, filter: Self.robust, seed: seed)
        #expect(honest.accuracy > 0.85, "the task is learnt: \(honest.accuracy)")
        #expect(found.accuracy > honest.accuracy - 0.02, "\(found.accuracy), honest \(honest.accuracy)")
        #expect(found.warnings.contains { $0.contains("machine 2") }, "\(found.warnings)")
        #expect(found.counted.liars < found.counted.honest / 10, "\(found.counted)")
        // Without the filter the lie does harm.
        let open = try LiarRun(machines: 3, liars: [2], lie: lie, filter: nil, seed: seed)
        #expect(open.loss > found.loss, "\(open.loss), with the filter \(found.loss)")
    }

    @Test("Two colluding liars in eight cost less than three points", arguments: Lie.allCases, [UInt64(4), 5, 6])
    func twoInEight(lie: Lie, seed: UInt64) throws {
        let honest = try LiarRun(machines: 8, liars: [], lie: nil, filter: Self.robust, seed: seed)
        let found = try LiarRun(machines: 8, liars: [3, 7], lie: lie, filter: Self.robust, seed: seed)
        #expect(found.accuracy > honest.accuracy - 0.03, "\(found.accuracy), honest \(honest.accuracy)")
        #expect(found.counted.liars < found.counted.honest / 30, "\(found.counted)")
    }

    @Test("Among honest machines nothing is left out, even when the run has reached its optimum", arguments: [UInt64(1), 2, 3])
    func honest(seed: UInt64) throws {
        let found = try LiarRun(machines: 3, liars: [], lie: nil, filter: Self.robust, seed: seed, rounds: 80)
        let open = try LiarRun(machines: 3, liars: [], lie: nil, filter: nil, seed: seed, rounds: 80)
        #expect(found.warnings.isEmpty, "\(found.warnings)")
        #expect(found.accuracy > open.accuracy - 0.005, "\(found.accuracy), without a filter \(open.accuracy)")
    }

    @Test(
        "One liar can't steer a first round whose scale is far too coarse, in which honest bytes are 0",
        arguments: Lie.allCases)
    func firstRound(lie: Lie) throws {
        let honest = try LiarRun(machines: 3, liars: [], lie: nil, filter: Self.robust, seed: 7, startsAt: 1.0 / 24)
        let found = try LiarRun(machines: 3, liars: [1], lie: lie, filter: Self.robust, seed: 7, startsAt: 1.0 / 24)
        #expect(honest.accuracy > 0.85, "\(honest.accuracy)")
        #expect(found.accuracy > honest.accuracy - 0.03, "\(found.accuracy), honest \(honest.accuracy)")
    }

    // MARK: Bounds

    private static func contribution(_ machine: UInt32, _ bytes: [Int8]) -> Contribution {
        Contribution(machine: MachineID(machine), firstSample: 0, bytes: bytes)
    }

    private static func share(of machine: UInt32, in round: [Contribution]) -> Double {
        func sum(_ contributions: [Contribution]) -> Int {
            contributions.reduce(0) { $0 + $1.bytes.reduce(0) { $0 + ($1 == .min ? 0 : abs(Int($1))) } }
        }
        return Double(sum(round.filter { $0.machine == MachineID(machine) })) / Double(max(sum(round), 1))
    }

    @Test("One of n machines moves at most factor/(factor + n − 1) of a round, whatever it sends and however much", arguments: [3, 5, 8])
    func influence(machines: Int) {
        var random = SeededRandom(seed: UInt64(machines))
        let most = 3.0 / Double(3 + machines - 1)
        for liarBytes in [20, 20 * 300] {
            for trial in 0..<20 {
                let round = (1...UInt32(machines)).map { machine in
                    Self.contribution(
                        machine,
                        (0..<(machine == 1 ? liarBytes : 20)).map { _ in
                            machine == 1 ? Int8(clamping: 127 - 12 * (trial % 10)) : Int8.random(in: -64...64, using: &random)
                        })
                }
                let filtered = Self.robust.filtered(round)
                #expect(Self.share(of: 1, in: filtered) <= most + 0.12, "\(Self.share(of: 1, in: filtered)) of \(machines)")
                #expect(filtered.dropFirst() == round.dropFirst(), "the others' bytes stay")
            }
        }
    }

    @Test("The coordinator tells how many bytes the filter left out")
    func leftOut() throws {
        let found = try LiarRun(machines: 3, liars: [2], lie: .flippedSign, filter: Self.robust, seed: 1)
        #expect(found.told.leftOut > 0)
        #expect(found.told.leftOut == found.told.samples - found.counted.liars - found.counted.honest, "all bytes had a value when they were sent")
        let open = try LiarRun(machines: 3, liars: [2], lie: .flippedSign, filter: nil, seed: 1)
        #expect(open.told.samples > 0 && open.told.leftOut == 0)
    }

    @Test("With fewer than three machines the robust filter does nothing")
    func two() {
        let round = [Self.contribution(1, [1, -2]), Self.contribution(2, [127, 127])]
        #expect(Self.robust.filtered(round) == round)
    }

    @Test("From three machines on, one machine's bytes can't move the run's scale")
    func scale() {
        func exponent(_ loud: Int8) -> Int8 {
            var scale = ScaleAdapter(target: 32)
            for round in 0..<40 as Range<UInt32> {
                let quiet = [Int8](repeating: 30, count: 32)
                scale.observe(
                    RoundRecord(
                        round: round, scaleExponent: scale.exponent, step: .zero,
                        contributions: [
                            Self.contribution(1, quiet), Self.contribution(2, quiet), Self.contribution(3, [Int8](repeating: loud, count: 32)),
                        ]))
            }
            return scale.exponent
        }
        #expect(exponent(127) == 0 && exponent(0) == 0)
    }

    @Test("Bytes that stay a little below the largest value count as saturated")
    func saturation() throws {
        var run = try CoordinatorHarness(Samples.spec(rounds: 200, samplesPerRound: 60, digestEvery: 0))
        run.join(1)
        for _ in 0..<20 { try run.answer(1, machine: 1, bytes: [Int8](repeating: 126, count: 60)) }
        #expect(run.notices.contains { if case .warning(let text) = $0 { text.contains("saturated") } else { false } })
    }

    @Test("A run has failed when most of its machines have left as diverged, even if one machine goes on")
    func ruined() throws {
        var run = try CoordinatorHarness(Samples.spec(rounds: 400, samplesPerRound: 6, minimumWorkers: 3, digestEvery: 1))
        for peer: UInt8 in 1...3 { run.join(peer) }
        for _ in 0..<2 {
            for peer: UInt8 in 1...3 { try run.answer(peer, machine: UInt32(peer)) }
            for peer: UInt8 in 1...3 { run.tell(.received(run.report(), from: PeerID([peer]))) }
        }
        func leave(_ peer: UInt8) { run.tell(.received(.goodbye(Goodbye(reason: "diverged", cause: .diverged)), from: PeerID([peer]))) }
        leave(1)
        #expect(run.finished == nil && run.machine.activeTrainers.count == 2, "one word is not believed")
        leave(2)
        run.wait(10)
        #expect(run.finished?.outcome == .failed)
    }
}
