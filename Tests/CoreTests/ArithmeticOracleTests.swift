import Core
import Kernels
import Testing

/// The arithmetic compared bit by bit with NumPy (Fixtures/arithmetic.py).
@Suite struct ArithmeticOracleTests {
    let fixture: ArithmeticFixture
    init() throws { fixture = try .load() }

    @Test("Random words are those of the second implementation") func philox() {
        for entry in fixture.philox {
            var output = [UInt32](repeating: 0, count: 4)
            ob_philox(entry.counter, entry.key, &output)
            #expect(output == entry.words)
        }
    }

    @Test("Signs and Gaussians are those of the second implementation") func denseVectors() {
        for (entries, family) in [(fixture.signs, PerturbationFamily.rademacher), (fixture.gaussians, .gaussian)] {
            for entry in entries {
                let tensor = TrainedTensor(name: "v", index: entry.index, shape: .vector(entry.count))
                let name = SampleName(machine: MachineID(entry.machine), sample: entry.sample)
                let directions = Directions(seed: RunSeed(entry.seed), family: family)
                var z = [Int8](repeating: 0, count: entry.count)
                directions.dense(of: tensor, name, elements: 0..<entry.count, into: &z)
                let expected = bytes(hex: entry.first)
                #expect(Array(z.prefix(expected.count)) == expected)
                #expect(z.withUnsafeBytes { Digest.sha256($0) }.description == entry.sha256)
                for start in stride(from: 0, to: entry.count, by: 777) {
                    var part = [Int8](repeating: 0, count: min(1000, entry.count - start))
                    directions.dense(of: tensor, name, elements: start..<start + part.count, into: &part)
                    #expect(part == Array(z[start..<start + part.count]))
                }
            }
        }
        #expect(withUnsafeBytes(of: ob_gaussian_table) { $0.map { Int8(bitPattern: $0) } } == fixture.table)
    }

    @Test("The factors of rank-1 directions are those of the second implementation") func rank1Factors() {
        for entry in fixture.factors {
            let basis = words(hex: entry.basis)
            let tensor = TrainedTensor(
                name: "m", index: entry.index, shape: .matrix(rows: entry.rows, columns: entry.columns),
                basis: basis.isEmpty ? nil : InputBasis(space: "m", width: entry.columns, values: basis))
            let directions = Directions(seed: RunSeed(entry.seed), family: .rank1)
            #expect(directions.fractionBits(of: tensor) == (basis.isEmpty ? 0 : 5))
            let name = SampleName(machine: MachineID(entry.machine), sample: entry.sample)
            let other = SampleName(machine: MachineID(7), sample: 9)
            var a = [Int8](repeating: 0, count: 2 * entry.rows)
            var b = [Int8](repeating: 0, count: 2 * entry.columns)
            directions.rank1Factors(of: tensor, [other, name], a: &a, b: &b)
            #expect(Array(a[entry.rows...]) == bytes(hex: entry.a))
            #expect(Array(b[entry.columns...]) == bytes(hex: entry.b))
        }
    }

    @Test("Fixed-point parameters are those of the second implementation") func fixedPoint() throws {
        for entry in fixture.fixed {
            let tensor = TrainedTensor(name: "w", index: 0, shape: .vector(entry.floats.count))
            let parameters = try Parameters(tensors: [tensor]) { _, floats in
                for i in floats.indices { floats[i] = Float(bitPattern: entry.floats[i]) }
            }
            #expect(parameters.exponent(at: 0) == entry.s)
            #expect(Array(parameters.integers(at: 0)) == entry.integers)
            #expect(parameters.largestMagnitude() == entry.integers.map(\.magnitude).max())
            var floats = [Float](repeating: 0, count: entry.floats.count)
            parameters.copyFloats(at: 0, elements: 0..<floats.count, into: &floats)
            #expect(floats.map(\.bitPattern) == entry.back)
        }
    }

    @Test("Bytes of projected gradients are those of the second implementation") func byteCodec() {
        for entry in fixture.codec {
            #expect(ByteCodec.encode(entry.g, scaleExponent: entry.scaleExponent) == entry.q, "\(entry)")
        }
        #expect(ByteCodec.encode(Double.nan, scaleExponent: 0) == Contribution.noValue)
        #expect(ByteCodec.encode(-Float.infinity, scaleExponent: 0) == Contribution.noValue)
        #expect(ByteCodec.decode(-128, scaleExponent: 3) == nil)
        #expect(ByteCodec.decode(-5, scaleExponent: 3) == -40)
        #expect(ByteCodec.decode(5, scaleExponent: -1) == 2.5)
    }

    @Test("Step sizes are those of the second implementation") func stepSizes() {
        for entry in fixture.rates { #expect(StepSize.nearest(rate: entry.rate) == entry.step, "\(entry.rate)") }
        #expect(StepSize.nearest(rate: .nan) == .zero)
        #expect(StepSize.nearest(rate: .infinity).multiplier == 65535)
    }

    @Test("Steps on integers are those of the second implementation, and undoing them goes back") func steps() {
        for entry in fixture.steps {
            let step = ob_step(multiplier: entry.multiplier, exponent: entry.exponent, adds: 0)
            let undo = ob_step(multiplier: entry.multiplier, exponent: entry.exponent, adds: 1)
            var k = entry.before
            ob_apply_step(&k, entry.sums, k.count, step)
            #expect(k == entry.after, "h = \(entry.exponent)")
            ob_apply_step(&k, entry.sums, k.count, undo)
            #expect(k == entry.before, "h = \(entry.exponent)")
        }
    }

    @Test("Orthogonal directions are those of the second implementation") func orthogonalDirections() throws {
        for entry in fixture.orthogonal {
            let adapter = TrainedTensor(adapterAt: .final, rows: 1, columns: entry.count)
            let directions = try Directions(seed: RunSeed(entry.seed), family: .rank1, sampling: .orthogonal, tensors: [adapter])
            let seed = RunSeed(entry.seed)
            var blocks = ob_blocks(
                key: (seed.low, seed.high), sign_stream: 4_294_967_292, order_stream: 4_294_967_293,
                log_size: UInt32(directions.coordinates.blockSize.trailingZeroBitCount), dimensions: entry.count)
            #expect(ob_block_row(&blocks, entry.machine, entry.sample) == entry.row)
            let name = SampleName(machine: MachineID(entry.machine), sample: entry.sample)
            var z = [Int8](repeating: 0, count: entry.count)
            directions.dense(of: adapter, name, elements: 0..<entry.count, into: &z)
            let expected = bytes(hex: entry.first)
            #expect(Array(z.prefix(expected.count)) == expected)
            #expect(z.withUnsafeBytes { Digest.sha256($0) }.description == entry.sha256)
            for start in stride(from: 0, to: entry.count, by: 777) {
                var part = [Int8](repeating: 0, count: min(1000, entry.count - start))
                directions.dense(of: adapter, name, elements: start..<start + part.count, into: &part)
                #expect(part == Array(z[start..<start + part.count]))
            }
        }
    }

    @Test("Rounded vectors are those of the second implementation") func roundedVectors() throws {
        for entry in fixture.vectors {
            let values = try entry.values.map { Double(bitPattern: try #require(UInt64($0, radix: 16))) }
            let rounded = try FixedPointVectors(rounding: [values, values])
            #expect(rounded.exponents == [entry.exponent, entry.exponent])
            #expect(rounded.values == entry.integers + entry.integers)
            let unit = Float(sign: .plus, exponent: Int(entry.exponent) - 14, significand: 1)
            #expect(rounded.floats() == rounded.values.map { Float($0) * unit })
        }
    }

    @Test("Basis records are those of the second implementation") func basisRecords() throws {
        for entry in fixture.basisRecords {
            let record = bytes(hex: entry.bytes).map { UInt8(bitPattern: $0) }
            let basis = try RunBasis(decoding: record)
            #expect(basis.spaces.map(\.space) == entry.spaces)
            for adapter in entry.adapters {
                let found = try #require(basis.adapter(at: adapter.place))
                #expect(found.shape.dimensions == adapter.shape)
                #expect(found.outputs.exponents + found.inputs.exponents == adapter.exponents)
                #expect(found.outputs.values + found.inputs.values == adapter.integers)
            }
            #expect(basis.encoded() == record)
            #expect(basis.digest == .sha256(record))
        }
    }

    /// Whole runs: the digest after each round, after one machine is taken out, and after a rewind.
    @Test("Whole runs end with the digests of the second implementation") func runs() throws {
        for run in fixture.runs {
            let parameters = try run.parameters()
            let directions = try run.directions()
            #expect(parameters.tensors.map(\.name) == run.tensors.map(\.name))
            #expect(parameters.tensors.map(\.index) == run.tensors.map(\.index))
            #expect(parameters.tensors.indices.map(parameters.exponent(at:)) == run.exponents)
            #expect(parameters.digest().description == run.before)
            for (record, digest) in zip(run.records, run.after) {
                parameters.apply([record], directions: directions, threads: 1)
                #expect(parameters.digest().description == digest)
            }
            for (position, expected) in run.integers.enumerated() {
                #expect(Array(parameters.integers(at: position).prefix(expected.count)) == expected)
            }
            for (number, digest) in run.without {
                let machine = try MachineID(#require(UInt32(number)))
                for record in run.records where record.contributions.contains(where: { $0.machine == machine }) {
                    parameters.replace(record, with: record.removing(machine), directions: directions, threads: 1)
                }
                #expect(parameters.digest().description == digest)
                for record in run.records {
                    parameters.replace(record.removing(machine), with: record, directions: directions, threads: 1)
                }
                #expect(parameters.digest().description == run.after.last)
            }
            let rewound = try run.parameters()
            let rest = try #require(run.void.last) + 1
            rewound.apply(Array(run.records[..<rest]), directions: directions, threads: 2)
            for number in run.void.reversed() { rewound.revert(run.records[number], directions: directions, threads: 2) }
            rewound.apply(Array(run.records[rest...]), directions: directions, threads: 2)
            #expect(rewound.digest().description == run.rewound)
        }
    }
}
