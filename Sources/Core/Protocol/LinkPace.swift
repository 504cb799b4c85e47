/// What a worker has measured of its link: from it follow the size of the chunks that it asks for, and how often it speaks where nothing
/// is to be said. On a fast link all is as the spec says.
struct LinkPace: Sendable {
    enum Tuning {
        /// A chunk that takes less may be followed by one twice as large; one that takes longer than the second by half as large a one.
        static let shortChunkSeconds = 1.5
        static let longChunkSeconds = 6.0
        /// Weight of a new measurement.
        static let smoothing = 0.25
        /// Round trips between two heartbeats, and between two statuses.
        static let roundTripsPerHeartbeat = 8.0
        static let roundTripsPerStatus = 30.0
        static let longestStatusSeconds = 60.0
        /// Heartbeats within the timeout, however slow the link is.
        static let heartbeatsPerTimeout = 4.0
        /// A chunk is lost when it takes so many times as long as it should.
        static let overdue = 4.0
    }

    /// Of a heartbeat and its pong, smoothed; nil: not measured yet.
    private(set) var roundTripSeconds: Double?
    /// That the ledger comes down with, smoothed.
    private(set) var bytesPerSecond: Double?
    /// To be asked for next.
    private(set) var chunkBytes = ProtocolLimits.firstChunkBytes

    mutating func noteRoundTrip(seconds: Double) {
        roundTripSeconds = roundTripSeconds.map { $0 + Tuning.smoothing * (seconds - $0) } ?? seconds
    }

    mutating func noteChunk(bytes: Int, seconds: Double) {
        // The last piece of a ledger is short: its time is the way's, and says nothing of the rate.
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

    /// A new connection may be another link: begin small again.
    mutating func noteConnection() {
        chunkBytes = min(chunkBytes, ProtocolLimits.firstChunkBytes)
        bytesPerSecond = nil
    }

    /// Seconds after which a chunk of so many bytes can't be on its way any more.
    func secondsUntilLost(bytes: Int, heartbeatSeconds: Double) -> Double {
        let expected = Double(bytes) / max(bytesPerSecond ?? 0, ProtocolLimits.slowestBytesPerSecond)
        return max(3 * heartbeatSeconds, Tuning.overdue * max(expected, roundTripSeconds ?? 0))
    }

    /// Between two heartbeats.
    func heartbeatSeconds(spec: Double, timeout: Double) -> Double {
        max(spec, min(Tuning.roundTripsPerHeartbeat * (roundTripSeconds ?? 0), timeout / Tuning.heartbeatsPerTimeout))
    }

    /// Between two statuses, which are for people only.
    func statusSeconds(shortest: Double) -> Double {
        max(shortest, min(Tuning.roundTripsPerStatus * (roundTripSeconds ?? 0), Tuning.longestStatusSeconds))
    }

    /// For the coordinator.
    var roundTripMilliseconds: UInt32 { UInt32(min(max((roundTripSeconds ?? 0) * 1000, 0), 1e6)) }
}
