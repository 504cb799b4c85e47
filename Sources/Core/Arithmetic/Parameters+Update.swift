internal import Kernels
import Synchronization

extension Parameters {
    /// Applies committed rounds. To apply many at once is much faster than one by one and gives the same parameters, because each part of a tensor
    /// stays in the cache through all rounds. With momentum the order matters: the rounds must come in the order of their numbers.
    public func apply(_ rounds: [RoundRecord], directions: Directions, threads: Int) {
        guard directions.momentum == nil else { return changeRounds(directions, threads: threads) { $0.append(rounds) } }
        update(rounds.map { Change(round: $0, adds: false) }, directions: directions, threads: threads)
    }

    /// Undoes a round by adding back its rounded delta. With momentum the other rounds are replayed without it, once, when the parameters are next
    /// read.
    public func revert(_ round: RoundRecord, directions: Directions, threads: Int) {
        guard directions.momentum == nil else { return changeRounds(directions, threads: threads) { $0.replace(round, with: nil) } }
        update([Change(round: round, adds: true)], directions: directions, threads: threads)
    }

    /// Replaces the delta of one round by that of another, such as by what is left of it after a retraction (`RoundRecord.removing`). With momentum
    /// all rounds are replayed with the new one, once, when the parameters are next read.
    public func replace(_ old: RoundRecord, with new: RoundRecord, directions: Directions, threads: Int) {
        guard directions.momentum == nil else { return changeRounds(directions, threads: threads) { $0.replace(old, with: new) } }
        update(
            [Change(round: old, adds: true), Change(round: new, adds: false)], directions: directions, threads: threads)
    }

    /// A round that is applied (its delta is subtracted, the usual step) or undone (`adds`).
    private struct Change {
        let round: RoundRecord
        let adds: Bool
    }

    private func update(_ changes: [Change], directions: Directions, threads: Int) {
        precondition(momentum.withLock { $0.directions == nil }, "the rounds before had momentum")
        isReplayable = false
        let work = ChangeList(changes.compactMap { ChangeList.Entry($0.round, adds: $0.adds) })
        guard !work.changes.isEmpty else { return }
        guard directions.sampling == .random else { return updateOrthogonal(work, directions, threads: threads) }
        for (position, tensor) in tensors.enumerated() where tensor.shape.count > 0 {
            let shift = exponents[position] - directions.fractionBits(of: tensor)
            if directions.isRank1(tensor) {
                Rank1Update(
                    tensor: tensor, directions: directions, work: work, shift: shift, threads: threads, scratch: scratch
                ).run(on: storage[position])
            } else {
                updateDense(storage[position], tensor, directions, work, shift: shift, threads: threads)
            }
        }
    }

    /// Updates from orthogonal samples, whose directions span all adapters. Without momentum rounds commute, so each thread adds up some of the
    /// changes independently.
    private func updateOrthogonal(_ work: ChangeList, _ directions: Directions, threads: Int) {
        let coordinates = directions.coordinates
        precondition(coordinates.adapters == tensors, "these directions are of other adapters")
        work.checkBlockSums()
        let count = coordinates.count
        guard count > 0 else { return }
        let parts = min(max(threads, 1), work.changes.count)
        let roundsOfPart = (work.changes.count + parts - 1) / parts
        var changes = [Int32](repeating: 0, count: parts * count)
        // The exponent and F are the same for all adapters.
        work.withRounds(shift: TrainedTensor.adapterExponent) { rounds in
            nonisolated(unsafe) let rounds = rounds
            changes.withUnsafeMutableBufferPointer { changes in
                nonisolated(unsafe) let changes = changes
                forEachChunk(of: rounds.count, size: roundsOfPart, threads: threads) { range in
                    var blocks = directions.blocks
                    var block = [Int32](repeating: 0, count: coordinates.blockSize)
                    var sums = [Int32](repeating: 0, count: count)
                    let part = UnsafeMutableBufferPointer(rebasing: changes[range.lowerBound / roundsOfPart * count..<changes.count])
                    ob_update_blocks(
                        &blocks, UnsafeBufferPointer(rebasing: rounds[range]).baseAddress, range.count, &block, &sums, part.baseAddress)
                }
            }
        }
        for (position, offset) in coordinates.offsets.enumerated() {
            let k = storage[position]
            for part in 0..<parts {
                for i in k.indices { k[i] &+= changes[part * count + offset + i] }
            }
        }
    }

    /// Updates from directions that are made element by element: signs, or the table of the normal distribution.
    private func updateDense(
        _ integers: UnsafeMutableBufferPointer<Int32>, _ tensor: TrainedTensor, _ directions: Directions,
        _ work: ChangeList, shift: Int, threads: Int
    ) {
        let isGaussian = directions.family == .gaussian && !tensor.isAdapter
        let stream = directions.stream(.elements, of: tensor)
        let key = [directions.seed.low, directions.seed.high]
        work.withRounds(shift: shift) { rounds in
            nonisolated(unsafe) let rounds = rounds
            nonisolated(unsafe) let integers = integers
            let chunk = (isGaussian ? OB_TILE_GAUSSIANS : OB_TILE_SIGNS) * 4
            forEachChunk(of: integers.count, size: chunk, threads: threads) { range in
                guard let k = integers.baseAddress else { return }
                (isGaussian ? ob_update_gaussians : ob_update_signs)(
                    key, stream, rounds.baseAddress, rounds.count, UInt64(range.lowerBound), range.count,
                    k + range.lowerBound)
            }
        }
    }
}

/// The changes of one update, in the form that the update of every tensor needs.
struct ChangeList: Sendable {
    struct Entry: Sendable {
        let directions: [ob_direction]
        let step: StepSize
        let adds: Bool

        /// - Returns: nil if the round changes nothing by itself.
        init?(_ round: RoundRecord, adds: Bool) {
            guard round.step.multiplier != 0 else { return nil }
            directions = round.contributions.flatMap { contribution in
                contribution.bytes.enumerated().compactMap { i, q in
                    // A byte of 0 adds nothing, and neither does 'no value'.
                    q == 0 || q == Contribution.noValue
                        ? nil
                        : ob_direction(
                            machine: contribution.machine.rawValue,
                            sample: contribution.firstSample &+ UInt32(truncatingIfNeeded: i), q: Int32(q))
                }
            }
            guard !directions.isEmpty else { return nil }
            step = round.step
            self.adds = adds
        }

        /// Returns the step for a tensor with s − F = `shift`.
        func step(shift: Int) -> ob_step {
            ob_step(
                multiplier: UInt32(step.multiplier), exponent: Int32(Int(step.exponent) + shift), adds: adds ? 1 : 0)
        }
    }

    let changes: [Entry]

    init(_ changes: [Entry]) { self.changes = changes }

    /// Sums of orthogonal samples have 32 bits. That is enough for the largest number of samples that a round of a ledger has.
    func checkBlockSums() {
        precondition(changes.allSatisfy { $0.directions.count <= OB_BLOCK_DIRECTIONS_MAX }, "a round of too many samples")
    }

    /// Calls `body` with the rounds and the steps of one tensor in the kernels' form.
    func withRounds(shift: Int, _ body: (UnsafeBufferPointer<ob_round>) -> Void) {
        let all = changes.flatMap(\.directions)
        all.withUnsafeBufferPointer { all in
            var start = all.baseAddress
            let rounds = changes.map { change in
                defer { start = start.map { $0 + change.directions.count } }
                return ob_round(directions: start, count: change.directions.count, step: change.step(shift: shift))
            }
            rounds.withUnsafeBufferPointer(body)
        }
    }
}

extension RoundRecord {
    /// Returns the round without one machine's contributions. Its step size stays as recorded.
    public func removing(_ machine: MachineID) -> RoundRecord {
        RoundRecord(
            round: round, scaleExponent: scaleExponent, step: step,
            contributions: contributions.filter { $0.machine != machine })
    }

    /// Returns the round with these contributions put back, in the ledger's order.
    func adding(_ more: [Contribution]) -> RoundRecord {
        RoundRecord(
            round: round, scaleExponent: scaleExponent, step: step, contributions: (contributions + more).sorted(by: Contribution.precedes))
    }
}
