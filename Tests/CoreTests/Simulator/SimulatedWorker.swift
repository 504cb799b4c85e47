import Core
import TestSupport

/// A worker process in the simulation: the product's state machine over real parameters of a few dozen numbers.
struct SimulatedWorker {
    /// The tensors and directions that a run trains.
    struct Toy {
        let tensors: [TrainedTensor]
        let directions: Directions

        /// A matrix and a vector; with `adapters`, two adapters with orthogonal samples, and momentum if it is given.
        init(adapters: Bool, momentum: Double? = nil) throws {
            tensors =
                adapters
                ? [
                    TrainedTensor(adapterAt: .tensor(name: "a.weight", index: 0), rows: 2, columns: 3),
                    TrainedTensor(adapterAt: .final, rows: 1, columns: 5),
                ]
                : [
                    TrainedTensor(name: "a.weight", index: 0, shape: .matrix(rows: 3, columns: 5)),
                    TrainedTensor(name: "b.weight", index: 1, shape: .vector(4)),
                ]
            directions = try Directions(
                seed: RunSeed(7), family: .rank1, sampling: adapters ? .orthogonal : nil, tensors: tensors, momentum: momentum)
        }

        func freshParameters() throws -> Parameters {
            try Parameters(tensors: tensors) { position, floats in
                for i in floats.indices { floats[i] = Float(i + position + 1) * 0.05 }
            }
        }
    }

    let toy: Toy
    let index: Int
    let trains: Bool
    var peer = PeerID([])
    var life = 0
    var machine: WorkerStateMachine?
    var isPaused = false
    var held: [[UInt8]] = []
    var isWorkDue = false
    var task: WorkerTask?
    var taskNumber = 0
    var isAbandoned = false
    var parameters: Parameters?
    /// Whether a bit has flipped since the parameters were made.
    var isCorrupt = false
    var exits: [WorkerExit] = []
    var finalDigest: Digest?
    /// The disk, which outlives the process: snapshots, and whether a flipped bit went into them.
    var snapshots: [SnapshotPosition: (bytes: [UInt8], isCorrupt: Bool)] = [:]

    init(toy: Toy, index: Int, trains: Bool) {
        self.toy = toy
        self.index = index
        self.trains = trains
    }

    /// Starts a new process.
    mutating func reset() {
        isPaused = false
        held = []
        isWorkDue = false
        task = nil
        taskNumber += 1
        parameters = nil
        isCorrupt = false
        finalDigest = nil
    }

    mutating func takeSnapshot(at position: LedgerPosition, round: RoundNumber, run: Digest) {
        var bytes: [UInt8] = []
        let snapshot = SnapshotPosition(run: run, nextRound: round, ledger: position)
        parameters?.writeSnapshot(snapshot) { bytes += $0 }
        snapshots[snapshot] = (bytes, isCorrupt)
    }

    mutating func restore(_ position: SnapshotPosition) -> String? {
        if toy.directions.momentum != nil { return "a run with momentum went on from a snapshot" }
        guard let (bytes, wasCorrupt) = snapshots[position] else { return "gone" }
        do {
            parameters = try bytes.withUnsafeBytes { try Parameters(tensors: toy.tensors, snapshot: $0) }
            isCorrupt = wasCorrupt
            return nil
        } catch {
            return "\(error)"
        }
    }

    mutating func makeParameters() throws {
        parameters = try toy.freshParameters()
        isCorrupt = false
    }

    func perform(_ change: HistoryChange) {
        switch change {
        case .apply(let round): parameters?.apply([round], directions: toy.directions, threads: 1)
        case .revert(let round): parameters?.revert(round, directions: toy.directions, threads: 1)
        case .replace(let old, let new): parameters?.replace(old, with: new, directions: toy.directions, threads: 1)
        }
    }

    /// Flips a bit, as cosmic rays do: a round that no ledger knows goes into the parameters.
    mutating func flipBit(_ random: inout SeededRandom) {
        guard let parameters, machine != nil else { return }
        isCorrupt = true
        let stray = RoundRecord(
            round: 0, scaleExponent: 0, step: StepSize(multiplier: 40001, exponent: -27),
            contributions: [Contribution(machine: MachineID(UInt32.random(in: 0...(.max), using: &random)), firstSample: 0, bytes: [99])])
        parameters.apply([stray], directions: toy.directions, threads: 1)
    }
}

/// Events in the order of their times; events of the same time in the order in which they were pushed.
struct EventQueue<Event> {
    private var heap: [(time: UInt64, order: UInt64, event: Event)] = []
    private var order: UInt64 = 0

    mutating func push(_ event: Event, at time: UInt64) {
        order += 1
        heap.append((time, order, event))
        var child = heap.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func pop() -> (UInt64, Event)? {
        guard !heap.isEmpty else { return nil }
        heap.swapAt(0, heap.count - 1)
        let last = heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && precedes(child, least) { least = child }
            if least == parent { break }
            heap.swapAt(parent, least)
            parent = least
        }
        return (last.time, last.event)
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool { (heap[a].time, heap[a].order) < (heap[b].time, heap[b].order) }
}
