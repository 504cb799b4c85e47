extension RoundFilter {
    /// A single byte may be this many times `factor` above the median. At the scale that a run keeps this is no limit, so an honest machine's heavy
    /// tail stays. But a round whose scale is far too coarse, as the first one's may be, can't be moved by one machine alone.
    private static let bytesToFactor = 4.0

    /// Bounds what one machine may do to a round to which at least three contribute:
    /// - No |q| is above 4·`factor` times the median machine's mean |q|.
    /// - A machine whose mean |q| is above `factor` times the median machine's gives 'no value'.
    /// - A machine's bytes count in their order only as long as their Σ|q| is within `factor` times the median machine's.
    ///
    /// So one of n machines moves at most `factor`/(`factor` + n − 1) of a round, whatever it sends. This holds in time-boxed rounds too.
    func bounded(_ contributions: [Contribution]) -> [Contribution] {
        var machines: [MachineID: MachineBytes] = [:]
        for contribution in contributions { machines[contribution.machine, default: MachineBytes()].take(contribution.bytes) }
        let speaking = machines.values.filter { $0.count > 0 }
        guard speaking.count >= Self.machinesToCompare else { return contributions }
        let loudest = factor * max(Self.lowerMedian(speaking.map(\.mean)), 1)
        let limit = min(127, (Self.bytesToFactor * factor * Self.lowerMedian(speaking.map(\.mean))).rounded())
        let clipped = contributions.map { contribution in
            contribution.mapValues { q in
                if machines[contribution.machine]?.mean ?? 0 > loudest { return Contribution.noValue }
                return Int8(min(max(Double(q), -limit), limit))
            }
        }
        return influenceBounded(clipped)
    }

    /// Counts each machine's bytes, in their order, up to `factor` times the median machine's Σ|q|.
    private func influenceBounded(_ contributions: [Contribution]) -> [Contribution] {
        var sums: [MachineID: Int] = [:]
        for contribution in contributions {
            sums[contribution.machine, default: 0] += contribution.bytes.reduce(0) { $0 + ($1 == Contribution.noValue ? 0 : abs(Int($1))) }
        }
        let most = factor * max(Self.lowerMedian(sums.values.map(Double.init)), 1)
        guard sums.values.contains(where: { Double($0) > most }) else { return contributions }
        var used: [MachineID: Double] = [:]
        return contributions.map { contribution in
            contribution.mapValues { q in
                let sum = used[contribution.machine, default: 0] + Double(abs(Int(q)))
                guard sum <= most else { return Contribution.noValue }
                used[contribution.machine] = sum
                return q
            }
        }
    }

    private static func lowerMedian(_ values: [Double]) -> Double {
        values.isEmpty ? 0 : values.sorted()[(values.count - 1) / 2]
    }
}

/// The magnitude of one machine's bytes of a round.
struct MachineBytes: Sendable {
    private(set) var count = 0
    private(set) var sum = 0
    mutating func take(_ bytes: [Int8]) {
        for q in bytes where q != Contribution.noValue {
            count += 1
            sum += abs(Int(q))
        }
    }

    var mean: Double { count > 0 ? Double(sum) / Double(count) : 0 }
}

extension RoundRecord {
    /// Σ|q| and the number of bytes with a value. From three machines on the sum takes the median machine's mean for every machine, so that one
    /// machine's bytes can neither move the run's scale nor set off its alarm.
    var magnitude: (sum: Double, count: Int) {
        var machines: [MachineID: (sum: Int, count: Int)] = [:]
        for contribution in contributions {
            var (sum, count) = (0, 0)
            for q in contribution.bytes where q != Contribution.noValue {
                sum += abs(Int(q))
                count += 1
            }
            machines[contribution.machine, default: (0, 0)].sum += sum
            machines[contribution.machine, default: (0, 0)].count += count
        }
        let speaking = machines.values.filter { $0.count > 0 }
        let count = speaking.reduce(0) { $0 + $1.count }
        guard speaking.count >= RoundFilter.machinesToCompare else { return (Double(speaking.reduce(0) { $0 + $1.sum }), count) }
        let means = speaking.map { Double($0.sum) / Double($0.count) }.sorted()
        return (means[(means.count - 1) / 2] * Double(count), count)
    }
}
