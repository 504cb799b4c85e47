/// A frame between a coordinator and a relay (docs/reference/protocol.md#relays). Envelopes carry the frames of many workers, as they are, over one
/// connection.
public enum RelayFrame: Hashable, Sendable {
    /// Relay → coordinator: the relay is there. The answer tells the round trip.
    case ping(sequence: UInt64)
    /// Relay → coordinator: frames of workers.
    case up([Upward])
    /// Coordinator → relay: the answer to a ping, with the largest frame that the coordinator takes. A relay answers with `relayFrameBytes`.
    case pong(sequence: UInt64, frameBytes: Int)
    /// Coordinator → relay: frames for workers.
    case down([Downward])

    /// A worker's frame. The relay has numbered its workers, and gives no number twice.
    public struct Upward: Hashable, Sendable {
        public let worker: UInt32
        public let frame: [UInt8]
        public init(worker: UInt32, frame: [UInt8]) {
            self.worker = worker
            self.frame = frame
        }
    }

    /// A frame, and the workers that are to have it.
    public struct Downward: Hashable, Sendable {
        public let workers: WorkerSet
        public let frame: [UInt8]
        public init(workers: WorkerSet, frame: [UInt8]) {
            self.workers = workers
            self.frame = frame
        }
    }

    /// Numbers of workers, as runs of neighbours. All workers of a relay are usually one run, which takes three bytes.
    public struct WorkerSet: Hashable, Sendable {
        /// Ascending, with a gap between each two.
        public let runs: [ClosedRange<UInt32>]

        /// - Parameter numbers: in any order, and perhaps more than once.
        public init(_ numbers: some Sequence<UInt32>) {
            var runs: [ClosedRange<UInt32>] = []
            for number in numbers.sorted() {
                if let last = runs.last, last.contains(number) { continue }
                if let last = runs.last, last.upperBound + 1 == number {
                    runs[runs.count - 1] = last.lowerBound...number
                } else {
                    runs.append(number...number)
                }
            }
            self.runs = runs
        }

        fileprivate init(runs: [ClosedRange<UInt32>]) { self.runs = runs }
    }

    enum Kind: UInt8, CaseIterable {
        case ping = 33, up
        case pong = 97, down
    }

    /// Returns whether a frame is one of a relay's connection, and not a worker's message.
    public static func isRelayFrame(_ frame: [UInt8]) -> Bool { kind(of: frame) != nil }

    static func kind(of frame: [UInt8]) -> Kind? {
        guard frame.count >= MessageCoding.headerBytes, frame[0] == MessageCoding.version else { return nil }
        return Kind(rawValue: frame[1])
    }

    /// Returns whether an envelope holds a frame of a wanted kind. Nothing is copied, and nothing is read beyond that frame or damage.
    public static func holds(_ envelope: [UInt8], where isWanted: (UInt8) -> Bool) -> Bool {
        guard let kind = kind(of: envelope), kind == .up || kind == .down else { return false }
        var reader = ByteReader(envelope[MessageCoding.headerBytes...])
        do throws(WireError) {
            while reader.remaining > 0 {
                // A set's number of runs is followed by two numbers for each.
                let first = try reader.varint32("worker")
                if kind == .down { for _ in 0..<2 * UInt64(first) { _ = try reader.varint32("worker") } }
                let frame = try reader.take(try reader.size("length", limit: ProtocolLimits.frameBytes), "frame")
                if frame.count >= MessageCoding.headerBytes, isWanted(frame[frame.startIndex + 1]) { return true }
            }
        } catch {
            return false
        }
        return false
    }

    /// Reads the frames of workers out of an envelope one after the other, so that an envelope of thousands costs no more at once than its turn allows.
    public struct UpwardReader: Sendable {
        private var reader: ByteReader
        private var frames = 0

        /// - Parameter envelope: what follows the header.
        init(_ envelope: ArraySlice<UInt8>) { reader = ByteReader(envelope) }

        /// Returns the next frame; nil after the last one.
        public mutating func next() throws(WireError) -> Upward? {
            guard frames == 0 || reader.remaining > 0 else { return nil }
            defer { frames += 1 }
            return Upward(worker: try reader.varint32("worker"), frame: try reader.relayedFrame(after: frames))
        }
    }

    /// Bytes that an envelope's header and the numbers and length of one frame take at most.
    public static let overheadBytes = 32
    /// The largest frame in a pong of a relay: nothing that has to do with relays passes through it.
    public static let relayFrameBytes = 0
}

// MARK: Coding

extension RelayFrame {
    private var kind: Kind {
        switch self {
        case .ping: .ping
        case .up: .up
        case .pong: .pong
        case .down: .down
        }
    }

    public func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(MessageCoding.version)
        writer.write(kind.rawValue)
        switch self {
        case .ping(let sequence): writer.write(varint: sequence)
        case .pong(let sequence, let frameBytes):
            writer.write(varint: sequence)
            writer.write(varint: UInt64(max(frameBytes, 0)))
        case .up(let frames):
            for item in frames {
                writer.write(varint: item.worker)
                writer.write(frame: item.frame)
            }
        case .down(let frames):
            for item in frames {
                item.workers.write(to: &writer)
                writer.write(frame: item.frame)
            }
        }
        return writer.bytes
    }

    /// Decodes a frame. Any bytes give either a relay's frame or an error, and never take more memory than a small multiple of the bytes themselves.
    public init(decoding bytes: [UInt8]) throws(WireError) {
        guard bytes.count <= ProtocolLimits.frameBytes else { throw .tooLong(bytes: bytes.count, limit: ProtocolLimits.frameBytes) }
        guard !bytes.isEmpty else { throw .empty }
        var reader = ByteReader(bytes)
        let version = try reader.byte("version")
        guard version == MessageCoding.version else { throw .version(version) }
        let kindByte = try reader.byte("kind")
        guard let kind = Kind(rawValue: kindByte) else { throw .unknownKind(kindByte) }
        switch kind {
        case .ping: self = .ping(sequence: try reader.varint("sequence"))
        case .pong:
            self = .pong(
                sequence: try reader.varint("sequence"), frameBytes: try reader.size("largest frame", limit: ProtocolLimits.frameBytes))
        case .up:
            var frames: [Upward] = []
            var upward = UpwardReader(reader.rest())
            while let frame = try upward.next() { frames.append(frame) }
            self = .up(frames)
        case .down:
            var frames: [Downward] = []
            repeat {
                frames.append(Downward(workers: try WorkerSet(from: &reader), frame: try reader.relayedFrame(after: frames.count)))
            } while reader.remaining > 0
            self = .down(frames)
        }
        try reader.end()
    }
}

extension RelayFrame.WorkerSet {
    /// Writes the number of runs, and for each the distance from the run before and how many numbers follow its first.
    fileprivate func write(to writer: inout ByteWriter) {
        writer.write(varint: UInt64(runs.count))
        var next: UInt64 = 0
        for run in runs {
            writer.write(varint: UInt64(run.lowerBound) - next)
            writer.write(varint: run.upperBound - run.lowerBound)
            // The number after a run is not in the next one: they would be one run.
            next = UInt64(run.upperBound) + 2
        }
    }

    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        let count = try reader.count("runs of workers", limit: ProtocolLimits.workersPerRelay, itemBytes: 2)
        guard count > 0 else { throw .invalid(field: "runs of workers", reason: "none") }
        var runs: [ClosedRange<UInt32>] = []
        runs.reserveCapacity(count)
        var next: UInt64 = 0
        for _ in 0..<count {
            let lower = next + UInt64(try reader.varint32("worker"))
            let upper = lower + UInt64(try reader.varint32("workers"))
            guard let first = UInt32(exactly: lower), let last = UInt32(exactly: upper) else {
                throw .invalid(field: "workers", reason: "numbers up to \(upper)")
            }
            runs.append(first...last)
            next = upper + 2
        }
        self.init(runs: runs)
    }
}

extension ByteWriter {
    /// Writes a frame's length and the frame.
    fileprivate mutating func write(frame: [UInt8]) {
        write(varint: UInt64(frame.count))
        write(frame)
    }
}

extension ByteReader {
    fileprivate mutating func relayedFrame(after frames: Int) throws(WireError) -> [UInt8] {
        guard frames < ProtocolLimits.framesPerEnvelope else {
            throw .invalid(field: "frames", reason: "more than \(ProtocolLimits.framesPerEnvelope) in one envelope")
        }
        let count = try size("length", limit: ProtocolLimits.frameBytes)
        guard count > 0 else { throw .invalid(field: "length", reason: "a frame without bytes") }
        return Array(try take(count, "frame"))
    }
}
