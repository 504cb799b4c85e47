import Core

/// A coordinator's link through which workers behind relays come as peers, beside those with connections of their own. It unpacks what relays send,
/// and packs what goes to them once per turn of the reactor.
package final class RelayedServerLink: ServerLink {
    private let link: any ServerLink
    private var relays: CoordinatorRelays
    /// Events that came in envelopes and have not had their turn.
    private var backlog: [LinkEvent] = []
    private var taken = 0

    /// - Parameter frameLimit: the limit with which `link` listens. Relays are told.
    package init(_ link: any ServerLink, frameLimit: Int) {
        self.link = link
        relays = CoordinatorRelays(secret: UInt64.random(in: 0...(.max)), frameBytes: frameLimit)
    }

    package var endpoint: String { link.endpoint }
    package var publicKey: PublicKey? { link.publicKey }
    package var traffic: Traffic { link.traffic }
    package var waker: any Waker { link.waker }
    package var isFlushed: Bool { relays.isEmpty && link.isFlushed }

    package func send(_ frame: [UInt8], to peers: [PeerID]) throws(TransportError) {
        let direct = relays.send(frame, to: peers)
        if !direct.isEmpty { try link.send(frame, to: direct) }
    }

    package func forget(_ peer: PeerID) {
        if !relays.forget(peer) { link.forget(peer) }
    }

    package func wait(seconds: Double) throws(TransportError) {
        for (frame, relay) in relays.takeOutgoing() { try link.send(frame, to: [relay]) }
        try link.wait(seconds: taken < backlog.count ? 0 : seconds)
    }

    package func service() throws(TransportError) -> [LinkEvent] {
        if taken == backlog.count {
            backlog = try link.service().flatMap { unpacked($0) }
            taken = 0
        }
        let turn = backlog[taken..<min(taken + LinkLimits.framesPerTurn, backlog.count)]
        taken = turn.endIndex
        return Array(turn)
    }

    private func unpacked(_ event: LinkEvent) -> [LinkEvent] {
        guard case .frame(let frame, let peer, let key) = event else { return [event] }
        do throws(WireError) {
            switch try relays.take(frame, from: peer) {
            case .direct: return [event]
            case .relayed(let items):
                return items.map { item in
                    switch item {
                    // The connection has proved the relay's key. Nobody else's is known.
                    case .frame(let frame, let from): .frame(frame, from: from, key: key)
                    case .malformed(let error, let from): .malformed(error, from: from)
                    }
                }
            }
        } catch {
            return [.malformed(error, from: peer)]
        }
    }
}
