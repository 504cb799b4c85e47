/// An event that a worker's shell reports to its state machine.
public enum WorkerEvent: Sendable {
    /// The first event.
    case started
    case received(Message)
    /// A frame that no coordinator of ours sends came.
    case malformed(WireError)
    /// The last `perform` is done.
    case performed(WorkerResult)
    /// The last `perform` can't be done. The failure names the reason and the remedy. The worker leaves.
    case failed(ProcessFailure)
    /// The clock has advanced. It comes every `ProtocolLimits.tickSeconds`.
    case tick
    /// Progress of the hashing or preparing in hand, 0…1. Later it is the fraction of the prefix cache that is there.
    case progressed(Double)
    /// The connection to the coordinator was made, or was lost with everything on its way. A shell that can't tell reports nothing.
    case connection(isUp: Bool)
    /// SIGINT (Ctrl-C) or SIGTERM came.
    case stopRequested
}

/// An order to a worker's shell. The shell carries out effects in the order in which they are returned.
public enum WorkerEffect: Sendable {
    case send(Message)
    /// Hand this to the compute thread, and report `performed` when it is done. At most one task is in hand at a time.
    case perform(WorkerTask)
    /// The bytes of the `compute` in hand are no longer wanted. Stop at the next opportunity and report `performed` with the bytes that there are,
    /// possibly none.
    case abandon
    /// The time box of the `compute` in hand is over. Report `performed` with the samples that are finished, at least the first.
    case endTimeBox
    /// Make a new connection: this one is silent, and a relay in between may keep it up for ever.
    case reconnect
    case notice(WorkerNotice)
    /// The worker is done; no effect follows. Send what is still queued.
    case finish(WorkerExit)
}

/// A piece of work for the compute thread, which owns the model and the parameters. The arrow names its result.
public enum WorkerTask: Hashable, Sendable {
    /// Hash all tensors of the base model → `.baseHashed`.
    case hashBase
    /// Read the model, the data and the task, make the trained parameters from the base, and begin the prefix cache → `.prepared`. `basis` is the
    /// payload of the ledger's basis record.
    case prepare(RunSpec, basis: [UInt8]?)
    /// Bring the parameters to `position` → `.applied`. Changes in sequence go through the kernels together.
    case apply([HistoryChange], position: UInt64)
    /// Find the bytes of these samples at the present parameters → `.computed`.
    case compute(ComputeOrder)
    /// Hash the parameters, and answer the nonce if there is one → `.digested`.
    case digest(position: UInt64, nonce: ProofNonce? = nil)
    /// Evaluate the held-out data at the present parameters, those after `position` records → `.evaluated`. `round` is the next round.
    case evaluate(round: RoundNumber, position: UInt64)
    /// Make the parameters from the base again, as before round 0 → `.reset`.
    case reset
    /// Write the present parameters, which are those at this position, for a later start → `.snapshotTaken`.
    case snapshot(LedgerPosition, round: RoundNumber)
    /// Take the parameters of this snapshot → `.restored`.
    case restore(SnapshotPosition)
}

/// A worker's share of a round.
public struct ComputeOrder: Hashable, Sendable {
    public let round: RoundNumber
    public let machine: MachineID
    public let firstSample: SampleNumber
    public let count: UInt32
    /// S, the scale exponent of the bytes.
    public let scaleExponent: Int8
    public init(round: RoundNumber, machine: MachineID, firstSample: SampleNumber, count: UInt32, scaleExponent: Int8) {
        self.round = round
        self.machine = machine
        self.firstSample = firstSample
        self.count = count
        self.scaleExponent = scaleExponent
    }
}

/// The result of a `WorkerTask`.
public enum WorkerResult: Hashable, Sendable {
    case baseHashed(BaseManifest)
    case prepared
    /// `prepared`, with the commitment to the examples that the trainer will read.
    case preparedWith(DataCommitment)
    case applied
    /// Bytes of the order's first samples, at most `count`: fewer if the order was abandoned or its time was up.
    case computed(bytes: [Int8], statistics: SampleStatistics)
    /// - `largestMagnitude`: the largest |k|; above `Parameters.divergedMagnitude` the run has diverged.
    /// - `unchanged`: the fraction of the parameters, 0…1, that the rounds since the digest before have left unchanged; nil if unknown.
    /// - `proof`: the answer to the task's nonce.
    case digested(Digest, largestMagnitude: UInt32, unchanged: Double? = nil, proof: Digest? = nil)
    case evaluated(EvaluationReport)
    case reset
    /// A failure is no reason to leave: the ledger holds everything.
    case snapshotTaken(failure: String?)
    /// After a failure the parameters are as before.
    case restored(failure: String?)
}

/// Statistics of the samples of one order, for displays.
public struct SampleStatistics: Hashable, Sendable {
    /// Mean of the samples' two-sided losses (L₊ + L₋)/2; NaN if there were none.
    public let meanLoss: Double
    /// Seconds that the samples took.
    public let seconds: Double
    /// What the examples have revealed so far; nil if the run is not private.
    public let privacy: PrivacyStatus?
    public init(meanLoss: Double, seconds: Double, privacy: PrivacyStatus? = nil) {
        self.meanLoss = meanLoss
        self.seconds = seconds
        self.privacy = privacy
    }
}

/// What a machine's examples have revealed in private runs so far.
public struct PrivacyStatus: Hashable, Sendable {
    public let epsilon: Double
    public let delta: Double
    /// Whether the budget is spent: the machine's bytes have no value from now on.
    public let isSpent: Bool
    public init(epsilon: Double, delta: Double, isSpent: Bool) {
        self.epsilon = epsilon
        self.delta = delta
        self.isSpent = isSpent
    }
}

/// Something that happened at a worker, for its log and display.
public enum WorkerNotice: Hashable, Sendable {
    case greeting(attempt: Int)
    /// `signer`: the key with which the coordinator signs the ledger.
    case welcomed(specDigest: Digest, records: UInt64, signer: SignerKey? = nil)
    /// Bytes of the ledger that have come, bytes of all of it, and the estimated seconds for the rest, if there is an estimate.
    case downloading(bytes: UInt64, of: UInt64, secondsLeft: Double?)
    /// Rounds that are not in the parameters yet, and the estimated seconds for them, if there is an estimate.
    case catchingUp(roundsBehind: Int, secondsLeft: Double?)
    /// The parameters of a snapshot were taken. Only later rounds are replayed.
    case restored(round: RoundNumber)
    case joined(MachineID)
    case applied(round: RoundNumber)
    case contributed(round: RoundNumber, samples: Int, meanLoss: Double)
    /// What private bytes have cost so far. It comes with the first bytes, from time to time, and when the budget is spent.
    case privacy(PrivacyStatus)
    case digest(round: RoundNumber, Digest)
    case evaluated(EvaluationReport)
    case silent(seconds: Double)
    case rebuilding
    case warning(String)
}

/// The reason why a worker ends.
public enum WorkerExit: Hashable, Sendable {
    /// The run is complete. The value is its digest, if this worker has computed it.
    case completed(Digest?)
    /// The coordinator was stopped, or this worker was.
    case stopped
    case refused(Refusal)
    /// The coordinator was silent for too long.
    case coordinatorLost(seconds: Double)
    case failed(ProcessFailure)
}
