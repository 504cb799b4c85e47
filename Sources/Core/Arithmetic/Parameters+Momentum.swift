internal import Kernels
import Synchronization

/// The part of the parameters' state that momentum needs besides k. Rounds with momentum do not commute, so a round is taken out by a replay of all
/// others.
struct MomentumState: Sendable {
    /// The run's directions, with its momentum; nil as long as no round with momentum has been applied.
    var directions: Directions?
    /// Number of threads for the next replay.
    var threads = 1
    /// The rounds in force, in the order in which they were applied. They are kept as records, because a record is about as small as its d sums, and
    /// it shares its bytes with the worker's history, which holds it anyway.
    private(set) var rounds: [RoundRecord] = []
    /// v of each coordinate, in the order of the directions' coordinates.
    var velocities: [Int32] = []
    /// The number of leading rounds that k and v already contain.
    var done = 0
    /// t of the last round that k and v contain.
    var t = 0
    /// Whether k and v still lack a change of the rounds.
    var isStale = false

    mutating func append(_ more: [RoundRecord]) {
        rounds += more
        isStale = true
    }

    /// Puts a round in the place of another, or removes the old one. If the old round is not there, nothing changes.
    ///
    /// - Parameters:
    ///   - old: the round that goes.
    ///   - new: the round that takes its place; nil: none, and the rounds behind it move up.
    mutating func replace(_ old: RoundRecord, with new: RoundRecord?) {
        // A round is found at its number, or nearer to the front if rounds before it are void.
        let likely = rounds.prefix(Int(old.round) + 1)
        guard let place = likely.lastIndex(of: old) ?? rounds.lastIndex(of: old) else { return }
        if let new { rounds[place] = new } else { rounds.remove(at: place) }
        if place < done { done = 0 }
        isStale = true
    }
}

extension Parameters {
    /// Upper bounds of what is in memory at once: numbers of the rounds' steps, and rounds.
    private static let stepsInMemory = 1 << 22
    private static let roundsInMemory = 1024

    /// Changes the list of rounds in force. The parameters follow when they are next read.
    func changeRounds(_ directions: Directions, threads: Int, _ change: (inout MomentumState) -> Void) {
        precondition(directions.coordinates.adapters == tensors, "these directions are of other adapters")
        precondition(isReplayable, "parameters of a snapshot, or of rounds without momentum, have no velocities to continue with")
        momentum.withLock { state in
            precondition(state.directions == nil || state.directions == directions, "the rounds before had other directions")
            state.directions = directions
            state.threads = threads
            change(&state)
        }
    }

    /// Makes k contain the rounds in force. It starts from zero if one of the rounds that k already contains has changed. Every read calls it, on any
    /// thread; the first caller does the work.
    func catchUp() {
        momentum.withLock { state in
            guard state.isStale, let directions = state.directions, let momentum = directions.momentum else { return }
            let coordinates = directions.coordinates
            if state.done == 0 {
                for integers in memory { integers.update(repeating: 0) }
                state.velocities = [Int32](repeating: 0, count: coordinates.count)
            }
            let batch = min(max(Self.stepsInMemory / max(coordinates.count, 1), 1), Self.roundsInMemory)
            while state.done < state.rounds.count {
                let rounds = state.rounds[state.done...].prefix(batch)
                let steps = Self.steps(of: rounds, directions, threads: state.threads)
                var fractions: [(before: Int64, now: Int64)] = []
                for place in rounds.indices {
                    state.t = Momentum.count(state.t, of: place > 0 ? state.rounds[place - 1] : nil, to: state.rounds[place])
                    fractions.append((momentum.fraction(at: state.t - 1), momentum.fraction(at: state.t)))
                }
                move(by: steps, fractions, coordinates, &state.velocities, threads: state.threads)
                state.done = rounds.endIndex
            }
            state.isStale = false
        }
    }

    /// Returns −D of each round separately, as a run without momentum adds it to k: d numbers for each round. No step depends on k, so all threads
    /// take part, however few coordinates there are.
    private static func steps(of records: ArraySlice<RoundRecord>, _ directions: Directions, threads: Int) -> [Int32] {
        let coordinates = directions.coordinates
        let count = coordinates.count
        var steps = [Int32](repeating: 0, count: records.count * count)
        let found = records.enumerated().compactMap { row, record in ChangeList.Entry(record, adds: false).map { (row: row, entry: $0) } }
        let work = ChangeList(found.map(\.entry))
        if directions.sampling == .orthogonal { work.checkBlockSums() }
        work.withRounds(shift: TrainedTensor.adapterExponent) { rounds in
            steps.withUnsafeMutableBufferPointer { steps in
                guard !rounds.isEmpty, let firstRound = rounds.baseAddress, let firstStep = steps.baseAddress else { return }
                nonisolated(unsafe) let (first, start) = (firstRound, firstStep)
                let parts = 4 * max(threads, 1)
                forEachChunk(of: rounds.count, size: (rounds.count + parts - 1) / parts, threads: threads) { range in
                    switch directions.sampling {
                    case .orthogonal:
                        var blocks = directions.blocks
                        var block = [Int32](repeating: 0, count: coordinates.blockSize)
                        var sums = [Int32](repeating: 0, count: count)
                        for i in range { ob_update_blocks(&blocks, first + i, 1, &block, &sums, start + found[i].row * count) }
                    case .random:
                        let key = [directions.seed.low, directions.seed.high]
                        for i in range {
                            for (adapter, offset) in zip(coordinates.adapters, coordinates.offsets) {
                                let stream = directions.stream(.elements, of: adapter)
                                ob_update_signs(key, stream, first + i, 1, 0, adapter.shape.count, start + found[i].row * count + offset)
                            }
                        }
                    }
                }
            }
        }
        return steps
    }

    /// Applies the rounds' steps one after the other, with μ_(t−1) and μ_t of each. In a round with t = 0 both are 0, so v is forgotten.
    private func move(
        by steps: [Int32], _ fractions: [(before: Int64, now: Int64)], _ coordinates: AdapterCoordinates, _ velocities: inout [Int32], threads: Int
    ) {
        let count = coordinates.count
        steps.withUnsafeBufferPointer { steps in
            velocities.withUnsafeMutableBufferPointer { velocities in
                guard let firstStep = steps.baseAddress, let firstVelocity = velocities.baseAddress else { return }
                for (integers, offset) in zip(memory, coordinates.offsets) {
                    nonisolated(unsafe) let (k, v, added) = (integers, firstVelocity + offset, firstStep + offset)
                    forEachChunk(of: k.count, size: 1 << 12, threads: threads) { range in
                        for (row, fraction) in fractions.enumerated() {
                            for i in range {
                                let step = Int64(added[row * count + i])
                                v[i] = Int32(truncatingIfNeeded: Momentum.product(fraction.before, v[i]) + step)
                                k[i] &+= Int32(truncatingIfNeeded: Momentum.product(fraction.now, v[i]) + step)
                            }
                        }
                    }
                }
            }
        }
    }
}
