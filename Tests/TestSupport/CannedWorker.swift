import Core
import Transport

/// A worker with the real state machine on its own connection. Its tasks are done at once, since there is no model, so it costs only what the
/// protocol costs.
package struct CannedWorker {
    private var machine: WorkerStateMachine
    private let link: any ClientLink
    private let clock = ProcessClock()

    /// Joins over TCP and runs until `isOver` returns true for a notice, or the run is over.
    ///
    /// - Throws: `ProcessFailure` if the worker can't take part; `TransportError` if there can be no such connection.
    package static func run(_ join: JoinString, name: String, until isOver: (WorkerNotice) -> Bool) throws {
        var generator = SystemRandomNumberGenerator()
        guard let session = SessionToken(bytes: (0..<SessionToken.byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) })
        else { throw ProcessFailure(.internalError, "a session token has \(SessionToken.byteCount) bytes") }
        let configuration = WorkerConfiguration(session: session, name: name, trains: true, evaluates: false, software: "canned")
        let link = try ZeroMQClient(join).connect(classify: trafficClass(ofFrame:))
        var worker = CannedWorker(machine: WorkerStateMachine(configuration), link: link)
        let mailbox = Mailbox<WorkerEvent>()
        mailbox.post(.started)
        try runReactor(link, mailbox: mailbox, clock: worker.clock) { event in
            switch event {
            case .link(.frame(let frame, _, _)): try worker.feed(.received(try Message(decoding: frame)), isOver)
            case .link: .continue
            case .letter(let event): try worker.feed(event, isOver)
            case .tick: try worker.feed(.tick, isOver)
            }
        }
    }

    private init(machine: WorkerStateMachine, link: any ClientLink) {
        self.machine = machine
        self.link = link
    }

    private mutating func feed(_ event: WorkerEvent, _ isOver: (WorkerNotice) -> Bool) throws -> LoopControl {
        var events = [event]
        while !events.isEmpty {
            for effect in machine.handle(events.removeFirst(), at: clock.now) {
                switch effect {
                case .send(let message): try link.send(message.encoded())
                case .perform(let task): events.append(.performed(try Self.result(of: task)))
                case .notice(let notice): if isOver(notice) { return .finish }
                case .finish(.failed(let failure)): throw failure
                case .finish(.refused(let refusal)): throw ProcessFailure(.refused, refusal.reason)
                case .finish: return .finish
                case .abandon, .endTimeBox, .reconnect: break
                }
            }
        }
        return .continue
    }

    private static func result(of task: WorkerTask) throws -> WorkerResult {
        switch task {
        case .hashBase:
            guard let base = CannedAnswers.base else { throw ProcessFailure(.internalError, "two tensors of one name") }
            return .baseHashed(base)
        case .prepare: return .prepared
        case .apply: return .applied
        case .compute(let order):
            return .computed(
                bytes: CannedAnswers.bytes(Int(order.count)), statistics: SampleStatistics(meanLoss: 1, seconds: 1e-6))
        case .digest(_, let nonce):
            return .digested(CannedAnswers.digest, largestMagnitude: 1, proof: nonce.map { $0.proof(of: CannedAnswers.digest) { _ in } })
        case .evaluate(let round, _):
            return .evaluated(
                EvaluationReport(
                    round: round, examples: 1, loss: 1, accuracy: .nan, bestThresholdAccuracy: .nan, auc: .nan, seconds: 0))
        case .reset: return .reset
        case .snapshot: return .snapshotTaken(failure: nil)
        case .restore: return .restored(failure: nil)
        }
    }
}
