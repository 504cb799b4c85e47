/// What the coordinator does to a round's bytes before it commits them, so that a few bad machines can't steer the run. It is part
/// of the run spec and so of the ledger; the round records hold the filtered bytes, and a replay needs to know nothing of it.
public struct RoundFilter: Codable, Hashable, Sendable {
    public enum Kind: String, Codable, Hashable, Sendable, CaseIterable {
        /// Every |q| is clipped to `factor` times the round's median |q|.
        case clip
        /// Every q other than 0 becomes ± the round's median |q|: only its sign counts, and the scale still adapts.
        case sign
        /// A machine whose mean |q| is above `factor` times the median of all machines' means gives 'no value' in this round: its
        /// bytes are counted and shown but add nothing. Needs three machines, for the median of two is no judge.
        case drop
        /// From three machines on: no machine moves a round by more than `factor` times what the median one does (`RoundFilter+Robust`), and
        /// where all that is trained are adapters a machine gives 'no value' whose bytes have disagreed with the others' (`Agreement`).
        case robust
    }

    public var kind: Kind
    /// Of the median; `sign` does not use it.
    public var factor: Double

    public static let machinesToCompare = 3

    public init(kind: Kind, factor: Double = 3) {
        self.kind = kind
        self.factor = factor
    }

    /// The bytes to commit, in the same order.
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

    /// Machines that `drop` leaves out.
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

    /// The lower median of |q| over the bytes with a value; 0 where there are none.
    private static func medianMagnitude(_ contributions: [Contribution]) -> Int {
        let magnitudes = contributions.flatMap(\.bytes).filter { $0 != Contribution.noValue }.map { abs(Int($0)) }.sorted()
        return magnitudes.isEmpty ? 0 : magnitudes[(magnitudes.count - 1) / 2]
    }
}

extension Contribution {
    /// With every byte that has a value replaced; 'no value' stays.
    func mapValues(_ transform: (Int8) -> Int8) -> Contribution {
        Contribution(machine: machine, firstSample: firstSample, bytes: bytes.map { $0 == Self.noValue ? $0 : transform($0) })
    }
}
