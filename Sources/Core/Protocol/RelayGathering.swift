/// Frames of workers that wait at a relay for the next envelope. No worker keeps the others of its site from being heard: of each worker a few frames
/// wait, and only its newest signs of life.
struct RelayGathering: Sendable {
    enum Limit {
        /// Number of frames of one worker that wait. A worker has a handful on its way.
        static let framesPerWorker = 32
        /// Bytes of one worker that wait, unless a single frame has more.
        static let workerBytes = ProtocolLimits.envelopeBytes
        /// Bytes of all workers that wait.
        static let bytes = 64 << 20
    }

    /// What waits of one worker, besides its signs of life.
    private struct Load: Sendable {
        var frames = 0
        var bytes = 0
    }

    /// The newest heartbeat and status of one worker.
    private struct Signs: Sendable {
        var heartbeat: [UInt8]?
        var status: [UInt8]?
        var frames: [[UInt8]] { [heartbeat, status].compactMap { $0 } }
    }

    private var queue: [RelayFrame.Upward] = []
    /// Index of the first frame of `queue` that was not taken.
    private var next = 0
    private var loads: [UInt32: Load] = [:]
    private var signs: [UInt32: Signs] = [:]
    /// The workers with signs of life, in the order in which these came.
    private var signers: [UInt32] = []
    /// Bytes of everything that waits, with what an envelope adds to it.
    private var bytes = 0

    var isEmpty: Bool { bytes == 0 }

    /// Whether an envelope would be full.
    var isFull: Bool { bytes > ProtocolLimits.envelopeBytes || queue.count - next >= ProtocolLimits.framesPerEnvelope }

    private static func cost(_ frame: [UInt8]) -> Int { frame.count + RelayFrame.overheadBytes }

    /// Adds a frame.
    ///
    /// - Returns: false if too much of this worker, or of all, waits. The frame is left out then.
    mutating func append(_ frame: [UInt8], kind: Message.Kind?, of worker: UInt32) -> Bool {
        let cost = Self.cost(frame)
        if kind == .heartbeat || kind == .status {
            var newest = signs[worker] ?? Signs()
            let old = kind == .heartbeat ? newest.heartbeat : newest.status
            if kind == .heartbeat { newest.heartbeat = frame } else { newest.status = frame }
            if signs.updateValue(newest, forKey: worker) == nil { signers.append(worker) }
            bytes += cost - (old.map { Self.cost($0) } ?? 0)
            return true
        }
        let load = loads[worker] ?? Load()
        guard load.frames < Limit.framesPerWorker, load.frames == 0 || load.bytes + cost <= Limit.workerBytes, bytes + cost <= Limit.bytes else {
            return false
        }
        loads[worker] = Load(frames: load.frames + 1, bytes: load.bytes + cost)
        queue.append(RelayFrame.Upward(worker: worker, frame: frame))
        bytes += cost
        return true
    }

    /// Takes the frames of the next envelope, in order. A worker's signs of life come after all its other frames: a heartbeat says that what was
    /// sent before it has arrived, or never will.
    mutating func takeEnvelope() -> [RelayFrame.Upward] {
        var taken: [RelayFrame.Upward] = []
        var size = 0
        func fits(_ cost: Int, frames: Int) -> Bool {
            taken.isEmpty || (size + cost <= ProtocolLimits.envelopeBytes && taken.count + frames <= ProtocolLimits.framesPerEnvelope)
        }
        while next < queue.count, fits(Self.cost(queue[next].frame), frames: 1) {
            let item = queue[next]
            next += 1
            taken.append(item)
            let cost = Self.cost(item.frame)
            size += cost
            if let load = loads[item.worker] {
                loads[item.worker] = load.frames > 1 ? Load(frames: load.frames - 1, bytes: load.bytes - cost) : nil
            }
        }
        if 2 * next >= queue.count {
            queue.removeFirst(next)
            next = 0
        }
        var waiting: [UInt32] = []
        for worker in signers {
            guard let frames = signs[worker]?.frames else { continue }
            let cost = frames.reduce(0) { $0 + Self.cost($1) }
            guard loads[worker] == nil, fits(cost, frames: frames.count) else {
                waiting.append(worker)
                continue
            }
            signs[worker] = nil
            taken += frames.map { RelayFrame.Upward(worker: worker, frame: $0) }
            size += cost
        }
        signers = waiting
        bytes -= size
        return taken
    }

    /// Drops a worker's signs of life: it has left, and they would come after its goodbye.
    mutating func dropSigns(of worker: UInt32) {
        guard let dropped = signs.removeValue(forKey: worker) else { return }
        bytes -= dropped.frames.reduce(0) { $0 + Self.cost($1) }
        signers.removeAll { $0 == worker }
    }
}

/// Notes which workers have answered a round, so that a relay knows when nothing is left to wait for. A worker's word on the round does not count:
/// it would be believed for all of them.
struct RelayAnswers: Sendable {
    private var current: Set<UInt32> = []
    /// Workers that have answered again since.
    private var again: Set<UInt32> = []
    /// Number of workers that answered the round before; nil: not known yet.
    private var expected: Int?

    /// Notes a worker's contribution. The next round has begun when most of those that answered this one have answered again.
    ///
    /// - Parameter workers: number of workers that are there.
    /// - Returns: whether as many have answered as the round before.
    mutating func note(_ worker: UInt32, workers: Int) -> Bool {
        if !current.insert(worker).inserted {
            again.insert(worker)
            guard 2 * again.count > current.count else { return false }
            expected = current.count
            current = again
            again = []
        }
        return current.count >= expected ?? workers
    }

    /// Forgets a worker that has left, or has not answered for long.
    mutating func forget(_ worker: UInt32) {
        current.remove(worker)
        again.remove(worker)
    }
}
