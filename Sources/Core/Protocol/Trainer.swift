/// What a worker's compute thread does, one call at a time, always on that thread. The language model's is `LanguageModelTrainer`;
/// the tests of processes and sockets bring one that needs no model.
public protocol Trainer {
    /// The proof of the base model; needs no spec.
    func hashBase(_ task: TaskContext) throws -> BaseManifest
    /// Reads what the spec names, makes the trained parameters from the base, computes what never changes.
    func prepare(_ spec: RunSpec, basis: [UInt8]?, _ task: TaskContext) throws
    /// To the training examples, once it is prepared; nil where there are none, or it is not to bind itself.
    var dataCommitment: DataCommitment? { get }
    func apply(_ changes: [HistoryChange]) throws
    /// The bytes of the order's first samples, fewer where the task is abandoned or its time is up.
    func compute(_ order: ComputeOrder, _ task: TaskContext) throws -> (bytes: [Int8], statistics: SampleStatistics)
    /// `unchanged`: see `ParameterProbe`; nil where no round with a step was applied since the digest before.
    func digest() throws -> (Digest, largestMagnitude: UInt32, unchanged: Double?)
    /// What only a holder of the base model and of the present parameters, whose digest this is, can say.
    func proof(_ nonce: ProofNonce, digest: Digest) throws -> Digest
    /// Held-out data at the present parameters.
    func evaluate(round: RoundNumber, _ task: TaskContext) throws -> EvaluationReport
    /// The parameters from the base again, as before round 0.
    func reset() throws
    /// Writes the present parameters to a file, whole or not at all; `position` is theirs in the ledger, where it is known.
    func writeSnapshot(to path: String, at position: LedgerPosition?) throws
    /// Takes the parameters of a snapshot; with an error they stay as they are. Not asked for in a run with momentum, whose snapshots can only
    /// be read.
    func restore(_ snapshot: UnsafeRawBufferPointer) throws
    /// A short piece of work for a moment in which nobody wants anything, such as the next of the prefix cache; the next order waits for it.
    ///
    /// - Returns: the part of such work that is done, below 1; nil where nothing is left.
    func useIdleTime() throws -> Double?
}

extension Trainer {
    public var dataCommitment: DataCommitment? { nil }

    /// Of a trainer without a base model of its own: of the parameters alone.
    public func proof(_ nonce: ProofNonce, digest: Digest) throws -> Digest { nonce.proof(of: digest) { _ in } }

    public func useIdleTime() throws -> Double? { nil }
}

/// How a long task tells how far it is and hears that nobody wants it any more.
public struct TaskContext: Sendable {
    /// 0…1.
    public let progress: @Sendable (Double) -> Void
    public let isAbandoned: @Sendable () -> Bool
    /// Of time-boxed samples: that what there is of them is wanted now. Where there is nothing the first of them are still to be done, or a
    /// machine whose time box is shorter than they take would never give any.
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

/// A task stopped because nobody wants it any more.
public struct Abandoned: Error, Sendable {
    public init() {}
}
