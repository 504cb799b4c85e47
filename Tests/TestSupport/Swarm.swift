import Core
import Transport

/// Many workers in one thread, for measuring a coordinator and the traffic. Each has a real connection, real messages, heartbeats and digests, but
/// canned bytes, no parameters, and one ledger for all. They cost so little that a thousand of them leave the host's processors to the coordinator.
///
/// To the coordinator each of them is a worker like any other.
package struct Swarm {
    package struct Configuration: Sendable {
        package var join: JoinString
        package var count: Int
        /// Seconds that a worker takes for its share; 0: none.
        package var shareSeconds: Double
        /// Number of relays that they are behind.
        package var relays: Int

        package init(join: JoinString, count: Int, shareSeconds: Double = 0, relays: Int = 0) {
            self.relays = relays
            self.join = join
            self.count = count
            self.shareSeconds = shareSeconds
        }

        package init(address: Address, count: Int) { self.init(join: JoinString(address: address), count: count) }
    }

    /// One worker.
    private struct Member {
        let session: SessionToken
        let fingerprint: SessionFingerprint
        let name: String
        var isWelcome = false
        var hasProved = false
        var machine: MachineID?
        /// Number of ledger bytes and records that it was sent.
        var bytes: UInt64 = 0
        var records: UInt64 = 0
        /// Number of records that it knows of.
        var target: UInt64 = 0
        var fetchedAt: Timestamp?
        var ticket: UInt32 = 0
        /// The last round that it was told of.
        var heard: RoundNumber?
        var answered: (share: Heartbeat.Share, at: Timestamp)?
        var nextHello: Timestamp
        var nextHeartbeat: Timestamp
        var isDone = false
    }

    private enum Tuning {
        static let helloSeconds = 4.0
        static let tickSeconds = 0.05
    }

    private let configuration: Configuration
    private let clock: ProcessClock
    private var members: [Member]
    private var ledger = SwarmLedger()
    private var running: Int
    private var heartbeatSeconds = 1.0
    /// Answers that are not due yet, in the order in which they will be.
    private var due: [(at: Timestamp, member: Int)] = []
    private var bytes: [Int8] = []
    /// Frames to send, and the members that send them.
    private var outbox: [(frame: [UInt8], member: Int)] = []

    /// Runs the swarm until the run is over for all workers.
    ///
    /// - Throws: `ProcessFailure` if a worker is refused, given up or told to rebuild, or if two are told different things; `TransportError` if they
    ///   can't connect.
    package static func run(_ configuration: Configuration) throws {
        raiseFileLimit()
        var swarm = try Swarm(configuration)
        let sessions = swarm.members.map(\.session.bytes)
        let identities = configuration.relays > 0 ? Array(sessions.prefix(configuration.relays)) : sessions
        let connections: any SwarmConnections
        if let serverKey = configuration.join.serverKey {
            connections = try EncryptedConnections(configuration.join.address, serverKey: serverKey, identities: identities)
        } else {
            connections = try PlainConnections(configuration.join.address, identities: identities)
        }
        try swarm.run(over: configuration.relays > 0 ? try RelayedConnections(connections, relays: identities.count) : connections)
    }

    private init(_ configuration: Configuration) throws {
        self.configuration = configuration
        running = configuration.count
        let clock = ProcessClock()
        self.clock = clock
        var generator = SystemRandomNumberGenerator()
        members = try (0..<configuration.count).map { i in
            // The routing ids use these bytes too, and ids that begin with 0 are libzmq's own.
            let bytes = (0..<SessionToken.byteCount).map { _ in UInt8.random(in: 1...255, using: &generator) }
            guard let session = SessionToken(bytes: bytes) else {
                throw ProcessFailure(.internalError, "a session token has \(SessionToken.byteCount) bytes")
            }
            // Heartbeats are spread over a second, like those of independent machines.
            return Member(
                session: session, fingerprint: session.fingerprint, name: "canned-\(i)", nextHello: clock.now,
                nextHeartbeat: clock.now.advanced(bySeconds: Double(i) / Double(configuration.count)))
        }
    }

    private mutating func run(over connections: any SwarmConnections) throws {
        var nextTick = clock.now
        while running > 0 {
            var wait = nextTick
            if let first = due.first, first.at < wait { wait = first.at }
            let milliseconds = Int((wait.seconds(since: clock.now) * 1000).rounded(.up))
            try connections.receive(waitMilliseconds: milliseconds) { try take($0, $1) }
            answerWhatIsDue()
            if clock.now >= nextTick {
                nextTick = clock.now.advanced(bySeconds: Tuning.tickSeconds)
                tick()
            }
            for (frame, member) in outbox { try connections.send(frame, from: member) }
            outbox.removeAll(keepingCapacity: true)
        }
    }

    private mutating func send(_ message: Message, from member: Int) { outbox.append((message.encoded(), member)) }

    // MARK: Time

    private mutating func tick() {
        let now = clock.now
        for i in members.indices where !members[i].isDone {
            guard members[i].isWelcome else {
                if now >= members[i].nextHello { sayHello(i) }
                continue
            }
            if let since = members[i].fetchedAt, now.seconds(since: since) > 2 * heartbeatSeconds { members[i].fetchedAt = nil }
            guard now >= members[i].nextHeartbeat else { continue }
            members[i].nextHeartbeat = now.advanced(bySeconds: heartbeatSeconds)
            let tag = members[i].fingerprint.tag
            send(.heartbeat(Heartbeat(session: tag, records: members[i].records, share: knownShare(of: i))), from: i)
            let status = WorkerStatus(phase: .training, progress: 1, trainingLoss: 1, samplesPerSecond: 1, applied: members[i].records)
            send(.status(status), from: i)
        }
    }

    private mutating func sayHello(_ i: Int) {
        members[i].nextHello = clock.now.advanced(bySeconds: Tuning.helloSeconds)
        send(
            .hello(
                Hello(
                    session: members[i].session, name: members[i].name, trains: true, evaluates: false, software: "canned",
                    expectedSpec: nil, records: members[i].records, publicKey: nil)), from: i)
    }

    // MARK: Messages

    private mutating func take(_ frame: UnsafeRawBufferPointer, _ i: Int) throws {
        guard !members[i].isDone else { return }
        // The only kind that comes to all and may be long is decoded once.
        if frame.count >= MessageCoding.headerBytes, frame[1] == Message.Kind.commit.rawValue {
            if let index = try ledger.takeCommit(frame) { try follow(index, i) }
        } else {
            try take(try Message(decoding: Array(frame)), i)
        }
    }

    private mutating func take(_ message: Message, _ i: Int) throws {
        switch message {
        case .welcome(let welcome):
            members[i].isWelcome = true
            members[i].target = max(members[i].target, welcome.ledgerRecords)
            heartbeatSeconds = welcome.heartbeatSeconds
            sendBase(i)
            try settle(i)
        case .chunk(let chunk):
            members[i].ticket = chunk.ticket
            guard members[i].fetchedAt != nil, chunk.offset == members[i].bytes else { return }
            members[i].fetchedAt = nil
            try ledger.take(chunk)
            members[i].bytes = min(chunk.offset + UInt64(chunk.bytes.count), ledger.bytes)
            if members[i].bytes == ledger.bytes { members[i].records = ledger.records }
            try settle(i)
        case .open(let opening):
            ledger.take(opening)
            members[i].heard = opening.round
            try settle(i)
        case .digestRequest(let position, let nonce):
            if let report = ledger.report(position: position, nonce: nonce) { send(.digestReport(report), from: i) }
        case .pong(let pong): try take(pong, i)
        case .finished(let end):
            send(.goodbye(Goodbye(reason: end.message)), from: i)
            members[i].isDone = true
            running -= 1
        case .refuse(let refusal): throw ProcessFailure(.refused, "\(members[i].name): \(refusal.reason)")
        case .rebuild: throw ProcessFailure(.badData, "\(members[i].name) is to rebuild, though all digests are the same")
        default: break
        }
    }

    private mutating func take(_ pong: Pong, _ i: Int) throws {
        switch pong.standing {
        case .unknown:
            if clock.now >= members[i].nextHello { sayHello(i) }
            return
        case .baseMissing: sendBase(i)
        case .basePending: break
        case .digestMissing: members[i].hasProved = false
        case .active: break
        }
        members[i].target = max(members[i].target, pong.records)
        if let answered = members[i].answered, answered.share.round == pong.awaited,
            clock.now.seconds(since: answered.at) >= heartbeatSeconds
        {
            members[i].answered = nil
        }
        try settle(i)
    }

    private mutating func sendBase(_ i: Int) {
        if let base = CannedAnswers.base { send(.base(base), from: i) }
    }

    /// Notes that a commit has come to this worker.
    private mutating func follow(_ index: UInt64, _ i: Int) throws {
        members[i].target = max(members[i].target, index + 1)
        if index == members[i].records, let end = ledger.end(of: index) {
            members[i].records = index + 1
            members[i].bytes = end
            members[i].fetchedAt = nil
            members[i].heard = ledger.opening?.round
        }
        try settle(i)
    }

    /// Does everything that has become possible for a worker.
    private mutating func settle(_ i: Int) throws {
        let now = clock.now
        guard members[i].records >= members[i].target else {
            guard members[i].isWelcome, members[i].fetchedAt == nil else { return }
            members[i].fetchedAt = now
            return send(.fetch(LedgerFetch(offset: members[i].bytes, ticket: members[i].ticket)), from: i)
        }
        guard members[i].records > 0 else { return }
        if !members[i].hasProved, let report = ledger.report() {
            members[i].hasProved = true
            send(.digestReport(report), from: i)
        }
        if members[i].machine == nil {
            members[i].machine = ledger.machine(of: members[i].fingerprint)
        } else if members[i].machine.flatMap(ledger.share) == nil, ledger.machine(of: members[i].fingerprint) == nil {
            throw ProcessFailure(.failure, "\(members[i].name) was given up")
        }
        guard let share = knownShare(of: i), members[i].answered?.share != share else { return }
        members[i].answered = (share, now)
        if configuration.shareSeconds > 0 {
            due.append((now.advanced(bySeconds: configuration.shareSeconds), i))
        } else {
            answer(i)
        }
    }

    private func knownShare(of i: Int) -> Heartbeat.Share? {
        guard let opening = ledger.opening, members[i].heard == opening.round, let machine = members[i].machine,
            let share = ledger.share(of: machine)
        else { return nil }
        return .init(round: opening.round, firstSample: share.firstSample)
    }

    private mutating func answerWhatIsDue() {
        let ready = due.prefix { $0.at <= clock.now }
        guard !ready.isEmpty else { return }
        for answer in ready { self.answer(answer.member) }
        due.removeFirst(ready.count)
    }

    private mutating func answer(_ i: Int) {
        guard let opening = ledger.opening, let machine = members[i].machine, let share = ledger.share(of: machine) else { return }
        if bytes.count != Int(share.count) { bytes = CannedAnswers.bytes(Int(share.count)) }
        let contribution = Contribution(machine: machine, firstSample: share.firstSample, bytes: bytes)
        send(
            .contribution(WireContribution(round: opening.round, scaleExponent: opening.scaleExponent, contribution: contribution)),
            from: i)
    }
}
