/// A relay's decisions (docs/reference/protocol.md#relays). It stands between a site's workers and the coordinator, and carries what is the same for
/// all of them once over the far link. It changes no message but the ticket of a fetch, keeps no state that anybody needs, and may be killed at any
/// time: workers and coordinator repair what is lost, as with any connection.
public struct RelayStateMachine: Sendable {
    private struct Worker: Sendable {
        let number: UInt32
        var lastHeard: Timestamp
        var hasLeft = false
        /// The ticket of the last chunk that the coordinator sent it. The chunk has crossed the far link, whether the worker has it or not.
        var ticket: UInt32 = 0
        var flow = PeerFlow()
    }

    private enum Tuning {
        /// Frames are gathered for half a round trip to the coordinator, within these limits. A round that is complete does not wait.
        static let gatherSeconds = 0.005...0.25
        static let firstGatherSeconds = 0.02
        static let smoothing = 0.25
        /// Seconds between two pings: until the first answer, and after that.
        static let firstPingSeconds = 2.0
        static let pingSeconds = 10.0
        /// Number of answers to a worker's heartbeat, and none to a ping, that show that the coordinator knows no relays.
        static let strikes = 3
        static let silentSeconds = 15.0
        /// A worker that was silent for so long is forgotten. If it is alive, it gets a new number, and its session stays.
        static let forgetSeconds = 3600.0
        /// If there is no room for a new worker, one that was silent for so long makes room.
        static let idleSeconds = 60.0
        /// Seconds to wait for workers' goodbyes after the end of the run.
        static let leavingSeconds = 3.0
    }

    private let patienceSeconds: Double
    private var workers: [PeerID: Worker] = [:]
    private var peers: [UInt32: PeerID] = [:]
    private var nextNumber: UInt32 = 0
    private var ledger: RelayLedger

    private var isUp = false
    private var hasAnswered = false
    /// Answers to heartbeats since the last answer to a ping.
    private var strikes = 0
    private var ping: (sequence: UInt64, sentAt: Timestamp)?
    private var pings: UInt64 = 0
    private var nextPing: Timestamp
    private var roundTripSeconds: Double?
    private var lastHeard: Timestamp
    private var saidSilent = false
    /// Largest frame that the coordinator takes.
    private var frameBytes = ProtocolLimits.chunkBytes + ProtocolLimits.frameMarginBytes
    private var hasReportedLong = false
    private var hasReportedFull = false

    private var gathered: [RelayFrame.Upward] = []
    private var gatheredBytes = 0
    private var gatheredSince: Timestamp?
    /// The newest round that workers have answered, and those that have.
    private var answers: (round: RoundNumber, workers: Set<UInt32>) = (0, [])
    /// Number of workers that answered the round before; nil: not known yet.
    private var expected: Int?
    private var endedAt: Timestamp?
    private var nextCleaning: Timestamp
    private var effects: [RelayEffect] = []

    /// - Parameters:
    ///   - secret: random, so that no worker can claim to have received what it never read.
    ///   - patienceSeconds: the relay gives up when the coordinator has been silent for so long.
    public init(secret: UInt64, patienceSeconds: Double = 600, at now: Timestamp) {
        self.patienceSeconds = patienceSeconds
        ledger = RelayLedger(secret: secret)
        nextPing = now
        lastHeard = now
        nextCleaning = now
    }

    /// The time at which the next `tick` is needed, if that is before the ordinary one.
    public var dueAt: Timestamp? { gatheredSince?.advanced(bySeconds: gatherSeconds) }

    /// Number of workers that are there.
    public var workerCount: Int { workers.values.count { !$0.hasLeft } }

    /// Bytes of the ledger that joiners get from here.
    public var ledgerBytes: Int { ledger.count }

    private var gatherSeconds: Double {
        roundTripSeconds.map { min(max($0 / 2, Tuning.gatherSeconds.lowerBound), Tuning.gatherSeconds.upperBound) } ?? Tuning.firstGatherSeconds
    }

    /// Handles one event. Returns the effects, to be carried out in order.
    public mutating func handle(_ event: RelayEvent, at now: Timestamp) -> [RelayEffect] {
        switch event {
        case .worker(let frame, let peer): take(frame, from: peer, at: now)
        case .coordinator(let frame): take(frame, at: now)
        case .connection(let isUp): connection(isUp: isUp, at: now)
        case .tick: tick(at: now)
        case .stopRequested:
            flush()
            effects.append(.finish(.stopped))
        }
        defer { effects = [] }
        return effects
    }

    private mutating func warn(_ text: String) { effects.append(.notice(.warning(text))) }

    // MARK: From workers

    private mutating func take(_ frame: [UInt8], from peer: PeerID, at now: Timestamp) {
        guard !frame.isEmpty, let number = number(of: peer, at: now) else { return }
        guard !RelayFrame.isRelayFrame(frame) else {
            // A relay behind a relay. The coordinator warns of it, and its own pings stay without an answer.
            return gather(.init(worker: number, frame: frame), at: now)
        }
        guard frame.count + RelayFrame.overheadBytes <= frameBytes else {
            if !hasReportedLong { warn("a worker sends frames of \(frame.count) bytes; the coordinator takes \(frameBytes)") }
            hasReportedLong = true
            return
        }
        let kind = frame.count >= MessageCoding.headerBytes ? Message.Kind(rawValue: frame[1]) : nil
        switch kind {
        case .fetch:
            guard case .fetch(let fetch)? = try? Message(decoding: frame) else { break }
            return take(fetch, from: peer, number, at: now)
        case .goodbye:
            if workers[peer]?.hasLeft == false {
                workers[peer]?.hasLeft = true
                effects.append(.notice(.workerLeft(workers: workerCount)))
            }
        case .hello:
            if workers[peer]?.hasLeft == true {
                workers[peer]?.hasLeft = false
                effects.append(.notice(.workerCame(workers: workerCount)))
            }
        default: break
        }
        gather(.init(worker: number, frame: frame), at: now)
        if kind == .contribution, let round = Self.round(ofContribution: frame) { noteAnswer(round, of: number) }
    }

    /// Returns a worker's number. A new worker gets one, if there is room.
    private mutating func number(of peer: PeerID, at now: Timestamp) -> UInt32? {
        if let worker = workers[peer] {
            workers[peer]?.lastHeard = now
            return worker.number
        }
        if workers.count >= ProtocolLimits.workersPerRelay {
            guard let idle = workers.min(by: { $0.value.lastHeard < $1.value.lastHeard }),
                now.seconds(since: idle.value.lastHeard) > Tuning.idleSeconds
            else {
                if !hasReportedFull { warn("there are \(workers.count) workers, which is the limit; use a second relay") }
                hasReportedFull = true
                return nil
            }
            forget(idle.key)
        }
        guard nextNumber < .max else { return nil }
        let number = nextNumber
        nextNumber += 1
        workers[peer] = Worker(number: number, lastHeard: now)
        peers[number] = peer
        effects.append(.notice(.workerCame(workers: workerCount)))
        return number
    }

    private mutating func forget(_ peer: PeerID) {
        guard let worker = workers.removeValue(forKey: peer) else { return }
        peers[worker.number] = nil
        ledger.forget(worker.number)
        effects.append(.forget(peer))
        if !worker.hasLeft { effects.append(.notice(.workerLeft(workers: workerCount))) }
    }

    private mutating func take(_ fetch: LedgerFetch, from peer: PeerID, _ number: UInt32, at now: Timestamp) {
        guard var worker = workers[peer] else { return }
        let answer = ledger.take(fetch, of: number, flow: &worker.flow, at: now)
        workers[peer] = worker
        switch answer {
        case .chunk(let chunk): effects.append(.toWorkers(Message.chunk(chunk).encoded(), [peer]))
        case .nothing: break
        case .ask:
            // The worker may name a ticket of this relay's own, which the coordinator does not know.
            let asked = LedgerFetch(offset: fetch.offset, count: fetch.count, ticket: worker.ticket)
            gather(.init(worker: number, frame: Message.fetch(asked).encoded()), at: now)
        }
    }

    // MARK: Gathering

    private mutating func gather(_ upward: RelayFrame.Upward, at now: Timestamp) {
        // Nothing waits for a connection that is not there: it would be stale.
        guard isUp else { return }
        let bytes = upward.frame.count + RelayFrame.overheadBytes
        if gatheredBytes + bytes > ProtocolLimits.envelopeBytes || gathered.count >= ProtocolLimits.framesPerEnvelope { flush() }
        gathered.append(upward)
        gatheredBytes += bytes
        if gatheredSince == nil { gatheredSince = now }
    }

    /// Notes that a worker has answered a round. When as many have as in the round before, nothing is left to wait for.
    private mutating func noteAnswer(_ round: RoundNumber, of number: UInt32) {
        if round > answers.round || answers.workers.isEmpty {
            if !answers.workers.isEmpty { expected = answers.workers.count }
            answers = (round, [])
        }
        guard round == answers.round else { return }
        answers.workers.insert(number)
        if answers.workers.count >= expected ?? workerCount { flush() }
    }

    private mutating func flush() {
        gatheredSince = nil
        guard !gathered.isEmpty else { return }
        effects.append(.toCoordinator(RelayFrame.up(gathered).encoded()))
        gathered = []
        gatheredBytes = 0
    }

    private static func round(ofContribution frame: [UInt8]) -> RoundNumber? {
        var reader = ByteReader(frame[MessageCoding.headerBytes...])
        guard (try? reader.varint32("machine")) != nil else { return nil }
        return try? reader.varint32("round")
    }

    // MARK: From the coordinator

    private mutating func take(_ frame: [UInt8], at now: Timestamp) {
        lastHeard = now
        saidSilent = false
        guard RelayFrame.isRelayFrame(frame) else { return takeForeign(frame) }
        do throws(WireError) {
            switch try RelayFrame(decoding: frame) {
            case .pong(let sequence, let frameBytes): takePong(sequence, frameBytes: frameBytes, at: now)
            case .down(let frames): for item in frames { pass(item, at: now) }
            case .ping, .up: warn("the coordinator sent what only a relay sends")
            }
        } catch {
            warn("a frame of the coordinator is not understood: \(error)")
        }
    }

    /// Takes a frame that is no relay's: the answer to the heartbeat that went with the ping.
    private mutating func takeForeign(_ frame: [UInt8]) {
        do throws(WireError) {
            guard case .pong = try Message(decoding: frame) else { return }
        } catch {
            if case .version = error { return fail("the coordinator and this relay are of different versions: \(error)") }
            return warn("a frame of the coordinator is not understood: \(error)")
        }
        strikes += 1
        if strikes >= Tuning.strikes, !hasAnswered {
            fail(
                "the coordinator answers a worker, but no relay: its version is older than relays, or it is a relay itself; update it, or give this relay the coordinator's own join string"
            )
        }
    }

    private mutating func fail(_ text: String) { effects.append(.finish(.failed(ProcessFailure(.configuration, text)))) }

    private mutating func takePong(_ sequence: UInt64, frameBytes: Int, at now: Timestamp) {
        strikes = 0
        // A smaller limit would keep chunks of a manifest from passing.
        self.frameBytes = max(frameBytes, ProtocolLimits.chunkBytes + RelayFrame.overheadBytes)
        if let ping, ping.sequence == sequence {
            let seconds = now.seconds(since: ping.sentAt)
            roundTripSeconds = roundTripSeconds.map { $0 + Tuning.smoothing * (seconds - $0) } ?? seconds
            self.ping = nil
        }
        guard !hasAnswered else { return }
        hasAnswered = true
        nextPing = now.advanced(bySeconds: Tuning.pingSeconds)
        effects.append(.notice(.answered))
    }

    /// Passes a frame on to its workers.
    private mutating func pass(_ item: RelayFrame.Downward, at now: Timestamp) {
        let targets = targets(item.workers)
        let kind = item.frame.count >= MessageCoding.headerBytes ? Message.Kind(rawValue: item.frame[1]) : nil
        var released: [(worker: UInt32, fetch: LedgerFetch)] = []
        switch kind {
        case .chunk:
            guard case .chunk(let chunk)? = try? Message(decoding: item.frame) else { break }
            for peer in targets { workers[peer]?.ticket = chunk.ticket }
            released = ledger.take(chunk)
        case .welcome:
            if case .welcome(let welcome)? = try? Message(decoding: item.frame) { ledger.take(welcome) }
        case .finished:
            // A run that was stopped may be resumed, and workers that have not heard of the stop wait for that.
            if endedAt == nil, case .finished(let finish)? = try? Message(decoding: item.frame), finish.outcome != .stopped { endedAt = now }
        default: break
        }
        if !targets.isEmpty { effects.append(.toWorkers(item.frame, targets)) }
        for (worker, fetch) in released { if let peer = peers[worker] { take(fetch, from: peer, worker, at: now) } }
    }

    /// Returns the workers of a set that are there. A set may name far more numbers than there are workers.
    private func targets(_ set: RelayFrame.WorkerSet) -> [PeerID] {
        var targets: [PeerID] = []
        for run in set.runs {
            if run.count <= peers.count {
                for number in run { if let peer = peers[number] { targets.append(peer) } }
            } else {
                targets += peers.filter { run.contains($0.key) }.sorted { $0.key < $1.key }.map(\.value)
            }
        }
        return targets
    }

    // MARK: The connection and the clock

    private mutating func connection(isUp: Bool, at now: Timestamp) {
        self.isUp = isUp
        ping = nil
        gathered = []
        gatheredBytes = 0
        gatheredSince = nil
        ledger.forgetRequests()
        if isUp { nextPing = now }
        tick(at: now)
    }

    private mutating func sendPing(at now: Timestamp) {
        pings += 1
        ping = (pings, now)
        effects.append(.toCoordinator(RelayFrame.ping(sequence: pings).encoded()))
        // Coordinators of all versions answer a heartbeat. If only that is answered, they know no relays.
        if !hasAnswered { effects.append(.toCoordinator(Message.heartbeat(Heartbeat(session: 0, records: 0, share: nil)).encoded())) }
        nextPing = now.advanced(bySeconds: hasAnswered ? Tuning.pingSeconds : Tuning.firstPingSeconds)
    }

    private mutating func tick(at now: Timestamp) {
        if let dueAt, now >= dueAt { flush() }
        if isUp, now >= nextPing { sendPing(at: now) }
        let silence = now.seconds(since: lastHeard)
        if silence > patienceSeconds {
            effects.append(.finish(.coordinatorLost(seconds: silence)))
        } else if silence > Tuning.silentSeconds + Tuning.pingSeconds, !saidSilent {
            saidSilent = true
            effects.append(.notice(.silent(seconds: silence)))
        }
        if let endedAt, workerCount == 0 || now.seconds(since: endedAt) > Tuning.leavingSeconds {
            flush()
            effects.append(.finish(.completed))
        }
        guard now >= nextCleaning else { return }
        nextCleaning = now.advanced(bySeconds: Tuning.idleSeconds)
        for (peer, worker) in workers.sorted(by: { $0.value.number < $1.value.number })
        where now.seconds(since: worker.lastHeard) > (worker.hasLeft ? Tuning.idleSeconds : Tuning.forgetSeconds) {
            forget(peer)
        }
    }
}
