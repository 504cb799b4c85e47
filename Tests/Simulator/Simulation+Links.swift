import Core
import TestSupport

/// A worker's link with a limited rate.
package struct ThinLink {
    package var bytesPerSecond: Double
    /// Seconds from one end to the other for the first byte.
    package var delaySeconds = 0.02
    package init(bytesPerSecond: Double) { self.bytesPerSecond = bytesPerSecond }
    /// Bytes of TCP and IP headers of a packet, with time stamps.
    package static let packetBytes = 52
    package static let packetPayload = 1448
    /// Bytes of ZMTP's frame header and CURVE's envelope.
    package static let frameBytes = 9 + 33

    /// Returns the bytes that a frame takes on the link, and those that its acknowledgements take in the other direction.
    package static func cost(of frame: Int) -> (bytes: Int, acknowledgements: Int) {
        let payload = frame + frameBytes
        let packets = (payload + packetPayload - 1) / packetPayload
        return (payload + packets * packetBytes, (packets + 1) / 2 * packetBytes)
    }
}

/// The load of a link. Frames go one after the other, and a cut loses those that are on their way.
package struct LinkLine {
    package var up = Direction()
    package var down = Direction()
    package var epoch = 0

    package struct Direction {
        /// The time at which the last byte that was handed in has gone out.
        package var freeAt: UInt64 = 0
        package var bytes = 0

        package mutating func take(_ bytes: Int, rate: Double, at now: UInt64) {
            self.bytes += bytes
            freeAt = max(freeAt, now) + UInt64(Double(bytes) / rate * 1e9)
        }
    }
}

extension Simulation {
    package static func thinLinks(seed: UInt64, workers: Int) -> [Int: ThinLink] {
        var random = SeededRandom(seed: seed ^ 0xB175)
        return Dictionary(uniqueKeysWithValues: (0..<workers).map { ($0, ThinLink(bytesPerSecond: Double.random(in: 600...20_000, using: &random))) })
    }

    /// Returns the seconds until a frame arrives over its worker's link; nil if that link has no rate.
    package func arrival(of frame: [UInt8], _ event: Event, worker: Int) -> Double? {
        guard let link = world.links[worker] else { return nil }
        var line = lines[worker] ?? LinkLine()
        defer { lines[worker] = line }
        let (bytes, acknowledgements) = ThinLink.cost(of: frame.count)
        let end: UInt64
        if case .toWorker = event {
            line.down.take(bytes, rate: link.bytesPerSecond, at: now)
            line.up.take(acknowledgements, rate: link.bytesPerSecond, at: now)
            end = line.down.freeAt
        } else {
            line.up.take(bytes, rate: link.bytesPerSecond, at: now)
            line.down.take(acknowledgements, rate: link.bytesPerSecond, at: now)
            end = line.up.freeAt
        }
        return Double(end - now) / 1e9 + link.delaySeconds
    }

    /// Takes the link down for this long and loses what is on its way. In an outage that nobody notices both ends believe in their connection until
    /// it is over.
    package func cutLink(_ worker: Int, seconds: Double, isNoticed: Bool) throws {
        say("the link of worker \(worker) is down for \(seconds) s")
        partitioned.insert(worker)
        var line = lines[worker] ?? LinkLine()
        line.epoch += 1
        (line.up.freeAt, line.down.freeAt) = (0, 0)
        lines[worker] = line
        schedule(.mendLink(worker), after: seconds)
        if isNoticed { try tellWorker(worker, .connection(isUp: false)) }
    }

    package func mendLink(_ worker: Int) throws {
        partitioned.remove(worker)
        try tellWorker(worker, .connection(isUp: false))
        try tellWorker(worker, .connection(isUp: true))
    }
}
