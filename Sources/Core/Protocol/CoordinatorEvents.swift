/// What a coordinator's shell tells its state machine.
public enum CoordinatorEvent: Sendable {
    case received(Message, from: PeerID)
    /// A frame that no peer of ours sends.
    case malformed(WireError, from: PeerID)
    /// Every `ProtocolLimits.tickSeconds`.
    case tick
    /// The ledger holds `records` records and they are on disk (fsync).
    case ledgerDurable(records: UInt64)
    /// The last `append` did not reach the disk, and the file is as it was before. It will be asked for again.
    case ledgerFailed(String)
    /// The last `readLedger` for this peer is answered: its chunk is sent, or could not be read.
    case ledgerRead(for: PeerID)
    /// Ctrl-C or SIGTERM.
    case stopRequested
    /// An operator takes a machine's contributions out of the rounds so far.
    case retract(MachineID, rounds: Range<RoundNumber>)
    /// An operator puts back what retractions have taken out of the rounds so far.
    case restore(MachineID, rounds: Range<RoundNumber>)
    /// An operator goes back to the parameters before `round` and multiplies the learning rate by 2^rateShift.
    case rewind(to: RoundNumber, rateShift: Int8)
    /// An operator sets a machine aside.
    case remove(MachineID)
}

/// What a coordinator's shell is to do, in this order.
public enum CoordinatorEffect: Sendable {
    /// Encode once, send to each. A peer that can't be reached is skipped: heartbeats and repair see to it.
    case send(Message, to: [PeerID])
    /// Append these bytes (one whole record) to the ledger and fsync, then say `ledgerDurable` or `ledgerFailed`. Never is a
    /// second append asked for before that answer.
    case append(record: [UInt8], index: UInt64)
    /// Read a piece of the ledger file, as far as it is durable, send it to the peer as a `chunk`, then say `ledgerRead`.
    /// Records that became durable meanwhile belong to it: their commits have gone to this peer, which can't use them before.
    /// Never is a second read asked for a peer before that.
    case readLedger(LedgerRead)
    /// Forget the peer's queue after what was sent.
    case disconnect(PeerID)
    case notice(CoordinatorNotice)
    /// The coordinator is done; no effect follows. Flush what was sent.
    case finished(RunFinish)
}

/// What happened at a coordinator, for logs, displays and metrics.
public enum CoordinatorNotice: Hashable, Sendable {
    case greeted(name: String, trains: Bool, evaluates: Bool)
    /// The first worker's base became the run's.
    case baseAdopted(tensors: Int, from: String)
    case refused(name: String, Refusal)
    case joined(MachineID, name: String, trains: Bool, evaluates: Bool, round: RoundNumber)
    case left(MachineID, name: String, Departure.Reason, round: RoundNumber)
    /// Machines that train, and how many the run waits for.
    case waiting(machines: Int, of: Int)
    case roundCommitted(RoundSummary)
    case late(MachineID, round: RoundNumber, samples: Int)
    case status(MachineID?, name: String, WorkerStatus)
    case evaluated(MachineID, name: String, EvaluationReport)
    case digestsAgree(round: RoundNumber, Digest, machines: [MachineID])
    /// The groups, largest first.
    case digestsDiffer(round: RoundNumber, groups: [[MachineID]])
    case rebuilding(MachineID?, name: String)
    case retracted(MachineID, rounds: Range<RoundNumber>)
    case restored(MachineID, rounds: Range<RoundNumber>)
    /// `learningRate`: the run's own, from here on, before its schedule.
    case rewound(to: RoundNumber, learningRate: Double, isFinal: Bool)
    /// A trial's validation loss; `isChosen`: the run goes on at this rate.
    case trial(learningRate: Double, loss: Double, isChosen: Bool)
    case ledgerStalled(String)
    case ledgerRecovered
    /// Something a person should know; the run goes on.
    case warning(String)
}

/// A committed round, for people.
public struct RoundSummary: Hashable, Sendable {
    public let round: RoundNumber
    public let scaleExponent: Int8
    /// lr_t.
    public let learningRate: Double
    public let step: StepSize
    public let machines: Int
    public let samples: Int
    /// −128: the loss was not finite.
    public let noValue: Int
    /// |q| = 127.
    public let saturated: Int
    /// Mean |q| of the bytes with a value.
    public let meanMagnitude: Double
    /// From the opening to the close.
    public let seconds: Double
    /// Rounds in force, this one included.
    public let effectiveRounds: Int

    public init(
        round: RoundNumber, scaleExponent: Int8, learningRate: Double, step: StepSize, machines: Int, samples: Int, noValue: Int,
        saturated: Int, meanMagnitude: Double, seconds: Double, effectiveRounds: Int
    ) {
        self.round = round
        self.scaleExponent = scaleExponent
        self.learningRate = learningRate
        self.step = step
        self.machines = machines
        self.samples = samples
        self.noValue = noValue
        self.saturated = saturated
        self.meanMagnitude = meanMagnitude
        self.seconds = seconds
        self.effectiveRounds = effectiveRounds
    }

    init(_ record: RoundRecord, learningRate: Double, seconds: Double, effectiveRounds: Int) {
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
            machines: Set(record.contributions.map(\.machine)).count, samples: count, noValue: noValue, saturated: saturated,
            meanMagnitude: count > noValue ? Double(sum) / Double(count - noValue) : 0, seconds: seconds,
            effectiveRounds: effectiveRounds)
    }
}
