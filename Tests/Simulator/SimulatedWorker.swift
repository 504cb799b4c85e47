import Core
import TestSupport

/// A worker process in the simulation: the product's state machine over real parameters of a few dozen numbers.
package struct SimulatedWorker {
    /// The tensors and directions that a run trains.
    package struct Toy {
        package let tensors: [TrainedTensor]
        package let directions: Directions

        /// A matrix and a vector; with `adapters`, two adapters with orthogonal samples, and momentum if it is given.
        package init(adapters: Bool, momentum: Double? = nil) throws {
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

        package func freshParameters() throws -> Parameters {
            try Parameters(tensors: tensors) { position, floats in
                for i in floats.indices { floats[i] = Float(i + position + 1) * 0.05 }
            }
        }
    }

    package let toy: Toy
    package let index: Int
    package let trains: Bool
    package var peer = PeerID([])
    package var life = 0
    package var machine: WorkerStateMachine?
    package var isPaused = false
    package var held: [[UInt8]] = []
    package var isWorkDue = false
    package var task: WorkerTask?
    package var taskNumber = 0
    package var isAbandoned = false
    package var parameters: Parameters?
    /// Whether a bit has flipped since the parameters were made.
    package var isCorrupt = false
    package var exits: [WorkerExit] = []
    package var finalDigest: Digest?
    /// The disk, which outlives the process: snapshots, and whether a flipped bit went into them.
    package var snapshots: [SnapshotPosition: (bytes: [UInt8], isCorrupt: Bool)] = [:]

    package init(toy: Toy, index: Int, trains: Bool) {
        self.toy = toy
        self.index = index
        self.trains = trains
    }

    /// Starts a new process.
    package mutating func reset() {
        isPaused = false
        held = []
        isWorkDue = false
        task = nil
        taskNumber += 1
        parameters = nil
        isCorrupt = false
        finalDigest = nil
    }

    package mutating func takeSnapshot(at position: LedgerPosition, round: RoundNumber, run: Digest) {
        var bytes: [UInt8] = []
        let snapshot = SnapshotPosition(run: run, nextRound: round, ledger: position)
        parameters?.writeSnapshot(snapshot) { bytes += $0 }
        snapshots[snapshot] = (bytes, isCorrupt)
    }

    package mutating func restore(_ position: SnapshotPosition) -> String? {
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

    package mutating func makeParameters() throws {
        parameters = try toy.freshParameters()
        isCorrupt = false
    }

    package func perform(_ change: HistoryChange) {
        switch change {
        case .apply(let round): parameters?.apply([round], directions: toy.directions, threads: 1)
        case .revert(let round): parameters?.revert(round, directions: toy.directions, threads: 1)
        case .replace(let old, let new): parameters?.replace(old, with: new, directions: toy.directions, threads: 1)
        }
    }

    /// Flips a bit, as cosmic rays do: a round that no ledger knows goes into the parameters.
    package mutating func flipBit(_ random: inout SeededRandom) {
        guard let parameters, machine != nil else { return }
        isCorrupt = true
        let stray = RoundRecord(
            round: 0, scaleExponent: 0, step: StepSize(multiplier: 40001, exponent: -27),
            contributions: [Contribution(machine: MachineID(UInt32.random(in: 0...(.max), using: &random)), firstSample: 0, bytes: [99])])
        parameters.apply([stray], directions: toy.directions, threads: 1)
    }
}

/// Events in the order of their times; events of the same time in the order in which they were pushed.
package struct EventQueue<Event> {
    private var heap: [(time: UInt64, order: UInt64, event: Event)] = []
    private var order: UInt64 = 0

    package mutating func push(_ event: Event, at time: UInt64) {
        order += 1
        heap.append((time, order, event))
        var child = heap.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    package mutating func pop() -> (UInt64, Event)? {
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
