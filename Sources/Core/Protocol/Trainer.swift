/// The work of a worker's compute thread, one call at a time, always on that thread. The language model's trainer is `LanguageModelTrainer`; the
/// tests of processes and sockets use one that needs no model.
public protocol Trainer {
    /// Returns the manifest that proves the base model. It needs no spec.
    func hashBase(_ task: TaskContext) throws -> BaseManifest
    /// Reads what the spec names, makes the trained parameters from the base, and computes what never changes.
    func prepare(_ spec: RunSpec, basis: [UInt8]?, _ task: TaskContext) throws
    /// Commitment to the training examples, available once the trainer is prepared; nil if there are no examples, or if the trainer is not to bind
    /// itself.
    var dataCommitment: DataCommitment? { get }
    /// Brings the parameters up to date with these changes.
    func apply(_ changes: [HistoryChange]) throws
    /// Returns the bytes of the order's first samples: fewer than ordered if the task is abandoned or its time is up.
    func compute(_ order: ComputeOrder, _ task: TaskContext) throws -> (bytes: [Int8], statistics: SampleStatistics)
    /// Returns the digest of the parameters. `unchanged`: see `ParameterProbe`; nil if no round with a step was applied since the digest before.
    func digest() throws -> (Digest, largestMagnitude: UInt32, unchanged: Double?)
    /// Returns the answer to a nonce, which only a holder of the base model and of the present parameters can give. `digest` is that of the
    /// parameters.
    func proof(_ nonce: ProofNonce, digest: Digest) throws -> Digest
    /// Evaluates the held-out data at the present parameters.
    func evaluate(round: RoundNumber, _ task: TaskContext) throws -> EvaluationReport
    /// Makes the parameters from the base again, as before round 0.
    func reset() throws
    /// Writes the present parameters to a file, whole or not at all. `position` is their position in the ledger, if it is known.
    func writeSnapshot(to path: String, at position: LedgerPosition?) throws
    /// Takes the parameters of a snapshot. After an error they stay as they were. It is not called in a run with momentum, whose snapshots can only
    /// be read.
    func restore(_ snapshot: UnsafeRawBufferPointer) throws
    /// Does a short piece of work while nothing else is wanted, such as the next piece of the prefix cache. The next order waits for it.
    ///
    /// - Returns: the fraction of such work that is done, below 1; nil if nothing is left.
    func useIdleTime() throws -> Double?
}

extension Trainer {
    public var dataCommitment: DataCommitment? { nil }

    /// Proves the parameters alone, for a trainer without a base model of its own.
    public func proof(_ nonce: ProofNonce, digest: Digest) throws -> Digest { nonce.proof(of: digest) { _ in } }

    public func useIdleTime() throws -> Double? { nil }
}

/// How a long task reports its progress and learns that it is no longer wanted.
public struct TaskContext: Sendable {
    /// Reports the fraction, 0…1, that is done.
    public let progress: @Sendable (Double) -> Void
    /// Whether nobody wants the task any more.
    public let isAbandoned: @Sendable () -> Bool
    /// Whether a time box is over, so that the finished samples are wanted now. If there are none, the first of them are still finished: a machine
    /// whose samples take longer than its time box would otherwise never contribute.
    public let isTimeUp: @Sendable () -> Bool

    public init(
        progress: @escaping @Sendable (Double) -> Void = { _ in }, isAbandoned: @escaping @Sendable () -> Bool = { false },
        isTimeUp: @escaping @Sendable () -> Bool = { false }
    ) {
        self.progress = progress
        self.isAbandoned = isAbandoned
        self.isTimeUp = isTimeUp
    }
}

/// The error of a task that stopped because nobody wants it any more.
public struct Abandoned: Error, Sendable {
    public init() {}
}
