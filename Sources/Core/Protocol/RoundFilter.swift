/// How the coordinator filters a round's bytes before it commits them, so that a few bad machines can't steer the run. The filter is part of the run
/// spec and so of the ledger. The round records hold the filtered bytes, so a replay needs no filter.
public struct RoundFilter: Codable, Hashable, Sendable {
    public enum Kind: String, Codable, Hashable, Sendable, CaseIterable {
        /// Clips every |q| to `factor` times the round's median |q|.
        case clip
        /// Replaces every q other than 0 by ± the round's median |q|. Only its sign counts, and the scale still adapts.
        case sign
        /// Drops a machine's bytes in a round if its mean |q| is above `factor` times the median of all machines' means. They become 'no value': they
        /// are counted and shown but add nothing. Needs three machines, because the median of two is no judge.
        case drop
        /// From three machines on, bounds every machine's effect on a round to `factor` times that of the median machine (`RoundFilter+Robust`). If
        /// all trained tensors are adapters, it also replaces the bytes of a machine that disagree with the others' by 'no value' (`Agreement`).
        case robust
    }

    public var kind: Kind
    /// Multiple of the median. `sign` does not use it.
    public var factor: Double

    /// Least number of machines that a comparison between them needs.
    public static let machinesToCompare = 3

    public init(kind: Kind, factor: Double = 3) {
        self.kind = kind
        self.factor = factor
    }

    /// Returns the bytes to commit, in the same order.
    public func filtered(_ contributions: [Contribution]) -> [Contribution] {
        switch kind {
        case .clip:
            let limit = min(127, max(1, (factor * Double(Self.medianMagnitude(contributions))).rounded()))
            return contributions.map { $0.mapValues { Int8(min(max(Double($0), -limit), limit)) } }
        case .sign:
            let magnitude = Int8(clamping: max(1, Self.medianMagnitude(contributions)))
            return contributions.map { $0.mapValues { Int8($0.signum()) * magnitude } }
        case .robust: return bounded(contributions)
        case .drop:
            let outliers = outliers(among: contributions)
            return contributions.map { contribution in
                outliers.contains(contribution.machine) ? contribution.mapValues { _ in Contribution.noValue } : contribution
            }
        }
    }

    /// Returns the machines that `drop` leaves out.
    func outliers(among contributions: [Contribution]) -> Set<MachineID> {
        var sums: [MachineID: (magnitude: Int, count: Int)] = [:]
        for contribution in contributions {
            for q in contribution.bytes where q != Contribution.noValue {
                sums[contribution.machine, default: (0, 0)].magnitude += abs(Int(q))
                sums[contribution.machine, default: (0, 0)].count += 1
            }
        }
        guard sums.count >= Self.machinesToCompare else { return [] }
        let means = sums.mapValues { Double($0.magnitude) / Double($0.count) }
        let median = means.values.sorted()[(means.count - 1) / 2]
        return Set(means.filter { $0.value > factor * max(median, 1) }.keys)
    }

    /// Returns the lower median of |q| over the bytes with a value; 0 if there are none.
    private static func medianMagnitude(_ contributions: [Contribution]) -> Int {
        let magnitudes = contributions.flatMap(\.bytes).filter { $0 != Contribution.noValue }.map { abs(Int($0)) }.sorted()
        return magnitudes.isEmpty ? 0 : magnitudes[(magnitudes.count - 1) / 2]
    }
}

extension Contribution {
    /// Returns the contribution with every byte that has a value replaced. 'No value' stays.
    func mapValues(_ transform: (Int8) -> Int8) -> Contribution {
        Contribution(machine: machine, firstSample: firstSample, bytes: bytes.map { $0 == Self.noValue ? $0 : transform($0) })
    }
}
