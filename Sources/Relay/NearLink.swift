import Core
import Synchronization
import Transport

/// A relay's link to its workers. It listens once the coordinator has said how large a frame may be: what a stranger sends before would fill queues
/// that are made for the largest frame of any run.
final class NearLink: ServerLink {
    /// Wakes the thread that waits, whatever it waits at now.
    private final class LatestWaker: Waker {
        private let waker: Mutex<any Waker>
        init(_ first: any Waker) { waker = Mutex(first) }
        func wake() { waker.withLock { $0 }.wake() }
        func replace(with next: any Waker) {
            waker.withLock { $0 = next }
            // A wake of the first one may have come meanwhile.
            next.wake()
        }
    }

    private let transport: any ServerTransport
    private let signal = WakeSignal()
    private let latest: LatestWaker
    private var link: (any ServerLink)?

    /// Checks that it can listen, so that a wrong address or a missing key is an error at once.
    init(_ transport: any ServerTransport) throws(TransportError) {
        self.transport = transport
        latest = LatestWaker(signal)
        _ = try transport.listen(classify: trafficClass(ofFrame:), frameLimit: ProtocolLimits.chunkBytes)
    }

    /// Begins to listen.
    func open(frameLimit: Int) throws(TransportError) {
        let link = try transport.listen(classify: trafficClass(ofFrame:), frameLimit: frameLimit)
        self.link = link
        latest.replace(with: link.waker)
    }

    var endpoint: String { link?.endpoint ?? "" }
    var publicKey: PublicKey? { link?.publicKey }
    var traffic: Traffic { link?.traffic ?? Traffic() }
    var isFlushed: Bool { link?.isFlushed ?? true }
    var waker: any Waker { latest }

    func wait(seconds: Double) throws(TransportError) {
        if let link { try link.wait(seconds: seconds) } else { signal.wait(seconds: seconds) }
    }

    func service() throws(TransportError) -> [LinkEvent] { try link?.service() ?? [] }
    func send(_ frame: [UInt8], to peers: [PeerID]) throws(TransportError) { try link?.send(frame, to: peers) }
    func forget(_ peer: PeerID) { link?.forget(peer) }
}
