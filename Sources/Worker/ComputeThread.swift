import Core
import Synchronization
import Transport

/// The thread that owns the model and the parameters. It carries out its orders strictly in sequence and reports the results.
final class ComputeThread: Sendable {
    private enum Order: Sendable {
        case perform(WorkerTask)
        case snapshot(String, LedgerPosition?)
        case stop
    }

    private let orders: Mailbox<Order>
    private let answers: Mailbox<WorkerLetter>
    private let abandoned = Atomic<Bool>(false)
    private let isTimeUp = Atomic<Bool>(false)
    private let clock = ProcessClock()
    /// The last report on the work in hand.
    private let reported: Mutex<(time: Timestamp, done: Double)>
    private let snapshots: SnapshotStore
    /// Turns a trainer's error into a message for this worker's user.
    private let failure: @Sendable (any Error) -> ProcessFailure
    /// Seconds between two reports of a task's progress.
    private static let progressSeconds = 0.2

    init(answers: Mailbox<WorkerLetter>, snapshots: SnapshotStore, failure: @escaping @Sendable (any Error) -> ProcessFailure) {
        self.failure = failure
        self.snapshots = snapshots
        reported = Mutex((clock.now, 1))
        orders = Mailbox()
        self.answers = answers
    }

    /// At most one task is in hand at a time.
    func perform(_ task: WorkerTask) {
        abandoned.store(false, ordering: .sequentiallyConsistent)
        isTimeUp.store(false, ordering: .sequentiallyConsistent)
        orders.post(.perform(task))
    }

    /// Tells the thread that the task in hand is no longer wanted.
    func abandon() { abandoned.store(true, ordering: .sequentiallyConsistent) }

    /// Tells the thread that the time of the samples in hand is over.
    func endTimeBox() { isTimeUp.store(true, ordering: .sequentiallyConsistent) }

    func writeSnapshot(to path: String, at position: LedgerPosition?) { orders.post(.snapshot(path, position)) }

    /// Ends the thread as soon as the task in hand and the orders before this one allow.
    func stop() { orders.post(.stop) }

    /// The thread's body.
    func run(_ makeTrainer: () throws -> any Trainer) {
        let trainer: any Trainer
        do {
            trainer = try makeTrainer()
        } catch {
            return answers.post(.failed(failure(error)))
        }
        var isIdleWorkLeft = true
        while true {
            for order in isIdleWorkLeft ? orders.takeAll() : orders.waitAndTakeAll() {
                switch order {
                case .perform(let task):
                    do {
                        answers.post(.event(.performed(try perform(task, trainer))))
                    } catch is Abandoned {
                        // Nobody waits for the answer, because the worker is leaving.
                    } catch {
                        answers.post(.failed(failure(error)))
                    }
                case .snapshot(let path, let position):
                    do {
                        try trainer.writeSnapshot(to: path, at: position)
                        answers.post(.snapshotWritten(path))
                    } catch {
                        answers.post(.snapshotFailed(failure(error)))
                    }
                case .stop: return
                }
                // A task may have made some.
                isIdleWorkLeft = true
            }
            if isIdleWorkLeft, orders.isEmpty { isIdleWorkLeft = useIdleTime(of: trainer) }
        }
    }

    /// - Returns: whether more idle work is left.
    private func useIdleTime(of trainer: any Trainer) -> Bool {
        do {
            let done = try trainer.useIdleTime()
            report(done ?? 1)
            return done != nil
        } catch {
            answers.post(.failed(failure(error)))
            return false
        }
    }

    /// Reports the progress of the work in hand, from time to time.
    private func report(_ done: Double) {
        let isDue = reported.withLock { last in
            // The end is always reported, once.
            let isEnd = done >= 1 && last.done < 1
            guard isEnd || (done < 1 && clock.now.seconds(since: last.time) >= Self.progressSeconds) else { return false }
            last = (clock.now, done)
            return true
        }
        if isDue { answers.post(.event(.progressed(done))) }
    }

    private static func failure(of body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch let failure as ProcessFailure {
            return failure.message
        } catch {
            return "\(error)"
        }
    }

    private func perform(_ task: WorkerTask, _ trainer: any Trainer) throws -> WorkerResult {
        let context = TaskContext(
            progress: { [self] in report($0) }, isAbandoned: { [self] in abandoned.load(ordering: .relaxed) },
            isTimeUp: { [self] in isTimeUp.load(ordering: .relaxed) })
        switch task {
        case .hashBase: return .baseHashed(try trainer.hashBase(context))
        case .prepare(let spec, let basis):
            try trainer.prepare(spec, basis: basis, context)
            return trainer.dataCommitment.map { .preparedWith($0) } ?? .prepared
        case .apply(let changes, _):
            try trainer.apply(changes)
            return .applied
        case .compute(let order):
            let (bytes, statistics) = try trainer.compute(order, context)
            return .computed(bytes: bytes, statistics: statistics)
        case .digest(_, let nonce):
            let (digest, largest, unchanged) = try trainer.digest()
            let proof = try nonce.map { try trainer.proof($0, digest: digest) }
            return .digested(digest, largestMagnitude: largest, unchanged: unchanged, proof: proof)
        case .evaluate(let round, _): return .evaluated(try trainer.evaluate(round: round, context))
        case .reset:
            try trainer.reset()
            return .reset
        case .snapshot(let position, _):
            return .snapshotTaken(
                failure: Self.failure { try snapshots.keep(position.records) { try trainer.writeSnapshot(to: $0, at: position) } })
        case .restore(let position):
            return .restored(failure: Self.failure { try snapshots.withBytes(of: position) { try trainer.restore($0) } })
        }
    }
}
