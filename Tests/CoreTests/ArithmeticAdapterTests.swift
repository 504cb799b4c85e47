import Core
import Simulator
import TestSupport
import Testing

/// Adapters of a few sizes under one seed.
private struct AdaptedRun {
    let adapters: [TrainedTensor]
    let directions: Directions

    init(seed: UInt64, sizes: [(rows: Int, columns: Int)], sampling: DirectionSampling = .orthogonal) throws {
        adapters = sizes.enumerated().map { i, size in
            let place: AdapterPlace = i == 0 ? .final : .tensor(name: "layer\(i)", index: UInt32(i))
            return TrainedTensor(adapterAt: place, rows: size.rows, columns: size.columns)
        }
        directions = try Directions(seed: RunSeed(seed), family: .rank1, sampling: sampling, tensors: adapters)
    }

    func parameters() throws -> Parameters {
        try Parameters(tensors: adapters) { _, _ in Issue.record("an adapter has nothing to load") }
    }

    /// Returns z over all coordinates.
    func direction(_ machine: UInt32, _ sample: UInt32) -> [Double] {
        directions.coordinates.adapters.flatMap { adapter in
            var z = [Int8](repeating: 0, count: adapter.shape.count)
            directions.dense(of: adapter, SampleName(machine: MachineID(machine), sample: sample), elements: 0..<z.count, into: &z)
            return z.map(Double.init)
        }
    }

    /// Returns (1/n)·Σ g_s·z_s over n samples of a machine.
    func estimate(of gradient: [Double], _ machine: UInt32, first: UInt32, count: Int) -> [Double] {
        let g = directions.projections(of: gradient, from: SampleName(machine: MachineID(machine), sample: first), count: count)
        var sums = [Double](repeating: 0, count: gradient.count)
        for (i, g) in g.enumerated() {
            for (j, z) in direction(machine, first + UInt32(i)).enumerated() { sums[j] += g * z / Double(count) }
        }
        return sums
    }
}

private func squaredDistance(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } }

@Suite struct OrthogonalSampleTests {
    private static let sizes: [[(rows: Int, columns: Int)]] = [[(1, 1)], [(1, 2)], [(1, 3)], [(2, 8)], [(1, 5), (3, 4), (2, 2)], [(5, 13)]]

    @Test("The directions of a whole block are orthogonal, Σ z·zᵀ = N·I, and other blocks and machines have other directions")
    func blocksAreOrthogonal() throws {
        for sizes in Self.sizes {
            let run = try AdaptedRun(seed: 5, sizes: sizes)
            let (d, size) = (run.directions.coordinates.count, run.directions.coordinates.blockSize)
            #expect(size >= d && (size == 1 || size < 2 * d) && size.nonzeroBitCount == 1)
            var blocks: [[[Double]]] = []
            for (machine, block) in [(1, 0), (1, 1), (2, 0), (UInt32.max, Int(UInt32.max) / size)] as [(UInt32, Int)] {
                let z = (0..<size).map { run.direction(machine, UInt32(block * size + $0)) }
                for i in 0..<d {
                    for j in 0..<d { #expect(z.reduce(0) { $0 + $1[i] * $1[j] } == (i == j ? Double(size) : 0)) }
                }
                blocks.append(z)
            }
            if d >= 12 { #expect(Set(blocks).count == blocks.count) }
        }
    }

    @Test("The bytes of a whole block give the gradient exactly")
    func wholeBlockIsTheGradient() throws {
        for sizes in Self.sizes {
            let run = try AdaptedRun(seed: 6, sizes: sizes)
            let coordinates = run.directions.coordinates
            let gradient = (0..<coordinates.count).map { Double($0 * 7 % 5 - 2) / (coordinates.count > 40 ? 2 : 1) }.map { $0.rounded() }
            let g = run.directions.projections(
                of: gradient, from: SampleName(machine: MachineID(3), sample: UInt32(2 * coordinates.blockSize)), count: coordinates.blockSize)
            // Each is a whole number that fits a byte, and M·2^(E + 24) is 1, so k becomes −N·G.
            let bytes = try g.map { try #require(Int8(exactly: $0)) }
            let round = RoundRecord(
                round: 0, scaleExponent: 0, step: StepSize(multiplier: 1 << 15, exponent: -39),
                contributions: [Contribution(machine: MachineID(3), firstSample: UInt32(2 * coordinates.blockSize), bytes: bytes)])
            let parameters = try run.parameters()
            parameters.apply([round], directions: run.directions, threads: 1)
            let k = parameters.tensors.indices.flatMap { Array(parameters.integers(at: $0)) }
            #expect(k == gradient.map { -Int32($0) * Int32(coordinates.blockSize) })
        }
    }

    /// The seeds are fixed, so this can't fail by chance. The bound is six standard errors. The coordinates of a mean over n samples of a block vary
    /// by less than |G|²/n.
    @Test("A part of a block gives an unbiased estimate of its gradient, no noisier than random signs", arguments: [1, 3, 8, 13])
    func partsAreUnbiased(samples: Int) throws {
        let gradient = [3.0, -1, 0, 0.5, 2, -2, 1, 0, 0, -0.25, 1.5]
        let size = gradient.reduce(0) { $0 + $1 * $1 }
        let blocks = 3000
        var mean = [Double](repeating: 0, count: gradient.count)
        var errors: [DirectionSampling: Double] = [:]
        for sampling in DirectionSampling.allCases {
            let run = try AdaptedRun(seed: 77, sizes: [(1, 5), (2, 3)], sampling: sampling)
            for block in 0..<blocks {
                // Late, missing and retracted samples can leave any part of a block.
                let first = UInt32(16 * block + block % (17 - samples))
                let estimate = run.estimate(of: gradient, 1, first: first, count: samples)
                errors[sampling, default: 0] += squaredDistance(estimate, gradient) / Double(blocks)
                if sampling == .orthogonal { for (j, value) in estimate.enumerated() { mean[j] += value / Double(blocks) } }
            }
        }
        let bound = 6 * (size / Double(samples * blocks)).squareRoot()
        for (a, b) in zip(mean, gradient) { #expect(abs(a - b) < bound, "\(mean)") }
        let (orthogonal, random) = (try #require(errors[.orthogonal]), try #require(errors[.random]))
        // Random samples have the variance (d − 1)·|G|²/n. A single sample is the same in both cases. With 13 of 16 samples only the three missing
        // ones are noise.
        #expect(samples == 1 ? abs(orthogonal / random - 1) < 0.15 : orthogonal < random, "\(orthogonal), \(random)")
        if samples == 13 { #expect(orthogonal < 0.35 * random) }
    }

    @Test("Projections equal dot products with the directions, across blocks and where sample numbers wrap", arguments: DirectionSampling.allCases)
    func projections(sampling: DirectionSampling) throws {
        for sizes in Self.sizes {
            let run = try AdaptedRun(seed: 9, sizes: sizes, sampling: sampling)
            var random = SeededRandom(seed: 4)
            let gradient = (0..<run.directions.coordinates.count).map { _ in Double.random(in: -1...1, using: &random) }
            for first in [0, 7, UInt32.max - 5] {
                let g = run.directions.projections(of: gradient, from: SampleName(machine: MachineID(8), sample: first), count: 90)
                #expect(g.count == 90)
                for (i, g) in g.enumerated() {
                    let expected = zip(run.direction(8, first &+ UInt32(i)), gradient).reduce(0) { $0 + $1.0 * $1.1 }
                    #expect(abs(g - expected) < 1e-12)
                }
            }
            #expect(run.directions.projections(of: gradient, from: SampleName(machine: MachineID(8), sample: 0), count: 0).isEmpty)
        }
    }

    @Test("A block whose bytes all have the largest magnitude adds up exactly")
    func extremes() throws {
        let run = try AdaptedRun(seed: 2, sizes: [(1, 1 << 12)])
        // All bytes are ±127 along the signs of one column. The sum is 127·N there and 0 elsewhere.
        let column = 77
        let bytes = (0..<1 << 12).map { Int8(127 * run.direction(1, UInt32($0))[column]) }
        let round = RoundRecord(
            round: 0, scaleExponent: 0, step: StepSize(multiplier: 1 << 15, exponent: -39),
            contributions: [Contribution(machine: MachineID(1), firstSample: 0, bytes: bytes)])
        let parameters = try run.parameters()
        parameters.apply([round], directions: run.directions, threads: 3)
        var expected = [Int32](repeating: 0, count: 1 << 12)
        expected[column] = -127 << 12
        #expect(Array(parameters.integers(at: 0)) == expected)
        #expect(parameters.largestMagnitude() == 127 << 12)
    }

    @Test("Orthogonal samples or momentum with a tensor that is no adapter, and too many coordinates, are refused") func badRunsAreRefused() {
        func refuses(_ sampling: DirectionSampling?, _ tensors: [TrainedTensor], momentum: Double? = nil) -> DirectionError? {
            #expect(throws: DirectionError.self) {
                _ = try Directions(seed: RunSeed(1), family: .rank1, sampling: sampling, tensors: tensors, momentum: momentum)
            }
        }
        let adapter = TrainedTensor(adapterAt: .final, rows: 1, columns: 4)
        let norm = TrainedTensor(name: "norm", index: 3, shape: .vector(4))
        #expect(refuses(.orthogonal, [adapter, norm]) == .notAnAdapter("norm"))
        #expect(refuses(.random, [adapter, norm], momentum: 0.9) == .momentumOf("norm"))
        let large = TrainedTensor(adapterAt: .tensor(name: "w", index: 1), rows: 1 << 12, columns: 1 << 12)
        #expect(refuses(nil, [large, adapter]) == .tooMany("final.adapter"))
        let huge = TrainedTensor(adapterAt: .final, rows: 1 << 40, columns: 1 << 40)
        #expect(refuses(.random, [huge]) == .tooMany("final.adapter"))
    }
}

@Suite struct AdapterTests {
    @Test("The names and indices of adapters follow from their places") func namesAndIndices() throws {
        let down = AdapterPlace.tensor(name: "model.layers.29.mlp.down_proj.weight", index: 268)
        #expect(down.adapterName == "model.layers.29.mlp.down_proj.weight.adapter")
        #expect(down.adapterIndex == 1 << 29 + 268)
        #expect(AdapterPlace.final.adapterName == "final.adapter")
        #expect(AdapterPlace.final.adapterIndex == 1 << 29 + 1 << 28)
        // All streams 4τ + role fit 32 bits, and no two places share an index.
        let last = AdapterPlace.tensor(name: "x", index: AdapterPlace.indexMax)
        #expect(last.adapterIndex < AdapterPlace.final.adapterIndex && AdapterPlace.final.adapterIndex < 1 << 30 - 1)
    }

    @Test("Adapters begin at zero with s = 24, beside tensors that are loaded")
    func beginning() throws {
        let run = RandomRun(seed: 12, family: .rank1, shaped: true, adapters: .besideOthers)
        var loaded: [String] = []
        let sorted = run.tensors.sorted { $0.index < $1.index }
        let parameters = try Parameters(tensors: run.tensors) { position, floats in
            loaded.append(sorted[position].name)
            for i in floats.indices { floats[i] = 0.5 }
        }
        #expect(loaded == sorted.filter { !$0.isAdapter }.map(\.name))
        for (position, tensor) in parameters.tensors.enumerated() where tensor.isAdapter {
            #expect(parameters.exponent(at: position) == 24)
            #expect(parameters.integers(at: position).allSatisfy { $0 == 0 })
        }
    }

    @Test("A snapshot of a run with adapters reads back, and its rounds can be taken out", arguments: [RandomRun.Adapters.besideOthers, .orthogonal])
    func snapshotsComeBack(adapters: RandomRun.Adapters) throws {
        let run = RandomRun(seed: 21, family: .rank1, adapters: adapters)
        let parameters = try run.parameters()
        let base = parameters.digest()
        parameters.apply(run.rounds, directions: run.directions, threads: 2)
        var bytes: [UInt8] = []
        parameters.writeSnapshot(SnapshotPosition(run: .sha256([1]), nextRound: 5, ledger: nil)) { bytes += $0 }
        let copy = try bytes.withUnsafeBytes { try Parameters(tensors: run.tensors, snapshot: $0) }
        #expect(copy.digest() == parameters.digest())
        // Every round is taken out, down to the base.
        for round in run.rounds.reversed() { copy.revert(round, directions: run.directions, threads: 1) }
        #expect(copy.digest() == base)
        #expect(parameters.assign(copy))
        #expect(parameters.digest() == base)
    }

    @Test("A snapshot with another exponent is refused") func snapshotsWithAnotherExponentAreRefused() throws {
        let adapter = TrainedTensor(adapterAt: .final, rows: 1, columns: 4)
        let plain = TrainedTensor(name: adapter.name, index: adapter.index, shape: adapter.shape)
        var bytes: [UInt8] = []
        try Parameters(tensors: [plain]) { _, _ in }.writeSnapshot(SnapshotPosition(run: .sha256([]), nextRound: 0, ledger: nil)) { bytes += $0 }
        #expect(throws: SnapshotError.self) { _ = try bytes.withUnsafeBytes { try Parameters(tensors: [adapter], snapshot: $0) } }
    }

    @Test("A spec without `sampling` is spelt as before; with it, it reads back")
    func specs() throws {
        var spec = Samples.spec()
        spec.train = ["adapter:final"]
        let before = try spec.canonicalBytes()
        #expect(!String(decoding: before, as: UTF8.self).contains("sampling"))
        for sampling in DirectionSampling.allCases {
            spec.sampling = sampling
            let bytes = try spec.canonicalBytes()
            #expect(String(decoding: bytes, as: UTF8.self).contains("\"sampling\":\"\(sampling.rawValue)\""))
            #expect(try RunSpec(canonicalBytes: bytes) == spec)
        }
        spec.train.append("layers.1")
        spec.sampling = .orthogonal
        #expect(throws: RunSpecError.self) { try spec.validate() }
    }
}

@Suite struct AdapterBasisTests {
    private func vectors(_ count: Int, _ length: Int) throws -> FixedPointVectors {
        let rows = (0..<count).map { (i: Int) -> [Double] in (0..<length).map { (j: Int) -> Double in Double(i + 1) * 0.3 - Double(j) } }
        return try FixedPointVectors(rounding: rows)
    }

    private func basis() throws -> RunBasis {
        try RunBasis(
            spaces: [InputBasis(space: "a:in", width: 2, values: [1, -2])],
            adapters: [
                AdapterBasis(place: "model.layers.1.weight", outputs: try vectors(2, 3), inputs: try vectors(1, 4)),
                AdapterBasis(place: "final", outputs: try vectors(1, 3), inputs: try vectors(2, 3)),
            ])
    }

    @Test("Vectors are rounded to 14 fraction bits with the right exponent") func rounding() throws {
        // Halves go to even. 0.5 ≤ m < 1, so a power of two becomes 2^13, and a value that rounds up to 1 becomes 2^14.
        let rounded = try FixedPointVectors(rounding: [[1, -0.5 / 8192, 1.5 / 8192], [0.999999, 0, 0.25], [0, 0, 0], [0x1p-200, 0, 0]])
        #expect(rounded.exponents == [1, 0, 0, -64])
        #expect(rounded.values == [8192, 0, 2, 16384, 0, 4096, 0, 0, 0, 0, 0, 0])
        #expect(rounded.floats().prefix(6) == [1, 0, 2 / 8192, 1, 0, 0.25])
        for bad in [[[.nan]], [[.infinity]], [[0x1p64]], [[1, 2], [1]], [], [[]]] as [[[Double]]] {
            #expect(throws: RunBasisError.self) { _ = try FixedPointVectors(rounding: bad) }
        }
        #expect(throws: RunBasisError.self) { _ = try FixedPointVectors(length: 2, exponents: [0], values: [1]) }
        #expect(throws: RunBasisError.self) { _ = try FixedPointVectors(length: 1, exponents: [65], values: [1]) }
        #expect(throws: RunBasisError.self) { _ = try FixedPointVectors(length: 0, exponents: [], values: []) }
    }

    @Test("A record of damped components alone is version 1, byte for byte")
    func versionOne() throws {
        let basis = try RunBasis(spaces: [InputBasis(space: "a", width: 2, values: [1, -2])])
        let bytes: [UInt8] = [1, 0, 1, 0, 1, 0, 97, 2, 0, 0, 0, 1, 0, 1, 0, 254, 255]
        #expect(basis.encoded() == bytes)
        #expect(try RunBasis(decoding: bytes) == basis)
        #expect(try RunBasis(decoding: bytes).adapters.isEmpty)
        // The same basis as version 2 would be a second spelling.
        var other = bytes + [0, 0]
        other[0] = 2
        #expect(throws: RunBasisError.self) { try RunBasis(decoding: other) }
    }

    @Test("A record with adapters is version 2 and reads back") func versionTwo() throws {
        let basis = try basis()
        #expect(basis.adapters.map(\.place) == ["final", "model.layers.1.weight"])
        #expect(basis.adapter(at: "final")?.shape == .matrix(rows: 1, columns: 2))
        #expect(basis.adapter(at: "elsewhere") == nil)
        #expect(try RunBasis(decoding: basis.encoded()) == basis)
        #expect(throws: RunBasisError.self) { _ = try RunBasis(spaces: [], adapters: [basis.adapters[0], basis.adapters[0]]) }
    }

    @Test("Records that are cut, changed, unsorted or too large are refused or have one spelling, and take no more memory than they hold")
    func hostileRecords() throws {
        let basis = try basis()
        let bytes = basis.encoded()
        for cut in 0..<bytes.count { #expect(throws: RunBasisError.self) { try RunBasis(decoding: Array(bytes[..<cut])) } }
        #expect(throws: RunBasisError.self) { try RunBasis(decoding: bytes + [0]) }
        var random = SeededRandom(seed: 31)
        var decoded = 0
        for position in bytes.indices {
            for _ in 0..<8 {
                var changed = bytes
                changed[position] = .random(in: 0...255, using: &random)
                guard let other = try? RunBasis(decoding: changed) else { continue }
                decoded += 1
                #expect(other.encoded() == changed)
            }
        }
        #expect(decoded > 0)
        var swapped = try RunBasis(spaces: [], adapters: basis.adapters).encoded()
        let single = try basis.adapters.map { try RunBasis(spaces: [], adapters: [$0]).encoded() }
        #expect(swapped == Array(swapped.prefix(6) + single[0][6...] + single[1][6...]))
        swapped = Array(swapped.prefix(6) + single[1][6...] + single[0][6...])
        #expect(throws: RunBasisError.self) { try RunBasis(decoding: swapped) }
        let header: [UInt8] = [2, 0, 0, 0, 1, 0, 1, 0, 120]
        let huge: [UInt8] = [255, 255, 255, 255]
        let one: [UInt8] = [1, 0, 0, 0]
        let rank: [UInt8] = [0, 64, 0, 0]
        let width: [UInt8] = [0, 0, 16, 0]
        for sizes in [[huge, huge, huge, huge], [one, one, one, huge], [rank, rank, width, width], [one, [0, 0, 0, 0], one, one]] {
            #expect(throws: RunBasisError.self) { try RunBasis(decoding: header + Array(sizes.joined()) + [0, 0, 0, 0]) }
        }
    }
}
