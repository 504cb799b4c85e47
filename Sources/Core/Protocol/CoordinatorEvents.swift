/// An event that a coordinator's shell reports to its state machine.
public enum CoordinatorEvent: Sendable {
    case received(Message, from: PeerID)
    /// A frame that none of our peers sends came.
    case malformed(WireError, from: PeerID)
    /// The clock has advanced. It comes every `ProtocolLimits.tickSeconds`.
    case tick
    /// The ledger's first `records` records are on disk (fsync).
    case ledgerDurable(records: UInt64)
    /// The last `append` did not reach the disk, and the file is as it was before. The state machine will ask for it again.
    case ledgerFailed(String)
    /// The last `readLedger` for this peer is done: its chunk was sent, or could not be read.
    case ledgerRead(for: PeerID)
    /// SIGINT (Ctrl-C) or SIGTERM came.
    case stopRequested
    /// An operator takes a machine's contributions out of past rounds.
    case retract(MachineID, rounds: Range<RoundNumber>)
    /// An operator puts back a machine's contributions that were taken out of past rounds.
    case restore(MachineID, rounds: Range<RoundNumber>)
    /// An operator goes back to the parameters before `round` and multiplies the learning rate by 2^rateShift.
    case rewind(to: RoundNumber, rateShift: Int8)
    /// An operator evicts a machine.
    case remove(MachineID)
}

/// An order to a coordinator's shell. The shell carries out effects in the order in which they are returned.
public enum CoordinatorEffect: Sendable {
    /// Encode the message once and send it to each peer. A peer that can't be reached is skipped: heartbeats bring it up to date later.
    case send(Message, to: [PeerID])
    /// Append these bytes (one whole record) to the ledger, fsync, then report `ledgerDurable` or `ledgerFailed`. There is never a second append
    /// before that report.
    case append(record: [UInt8], index: UInt64)
    /// Read a piece of the ledger file, as far as it is durable, send it to the peer as a `chunk`, then report `ledgerRead`. Records that became
    /// durable in the meantime are included: their commits have gone to this peer, which can't use them before it has this piece. There is never a
    /// second read for a peer before that report.
    case readLedger(LedgerRead)
    /// Forget the peer, once the messages that are queued for it are sent.
    case disconnect(PeerID)
    case notice(CoordinatorNotice)
    /// The coordinator is done; no effect follows. Send what is still queued.
    case finished(RunFinish)
}

/// Something that happened at a coordinator, for logs, displays and metrics.
public enum CoordinatorNotice: Hashable, Sendable {
    /// `session` tells workers of one name apart.
    case greeted(name: String, session: UInt32, trains: Bool, evaluates: Bool)
    /// The first worker's base model became the run's.
    case baseAdopted(tensors: Int, from: String)
    case refused(name: String, Refusal)
    case joined(MachineID, name: String, session: UInt32, trains: Bool, evaluates: Bool, round: RoundNumber)
    case left(MachineID, name: String, Departure.Reason, round: RoundNumber)
    /// Number of machines that train and are there, and the number that the run waits for.
    case waiting(machines: Int, of: Int)
    case roundCommitted(RoundSummary)
    case late(MachineID, round: RoundNumber, samples: Int)
    case status(WorkerReport)
    /// The run waits for this; nil if it no longer waits.
    case hold(Hold?)
    case evaluated(MachineID, name: String, EvaluationReport)
    case digestsAgree(round: RoundNumber, Digest, machines: [MachineID])
    /// Machines with equal digests form a group. The groups come in descending order of size.
    case digestsDiffer(round: RoundNumber, groups: [[MachineID]])
    case rebuilding(MachineID?, name: String)
    case retracted(MachineID, rounds: Range<RoundNumber>)
    case restored(MachineID, rounds: Range<RoundNumber>)
    /// `learningRate` is the run's rate from here on, before its schedule.
    case rewound(to: RoundNumber, learningRate: Double, isFinal: Bool)
    /// A trial's validation loss. `isChosen`: the run continues at this rate.
    case trial(learningRate: Double, loss: Double, isChosen: Bool)
    /// A record could not be written; the value is the reason. Rounds wait.
    case ledgerStalled(String)
    /// The ledger can be written again.
    case ledgerRecovered
    /// Something that a person should know. The run goes on.
    case warning(String)
}

/// A worker's status, and what the coordinator knows about the worker.
public struct WorkerReport: Hashable, Sendable {
    /// Nil before its admission.
    public let machine: MachineID?
    public let name: String
    /// Tells workers of one name apart.
    public let session: UInt32
    public let trains: Bool
    public let evaluates: Bool
    /// Number of its bytes in the ledger, one per sample, including those of void rounds.
    public let bytes: UInt64
    /// Whether its bytes point against the other machines' (`Agreement`).
    public let disagrees: Bool
    public let status: WorkerStatus
}

/// A committed round, summed up for people.
public struct RoundSummary: Hashable, Sendable {
    public let round: RoundNumber
    public let scaleExponent: Int8
    /// lr_t, the round's learning rate.
    public let learningRate: Double
    public let step: StepSize
    /// Number of machines that contributed.
    public let machines: Int
    /// Number of bytes, those without a value included.
    public let samples: Int
    /// Number of bytes −128: the loss was not finite, a private worker's budget is spent, or the filter left the byte out.
    public let noValue: Int
    /// Number of bytes, of those without a value, that had one before the filter.
    public let leftOut: Int
    /// Number of bytes with |q| = 127.
    public let saturated: Int
    /// Mean |q| of the bytes that have a value.
    public let meanMagnitude: Double
    /// Seconds from the opening to the close.
    public let seconds: Double
    /// Number of rounds in force, this one included.
    public let effectiveRounds: Int

    public init(
        round: RoundNumber, scaleExponent: Int8, learningRate: Double, step: StepSize, machines: Int, samples: Int, noValue: Int,
        leftOut: Int, saturated: Int, meanMagnitude: Double, seconds: Double, effectiveRounds: Int
    ) {
        self.round = round
        self.scaleExponent = scaleExponent
        self.learningRate = learningRate
        self.step = step
        self.machines = machines
        self.samples = samples
        self.noValue = noValue
        self.leftOut = leftOut
        self.saturated = saturated
        self.meanMagnitude = meanMagnitude
        self.seconds = seconds
        self.effectiveRounds = effectiveRounds
    }

    /// - Parameter sent: the contributions before the filter, in the record's order.
    init(_ record: RoundRecord, sent: [Contribution], learningRate: Double, seconds: Double, effectiveRounds: Int) {
        let leftOut = zip(sent, record.contributions).reduce(0) { count, pair in
            count + zip(pair.0.bytes, pair.1.bytes).count { $0 != Contribution.noValue && $1 == Contribution.noValue }
        }
        var (count, noValue, saturated, sum) = (0, 0, 0, 0)
        for contribution in record.contributions {
            count += contribution.bytes.count
            for q in contribution.bytes {
                if q == Contribution.noValue {
                    noValue += 1
                } else {
                    let magnitude = abs(Int(q))
                    if magnitude == 127 { saturated += 1 }
                    sum += magnitude
                }
            }
        }
        self.init(
            round: record.round, scaleExponent: record.scaleExponent, learningRate: learningRate, step: record.step,
            machines: Set(record.contributions.map(\.machine)).count, samples: count, noValue: noValue, leftOut: leftOut,
            saturated: saturated,
            meanMagnitude: count > noValue ? Double(sum) / Double(count - noValue) : 0, seconds: seconds,
            effectiveRounds: effectiveRounds)
    }
}
