import Core

/// The frames that a coordinator's link sends. Frames that a peer's connection does not take yet wait here, separately for each peer, so that a slow
/// peer delays no other. Beyond the limits new frames are dropped.
struct ServerOutbox {
    private let isEncrypted: Bool
    private let classify: FrameClassifier
    private var queues: [PeerID: Queue] = [:]
    private var waitingBytes = 0
    private(set) var sent = Traffic.Direction()
    private(set) var dropped: UInt64 = 0

    /// The frames that wait for one slow peer.
    private struct Queue {
        var frames: [[UInt8]] = []
        var next = 0
        var bytes = 0
    }

    init(isEncrypted: Bool, classify: @escaping FrameClassifier) {
        self.isEncrypted = isEncrypted
        self.classify = classify
    }

    var isEmpty: Bool { queues.isEmpty }

    /// Offers a frame to the connections of all these peers. It waits for those that do not take it.
    mutating func send(
        _ frame: [UInt8], to peers: [PeerID], _ transmit: (PeerID) throws(TransportError) -> SendResult
    ) throws(TransportError) {
        let kind = classify(frame)
        for peer in peers {
            if queues[peer] != nil {
                enqueue(frame, for: peer)
                continue
            }
            switch try transmit(peer) {
            case .sent: sent.count(frame.count, kind, encrypted: isEncrypted)
            case .wouldBlock: enqueue(frame, for: peer)
            case .unreachable: dropped += 1
            }
        }
    }

    /// Offers the waiting frames again.
    mutating func flush(_ transmit: ([UInt8], PeerID) throws(TransportError) -> SendResult) throws(TransportError) {
        for peer in queues.keys {
            guard var queue = queues.removeValue(forKey: peer) else { continue }
            var result = SendResult.sent
            while result == .sent, queue.next < queue.frames.count {
                let frame = queue.frames[queue.next]
                result = try transmit(frame, peer)
                guard result == .sent else { break }
                sent.count(frame.count, classify(frame), encrypted: isEncrypted)
                queue.frames[queue.next] = []
                queue.next += 1
                queue.bytes -= frame.count
                waitingBytes -= frame.count
            }
            switch result {
            case .sent: break
            case .wouldBlock:
                queue.frames.removeFirst(queue.next)
                queue.next = 0
                queues[peer] = queue
            case .unreachable: drop(queue)
            }
        }
    }

    /// Drops the frames that wait for a peer.
    mutating func forget(_ peer: PeerID) {
        if let queue = queues.removeValue(forKey: peer) { drop(queue) }
    }

    private mutating func drop(_ queue: Queue) {
        waitingBytes -= queue.bytes
        dropped += UInt64(queue.frames.count - queue.next)
    }

    private mutating func enqueue(_ frame: [UInt8], for peer: PeerID) {
        var queue = queues.removeValue(forKey: peer) ?? Queue()
        defer { queues[peer] = queue }
        guard queue.frames.count - queue.next < LinkLimits.waitingFrames, queue.bytes + frame.count <= LinkLimits.waitingBytes,
            waitingBytes + frame.count <= LinkLimits.allWaitingBytes
        else {
            dropped += 1
            return
        }
        queue.frames.append(frame)
        queue.bytes += frame.count
        waitingBytes += frame.count
    }
}

/// The frames that a worker's link sends. They wait here until the connection takes them. Beyond the limits the oldest are dropped.
struct ClientOutbox {
    private let isEncrypted: Bool
    private let classify: FrameClassifier
    private var frames: [[UInt8]] = []
    private var bytes = 0
    private(set) var sent = Traffic.Direction()
    private(set) var dropped: UInt64 = 0

    init(isEncrypted: Bool, classify: @escaping FrameClassifier) {
        self.isEncrypted = isEncrypted
        self.classify = classify
    }

    var isEmpty: Bool { frames.isEmpty }

    /// Drops all waiting frames.
    mutating func removeAll() {
        dropped += UInt64(frames.count)
        frames = []
        bytes = 0
    }

    /// Offers a frame to the connection, after all frames that wait.
    mutating func send(_ frame: [UInt8], _ transmit: ([UInt8]) throws(TransportError) -> SendResult) throws(TransportError) {
        frames.append(frame)
        bytes += frame.count
        while frames.count > LinkLimits.waitingFrames || bytes > LinkLimits.waitingBytes {
            bytes -= frames.removeFirst().count
            dropped += 1
        }
        try flush(transmit)
    }

    /// Offers the waiting frames again.
    mutating func flush(_ transmit: ([UInt8]) throws(TransportError) -> SendResult) throws(TransportError) {
        var taken = 0
        defer { frames.removeFirst(taken) }
        while taken < frames.count, try transmit(frames[taken]) == .sent {
            sent.count(frames[taken].count, classify(frames[taken]), encrypted: isEncrypted)
            bytes -= frames[taken].count
            taken += 1
        }
    }
}
