import Core
import Foundation
import TestSupport

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
package enum Lie: String, Sendable, CaseIterable {
    case flippedSign, constant, random

    package func bytes(_ honest: [Int8], _ random: inout SeededRandom) -> [Int8] {
        switch self {
        case .flippedSign: honest.map { -$0 }
        case .constant: honest.map { _ in 126 }
        case .random: honest.map { _ in Int8.random(in: -127...127, using: &random) }
        }
    }
}

/// A run of the plane task on the real coordinator, with liars among its machines.
package struct LiarRun {
    package let accuracy: Double
    package let loss: Double
    package let warnings: [String]
    /// Number of bytes that count, of liars and of honest machines.
    package let counted: (liars: Int, honest: Int)
    /// Number of bytes, and of those that the filter left out, as the coordinator told.
    package let told: (samples: Int, leftOut: Int)

    /// - Parameter parts: the fraction of its share that each machine contributes, as in time-boxed rounds.
    package init(
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
