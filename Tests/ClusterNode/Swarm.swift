import CZeroMQ
import Core
import Glibc
import Transport
import Worker

/// Many workers in one thread, for measuring a coordinator and the wire: real sockets, real state machines, canned bytes, and no
/// parameters at all (every digest is the same).
package enum Swarm {
    /// One worker: a socket and a state machine, whose tasks are done at once.
    private struct Member: ~Copyable {
        let socket: ZMQSocket
        var machine: WorkerStateMachine
        var waiting: [[UInt8]] = []
        var isDone = false

        mutating func feed(_ event: WorkerEvent, _ clock: ProcessClock) throws {
            var events = [event]
            while !events.isEmpty {
                let event = events.removeFirst()
                for effect in machine.handle(event, at: clock.now) {
                    switch effect {
                    case .send(let message): waiting.append(message.encoded())
                    case .perform(let task): events.append(.performed(try Swarm.result(of: task)))
                    case .finish: isDone = true
                    case .abandon, .notice: break
                    }
                }
            }
            try flush()
        }

        mutating func flush() throws {
            while let frame = waiting.first, try socket.send(frame) == .sent { waiting.removeFirst() }
        }
    }

    private static let digest = Digest.sha256([])

    private static func result(of task: WorkerTask) throws -> WorkerResult {
        switch task {
        case .hashBase: .baseHashed(try ToyTrainer().hashBase(.init()))
        case .prepare: .prepared
        case .apply: .applied
        case .compute(let order):
            .computed(
                bytes: (0..<order.count).map { Int8(truncatingIfNeeded: ($0 &* 37) % 65) - 32 },
                statistics: SampleStatistics(meanLoss: 1, seconds: 1e-6))
        case .digest: .digested(digest, largestMagnitude: 1)
        case .evaluate(let round, _):
            .evaluated(
                EvaluationReport(
                    round: round, examples: 1, loss: 1, accuracy: .nan, bestThresholdAccuracy: .nan, auc: .nan, seconds: 0))
        case .reset: .reset
        case .snapshot: .snapshotTaken(failure: nil)
        case .restore: .restored(failure: nil)
        }
    }

    /// Runs `count` workers until the run is complete.
    package static func run(_ address: Address, count: Int) throws {
        let context = try ZMQContext()
        let clock = ProcessClock()
        var generator = SystemRandomNumberGenerator()
        let members = UnsafeMutablePointer<Member>.allocate(capacity: count)
        defer { members.deinitialize(count: count).deallocate() }
        for i in 0..<count {
            guard let session = SessionToken(bytes: (0..<SessionToken.byteCount).map { _ in UInt8.random(in: 1...255, using: &generator) })
            else { throw ProcessFailure(.internalError, "a session token has \(SessionToken.byteCount) bytes") }
            let socket = try ZMQSocket(.dealer, in: context)
            try socket.set(ZMQ_ROUTING_ID, session.bytes)
            try socket.connect(address.endpoint)
            let machine = WorkerStateMachine(
                WorkerConfiguration(session: session, name: "canned-\(i)", trains: true, evaluates: false, software: "canned"))
            (members + i).initialize(to: Member(socket: socket, machine: machine))
        }
        for i in 0..<count { try members[i].feed(.started, clock) }
        var items = (0..<count).map { members[$0].socket.pollItem(ZMQ_POLLIN) }
        var nextTick = clock.now
        while (0..<count).contains(where: { !members[$0].isDone }) {
            _ = zmq_poll(&items, Int32(count), 50)
            for i in 0..<count where items[i].revents != 0 {
                while let part = try members[i].socket.receive() {
                    try members[i].feed(.received(try Message(decoding: part.bytes)), clock)
                }
            }
            if clock.now >= nextTick {
                nextTick = clock.now.advanced(bySeconds: 0.05)
                for i in 0..<count { try members[i].feed(.tick, clock) }
            }
        }
    }
}
