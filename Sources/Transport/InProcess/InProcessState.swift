import Core

extension InProcessNetwork {
    /// The peers that are there, their connections, and the frames on their way. Changes return the signals of the threads to wake once the lock is
    /// released.
    struct State {
        private let endpoint: String
        private var server: Inbox?
        private var clients: [PeerID: Client] = [:]
        private var isCut = false
        private var nextPeer: UInt64 = 1

        /// The events that have come to one end, in order.
        private struct Inbox {
            let signal: WakeSignal
            var events: [LinkEvent] = []

            /// - Returns: the owner's signal if this is the first event since the owner took all.
            mutating func append(_ event: LinkEvent) -> WakeSignal? {
                events.append(event)
                return events.count == 1 ? signal : nil
            }

            /// Takes one turn's worth.
            mutating func take() -> [LinkEvent] {
                var (count, frames, bytes) = (0, 0, 0)
                for event in events {
                    if frames == LinkLimits.framesPerTurn || bytes >= LinkLimits.bytesPerTurn { break }
                    count += 1
                    guard case .frame(let frame, _, _) = event else { continue }
                    frames += 1
                    bytes += frame.count
                }
                let taken = Array(events[..<count])
                events.removeFirst(count)
                return taken
            }
        }

        /// The frames on their way in one direction of a connection.
        private struct Load {
            var frames = 0
            var bytes = 0
            /// Whether a frame was refused, so that the sender waits for room.
            var isAwaited = false

            /// Counts a frame in. Returns false if there is no room for it.
            mutating func take(_ frame: [UInt8]) -> Bool {
                guard frames < LinkLimits.connectionFrames, bytes + frame.count <= LinkLimits.waitingBytes else {
                    isAwaited = true
                    return false
                }
                frames += 1
                bytes += frame.count
                return true
            }

            /// Counts a frame out.
            ///
            /// - Returns: whether the sender has waited for room.
            mutating func remove(_ frame: [UInt8]) -> Bool {
                frames -= 1
                bytes -= frame.count
                defer { isAwaited = false }
                return isAwaited
            }
        }

        private struct Client {
            var inbox: Inbox
            var isConnected = false
            var toServer = Load()
            var toClient = Load()
        }

        init(endpoint: String) { self.endpoint = endpoint }

        // MARK: Coming and going

        /// - Returns: nil if there is a coordinator already.
        mutating func listen(_ signal: WakeSignal) -> [WakeSignal]? {
            guard server == nil else { return nil }
            server = Inbox(signal: signal)
            return connectAll()
        }

        mutating func join(_ signal: WakeSignal) -> (PeerID, woken: [WakeSignal]) {
            // Nobody has an id that begins with 0, as with ZeroMQ.
            let peer = PeerID([1] + (0..<8).map { UInt8(truncatingIfNeeded: nextPeer >> (56 - 8 * $0)) })
            nextPeer += 1
            clients[peer] = Client(inbox: Inbox(signal: signal))
            return (peer, connect(peer))
        }

        /// Closes the coordinator's end. What it has sent still arrives; then the connections end.
        mutating func closeServer() -> [WakeSignal] {
            server = nil
            return connected.flatMap { peer in
                clients[peer]?.isConnected = false
                clients[peer]?.toServer = Load()
                return [tell(peer, .lost(endpoint)), tell(peer, .retrying(endpoint))].compactMap { $0 }
            }
        }

        /// Closes a worker's end. What it has sent still arrives; then its connection ends.
        mutating func closeClient(_ peer: PeerID) -> [WakeSignal] {
            guard let client = clients.removeValue(forKey: peer), client.isConnected else { return [] }
            return [server?.append(.connection(.lost(endpoint)))].compactMap { $0 }
        }

        private var connected: [PeerID] { clients.filter { $0.value.isConnected }.map(\.key) }

        private mutating func connectAll() -> [WakeSignal] {
            let peers = clients.keys.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
            return peers.flatMap { connect($0) }
        }

        /// Connects a worker that is not connected, or tells it that this is impossible.
        private mutating func connect(_ peer: PeerID) -> [WakeSignal] {
            guard server != nil, !isCut else { return [tell(peer, .retrying(endpoint))].compactMap { $0 } }
            clients[peer]?.isConnected = true
            return [tell(peer, .connected(endpoint)), server?.append(.connection(.connected(endpoint)))].compactMap { $0 }
        }

        private mutating func tell(_ peer: PeerID, _ notice: ConnectionNotice) -> WakeSignal? {
            clients[peer]?.inbox.append(.connection(notice))
        }

        // MARK: Faults

        mutating func dropAll(isSeenByServer: Bool) -> [WakeSignal] {
            connected.flatMap { drop($0, isSeenByServer: isSeenByServer) }
        }

        /// Replaces a worker's connection by a new one.
        mutating func reconnect(_ peer: PeerID) -> [WakeSignal] { clients[peer]?.isConnected == true ? drop(peer) : [] }

        mutating func cut() -> [WakeSignal] {
            isCut = true
            return dropAll(isSeenByServer: true)
        }

        mutating func mend() -> [WakeSignal] {
            guard isCut else { return [] }
            isCut = false
            return server == nil ? [] : connectAll()
        }

        /// Ends a connection with everything on its way, and makes it again if possible.
        private mutating func drop(_ peer: PeerID, isSeenByServer: Bool = true) -> [WakeSignal] {
            clients[peer]?.isConnected = false
            clients[peer]?.toServer = Load()
            clients[peer]?.toClient = Load()
            clients[peer]?.inbox.events.removeAll { if case .frame = $0 { true } else { false } }
            server?.events.removeAll { if case .frame(_, let from, _) = $0 { from == peer } else { false } }
            var woken = [tell(peer, .lost(endpoint))]
            let lost = LinkEvent.connection(.lost(endpoint))
            if isSeenByServer { woken.append(server?.append(lost)) }
            woken += connect(peer)
            // The coordinator notices the end of the old connection when the new one takes its place.
            if !isSeenByServer { woken.append(server?.append(lost)) }
            return woken.compactMap { $0 }
        }

        // MARK: Frames

        mutating func send(_ frame: [UInt8], to peer: PeerID) -> (SendResult, woken: [WakeSignal]) {
            // The client is changed in place, by its index. A copy would copy its events too.
            guard let index = clients.index(forKey: peer), clients.values[index].isConnected else { return (.unreachable, []) }
            guard frame.count <= ProtocolLimits.frameBytes else { return (.sent, drop(peer)) }
            guard clients.values[index].toClient.take(frame) else { return (.wouldBlock, []) }
            return (.sent, [clients.values[index].inbox.append(.frame(frame, from: PeerID([]), key: nil))].compactMap { $0 })
        }

        mutating func send(_ frame: [UInt8], from peer: PeerID) -> (SendResult, woken: [WakeSignal]) {
            guard let index = clients.index(forKey: peer), clients.values[index].isConnected else { return (.wouldBlock, []) }
            guard frame.count <= ProtocolLimits.frameBytes else { return (.sent, drop(peer)) }
            guard clients.values[index].toServer.take(frame) else { return (.wouldBlock, []) }
            return (.sent, [server?.append(.frame(frame, from: peer, key: nil))].compactMap { $0 })
        }

        /// Takes one turn's worth of the events that have come to the coordinator, and wakes the workers that have waited for room.
        mutating func takeAtServer() -> ([LinkEvent], woken: [WakeSignal]) {
            guard let events = server?.take() else { return ([], []) }
            var woken: [WakeSignal] = []
            for case .frame(let frame, let peer, _) in events {
                guard let index = clients.index(forKey: peer), clients.values[index].toServer.remove(frame) else { continue }
                woken.append(clients.values[index].inbox.signal)
            }
            // The rest must have its turn without a further event.
            if let server, !server.events.isEmpty { woken.append(server.signal) }
            return (events, woken)
        }

        /// Takes one turn's worth of the events that have come to a worker, and wakes the coordinator if it has waited for room.
        mutating func take(at peer: PeerID) -> ([LinkEvent], woken: [WakeSignal]) {
            guard let index = clients.index(forKey: peer) else { return ([], []) }
            let events = clients.values[index].inbox.take()
            var isAwaited = false
            for case .frame(let frame, _, _) in events where clients.values[index].toClient.remove(frame) { isAwaited = true }
            var woken = isAwaited ? [server?.signal].compactMap { $0 } : []
            if !clients.values[index].inbox.events.isEmpty { woken.append(clients.values[index].inbox.signal) }
            return (events, woken)
        }
    }
}
