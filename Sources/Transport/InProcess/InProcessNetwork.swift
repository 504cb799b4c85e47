import Core
import Synchronization

/// A network inside one process: a coordinator and its workers talk through queues in memory. Nothing is encrypted, and nothing leaves the process.
///
/// ```swift
/// let network = InProcessNetwork()
/// let coordinator = CoordinatorProcess(configuration: .init(transport: network, runDirectory: "run", spec: spec))
/// let worker = WorkerProcess(configuration: .init(transport: network, name: "a", makeTrainer: makeTrainer))
/// ```
///
/// It behaves like a real network. Workers may come before the coordinator. Connections have bounded queues. A frame beyond
/// `ProtocolLimits.frameBytes` ends its connection, and a connection that ends loses the frames that are on their way. A worker reconnects at once if
/// possible. `dropConnections`, `cut` and `mend` make the network fail and work again.
public final class InProcessNetwork: Sendable, ServerTransport, ClientTransport {
    /// The state that threads share. The lock is held for a few steps at a time, and no thread is woken under it.
    private let state: Mutex<State>
    /// The network's name in notices and logs.
    public let endpoint: String

    /// - Parameter name: the name in logs.
    public init(name: String = "network") {
        endpoint = "in-process:\(name)"
        state = Mutex(State(endpoint: endpoint))
    }

    /// Nil: nobody proves a key inside a process.
    public var publicKey: PublicKey? { nil }

    public func listen(classify: @escaping FrameClassifier, frameLimit: Int) throws(TransportError) -> any ServerLink {
        let signal = WakeSignal()
        let woken = state.withLock { $0.listen(signal) }
        guard let woken else {
            throw TransportError(.addressInUse, "\(endpoint) has a coordinator already; stop it first, or make another network")
        }
        for signal in woken { signal.wake() }
        return InProcessServerLink(self, signal, classify: classify)
    }

    public func connect(classify: @escaping FrameClassifier, queuedFrames: Int) throws(TransportError) -> any ClientLink {
        let signal = WakeSignal()
        let (peer, woken) = state.withLock { $0.join(signal) }
        for signal in woken { signal.wake() }
        return InProcessClientLink(self, peer, signal, classify: classify)
    }

    /// Ends all connections. Both sides are told, and workers reconnect at once.
    ///
    /// - Parameter isSeenByServer: false: the coordinator is not told, as when a cable is pulled; it notices when the workers reconnect.
    public func dropConnections(isSeenByServer: Bool = true) { change { $0.dropAll(isSeenByServer: isSeenByServer) } }

    /// Ends all connections and lets none be made until `mend`.
    public func cut() { change { $0.cut() } }

    /// Lets connections be made again after `cut`.
    public func mend() { change { $0.mend() } }

    private func change(_ body: (inout State) -> [WakeSignal]) {
        for signal in state.withLock({ body(&$0) }) { signal.wake() }
    }

    // MARK: For the links

    func closeServer() { change { $0.closeServer() } }
    func reconnect(_ peer: PeerID) { change { $0.reconnect(peer) } }
    func closeClient(_ peer: PeerID) { change { $0.closeClient(peer) } }

    /// Offers a frame to a worker.
    func send(_ frame: [UInt8], to peer: PeerID) -> SendResult {
        let (result, woken) = state.withLock { $0.send(frame, to: peer) }
        for signal in woken { signal.wake() }
        return result
    }

    /// Offers a worker's frame to the coordinator.
    func send(_ frame: [UInt8], from peer: PeerID) -> SendResult {
        let (result, woken) = state.withLock { $0.send(frame, from: peer) }
        for signal in woken { signal.wake() }
        return result
    }

    /// Takes one turn's worth of the events that have come to the coordinator.
    func takeAtServer() -> [LinkEvent] {
        let (events, woken) = state.withLock { $0.takeAtServer() }
        for signal in woken { signal.wake() }
        return events
    }

    /// Takes one turn's worth of the events that have come to a worker.
    func take(at peer: PeerID) -> [LinkEvent] {
        let (events, woken) = state.withLock { $0.take(at: peer) }
        for signal in woken { signal.wake() }
        return events
    }
}
