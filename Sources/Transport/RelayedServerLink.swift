import Core

/// A coordinator's link through which workers behind relays come as peers, beside those with connections of their own. It unpacks what relays send,
/// and packs what goes to them once per turn of the reactor.
///
/// An envelope holds thousands of frames in a few kilobytes. So envelopes wait as they came, and a turn takes only so many frames out of them, from
/// one relay after the other. What comes over a worker's own connection does not wait for them.
package final class RelayedServerLink: ServerLink {
    /// Envelopes of one relay that wait, the oldest first.
    private struct Waiting {
        var envelopes: [(envelope: CoordinatorRelays.Envelope, bytes: Int, key: PublicKey?)] = []
        var bytes = 0
    }

    private let link: any ServerLink
    private var relays: CoordinatorRelays
    private var waiting: [PeerID: Waiting] = [:]
    /// The relays with envelopes that wait, in the order of their turns.
    private var rotation: [PeerID] = []
    private var waitingBytes = 0
    private var dropped: UInt64 = 0

    /// - Parameter frameLimit: the limit with which `link` listens. Relays are told.
    package init(_ link: any ServerLink, frameLimit: Int) {
        self.link = link
        relays = CoordinatorRelays(secret: UInt64.random(in: 0...(.max)), frameBytes: frameLimit)
    }

    package var endpoint: String { link.endpoint }
    package var publicKey: PublicKey? { link.publicKey }
    package var waker: any Waker { link.waker }
    package var isFlushed: Bool { relays.isEmpty && link.isFlushed }

    package var traffic: Traffic {
        var traffic = link.traffic
        traffic.dropped += dropped
        return traffic
    }

    package func send(_ frame: [UInt8], to peers: [PeerID]) throws(TransportError) {
        let direct = relays.send(frame, to: peers)
        if !direct.isEmpty { try link.send(frame, to: direct) }
    }

    package func forget(_ peer: PeerID) {
        if !relays.forget(peer) { link.forget(peer) }
    }

    package func wait(seconds: Double) throws(TransportError) {
        for (frame, relay) in relays.takeOutgoing() { try link.send(frame, to: [relay]) }
        try link.wait(seconds: rotation.isEmpty ? seconds : 0)
    }

    package func service() throws(TransportError) -> [LinkEvent] {
        var events: [LinkEvent] = []
        for event in try link.service() {
            guard case .frame(let frame, let peer, let key) = event else {
                events.append(event)
                continue
            }
            do throws(WireError) {
                switch try relays.take(frame, from: peer) {
                case .direct: events.append(event)
                case .answered: break
                case .envelope(let envelope): keep(envelope, bytes: frame.count, from: peer, key)
                }
            } catch {
                events.append(.malformed(error, from: peer))
            }
        }
        takeApart(&events)
        return events
    }

    /// Lets an envelope wait for its turn, or drops it if too much of its relay waits.
    private func keep(_ envelope: CoordinatorRelays.Envelope, bytes: Int, from relay: PeerID, _ key: PublicKey?) {
        var queue = waiting.removeValue(forKey: relay) ?? Waiting()
        defer { if !queue.envelopes.isEmpty { waiting[relay] = queue } }
        let fits =
            queue.envelopes.isEmpty || (queue.bytes + bytes <= LinkLimits.relayBytes && queue.envelopes.count < LinkLimits.relayEnvelopes)
        guard fits, waitingBytes + bytes <= LinkLimits.allWaitingBytes else {
            dropped += 1
            return
        }
        if queue.envelopes.isEmpty { rotation.append(relay) }
        queue.envelopes.append((envelope, bytes, key))
        queue.bytes += bytes
        waitingBytes += bytes
    }

    /// Takes one turn's frames out of the envelopes that wait.
    private func takeApart(_ events: inout [LinkEvent]) {
        var (frames, bytes) = (0, 0)
        while frames < LinkLimits.framesPerTurn, bytes < LinkLimits.bytesPerTurn, !rotation.isEmpty {
            let relay = rotation.removeFirst()
            guard var queue = waiting.removeValue(forKey: relay) else { continue }
            for _ in 0..<min(LinkLimits.framesPerRelay, LinkLimits.framesPerTurn - frames) where bytes < LinkLimits.bytesPerTurn {
                guard !queue.envelopes.isEmpty else { break }
                frames += 1
                bytes += takeNext(of: &queue, relay, &events)
            }
            guard !queue.envelopes.isEmpty else { continue }
            waiting[relay] = queue
            rotation.append(relay)
        }
    }

    /// Takes the next frame of a relay's oldest envelope, or the envelope away if there is none.
    ///
    /// - Returns: the frame's bytes.
    private func takeNext(of queue: inout Waiting, _ relay: PeerID, _ events: inout [LinkEvent]) -> Int {
        do throws(WireError) {
            switch try relays.next(&queue.envelopes[0].envelope) {
            // The connection has proved the relay's key. Nobody else's is known.
            case .frame(let frame, let from):
                events.append(.frame(frame, from: from, key: queue.envelopes[0].key))
                return frame.count
            case .malformed(let error, let from):
                events.append(.malformed(error, from: from))
                return 0
            case .refused: return 0
            case nil: break
            }
        } catch {
            events.append(.malformed(error, from: relay))
        }
        let ended = queue.envelopes.removeFirst()
        queue.bytes -= ended.bytes
        waitingBytes -= ended.bytes
        return 0
    }
}
