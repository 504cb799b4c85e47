/// A base manifest on its way from a worker. It comes in pieces as large as the link carries in a few seconds, one at a time. Only one peer uploads
/// at a time, so that strangers can't fill the coordinator's memory.
struct BaseUpload: Sendable {
    let peer: PeerID
    let announced: BaseDigest
    private(set) var bytes: [UInt8] = []
    private var pace = LinkPace()
    private var askedAt: Timestamp
    private var askedBytes = 0
    /// The time at which the last piece came.
    private var heardAt: Timestamp

    init(of announced: BaseDigest, by peer: PeerID, at now: Timestamp) {
        self.announced = announced
        self.peer = peer
        askedAt = now
        heardAt = now
    }

    var isComplete: Bool { bytes.count >= announced.bytes }

    /// Returns the request for the next piece.
    mutating func next(at now: Timestamp) -> BaseFetch {
        askedAt = now
        askedBytes = min(pace.chunkBytes, announced.bytes - bytes.count)
        return BaseFetch(offset: bytes.count, count: askedBytes)
    }

    /// Takes a piece. Returns false if it is not the piece that was asked for.
    mutating func take(_ part: BasePart, at now: Timestamp) -> Bool {
        guard part.offset == bytes.count, !part.bytes.isEmpty, part.bytes.count <= askedBytes else { return false }
        bytes += part.bytes
        pace.noteChunk(bytes: part.bytes.count, seconds: now.seconds(since: askedAt))
        heardAt = now
        return true
    }

    /// Whether the piece that was asked for must be lost by now.
    func isOverdue(at now: Timestamp, heartbeatSeconds: Double) -> Bool {
        now.seconds(since: askedAt) > pace.secondsUntilLost(bytes: askedBytes, heartbeatSeconds: heartbeatSeconds)
    }

    /// Whether another peer should have its turn.
    func isAbandoned(at now: Timestamp, timeout: Double) -> Bool {
        now.seconds(since: heardAt) > timeout + Double(askedBytes) / ProtocolLimits.slowestBytesPerSecond
    }
}
