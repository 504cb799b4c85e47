import Core
import Glibc
import Synchronization
import Transport
import Worker

/// A task without a model, but with the real parameters, directions and bytes. The loss is half the squared distance to a hidden target. Each machine
/// sees only its own coordinates of the target, as if they were its private data.
package final class ToyTrainer: Trainer {
    package static let tensors = [
        TrainedTensor(name: "toy.bias", index: 0, shape: .vector(24)),
        TrainedTensor(name: "toy.weight", index: 1, shape: .matrix(rows: 24, columns: 40)),
    ]

    package static let epsilon = 1e-3

    /// Returns a spec with which this task is learnt.
    package static func spec(
        seed: UInt64 = 7, rounds: Int = 60, samplesPerRound: Int = 48, minimumWorkers: Int = 1, digestEvery: Int = 10,
        evaluateEvery: Int = 0, heartbeatSeconds: Double = 0.2, heartbeatTimeoutSeconds: Double = 3
    ) -> RunSpec {
        RunSpec(
            seed: seed, train: ["all"], epsilon: epsilon, learningRate: 0.03, schedule: .constant, rounds: rounds,
            samplesPerRound: samplesPerRound, task: TaskSpec(kind: .text, maxLength: 8), digestEvery: digestEvery,
            evaluateEvery: evaluateEvery, minimumWorkers: minimumWorkers, heartbeatSeconds: heartbeatSeconds,
            heartbeatTimeoutSeconds: heartbeatTimeoutSeconds)
    }

    private let base: UInt64
    private let microsecondsPerSample: UInt32
    private let part: Int?
    private let gate: Gate?
    private var directions: Directions?
    private var parameters: Parameters?
    private var nextRound: RoundNumber = 0
    private var run: Digest?

    /// - Parameters:
    ///   - base: another number is another base model.
    ///   - microsecondsPerSample: least time that a sample takes.
    ///   - part: the third of the coordinates that it sees; nil: it follows from the machine's number.
    ///   - gate: the gate at which it waits.
    package init(base: UInt64 = 1, microsecondsPerSample: UInt32 = 0, part: Int? = nil, gate: Gate? = nil) {
        self.gate = gate
        self.part = part
        self.base = base
        self.microsecondsPerSample = microsecondsPerSample
    }

    private func values(_ seed: UInt64, _ count: Int) -> [Float] {
        var state = seed &* 0x9E37_79B9_7F4A_7C15
        return (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Float(Int32(truncatingIfNeeded: state >> 33)) / Float(1 << 31)
        }
    }

    package func hashBase(_ task: TaskContext) throws -> BaseManifest {
        let entries = Self.tensors.map { tensor in
            let bytes = values(base + UInt64(tensor.index), tensor.shape.count).flatMap { value in
                withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
            }
            return BaseManifest.Entry(name: tensor.name, shape: tensor.shape, digest: .sha256(bytes))
        }
        guard let manifest = BaseManifest(entries: entries) else { throw ProcessFailure(.internalError, "two tensors of one name") }
        return manifest
    }

    package func prepare(_ spec: RunSpec, basis: [UInt8]?, _ task: TaskContext) throws {
        directions = try Directions(spec, tensors: Self.tensors)
        run = try spec.digest()
        try reset()
    }

    package func reset() throws {
        nextRound = 0
        parameters = try Parameters(tensors: Self.tensors) { [self] index, out in
            _ = out.update(fromContentsOf: values(base + UInt64(index), Self.tensors[index].shape.count))
        }
    }

    private func state() throws -> (Parameters, Directions) {
        guard let parameters, let directions else { throw ProcessFailure(.internalError, "work before the run was known") }
        return (parameters, directions)
    }

    package func apply(_ changes: [HistoryChange]) throws {
        let (parameters, directions) = try state()
        for change in changes {
            switch change {
            case .apply(let round):
                parameters.apply([round], directions: directions, threads: 1)
                nextRound = round.round + 1
            case .revert(let round): parameters.revert(round, directions: directions, threads: 1)
            case .replace(let old, let new): parameters.replace(old, with: new, directions: directions, threads: 1)
            }
        }
    }

    /// Returns the distances to the target, tensor after tensor.
    private func distances() throws -> [[Float]] {
        let (parameters, _) = try state()
        return Self.tensors.indices.map { index in
            let count = Self.tensors[index].shape.count
            var now = [Float](repeating: 0, count: count)
            parameters.copyFloats(at: index, elements: 0..<count, into: &now)
            return zip(now, values(1000 + UInt64(index), count)).map { $0 - $1 }
        }
    }

    package func loss() throws -> Double {
        try distances().joined().reduce(0) { $0 + Double($1 * $1) / 2 }
    }

    package func compute(_ order: ComputeOrder, _ task: TaskContext) throws -> (bytes: [Int8], statistics: SampleStatistics) {
        gate?.pass(order.round)
        let (_, directions) = try state()
        let distances = try distances()
        var bytes: [Int8] = []
        for i in 0..<order.count {
            guard !task.isAbandoned(), bytes.isEmpty || !task.isTimeUp() else { break }
            if microsecondsPerSample > 0 { usleep(microsecondsPerSample) }
            let name = SampleName(machine: order.machine, sample: order.firstSample + i)
            var g = 0.0
            for (tensor, distance) in zip(Self.tensors, distances) {
                let z = direction(of: tensor, name, directions)
                // A machine's data are every third coordinate, from its own number on.
                for j in stride(from: (part ?? Int(order.machine.rawValue)) % 3, to: z.count, by: 3) { g += Double(distance[j] * z[j]) }
            }
            bytes.append(ByteCodec.encode(g, scaleExponent: order.scaleExponent))
        }
        return (bytes, SampleStatistics(meanLoss: try loss(), seconds: 1e-6 * Double(bytes.count + 1)))
    }

    private func direction(of tensor: TrainedTensor, _ name: SampleName, _ directions: Directions) -> [Float] {
        let scale = Float(sign: .plus, exponent: -directions.fractionBits(of: tensor), significand: 1)
        guard directions.isRank1(tensor), case .matrix(let rows, let columns) = tensor.shape else {
            var z = [Int8](repeating: 0, count: tensor.shape.count)
            directions.dense(of: tensor, name, elements: 0..<z.count, into: &z)
            return z.map { Float($0) * scale }
        }
        var a = [Int8](repeating: 0, count: rows)
        var b = [Int8](repeating: 0, count: columns)
        directions.rank1Factors(of: tensor, name, a: &a, b: &b)
        return a.flatMap { a in b.map { Float(a) * Float($0) * scale } }
    }

    package func digest() throws -> (Digest, largestMagnitude: UInt32, unchanged: Double?) {
        let (parameters, _) = try state()
        return (parameters.digest(), parameters.largestMagnitude(), nil)
    }

    package func evaluate(round: RoundNumber, _ task: TaskContext) throws -> EvaluationReport {
        EvaluationReport(
            round: round, examples: 1, loss: try loss(), accuracy: .nan, bestThresholdAccuracy: .nan, auc: .nan, seconds: 0)
    }

    package func restore(_ snapshot: UnsafeRawBufferPointer) throws {
        nextRound = try Parameters.positionOfSnapshot(snapshot).nextRound
        parameters = try Parameters(tensors: Self.tensors, snapshot: snapshot)
    }

    package func writeSnapshot(to path: String, at ledger: LedgerPosition?) throws {
        let (parameters, _) = try state()
        guard let run else { throw ProcessFailure(.internalError, "a snapshot before the run was known") }
        var bytes: [UInt8] = []
        parameters.writeSnapshot(SnapshotPosition(run: run, nextRound: nextRound, ledger: ledger)) { bytes += $0 }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw ProcessFailure(.inputOutput, "can't write \(path)") }
        defer { close(descriptor) }
        guard write(descriptor, bytes, bytes.count) == bytes.count else { throw ProcessFailure(.inputOutput, "can't write \(path)") }
    }
}

/// Holds trainers before a round until a test has seen what it waits for. Otherwise the run could be over before.
package final class Gate: Sendable {
    private let round: RoundNumber
    private let isOpen = Atomic<Bool>(false)
    private let signal = WakeSignal()

    package init(before round: RoundNumber) { self.round = round }

    package func open() {
        isOpen.store(true, ordering: .sequentiallyConsistent)
        signal.wake()
    }

    fileprivate func pass(_ round: RoundNumber) {
        guard round >= self.round, !isOpen.load(ordering: .sequentiallyConsistent) else { return }
        while !isOpen.load(ordering: .sequentiallyConsistent) { signal.wait() }
        // A signal wakes one thread, so this one wakes the next.
        signal.wake()
    }
}
