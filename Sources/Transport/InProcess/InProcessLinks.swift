import Core

/// The coordinator's end of an in-process network.
final class InProcessServerLink: ServerLink {
    private let network: InProcessNetwork
    private let signal: WakeSignal
    private let classify: FrameClassifier
    private var outbox: ServerOutbox
    private var incoming = Traffic()

    init(_ network: InProcessNetwork, _ signal: WakeSignal, classify: @escaping FrameClassifier) {
        self.network = network
        self.signal = signal
        self.classify = classify
        outbox = ServerOutbox(isEncrypted: false, classify: classify)
    }

    deinit { network.closeServer() }

    var endpoint: String { network.endpoint }
    var publicKey: PublicKey? { nil }
    var waker: any Waker { signal }
    var isFlushed: Bool { outbox.isEmpty }
    var traffic: Traffic { incoming.with(sent: outbox.sent, dropped: outbox.dropped) }

    func wait(seconds: Double) { signal.wait(seconds: seconds) }

    func send(_ frame: [UInt8], to peers: [PeerID]) throws(TransportError) {
        try outbox.send(frame, to: peers) { (peer) throws(TransportError) in network.send(frame, to: peer) }
    }

    func forget(_ peer: PeerID) { outbox.forget(peer) }

    func service() throws(TransportError) -> [LinkEvent] {
        if !outbox.isEmpty { try outbox.flush { (frame, peer) throws(TransportError) in network.send(frame, to: peer) } }
        let events = network.takeAtServer()
        for event in events { incoming.count(event, classify) }
        return events
    }
}

/// A worker's end of an in-process network.
final class InProcessClientLink: ClientLink {
    private let network: InProcessNetwork
    private let peer: PeerID
    private let signal: WakeSignal
    private let classify: FrameClassifier
    private var outbox: ClientOutbox
    private var incoming = Traffic()

    init(_ network: InProcessNetwork, _ peer: PeerID, _ signal: WakeSignal, classify: @escaping FrameClassifier) {
        self.network = network
        self.peer = peer
        self.signal = signal
        self.classify = classify
        outbox = ClientOutbox(isEncrypted: false, classify: classify)
    }

    deinit { network.closeClient(peer) }

    func reconnect() { network.reconnect(peer) }

    /// Does nothing: inside a process there is one coordinator.
    func reconnect(to join: JoinString) {}

    var endpoint: String { network.endpoint }
    var isEncrypted: Bool { false }
    var waker: any Waker { signal }
    var isFlushed: Bool { outbox.isEmpty }
    var traffic: Traffic { incoming.with(sent: outbox.sent, dropped: outbox.dropped) }

    func wait(seconds: Double) { signal.wait(seconds: seconds) }

    func send(_ frame: [UInt8]) throws(TransportError) {
        try outbox.send(frame) { (frame) throws(TransportError) in network.send(frame, from: peer) }
    }

    func service() throws(TransportError) -> [LinkEvent] {
        if !outbox.isEmpty { try outbox.flush { (frame) throws(TransportError) in network.send(frame, from: peer) } }
        let events = network.take(at: peer)
        for event in events { incoming.count(event, classify) }
        return events
    }
}

extension Traffic {
    fileprivate mutating func count(_ event: LinkEvent, _ classify: FrameClassifier) {
        switch event {
        case .frame(let frame, _, _): received.count(frame.count, classify(frame), encrypted: false)
        case .connection(.connected): connections += 1
        case .connection, .malformed: break
        }
    }
}
