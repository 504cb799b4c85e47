/// A relay's decisions (docs/reference/protocol.md#relays). It stands between a site's workers and the coordinator, and carries what is the same for
/// all of them once over the far link. It changes no message but the ticket of a fetch, keeps no state that anybody needs, and may be killed at any
/// time: workers and coordinator repair what is lost, as with any connection.
public struct RelayStateMachine: Sendable {
    private struct Worker: Sendable {
        let number: UInt32
        var lastHeard: Timestamp
        var hasLeft = false
        var lastAnswered: Timestamp?
        /// The ticket of the last chunk that the coordinator sent it. The coordinator hears it again when the worker has proved that it receives.
        var ticket: UInt32 = 0
        /// Counts all chunks on their way to the worker, the relay's and the coordinator's.
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
        /// If there is no room for a new worker, one that was silent for so long makes room. A worker that has answered no round for so long is not
        /// waited for.
        static let idleSeconds = 60.0
        /// A gap between two ticks of more than this is this process's own standstill.
        static let standstillSeconds = 2.0
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
    private var lastTick: Timestamp
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
    private var hasReportedFlood = false
    private var hasReportedNested = false

    private var gathering = RelayGathering()
    private var gatheredSince: Timestamp?
    /// Whether an envelope is still in the far link's queue. The next one goes when that is empty: what waits here can still be replaced by newer
    /// frames, and no worker's frames delay the others' for longer.
    private var isSending = false
    /// Whether the next envelope is to go as soon as it may.
    private var isDue = false
    private var answers = RelayAnswers()
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
        lastTick = now
        nextCleaning = now
    }

    /// The time at which the next `tick` is needed, if that is before the ordinary one.
    public var dueAt: Timestamp? { isSending ? nil : gatheredSince?.advanced(bySeconds: gatherSeconds) }

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
        case .sent:
            isSending = false
            if isDue || gathering.isFull || dueAt.map({ now >= $0 }) ?? false { flush() }
        case .connection(let isUp): connection(isUp: isUp, at: now)
        case .tick: tick(at: now)
        case .stopRequested:
            flushAll()
            effects.append(.finish(.stopped))
        }
        defer { effects = [] }
        return effects
    }

    private mutating func warn(_ text: String) { effects.append(.notice(.warning(text))) }

    // MARK: From workers

    private mutating func take(_ frame: [UInt8], from peer: PeerID, at now: Timestamp) {
        guard !frame.isEmpty else { return }
        // Longer frames would end the connection of all.
        guard frame.count + RelayFrame.overheadBytes <= frameBytes else {
            if !hasReportedLong { warn("a worker sends frames of \(frame.count) bytes; the coordinator takes \(frameBytes)") }
            hasReportedLong = true
            return
        }
        guard !RelayFrame.isRelayFrame(frame) else { return takeNested(frame, from: peer) }
        guard let number = number(of: peer, at: now) else { return }
        let kind = frame.count >= MessageCoding.headerBytes ? Message.Kind(rawValue: frame[1]) : nil
        switch kind {
        case .fetch:
            guard case .fetch(let fetch)? = try? Message(decoding: frame) else { break }
            return take(fetch, from: peer, number, at: now)
        case .goodbye:
            gathering.dropSigns(of: number)
            answers.forget(number)
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
        gather(frame, kind: kind, of: number, at: now)
        if kind == .contribution {
            workers[peer]?.lastAnswered = now
            if answers.note(number, workers: workerCount) { flush() }
        }
    }

    /// Takes a frame that only a relay sends. A relay behind a relay, or somebody who looks for the reason of a silence, is told what this is.
    private mutating func takeNested(_ frame: [UInt8], from peer: PeerID) {
        if case .ping(let sequence)? = try? RelayFrame(decoding: frame) {
            effects.append(.toWorkers(RelayFrame.pong(sequence: sequence, frameBytes: RelayFrame.relayFrameBytes).encoded(), [peer]))
        } else if !hasReportedNested {
            hasReportedNested = true
            warn("a worker sends what only a relay or a coordinator sends")
        }
    }

    /// Returns a worker's number. A new worker gets one, if there is room.
    private mutating func number(of peer: PeerID, at now: Timestamp) -> UInt32? {
        if let worker = workers[peer] {
            workers[peer]?.lastHeard = now
            return worker.number
        }
        if workers.count >= ProtocolLimits.workersPerRelay {
            guard let idle = workers.min(by: { ($0.value.lastHeard, $0.value.number) < ($1.value.lastHeard, $1.value.number) }),
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
        answers.forget(worker.number)
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
        case .ask(let count):
            // The worker may name a ticket of this relay's own, which the coordinator does not know.
            let asked = LedgerFetch(offset: fetch.offset, count: count, ticket: worker.flow.awaitsProof ? 0 : worker.ticket)
            gather(Message.fetch(asked).encoded(), kind: .fetch, of: number, at: now)
        }
    }

    // MARK: Gathering

    private mutating func gather(_ frame: [UInt8], kind: Message.Kind?, of worker: UInt32, at now: Timestamp) {
        // Nothing waits for a connection that is not there: it would be stale.
        guard isUp else { return }
        guard gathering.append(frame, kind: kind, of: worker) else {
            if !hasReportedFlood { warn("a worker sends more than the far link carries; what is too much of it is left out") }
            hasReportedFlood = true
            return
        }
        if gatheredSince == nil { gatheredSince = now }
        if gathering.isFull { flush() }
    }

    /// Sends the next envelope, or lets it go when the one before is gone.
    private mutating func flush() {
        guard !isSending else {
            isDue = true
            return
        }
        gatheredSince = nil
        let frames = gathering.takeEnvelope()
        isDue = !gathering.isEmpty
        guard !frames.isEmpty else { return }
        isSending = true
        effects.append(.toCoordinator(RelayFrame.up(frames).encoded()))
    }

    /// Sends all that waits: the relay is about to end.
    private mutating func flushAll() {
        repeat {
            isSending = false
            flush()
        } while !gathering.isEmpty
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

    /// Takes a frame that is no relay's: a refusal, or the answer to the heartbeat that went with the ping.
    private mutating func takeForeign(_ frame: [UInt8]) {
        do throws(WireError) {
            switch try Message(decoding: frame) {
            case .pong: break
            case .refuse(let refusal): return fail(refusal.code == .full ? .temporary : .refused, refusal.reason)
            default: return
            }
        } catch {
            if case .version = error { return fail(.configuration, "the coordinator and this relay are of different versions: \(error)") }
            return warn("a frame of the coordinator is not understood: \(error)")
        }
        strikes += 1
        if strikes >= Tuning.strikes, !hasAnswered {
            fail(.configuration, "the coordinator answers a worker, but no relay: its version is older than relays; update it")
        }
    }

    private mutating func fail(_ status: ExitStatus, _ text: String) { effects.append(.finish(.failed(ProcessFailure(status, text)))) }

    private mutating func takePong(_ sequence: UInt64, frameBytes: Int, at now: Timestamp) {
        guard frameBytes != RelayFrame.relayFrameBytes else {
            return fail(.configuration, "a relay answers there, and there are no relays behind relays; give it the coordinator's own join string")
        }
        strikes = 0
        // A smaller limit would keep chunks of a manifest from passing.
        let limit = max(frameBytes, ProtocolLimits.chunkBytes + RelayFrame.overheadBytes)
        // Workers whose frames are larger than this relay listens for are cut off.
        guard !hasAnswered || limit <= self.frameBytes else {
            return fail(.temporary, "the coordinator takes larger frames than before: it has another run now; start the relay again")
        }
        self.frameBytes = limit
        if let ping, ping.sequence == sequence {
            let seconds = now.seconds(since: ping.sentAt)
            roundTripSeconds = roundTripSeconds.map { $0 + Tuning.smoothing * (seconds - $0) } ?? seconds
            self.ping = nil
        }
        guard !hasAnswered else { return }
        hasAnswered = true
        nextPing = now.advanced(bySeconds: Tuning.pingSeconds)
        effects.append(.notice(.answered))
        effects.append(.listen(frameBytes: limit))
    }

    /// Passes a frame on to its workers.
    private mutating func pass(_ item: RelayFrame.Downward, at now: Timestamp) {
        let targets = targets(item.workers)
        let kind = item.frame.count >= MessageCoding.headerBytes ? Message.Kind(rawValue: item.frame[1]) : nil
        var released: [(worker: UInt32, fetch: LedgerFetch)] = []
        switch kind {
        case .chunk:
            guard case .chunk(let chunk)? = try? Message(decoding: item.frame) else { break }
            for peer in targets {
                workers[peer]?.ticket = chunk.ticket
                workers[peer]?.flow.noteChunk(bytes: chunk.bytes.count, ticket: chunk.ticket, at: now)
            }
            released = ledger.take(chunk)
        case .welcome:
            if case .welcome(let welcome)? = try? Message(decoding: item.frame) { ledger.take(welcome) }
        case .refuse:
            // A worker with more records than the coordinator may have some of them from here.
            if case .refuse(let refusal)? = try? Message(decoding: item.frame), refusal.code == .otherRun { ledger.clear() }
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
        gathering = RelayGathering()
        gatheredSince = nil
        (isSending, isDue) = (false, false)
        ledger.clear()
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
        excuseStandstill(at: now)
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
            flushAll()
            effects.append(.finish(.completed))
        }
        guard now >= nextCleaning else { return }
        nextCleaning = now.advanced(bySeconds: Tuning.idleSeconds)
        for (peer, worker) in workers.sorted(by: { $0.value.number < $1.value.number })
        where now.seconds(since: worker.lastHeard) > (worker.hasLeft ? Tuning.idleSeconds : Tuning.forgetSeconds) {
            forget(peer)
        }
        for worker in workers.values where worker.lastAnswered.map({ now.seconds(since: $0) > Tuning.idleSeconds }) ?? true {
            answers.forget(worker.number)
        }
    }

    /// If this process itself stood still (stopped, swapped out), the silence is its own fault, as for coordinators and workers.
    private mutating func excuseStandstill(at now: Timestamp) {
        let pause = now.seconds(since: lastTick)
        lastTick = now
        guard pause > Tuning.standstillSeconds else { return }
        lastHeard = now
        for peer in workers.keys { workers[peer]?.lastHeard = now }
    }
}
