/// Finds machines whose bytes do not point the same way as the others'. A machine that sends its bytes with the wrong sign, or bytes that mean
/// nothing, can't be recognised by their size. But the bytes of all machines are projections of gradients of the same task, so they should agree.
///
/// Each machine has a vector A = Σ q·2^S·z over its recent samples, about a block of them. A is compared with the other machines' by the cosine, over
/// many rounds: Σ⟨A, A'⟩ / √(Σ|A|²·Σ|A'|²). So rounds with large gradients, early in a run, count more than rounds near an optimum, where the
/// gradients of honest machines cancel and therefore disagree. The chance similarity of unrelated vectors, about 1/√d, averages out. With orthogonal
/// samples and a whole block in each round, A is the machine's gradient itself. With fewer samples, or random ones, more noise remains, and there is
/// no judgement until most machines agree clearly. Only adapters have so few coordinates that this costs little.
struct Agreement: Sendable {
    /// Upper bound of the number of coordinates. More of them would cost a small coordinator too much.
    static let coordinatesMax = 1 << 16
    /// Fraction of a sum that is forgotten from one round to the next if a round has a whole block of samples; less if it has fewer.
    static let forgotten: Float = 0.8
    /// Fraction of the sums of products that is kept from one round to the next.
    static let memory = 0.98
    /// Rounds of a machine before it is judged.
    static let roundsNeeded = 2
    /// The median machine's support must be above this for any judgement.
    static let clearSupport = 0.2
    /// A round is compared if the median machine's |A|² is at least this fraction of the largest so far. Near an optimum honest gradients cancel and
    /// therefore disagree, so the earlier judgement stays. A machine that leads away from the optimum makes the others' gradients grow again.
    static let comparableFraction = 0.05
    /// A machine disagrees if its support is below this fraction of the median machine's.
    static let part = 0.25

    private let directions: Directions
    private let adapters: [TrainedTensor]
    /// A of each machine, over the coordinates of all adapters in one row.
    private var sums: [MachineID: [Float]] = [:]
    private var rounds: [MachineID: Int] = [:]
    /// Σ⟨A, A'⟩, Σ|A|² and Σ|A'|² of pairs of machines, the smaller number first.
    private var products: [Pair: (cross: Double, first: Double, second: Double)] = [:]

    /// The largest |A|² of a round's median machine so far.
    private var largest = 0.0
    /// The last judgement.
    private var found: Set<MachineID> = []

    private struct Pair: Hashable {
        let first: MachineID
        let second: MachineID
        init(_ a: MachineID, _ b: MachineID) { (first, second) = (min(a, b), max(a, b)) }
    }

    /// Returns nil if the run trains tensors that are not adapters, or has too many coordinates.
    init?(_ ledger: LedgerSummary) {
        guard ledger.spec.trainsOnlyAdapters, let base = ledger.base, !ledger.adapterShapes.isEmpty else { return nil }
        var tensors: [TrainedTensor] = []
        let named = Set(ledger.spec.train.map { $0.dropFirst(RunSpec.adapterPrefix.count) })
        for shape in ledger.adapterShapes where named.contains(Substring(shape.place)) || named.contains(where: { $0.contains("*") }) {
            let index = base.entries.firstIndex { $0.name == shape.place }
            let place: AdapterPlace? = shape.place == AdapterPlace.finalName ? .final : index.map { .tensor(name: shape.place, index: UInt32($0)) }
            guard let place else { return nil }
            tensors.append(TrainedTensor(adapterAt: place, rows: shape.rows, columns: shape.columns))
        }
        guard
            let directions = try? Directions(
                seed: RunSeed(ledger.spec.seed), family: ledger.spec.perturbation, sampling: ledger.spec.sampling, tensors: tensors),
            directions.coordinates.count <= Self.coordinatesMax
        else { return nil }
        self.directions = directions
        adapters = directions.coordinates.adapters
    }

    /// Takes in a round's bytes, as they came, and returns the machines whose bytes disagree with the others'.
    mutating func disagreeing(_ contributions: [Contribution], scaleExponent: Int8) -> Set<MachineID> {
        let unit = Float(sign: .plus, exponent: Int(scaleExponent), significand: 1)
        for (machine, own) in Dictionary(grouping: contributions, by: \.machine) {
            guard let sum = sum(of: own) else { continue }
            let old = sums[machine] ?? [Float](repeating: 0, count: sum.count)
            let blocks = Float(own.reduce(0) { $0 + $1.validCount }) / Float(max(sum.count, 1))
            let kept = 1 - Self.forgotten * min(1, blocks)
            sums[machine] = zip(old, sum).map { kept * $0 + unit * Float($1) }
            rounds[machine, default: 0] += 1
        }
        let present = Set(contributions.map(\.machine)).sorted()
        if compare(present), let judged = judgement(of: present) { found = found.subtracting(present).union(judged) }
        return found.intersection(present)
    }

    /// Forgets a machine that has left.
    mutating func forget(_ machine: MachineID) {
        (sums[machine], rounds[machine]) = (nil, nil)
        found.remove(machine)
        products = products.filter { $0.key.first != machine && $0.key.second != machine }
    }

    /// Adds a round's products to the sums.
    ///
    /// - Returns: false if the gradients are too small for a comparison.
    private mutating func compare(_ present: [MachineID]) -> Bool {
        func product(_ a: MachineID, _ b: MachineID) -> Double {
            zip(sums[a] ?? [], sums[b] ?? []).reduce(0) { $0 + Double($1.0) * Double($1.1) }
        }
        let squares = present.map { product($0, $0) }
        guard !squares.isEmpty else { return false }
        let median = squares.sorted()[(squares.count - 1) / 2]
        largest = max(largest, median)
        guard median >= Self.comparableFraction * largest else { return false }
        for a in present.indices {
            for b in present.indices where b > a {
                let pair = Pair(present[a], present[b])
                let old = products[pair] ?? (0, 0, 0)
                products[pair] = (
                    Self.memory * old.cross + product(present[a], present[b]), Self.memory * old.first + squares[a],
                    Self.memory * old.second + squares[b]
                )
            }
        }
        return true
    }

    private func cosine(_ a: MachineID, _ b: MachineID) -> Double {
        guard let found = products[Pair(a, b)], found.first > 0, found.second > 0 else { return 0 }
        return found.cross / (found.first * found.second).squareRoot()
    }

    /// Returns Σ q·z over all coordinates: the change that a round with the step −1 would make.
    private func sum(of contributions: [Contribution]) -> [Int32]? {
        guard let parameters = try? Parameters(tensors: adapters, load: { _, _ in }) else { return nil }
        // M·2^(E + s) = 2^15·2^(−39 + 24) = 1, exactly, and k −= Σ.
        let step = StepSize(multiplier: 1 << 15, exponent: Int8(-15 - TrainedTensor.adapterExponent))
        let record = RoundRecord(round: 0, scaleExponent: 0, step: step, contributions: contributions)
        parameters.apply([record], directions: directions, threads: 1)
        return adapters.indices.flatMap { position in parameters.integers(at: position).map { 0 &- $0 } }
    }

    /// Returns the machines that disagree, or nil if no judgement is possible.
    private func judgement(of present: [MachineID]) -> Set<MachineID>? {
        let known = present.filter { rounds[$0] ?? 0 >= Self.roundsNeeded }
        guard known.count >= RoundFilter.machinesToCompare else { return nil }
        // The support of a machine is the upper median of its cosines with the others, so the better half of them decides.
        let support = known.map { machine in
            let means = known.filter { $0 != machine }.map { cosine(machine, $0) }.sorted()
            return means[means.count / 2]
        }
        let median = support.sorted()[(support.count - 1) / 2]
        guard median > Self.clearSupport else { return nil }
        let found = known.indices.filter { support[$0] < Self.part * median }
        // Without a clear majority no machine is believed.
        return 2 * found.count < known.count ? Set(found.map { known[$0] }) : nil
    }
}

extension CoordinatorStateMachine {
    /// Returns a round's bytes with 'no value' for machines that disagree with the others. Everybody can see these bytes.
    mutating func withoutDisagreement(_ contributions: [Contribution], sent: [Contribution], scaleExponent: Int8) -> [Contribution] {
        guard Set(sent.map(\.machine)).count >= RoundFilter.machinesToCompare else { return contributions }
        if agreement == nil { agreement = Agreement(ledger) }
        guard let found = agreement?.disagreeing(sent, scaleExponent: scaleExponent) else { return contributions }
        for machine in found.subtracting(disagreeing).sorted() {
            let name = ledger.machines[machine]?.admission.name ?? ""
            let text =
                "the bytes of \(name) (\(machine)) disagree with the other machines' and are left out from now on: check its data and its labels (filter = \"robust\")"
            effects.append(.notice(.warning(text)))
        }
        for machine in disagreeing.subtracting(found).intersection(Set(sent.map(\.machine))).sorted() {
            effects.append(
                .notice(.warning("the bytes of \(ledger.machines[machine]?.admission.name ?? "") (\(machine)) agree with the others' again")))
        }
        disagreeing = disagreeing.subtracting(sent.map(\.machine)).union(found)
        return contributions.map { found.contains($0.machine) ? $0.mapValues { _ in Contribution.noValue } : $0 }
    }
}
