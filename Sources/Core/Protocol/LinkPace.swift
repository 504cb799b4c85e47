/// A worker's measurements of its link. They decide the size of the chunks that it asks for, and how often it sends heartbeats and statuses. On a
/// fast link everything is as the spec says.
struct LinkPace: Sendable {
    enum Tuning {
        /// A chunk that takes less than the first value may be followed by one twice as large. If it takes longer than the second, the next is half
        /// as large.
        static let shortChunkSeconds = 1.5
        static let longChunkSeconds = 6.0
        /// Weight of a new measurement.
        static let smoothing = 0.25
        /// Round trips between two heartbeats, and between two statuses.
        static let roundTripsPerHeartbeat = 8.0
        static let roundTripsPerStatus = 30.0
        static let longestStatusSeconds = 60.0
        /// Least number of heartbeats within the timeout, however slow the link is.
        static let heartbeatsPerTimeout = 4.0
        /// A chunk counts as lost when it takes this many times as long as it should.
        static let overdue = 4.0
    }

    /// Seconds between a heartbeat and its pong, smoothed; nil: not measured yet.
    private(set) var roundTripSeconds: Double?
    /// Rate at which the ledger comes, smoothed; nil: not measured yet.
    private(set) var bytesPerSecond: Double?
    /// Size of the next chunk to ask for.
    private(set) var chunkBytes = ProtocolLimits.firstChunkBytes

    mutating func noteRoundTrip(seconds: Double) {
        roundTripSeconds = roundTripSeconds.map { $0 + Tuning.smoothing * (seconds - $0) } ?? seconds
    }

    mutating func noteChunk(bytes: Int, seconds: Double) {
        // The last piece of a ledger is short. Its time is mostly the delay of the link and says nothing about the rate.
        let isWhole = bytes * 2 > chunkBytes
        if isWhole {
            let rate = Double(bytes) / max(seconds, 1e-4)
            bytesPerSecond = bytesPerSecond.map { $0 + Tuning.smoothing * (rate - $0) } ?? rate
        }
        if seconds < Tuning.shortChunkSeconds, isWhole {
            chunkBytes = min(2 * chunkBytes, ProtocolLimits.chunkBytes)
        } else if seconds > Tuning.longChunkSeconds {
            chunkBytes = max(chunkBytes / 2, ProtocolLimits.smallestChunkBytes)
        }
    }

    /// Begins with small chunks again: a new connection may use another link.
    mutating func noteConnection() {
        chunkBytes = min(chunkBytes, ProtocolLimits.firstChunkBytes)
        bytesPerSecond = nil
    }

    /// Returns the seconds after which a chunk of this size must be lost.
    func secondsUntilLost(bytes: Int, heartbeatSeconds: Double) -> Double {
        let expected = Double(bytes) / max(bytesPerSecond ?? 0, ProtocolLimits.slowestBytesPerSecond)
        return max(3 * heartbeatSeconds, Tuning.overdue * max(expected, roundTripSeconds ?? 0))
    }

    /// Returns the seconds between two heartbeats.
    func heartbeatSeconds(spec: Double, timeout: Double) -> Double {
        max(spec, min(Tuning.roundTripsPerHeartbeat * (roundTripSeconds ?? 0), timeout / Tuning.heartbeatsPerTimeout))
    }

    /// Returns the seconds between two statuses, which are for people only.
    func statusSeconds(shortest: Double) -> Double {
        max(shortest, min(Tuning.roundTripsPerStatus * (roundTripSeconds ?? 0), Tuning.longestStatusSeconds))
    }

    /// The round trip as it is told to the coordinator.
    var roundTripMilliseconds: UInt32 { UInt32(min(max((roundTripSeconds ?? 0) * 1000, 0), 1e6)) }
}
