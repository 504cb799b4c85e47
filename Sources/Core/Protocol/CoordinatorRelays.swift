/// The coordinator's edge towards relays. It takes their envelopes apart and packs what goes to the workers behind them. The coordinator's state
/// machine knows nothing of relays: a worker behind one is a peer like any other, with a `PeerID` that is made here.
public struct CoordinatorRelays: Sendable {
    /// What came with a frame.
    public enum Taken: Sendable {
        /// The frame is no relay's. It is its sender's own message.
        case direct
        /// The frame is a relay's, and its answer waits to be taken with `takeOutgoing`.
        case answered
        /// Frames of workers behind a relay, for `next`.
        case envelope(Envelope)
    }

    /// An envelope that is taken apart frame by frame.
    public struct Envelope: Sendable {
        fileprivate var frames: RelayFrame.UpwardReader
        fileprivate let index: UInt32
    }

    public enum Item: Hashable, Sendable {
        case frame([UInt8], from: PeerID)
        /// The frame can't be a worker's.
        case malformed(WireError, from: PeerID)
        /// The frame was a hello for which there is no room. Its answer waits to be taken.
        case refused
    }

    private struct Relay: Sendable {
        let peer: PeerID
        /// Workers that were welcomed and were not forgotten since.
        var workers: Set<UInt32> = []
        /// Workers whose hellos wait for their answers, which come before `takeOutgoing`.
        var greeting: Set<UInt32> = []
        /// Rises with each use, so that the relay that was silent the longest is known.
        var lastUse: UInt64 = 0
        /// What waits to be packed.
        var outgoing: [(workers: [UInt32], frame: [UInt8])] = []
        var outgoingBytes = 0
        var isIdle: Bool { workers.isEmpty && greeting.isEmpty }
    }

    /// Beginning of the ids of workers behind relays. No peer can take such an id as its own, because nobody else knows it.
    private let prefix: [UInt8]
    private let frameBytes: Int
    private var relays: [UInt32: Relay] = [:]
    private var indices: [PeerID: UInt32] = [:]
    private var nextIndex: UInt32 = 0
    private var uses: UInt64 = 0
    /// Relays with something to be packed, in the order in which it came.
    private var waiting: [UInt32] = []
    private var packed: [(frame: [UInt8], relay: PeerID)] = []
    /// Relays with workers whose hellos wait for their answers.
    private var greeting: Set<UInt32> = []

    private static let numberBytes = 4

    /// - Parameters:
    ///   - secret: random bytes that nobody else has.
    ///   - frameBytes: largest frame that the coordinator takes.
    public init(secret: UInt64, frameBytes: Int) {
        // Ids that begin with 0 are libzmq's own, and these have another length.
        prefix = [0] + withUnsafeBytes(of: secret.bigEndian) { Array($0) }
        self.frameBytes = frameBytes
    }

    // MARK: From relays

    /// Takes a frame as it came from a connection.
    ///
    /// - Throws: `WireError` if it is a relay's and is malformed, or there is no room for the relay, which is told then.
    public mutating func take(_ frame: [UInt8], from peer: PeerID) throws(WireError) -> Taken {
        guard let kind = RelayFrame.kind(of: frame) else { return .direct }
        switch kind {
        case .ping:
            guard case .ping(let sequence) = try RelayFrame(decoding: frame) else { return .direct }
            _ = try index(of: peer)
            packed.append((RelayFrame.pong(sequence: sequence, frameBytes: frameBytes).encoded(), peer))
            return .answered
        case .up:
            guard frame.count <= ProtocolLimits.frameBytes else { throw .tooLong(bytes: frame.count, limit: ProtocolLimits.frameBytes) }
            return .envelope(Envelope(frames: RelayFrame.UpwardReader(frame[MessageCoding.headerBytes...]), index: try index(of: peer)))
        case .pong, .down: throw .invalid(field: "kind", reason: "only a coordinator sends this to a relay")
        }
    }

    /// Returns an envelope's next frame; nil after the last one.
    ///
    /// - Throws: `WireError` if the rest of the envelope is malformed. It is of no use then.
    public mutating func next(_ envelope: inout Envelope) throws(WireError) -> Item? {
        guard relays[envelope.index] != nil, let upward = try envelope.frames.next() else { return nil }
        return item(upward, behind: envelope.index)
    }

    private mutating func item(_ upward: RelayFrame.Upward, behind index: UInt32) -> Item {
        let id = id(of: upward.worker, behind: index)
        guard !RelayFrame.isRelayFrame(upward.frame) else {
            return .malformed(.invalid(field: "kind", reason: "a relay is behind a relay; give it the coordinator's join string"), from: id)
        }
        guard Message.hasKind(.hello, upward.frame), let relay = relays[index] else { return .frame(upward.frame, from: id) }
        let isKnown = relay.workers.contains(upward.worker) || relay.greeting.contains(upward.worker)
        guard isKnown || relay.workers.count + relay.greeting.count < ProtocolLimits.workersPerRelay else {
            let reason = "there are \(ProtocolLimits.workersPerRelay) workers behind this relay, which is the limit; use a second relay"
            pack(Message.refuse(Refusal(code: .full, reason: reason)).encoded(), for: [upward.worker], behind: index)
            return .refused
        }
        if !isKnown {
            relays[index]?.greeting.insert(upward.worker)
            greeting.insert(index)
        }
        return .frame(upward.frame, from: id)
    }

    /// Returns the relay's number, and takes a new relay in.
    private mutating func index(of peer: PeerID) throws(WireError) -> UInt32 {
        uses += 1
        if let index = indices[peer] {
            relays[index]?.lastUse = uses
            return index
        }
        if relays.count >= ProtocolLimits.relays {
            // A relay that left keeps its place until it is needed.
            guard let idle = relays.filter({ $0.value.isIdle }).min(by: { $0.value.lastUse < $1.value.lastUse }) else {
                let reason = "there are \(relays.count) relays with workers at this coordinator, which is the limit"
                packed.append((Message.refuse(Refusal(code: .full, reason: reason)).encoded(), peer))
                throw .invalid(field: "relay", reason: reason)
            }
            relays[idle.key] = nil
            indices[idle.value.peer] = nil
        }
        // After four thousand million relays the numbers begin again, with those that are free.
        while relays[nextIndex] != nil { nextIndex &+= 1 }
        let index = nextIndex
        nextIndex &+= 1
        relays[index] = Relay(peer: peer, lastUse: uses)
        indices[peer] = index
        return index
    }

    // MARK: Ids

    /// The order of these ids is that of relays, and then that of workers.
    private func id(of worker: UInt32, behind index: UInt32) -> PeerID {
        PeerID(prefix + withUnsafeBytes(of: (index.bigEndian, worker.bigEndian)) { Array($0) })
    }

    /// Returns the relay and the number of a worker behind it; nil for a peer with a connection of its own.
    private func place(of id: PeerID) -> (index: UInt32, worker: UInt32)? {
        guard id.bytes.count == prefix.count + 2 * Self.numberBytes, id.bytes.starts(with: prefix) else { return nil }
        let numbers = id.bytes[prefix.count...].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return (UInt32(truncatingIfNeeded: numbers >> 32), UInt32(truncatingIfNeeded: numbers))
    }

    // MARK: To relays

    /// Keeps a frame for those peers that are behind relays, until `takeOutgoing`.
    ///
    /// - Returns: the other peers.
    public mutating func send(_ frame: [UInt8], to peers: [PeerID]) -> [PeerID] {
        guard !relays.isEmpty else { return peers }
        let isWelcome = Message.hasKind(.welcome, frame)
        var direct: [PeerID] = []
        var relayed: [(index: UInt32, workers: [UInt32])] = []
        for id in peers {
            guard let place = place(of: id) else {
                direct.append(id)
                continue
            }
            if isWelcome {
                relays[place.index]?.workers.insert(place.worker)
                relays[place.index]?.greeting.remove(place.worker)
            }
            // Peers come in the order of their ids, so those of a relay come together.
            if relayed.last?.index == place.index {
                relayed[relayed.count - 1].workers.append(place.worker)
            } else {
                relayed.append((place.index, [place.worker]))
            }
        }
        for (index, workers) in relayed { pack(frame, for: workers, behind: index) }
        return direct
    }

    private mutating func pack(_ frame: [UInt8], for workers: [UInt32], behind index: UInt32) {
        guard var relay = relays[index] else { return }
        // The relay is changed in place: a second reference would copy its tables.
        relays[index] = nil
        if relay.outgoing.isEmpty {
            waiting.append(index)
        } else if relay.outgoingBytes + frame.count > ProtocolLimits.envelopeBytes || relay.outgoing.count >= ProtocolLimits.framesPerEnvelope {
            close(&relay)
        }
        if let last = relay.outgoing.last, last.frame == frame {
            relay.outgoing[relay.outgoing.count - 1].workers += workers
        } else {
            relay.outgoing.append((workers, frame))
            relay.outgoingBytes += frame.count
        }
        relays[index] = relay
    }

    private mutating func close(_ relay: inout Relay) {
        let frames = relay.outgoing.map { RelayFrame.Downward(workers: RelayFrame.WorkerSet($0.workers), frame: $0.frame) }
        packed.append((RelayFrame.down(frames).encoded(), relay.peer))
        relay.outgoing = []
        relay.outgoingBytes = 0
    }

    /// Whether `takeOutgoing` would return nothing.
    public var isEmpty: Bool { packed.isEmpty && waiting.isEmpty }

    /// Returns the frames to send to relays, in order.
    public mutating func takeOutgoing() -> [(frame: [UInt8], relay: PeerID)] {
        for index in waiting {
            guard var relay = relays[index], !relay.outgoing.isEmpty else { continue }
            relays[index] = nil
            close(&relay)
            relays[index] = relay
        }
        waiting = []
        // Those that were welcomed are counted as workers, and the others have no place.
        for index in greeting { relays[index]?.greeting = [] }
        greeting = []
        defer { packed = [] }
        return packed
    }

    /// Forgets a worker behind a relay, and gives its place to another.
    ///
    /// - Returns: whether the peer is one.
    public mutating func forget(_ id: PeerID) -> Bool {
        guard let place = place(of: id) else { return false }
        relays[place.index]?.workers.remove(place.worker)
        return true
    }
}

extension PeerID {
    private static let relayedBytes = 17
    private static let workerBytes = 4

    /// What the ids of all workers of one relay begin with; nil for a peer with a connection of its own.
    var relay: ArraySlice<UInt8>? {
        bytes.count == Self.relayedBytes && bytes.first == 0 ? bytes.dropLast(Self.workerBytes) : nil
    }
}
