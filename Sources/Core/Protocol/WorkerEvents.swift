/// What a worker's shell tells its state machine.
public enum WorkerEvent: Sendable {
    /// The first event.
    case started
    case received(Message)
    /// A frame that no coordinator of ours sends.
    case malformed(WireError)
    /// The last `perform` is done.
    case performed(WorkerResult)
    /// The last `perform` can't be done, with the reason and the remedy. The worker leaves.
    case failed(ProcessFailure)
    /// Every `ProtocolLimits.tickSeconds`.
    case tick
    /// How the hashing or preparing in hand gets on, 0…1; later on, how much of the prefix cache is there.
    case progressed(Double)
    /// The connection to the coordinator is there, or has gone with all that was on its way. A shell that can't tell says nothing.
    case connection(isUp: Bool)
    /// Ctrl-C or SIGTERM.
    case stopRequested
}

/// What a worker's shell is to do, in this order.
public enum WorkerEffect: Sendable {
    case send(Message)
    /// Hand this to the compute thread and say `performed` when it is done. At most one task is in hand at a time.
    case perform(WorkerTask)
    /// The bytes of the `compute` in hand are no longer wanted: stop at the next opportunity and say `performed` with what
    /// there is (possibly no bytes).
    case abandon
    /// The `compute` in hand has had its time: say `performed` with what there is, but with the first of its samples at least.
    case endTimeBox
    /// Make the connection anew: this one is silent, and whoever stands in between may keep it up for ever.
    case reconnect
    case notice(WorkerNotice)
    /// The worker is done; no effect follows. Flush what was sent.
    case finish(WorkerExit)
}

/// One piece of work for the compute thread, which owns the model and the parameters.
public enum WorkerTask: Hashable, Sendable {
    /// Hash all tensors of the base model → `.baseHashed`.
    case hashBase
    /// Read the model, the data and the task, make the trained parameters from the base, begin the prefix cache → `.prepared`.
    /// `basis` is the payload of the ledger's basis record.
    case prepare(RunSpec, basis: [UInt8]?)
    /// Bring the parameters to `position` → `.applied`. A run of `.apply`s goes through the kernels together.
    case apply([HistoryChange], position: UInt64)
    /// Find the bytes of these samples at the present parameters → `.computed`.
    case compute(ComputeOrder)
    /// → `.digested`.
    case digest(position: UInt64, nonce: ProofNonce? = nil)
    /// Held-out data at the present parameters, those after `position` records; `round` is the next round → `.evaluated`.
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
    /// S.
    public let scaleExponent: Int8
    public init(round: RoundNumber, machine: MachineID, firstSample: SampleNumber, count: UInt32, scaleExponent: Int8) {
        self.round = round
        self.machine = machine
        self.firstSample = firstSample
        self.count = count
        self.scaleExponent = scaleExponent
    }
}

public enum WorkerResult: Hashable, Sendable {
    case baseHashed(BaseManifest)
    case prepared
    /// The same, with the examples that the trainer will read.
    case preparedWith(DataCommitment)
    case applied
    /// `bytes` of the order's first samples, at most `count`: fewer where it was abandoned.
    case computed(bytes: [Int8], statistics: SampleStatistics)
    /// `largestMagnitude`: of the integers k; above `Parameters.divergedMagnitude` the run has diverged.
    /// `unchanged`: the part of the parameters, 0…1, that the rounds since the digest before have left as they were; nil where it is not
    /// known.
    /// `proof`: of the task's nonce.
    case digested(Digest, largestMagnitude: UInt32, unchanged: Double? = nil, proof: Digest? = nil)
    case evaluated(EvaluationReport)
    case reset
    /// A failure is no reason to leave: the ledger has all.
    case snapshotTaken(failure: String?)
    /// With a failure the parameters are as before.
    case restored(failure: String?)
}

public struct SampleStatistics: Hashable, Sendable {
    /// Mean of the samples' two-sided losses (L₊ + L₋)/2; NaN where there were none.
    public let meanLoss: Double
    public let seconds: Double
    public init(meanLoss: Double, seconds: Double) {
        self.meanLoss = meanLoss
        self.seconds = seconds
    }
}

/// What happened at a worker, for its log and display.
public enum WorkerNotice: Hashable, Sendable {
    case greeting(attempt: Int)
    /// `signer`: with which the coordinator signs the ledger.
    case welcomed(specDigest: Digest, records: UInt64, signer: SignerKey? = nil)
    /// Bytes of the ledger that have come, of all that there are, and how long the rest will take where it can be told.
    case downloading(bytes: UInt64, of: UInt64, secondsLeft: Double?)
    /// Rounds that are not in the parameters yet, and how long that will take where it can be told.
    case catchingUp(roundsBehind: Int, secondsLeft: Double?)
    /// The parameters of a snapshot were taken; only later rounds are replayed.
    case restored(round: RoundNumber)
    case joined(MachineID)
    case applied(round: RoundNumber)
    case contributed(round: RoundNumber, samples: Int, meanLoss: Double)
    case digest(round: RoundNumber, Digest)
    case evaluated(EvaluationReport)
    case silent(seconds: Double)
    case rebuilding
    case warning(String)
}

/// Why a worker ends.
public enum WorkerExit: Hashable, Sendable {
    /// The run is complete; its digest, where it was computed.
    case completed(Digest?)
    /// The coordinator was stopped, or this worker was.
    case stopped
    case refused(Refusal)
    /// Nothing heard for too long.
    case coordinatorLost(seconds: Double)
    case failed(ProcessFailure)
}
