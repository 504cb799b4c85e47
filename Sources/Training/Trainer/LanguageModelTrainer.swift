import Core
import Glibc
import LanguageModel

/// Trains and evaluates a language model, with the base from its files and the examples from this host.
public final class LanguageModelTrainer: Trainer {
    /// The model, the data and the resources of this host.
    public struct Configuration: Sendable {
        /// A .gguf file, a Hugging Face directory, or org/name.
        public var model: String
        /// Returns the private training examples once the run is known, one element for each record; nil stands for a record that says nothing. In a
        /// private run such records count as examples (`TaskEncoder.encodePrivately`). Without this closure the worker only evaluates.
        public var trainingExamples: (@Sendable (RunSpec, ModelSource) throws -> [Example?])?
        /// Returns the held-out examples; nil for a worker that only trains.
        public var heldOutExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])?
        /// Returns examples that steer the run and judge nothing; nil for none. Needs `heldOutExamples`.
        public var validationExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])?
        /// Number of threads for all computations.
        public var threads: Int
        /// Precision of samples and of the training examples' hidden states. Held-out data are measured in floats.
        public var precision: ComputePrecision
        /// Bytes of hidden states that may be kept in memory. A set of examples that would exceed this goes to a file.
        public var cacheMemory: Int
        /// Directory of that file; nil keeps everything in memory.
        public var cacheDirectory: String?
        /// Seconds for filling the training examples' hidden states before the worker reports that it is ready.
        public var headStartSeconds = 2.0
        /// Receives remarks for the log.
        public var onRemark: @Sendable (String) -> Void
        /// What the training examples have revealed in private runs, and how much they may; nil: this host takes part in no private run.
        public var privacy: PrivacyAccount?
        /// Secret from which the salts of a commitment to the training examples are made; nil makes no commitment.
        public var dataSecret: [UInt8]?
        /// Seed of the order of this worker's examples.
        public var orderSeed: UInt64
        /// The program that scores texts, for runs with that objective. It never comes from the coordinator.
        public var scoring: ScoringProgram.Options?
        /// Receives the program's stderr, line by line.
        public var onScoringLine: @Sendable (String) -> Void

        public init(
            model: String, trainingExamples: (@Sendable (RunSpec, ModelSource) throws -> [Example?])? = nil,
            heldOutExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])? = nil,
            validationExamples: (@Sendable (TaskSpec, ModelSource) throws -> [Example])? = nil, threads: Int = 1,
            precision: ComputePrecision = ComputePrecision(), cacheMemory: Int = 2 << 30, cacheDirectory: String? = nil,
            orderSeed: UInt64 = 0,
            onRemark: @escaping @Sendable (String) -> Void = { _ in }, scoring: ScoringProgram.Options? = nil,
            onScoringLine: @escaping @Sendable (String) -> Void = { _ in }, dataSecret: [UInt8]? = nil,
            privacy: PrivacyAccount? = nil
        ) {
            self.privacy = privacy
            self.dataSecret = dataSecret
            self.onRemark = onRemark
            self.scoring = scoring
            self.onScoringLine = onScoringLine
            self.model = model
            self.trainingExamples = trainingExamples
            self.heldOutExamples = heldOutExamples
            self.threads = threads
            self.precision = precision
            self.cacheMemory = cacheMemory
            self.cacheDirectory = cacheDirectory
            self.validationExamples = validationExamples
            self.orderSeed = orderSeed
        }
    }

    private let configuration: Configuration
    private let source: ModelSource
    private var baseDigest: Digest?
    private var prepared: PreparedRun?
    /// Commitment to the training examples; nil without a `dataSecret`, and before a run is prepared.
    public private(set) var dataCommitment: DataCommitment?

    public init(_ configuration: Configuration) throws {
        self.configuration = configuration
        source = try ModelSource.open(configuration.model, log: configuration.onRemark)
    }

    public func hashBase(_ task: TaskContext) throws -> BaseManifest {
        let total = Double(max(source.tensorNames.count, 1))
        let done = Counter()
        let manifest = source.baseManifest(threads: configuration.threads) { task.progress(Double(done.next()) / total) }
        var hash = SHA256()
        for entry in manifest.entries { hash.update(entry.digest.bytes) }
        baseDigest = hash.finalize()
        return manifest
    }

    public func prepare(_ spec: RunSpec, basis: [UInt8]?, _ task: TaskContext) throws {
        let basis: RunBasis? = if let basis { try RunBasis(decoding: basis) } else { nil }
        var builder = try RunBuilder(spec, basis: basis, source: source, baseDigest: baseDigest, configuration: configuration, task)
        prepared = try builder.build()
        // In a private run the commitment would say what the data are without any noise to whoever learns the secret later.
        if spec.privacy == nil, let secret = configuration.dataSecret, let examples = configuration.trainingExamples {
            dataCommitment = DataCommitment(examples: try examples(spec, source).compactMap { $0?.encoded }, secret: secret)
        }
    }

    public func apply(_ changes: [HistoryChange]) throws { try withPrepared { $0.apply(changes) } }

    public func compute(_ order: ComputeOrder, _ task: TaskContext) throws -> (bytes: [Int8], statistics: SampleStatistics) {
        try withPrepared { try $0.compute(order, task) }
    }

    /// Computes the projected gradients of single training examples at the present parameters (`GradientEstimator.visitExamples`).
    package func visitExamples(
        _ examples: [Int], machine: MachineID, samples: Range<SampleNumber>, _ visit: (_ example: Int, _ gradients: [Double]) throws -> Void
    ) throws {
        try withPrepared { try $0.visitExamples(examples, machine: machine, samples: samples, visit) }
    }

    public func digest() throws -> (Digest, largestMagnitude: UInt32, unchanged: Double?) { try withPrepared { $0.digest() } }

    public func proof(_ nonce: ProofNonce, digest: Digest) throws -> Digest {
        let source = source
        return try nonce.proof(of: digest) { try source.addRows(of: nonce, to: &$0) }
    }

    public func evaluate(round: RoundNumber, _ task: TaskContext) throws -> EvaluationReport {
        try withPrepared { try $0.evaluate(round: round, task) }
    }

    public func reset() throws {
        try withPrepared { prepared in
            guard prepared.assign(try source.makeParameters(prepared.tensors), nextRound: 0) else {
                throw ProcessFailure(.internalError, "\(configuration.model) has changed since it was opened; start the worker again")
            }
        }
    }

    public func writeSnapshot(to path: String, at ledger: LedgerPosition?) throws {
        try withPrepared { prepared in
            let partial = path + ".partial"
            let descriptor = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
            func failure() -> ProcessFailure {
                ProcessFailure(.inputOutput, "can't write \(path): \(String(cString: strerror(errno)))")
            }
            guard descriptor >= 0 else { throw failure() }
            defer { close(descriptor) }
            var isWhole = false
            // On a full disk an unfinished snapshot would take the room that the ledger waits for.
            defer { if !isWhole { unlink(partial) } }
            let position = SnapshotPosition(run: prepared.specDigest, nextRound: prepared.nextRound, ledger: ledger)
            try prepared.parameters.writeSnapshot(position) { bytes in
                var done = 0
                while done < bytes.count {
                    let wrote = write(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                    if wrote < 0 && errno == EINTR { continue }
                    guard wrote > 0 else { throw failure() }
                    done += wrote
                }
            }
            guard fsync(descriptor) == 0, rename(partial, path) == 0 else { throw failure() }
            isWhole = true
        }
    }

    public func restore(_ snapshot: UnsafeRawBufferPointer) throws {
        try withPrepared { prepared in
            guard prepared.directions.momentum == nil else { throw SnapshotError.noVelocities }
            let position = try Parameters.positionOfSnapshot(snapshot)
            let values = try Parameters(tensors: prepared.tensors, snapshot: snapshot)
            guard prepared.assign(values, nextRound: position.nextRound) else {
                throw SnapshotError.otherTensors("its numbers are scaled otherwise, as for another base model")
            }
        }
    }

    /// Fills a slice of the training examples' prefix cache, if anything is missing.
    public func useIdleTime() throws -> Double? {
        guard let cache = prepared?.trainingCache else { return nil }
        return try cache.fillSlice() ? cache.filledPart : nil
    }

    private func withPrepared<Value>(_ body: (inout PreparedRun) throws -> Value) throws -> Value {
        guard var current = prepared else { throw ProcessFailure(.internalError, "work before the run was known") }
        defer { prepared = current }
        return try body(&current)
    }
}

func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
