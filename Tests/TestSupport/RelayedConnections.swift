import Core
import Glibc
import Transport

/// A swarm behind relays: a connection for each relay, and the product's own relays in between, in the swarm's thread. So a coordinator is measured
/// with as many relays as on as many hosts, and the links at the sites cost this host nothing.
final class RelayedConnections: SwarmConnections {
    private static let tickSeconds = 0.05
    private let far: any SwarmConnections
    private let clock: ProcessClock
    private var relays: [RelayStateMachine]
    private var nextTick: Timestamp
    /// Frames for members that have not been passed on.
    private var waiting: [(frame: [UInt8], members: [Int])] = []

    /// - Parameter far: a connection for each relay.
    init(_ far: any SwarmConnections, relays: Int) throws {
        self.far = far
        let clock = ProcessClock()
        self.clock = clock
        self.relays = (0..<relays).map { RelayStateMachine(secret: UInt64($0), at: clock.now) }
        nextTick = clock.now
        for relay in 0..<relays { try tell(relay, .connection(isUp: true)) }
    }

    func send(_ frame: [UInt8], from member: Int) throws {
        try tell(member % relays.count, .worker(frame, from: PeerID(withUnsafeBytes(of: UInt32(member)) { Array($0) })))
    }

    func receive(waitMilliseconds: Int, _ take: (UnsafeRawBufferPointer, Int) throws -> Void) throws {
        let due = relays.lazy.compactMap(\.dueAt).min().map { min($0, nextTick) } ?? nextTick
        let milliseconds = waiting.isEmpty ? min(waitMilliseconds, Int((due.seconds(since: clock.now) * 1000).rounded(.up))) : 0
        try far.receive(waitMilliseconds: milliseconds) { try tell($1, .coordinator(Array($0))) }
        let now = clock.now
        for relay in relays.indices where now >= nextTick || relays[relay].dueAt.map({ now >= $0 }) ?? false { try tell(relay, .tick) }
        if now >= nextTick { nextTick = now.advanced(bySeconds: Self.tickSeconds) }
        let arrived = waiting
        waiting = []
        for (frame, members) in arrived { try frame.withUnsafeBytes { bytes in for member in members { try take(bytes, member) } } }
    }

    private func tell(_ relay: Int, _ event: RelayEvent) throws {
        var isSending = false
        for effect in relays[relay].handle(event, at: clock.now) {
            switch effect {
            case .toCoordinator(let frame):
                isSending = true
                try far.send(frame, from: relay)
            case .toWorkers(let frame, let peers):
                waiting.append((frame, peers.map { Int($0.bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }) }))
            case .finish(.failed(let failure)): throw failure
            case .forget, .listen, .notice, .finish: break
            }
        }
        if isSending { try tell(relay, .sent) }
    }
}
