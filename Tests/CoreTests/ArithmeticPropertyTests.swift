import Core
import Kernels
import TestSupport
import Testing

/// A small run made from a seed.
struct RandomRun {
    let seed: UInt64
    let directions: Directions
    let tensors: [TrainedTensor]
    /// The run spec's momentum.
    let momentum: Double?
    let rounds: [RoundRecord]

    /// The adapters of a run.
    enum Adapters {
        case none, besideOthers, orthogonal
        case withMomentum(DirectionSampling)
    }

    init(
        seed: UInt64, family: PerturbationFamily, shaped: Bool = false, adapters: Adapters = .none, largest: Int = 70,
        samples: ClosedRange<Int> = 1...40
    ) {
        self.seed = seed
        var random = SeededRandom(seed: seed)
        let runSeed = RunSeed(.random(in: 0 ... .max, using: &random))
        let others = (0..<3).map { index in
            let rows = Int.random(in: 1...largest, using: &random)
            let columns = Int.random(in: 1...3 * largest, using: &random)
            if index == 1 { return TrainedTensor(name: "t1", index: 17, shape: .vector(rows * columns)) }
            let components = Int.random(in: 1...5, using: &random)
            let size: Int16 = .random(in: 100...16384, using: &random)
            let values = (0..<components * columns).map { _ in Int16.random(in: -size...size, using: &random) }
            return TrainedTensor(
                name: "t\(index)", index: UInt32(3 * index + 1), shape: .matrix(rows: rows, columns: columns),
                basis: shaped ? InputBasis(space: "t\(index)", width: columns, values: values) : nil)
        }
        let adapted = [AdapterPlace.tensor(name: "t2", index: 7), .final, .tensor(name: "a", index: 0)].map { place in
            TrainedTensor(
                adapterAt: place, rows: .random(in: 1...largest, using: &random), columns: .random(in: 1...largest, using: &random))
        }
        // Some of these caps are reached, because μ is 4/7 in the fifth round.
        momentum = if case .withMomentum = adapters { .random(in: 0.1...1, using: &random) } else { nil }
        switch adapters {
        case .none: (tensors, directions) = (others, Directions(seed: runSeed, family: family))
        case .besideOthers: (tensors, directions) = (others + adapted, Directions(seed: runSeed, family: family))
        case .orthogonal:
            tensors = adapted
            do {
                directions = try Directions(seed: runSeed, family: family, sampling: .orthogonal, tensors: adapted)
            } catch {
                preconditionFailure("\(error)")
            }
        case .withMomentum(let sampling):
            tensors = adapted
            do {
                directions = try Directions(seed: runSeed, family: family, sampling: sampling, tensors: adapted, momentum: momentum)
            } catch {
                preconditionFailure("\(error)")
            }
        }
        rounds = (0..<5).map { number in
            let contributions = (0..<3).map { machine in
                let count = Int.random(in: samples, using: &random)
                return Contribution(
                    machine: MachineID(UInt32(machine + number)), firstSample: .random(in: 0 ... .max, using: &random),
                    bytes: (0..<count).map { _ in .random(in: -128...127, using: &random) })
            }
            // The first two rounds move every tensor, and the second is the first that momentum adds to. The steps of the other rounds may vanish, as
            // they may in a run.
            let exponents: ClosedRange<Int8> = number < 2 ? -30 ... -15 : -60 ... -15
            let step = StepSize(
                multiplier: .random(in: 1 << 15 ... .max, using: &random), exponent: .random(in: exponents, using: &random))
            return RoundRecord(round: RoundNumber(number), scaleExponent: 0, step: step, contributions: contributions)
        }
    }

    func parameters() throws -> Parameters { try syntheticParameters(tensors, magnitude: -26) }

    func digest(_ rounds: [RoundRecord], threads: Int = 1) throws -> Digest {
        let parameters = try parameters()
        parameters.apply(rounds, directions: directions, threads: threads)
        return parameters.digest()
    }

    /// Computes k −= round(M·Σ·2^h), or with momentum what docs/reference/arithmetic.md says, element by element from the vectors themselves.
    func naiveIntegers() throws -> [[Int32]] {
        let parameters = try parameters()
        return parameters.tensors.indices.map { position in
            let tensor = parameters.tensors[position]
            var k = Array(parameters.integers(at: position))
            var v = [Int32](repeating: 0, count: k.count)
            var before: Int64 = 0
            for (t, round) in rounds.enumerated() {
                let now = momentum.map { min(Int64(65536 * t / (t + 3)), Int64($0 * 65536)) } ?? 0
                var sums = [Int64](repeating: 0, count: k.count)
                for contribution in round.contributions {
                    for (i, q) in contribution.bytes.enumerated() where q != Contribution.noValue {
                        let name = SampleName(machine: contribution.machine, sample: contribution.firstSample &+ UInt32(i))
                        for (j, z) in direction(of: tensor, name).enumerated() { sums[j] += Int64(q) * z }
                    }
                }
                let h = Int(round.step.exponent) + parameters.exponent(at: position) - directions.fractionBits(of: tensor)
                for j in k.indices {
                    let product = Int64(round.step.multiplier) * sums[j]
                    let delta = h >= 0 ? product << h : h <= -63 ? 0 : (product + 1 << Int64(-h - 1)) >> Int64(-h)
                    guard momentum != nil else {
                        k[j] = k[j] &- Int32(truncatingIfNeeded: delta)
                        continue
                    }
                    let kept = (before * Int64(v[j]) + 32768) >> 16
                    v[j] = Int32(truncatingIfNeeded: kept &- delta)
                    k[j] = k[j] &+ Int32(truncatingIfNeeded: (now * Int64(v[j]) + 32768) >> 16 &- delta)
                }
                before = now
            }
            return k
        }
    }

    private func direction(of tensor: TrainedTensor, _ name: SampleName) -> [Int64] {
        if directions.isRank1(tensor), case .matrix(let rows, let columns) = tensor.shape {
            var a = [Int8](repeating: 0, count: rows)
            var b = [Int8](repeating: 0, count: columns)
            directions.rank1Factors(of: tensor, name, a: &a, b: &b)
            return a.flatMap { a in b.map { Int64(a) * Int64($0) } }
        }
        var z = [Int8](repeating: 0, count: tensor.shape.count)
        directions.dense(of: tensor, name, elements: 0..<z.count, into: &z)
        return z.map(Int64.init)
    }
}

enum RunKind: CaseIterable, Sendable {
    case rank1, shaped, rademacher, gaussian, adaptersBesideShaped, adaptersBesideGaussian, orthogonal, momentum, momentumAtRandom

    func run(seed: UInt64, largest: Int = 70, samples: ClosedRange<Int> = 1...40) -> RandomRun {
        switch self {
        case .rank1: RandomRun(seed: seed, family: .rank1, largest: largest, samples: samples)
        case .shaped: RandomRun(seed: seed, family: .rank1, shaped: true, largest: largest, samples: samples)
        case .rademacher: RandomRun(seed: seed, family: .rademacher, largest: largest, samples: samples)
        case .gaussian: RandomRun(seed: seed, family: .gaussian, largest: largest, samples: samples)
        case .adaptersBesideShaped:
            RandomRun(seed: seed, family: .rank1, shaped: true, adapters: .besideOthers, largest: largest, samples: samples)
        case .adaptersBesideGaussian: RandomRun(seed: seed, family: .gaussian, adapters: .besideOthers, largest: largest, samples: samples)
        case .orthogonal: RandomRun(seed: seed, family: .rank1, adapters: .orthogonal, largest: largest, samples: samples)
        case .momentum: RandomRun(seed: seed, family: .rank1, adapters: .withMomentum(.orthogonal), largest: largest, samples: samples)
        case .momentumAtRandom: RandomRun(seed: seed, family: .gaussian, adapters: .withMomentum(.random), largest: largest, samples: samples)
        }
    }
}

@Suite struct ArithmeticPropertyTests {
    static let trials = 6

    private func forRandomRuns(_ kind: RunKind, largest: Int = 70, _ body: (RandomRun) throws -> Void) rethrows {
        for _ in 0..<Self.trials { try body(kind.run(seed: .random(in: 0 ... .max), largest: largest)) }
    }

    @Test("An update equals the sums computed one element at a time", arguments: RunKind.allCases)
    func updatesAreTheSumsTheySayTheyAre(kind: RunKind) throws {
        try forRandomRuns(kind, largest: 40) { run in
            let parameters = try run.parameters()
            parameters.apply(run.rounds, directions: run.directions, threads: 1)
            for (position, expected) in try run.naiveIntegers().enumerated() {
                #expect(Array(parameters.integers(at: position)) == expected, "seed \(run.seed)")
            }
        }
    }

    @Test("The order of a round's bytes does not matter, and the order of rounds matters only with momentum", arguments: RunKind.allCases)
    func orderDoesNotMatter(kind: RunKind) throws {
        try forRandomRuns(kind) { run in
            let expected = try run.digest(run.rounds)
            var random = SeededRandom(seed: run.seed &+ 1)
            let hasMomentum = run.momentum != nil
            #expect((try run.digest(run.rounds.reversed()) == expected) == !hasMomentum, "seed \(run.seed)")
            let rounds = hasMomentum ? run.rounds : run.rounds.shuffled(using: &random)
            let shuffled = rounds.map { round in
                // One contribution for each byte, in any order.
                let parts = round.contributions.flatMap { contribution in
                    contribution.bytes.enumerated().map { i, q in
                        Contribution(machine: contribution.machine, firstSample: contribution.firstSample &+ UInt32(i), bytes: [q])
                    }
                }
                return RoundRecord(
                    round: round.round, scaleExponent: round.scaleExponent, step: round.step,
                    contributions: parts.shuffled(using: &random))
            }
            #expect(try run.digest(shuffled) == expected, "seed \(run.seed)")
        }
    }

    @Test("The number of threads and the batches do not matter", arguments: RunKind.allCases)
    func threadsAndBatchesDoNotMatter(kind: RunKind) throws {
        try forRandomRuns(kind) { run in
            let expected = try run.digest(run.rounds)
            for threads in 1...4 {
                #expect(try run.digest(run.rounds, threads: threads) == expected, "seed \(run.seed)")
                let parameters = try run.parameters()
                for round in run.rounds { parameters.apply([round], directions: run.directions, threads: threads) }
                #expect(parameters.digest(threads: threads) == expected, "seed \(run.seed)")
            }
        }
    }

    @Test("Taking out all rounds in any order gives the parameters from before", arguments: RunKind.allCases)
    func revertGoesBack(kind: RunKind) throws {
        try forRandomRuns(kind) { run in
            let parameters = try run.parameters()
            let before = parameters.digest()
            parameters.apply(run.rounds, directions: run.directions, threads: 2)
            #expect(parameters.digest() != before, "seed \(run.seed)")
            var random = SeededRandom(seed: run.seed)
            for round in run.rounds.shuffled(using: &random) {
                parameters.revert(round, directions: run.directions, threads: 2)
            }
            #expect(parameters.digest() == before, "seed \(run.seed)")
        }
    }

    @Test("Replacing rounds gives what a replay of the replacements gives", arguments: RunKind.allCases)
    func replacingIsReplayingWithout(kind: RunKind) throws {
        try forRandomRuns(kind) { run in
            let machine = MachineID(3)
            let parameters = try run.parameters()
            parameters.apply(run.rounds, directions: run.directions, threads: 1)
            for round in run.rounds {
                parameters.replace(round, with: round.removing(machine), directions: run.directions, threads: 1)
            }
            #expect(try parameters.digest() == run.digest(run.rounds.map { $0.removing(machine) }), "seed \(run.seed)")
        }
    }

    /// A round that is longer than a batch carries its sums over. Its bytes one by one would be rounded differently, so the naive sums are the
    /// reference. The same holds for a dense round that is longer than 32-bit sums allow.
    @Test("A round longer than a batch or than 32-bit sums is rounded once") func roundsOfManyDirections() throws {
        let long = RandomRun(seed: 5, family: .rank1, shaped: true, largest: 6, samples: 1500...3000)
        let parameters = try long.parameters()
        parameters.apply(long.rounds, directions: long.directions, threads: 2)
        for (position, expected) in try long.naiveIntegers().enumerated() {
            #expect(Array(parameters.integers(at: position)) == expected)
        }
        for round in long.rounds { parameters.revert(round, directions: long.directions, threads: 1) }
        #expect(try parameters.digest() == long.parameters().digest())

        let tensor = TrainedTensor(name: "v", index: 2, shape: .vector(40))
        let directions = Directions(seed: RunSeed(9), family: .gaussian)
        let contribution = Contribution(
            machine: MachineID(0), firstSample: 0, bytes: [Int8](repeating: 127, count: 140_000))
        let round = RoundRecord(
            round: 0, scaleExponent: 0, step: StepSize(multiplier: 40000, exponent: -60), contributions: [contribution])
        let wide = try syntheticParameters([tensor], magnitude: -26)
        let before = Array(wide.integers(at: 0))
        wide.apply([round], directions: directions, threads: 1)
        var sums = [Int64](repeating: 0, count: 40)
        var z = [Int8](repeating: 0, count: 40)
        for sample in 0..<contribution.bytes.count {
            directions.dense(of: tensor, SampleName(machine: MachineID(0), sample: UInt32(sample)), elements: 0..<40, into: &z)
            for j in 0..<40 { sums[j] += 127 * Int64(z[j]) }
        }
        let h = -60 + wide.exponent(at: 0) - 5
        #expect(h < 0)
        let after = zip(before, sums).map { $0 &- Int32(truncatingIfNeeded: (40000 * $1 + 1 << Int64(-h - 1)) >> Int64(-h)) }
        #expect(Array(wide.integers(at: 0)) == after)
    }

    @Test("Rounds without a step or without values change nothing") func roundsThatChangeNothing() throws {
        let run = RandomRun(seed: 3, family: .rank1)
        let nothing = run.rounds.flatMap { round in
            [
                RoundRecord(round: 0, scaleExponent: 0, step: .zero, contributions: round.contributions),
                RoundRecord(round: 0, scaleExponent: 0, step: round.step, contributions: []),
                RoundRecord(
                    round: 0, scaleExponent: 0, step: round.step,
                    contributions: [Contribution(machine: MachineID(1), firstSample: 0, bytes: [-128, 0, -128])]),
                RoundRecord(
                    round: 0, scaleExponent: 0, step: StepSize(multiplier: 65535, exponent: -128),
                    contributions: round.contributions),
            ]
        }
        #expect(try run.digest(nothing) == run.parameters().digest())
    }
}

/// Every variant of the kernels that this processor has gives the same bits.
@Suite struct ArithmeticVariantTests {
    /// Runs `body` with each variant on this thread, and expects equal results.
    private func withEveryVariant<T: Equatable>(_ what: String, _ body: () throws -> T) rethrows {
        ob_kernels_select("portable")
        defer { ob_kernels_select(nil) }
        let expected = try body()
        for variant in kernelVariants {
            #expect(ob_kernels_select(variant) == 1)
            #expect(kernelVariant == variant)
            #expect(try body() == expected, "\(variant) differs: \(what)")
        }
    }

    @Test("The portable variant is always there, and an unknown one is refused") func unknownVariantIsRefused() {
        #expect(kernelVariants.last == "portable")
        #expect(ob_kernels_select("abacus") == 0)
        ob_kernels_select(nil)
    }

    @Test("All variants end a run with the same digest", arguments: RunKind.allCases) func runs(kind: RunKind) throws {
        for _ in 0..<4 {
            let run = kind.run(seed: .random(in: 0 ... .max), largest: 110)
            try withEveryVariant("seed \(run.seed)") { try run.digest(run.rounds) }
        }
        let long = kind.run(seed: .random(in: 0 ... .max), largest: 8, samples: 700...2100)
        try withEveryVariant("long rounds, seed \(long.seed)") { try long.digest(long.rounds) }
    }

    /// Whole tiles and rounds around one depth block and two. Some variants never store the sums of the last block. Shifts lie on both sides of 32,
    /// and steps have both signs.
    @Test("All variants agree on whole tiles and around depth blocks", arguments: [false, true]) func wholeTiles(shaped: Bool) throws {
        let (rows, columns) = (80, 256)
        let basis = InputBasis(space: "x", width: columns, values: (0..<columns).map { Int16($0 % 7 * 1500 - 4000) })
        let tensor = TrainedTensor(name: "m", index: 1, shape: .matrix(rows: rows, columns: columns), basis: shaped ? basis : nil)
        let directions = Directions(seed: RunSeed(1), family: .rank1)
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededRandom(seed: seed)
        for exponent in stride(from: Int8(-60), through: -15, by: 3) {
            let rounds = [3, 32, 33, 256, 257, 512, 513, 1100].enumerated().map { number, count in
                RoundRecord(
                    round: RoundNumber(number), scaleExponent: 0,
                    step: StepSize(multiplier: .random(in: 1 << 15 ... .max, using: &random), exponent: exponent),
                    contributions: [
                        Contribution(
                            machine: MachineID(1), firstSample: .random(in: 0 ... .max, using: &random),
                            bytes: (0..<count).map { _ in .random(in: -127...127, using: &random) })
                    ])
            }
            try withEveryVariant("2^\(exponent), seed \(seed)") {
                let parameters = try syntheticParameters([tensor], magnitude: -26)
                parameters.apply(rounds, directions: directions, threads: 1)
                let after = parameters.digest()
                for round in rounds { parameters.revert(round, directions: directions, threads: 1) }
                parameters.apply(rounds.reversed(), directions: directions, threads: 1)
                return [after, parameters.digest()]
            }
        }
    }

    /// Sums and products on both sides of what lanes of 16 and 32 bits hold. Some variants have a faster step for sums that fit.
    @Test(
        "All variants agree at the limits of narrow lanes",
        arguments: [(PerturbationFamily.rank1, true), (.rank1, false), (.rademacher, false), (.gaussian, false)])
    func edgesOfNarrowSteps(family: PerturbationFamily, shaped: Bool) throws {
        let (rows, columns) = (48, 64)
        let basis = InputBasis(space: "x", width: columns, values: [Int16](repeating: -32768, count: columns))
        let tensor = TrainedTensor(name: "m", index: 1, shape: .matrix(rows: rows, columns: columns), basis: shaped ? basis : nil)
        for count in [1, 2, 3, 64, 65, 258, 259] {  // 258·127 < 2^15 < 259·127
            for multiplier: UInt16 in [32768, 65534, 65535] {
                let rounds = stride(from: Int8(-64), through: -20, by: 2).enumerated().map { number, exponent in
                    RoundRecord(
                        round: RoundNumber(number), scaleExponent: 0, step: StepSize(multiplier: multiplier, exponent: exponent),
                        contributions: [
                            Contribution(
                                machine: MachineID(1), firstSample: UInt32(number),
                                bytes: [Int8](repeating: number % 2 == 0 ? 127 : -127, count: count))
                        ])
                }
                try withEveryVariant("\(count) directions, M = \(multiplier)") {
                    let parameters = try syntheticParameters([tensor], magnitude: -26)
                    return rounds.map { round in
                        parameters.apply([round], directions: Directions(seed: RunSeed(1), family: family), threads: 1)
                        return parameters.digest()
                    }
                }
            }
        }
    }

    /// All bytes and factors have the largest magnitude, where a narrow lane would overflow first.
    @Test("All variants agree on the largest bytes and factors") func extremes() throws {
        for (family, shaped) in [(PerturbationFamily.rank1, true), (.rank1, false), (.rademacher, false), (.gaussian, false)] {
            let columns = 70
            // One basis vector along everything, so the factors of most directions end at ±127.
            let basis = InputBasis(space: "x", width: columns, values: [Int16](repeating: -32768, count: columns))
            let tensor = TrainedTensor(
                name: "m", index: 1, shape: .matrix(rows: 37, columns: columns), basis: shaped ? basis : nil)
            for q: Int8 in [127, -127] {
                let round = RoundRecord(
                    round: 0, scaleExponent: 0, step: StepSize(multiplier: 65535, exponent: -50),
                    contributions: [
                        Contribution(machine: MachineID(1), firstSample: 4, bytes: [Int8](repeating: q, count: 4097))
                    ])
                try withEveryVariant("\(family), \(q)") {
                    let parameters = try syntheticParameters([tensor], magnitude: -26)
                    parameters.apply([round], directions: Directions(seed: RunSeed(1), family: family), threads: 1)
                    return parameters.digest()
                }
            }
        }
    }

    /// In integers the transform is exact, so it is compared with the sums of its definition. In floating point the bits must be the same in all
    /// variants.
    @Test("All variants agree on the Hadamard transform") func hadamard() {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededRandom(seed: seed)
        for bits in UInt32(0)...11 {
            let count = 1 << Int(bits)
            let values = (0..<count).map { _ in Int32.random(in: -1 << 19...1 << 19, using: &random) }
            let expected = (0..<count).map { i in
                values.indices.reduce(Int32(0)) { $0 + ((i & $1).nonzeroBitCount % 2 == 0 ? values[$1] : -values[$1]) }
            }
            withEveryVariant("2^\(bits) integers, seed \(seed)") {
                var transformed = values
                ob_hadamard(&transformed, bits)
                #expect(transformed == expected)
                return transformed
            }
            let numbers = values.map { Double($0) / 777 }
            withEveryVariant("2^\(bits) numbers, seed \(seed)") {
                var transformed = numbers
                ob_hadamard_doubles(&transformed, bits)
                for (a, b) in zip(transformed, expected) { #expect(abs(a - Double(b) / 777) < 1e-6) }
                return transformed.map(\.bitPattern)
            }
        }
    }

    @Test("All variants agree on signs, Gaussians and shaped vectors") func vectors() {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededRandom(seed: seed)
        for _ in 0..<20 {
            var vector = ob_vector(
                key: (.random(in: 0 ... .max, using: &random), .random(in: 0 ... .max, using: &random)), stream: 5,
                sample: .random(in: 0 ... .max, using: &random), machine: 9)
            let first = UInt64.random(in: 0...1 << 31, using: &random)
            let count = Int.random(in: 1...5000, using: &random)
            withEveryVariant("signs and gaussians, seed \(seed)") {
                var signs = [Int8](repeating: 0, count: count)
                var gaussians = signs
                ob_signs(&vector, first, count, &signs)
                ob_gaussians(&vector, first, count, &gaussians)
                return [signs, gaussians]
            }
            let components = Int.random(in: 0...9, using: &random)
            // Small values take the 32-bit path, large ones the 64-bit path.
            let largest: Int16 = [30, 900, 20_000, .max].randomElement(using: &random) ?? .max
            let basis = (0..<components * count).map { _ in Int16.random(in: -largest - 1...largest, using: &random) }
            withEveryVariant("shape, seed \(seed)") {
                var b = [Int8](repeating: 0, count: count)
                ob_signs(&vector, 0, count, &b)
                ob_damp(b, basis, components, count, &b)
                return b
            }
            let integers = (0..<count).map { _ in Int32.random(in: .min ... .max, using: &random) }
            let s = Int32.random(in: -96...140, using: &random)
            withEveryVariant("floats, seed \(seed)") {
                var floats = [Float](repeating: 0, count: count)
                ob_fixed_to_floats(integers, count, s, &floats)
                return floats.map(\.bitPattern)
            }
        }
    }
}
