/// Something that a run waits for, so that displays can show it.
public enum Hold: Hashable, Sendable {
    /// Too few machines that train are present for the first round, or all have left since.
    case workers(there: Int, needed: Int)
    /// Evaluators measure held-out data before the first round, or validation examples at the end of a trial.
    case evaluators(Workers)
    /// A restarted coordinator waits for the machines of before, until their heartbeat timeout.
    case returning(Workers)
    /// Shares of the open round have been unanswered for longer than usual. `undoing`: the machines first rebuild their parameters after this.
    case shares(round: RoundNumber, Workers, undoing: Undoing?)
    /// The ledger can't be written to disk.
    case ledger
    /// All rounds are done, but the last digests or evaluations of these workers are missing.
    case closing(Workers)

    public enum Undoing: String, Hashable, Sendable, Codable {
        case retraction, restoration, rewind
    }

    /// The workers that a run waits for: the first names, and the number of all. A list of all names would be long in a large run, and new at every
    /// tick.
    public struct Workers: Hashable, Sendable {
        /// Largest number of names.
        public static let namesMax = 8
        public let names: [String]
        public let count: Int

        /// Takes the names of all workers, in the order in which they are shown.
        public init(_ names: [String]) {
            self.names = Array(names.prefix(Self.namesMax))
            count = names.count
        }
    }
}

extension CoordinatorStateMachine {
    /// Reports what the run waits for, if that has changed since the last tick.
    mutating func noteHold(at now: Timestamp) {
        let hold = currentHold(at: now)
        guard hold != lastHold else { return }
        lastHold = hold
        effects.append(.notice(.hold(hold)))
    }

    /// Returns what the run waits for; nil while rounds are made.
    private func currentHold(at now: Timestamp) -> Hold? {
        if isStalled { return .ledger }
        switch phase {
        case .leaving, .done: return nil
        case .closing(let since):
            guard now.seconds(since: since) >= Tuning.holdSeconds else { return nil }
            let missing = unsettledNames
            return missing.isEmpty ? nil : .closing(.init(missing))
        case .running: return round.map { holdOfOpenRound($0, at: now) } ?? holdBetweenRounds
        }
    }

    private func holdOfOpenRound(_ open: OpenRound, at now: Timestamp) -> Hold? {
        let usual = answerSeconds.isEmpty ? 0 : answerSeconds.sorted()[answerSeconds.count / 2]
        // Machines that rebuild their parameters take long, as expected. Users still want to know why.
        let limit = lastUndoing == nil ? max(Tuning.holdSeconds, Tuning.holdFactor * usual, 2 * (spec.roundSeconds ?? 0)) : Tuning.holdSeconds
        guard now.seconds(since: open.openedAt) > limit, !open.shares.isEmpty else { return nil }
        let names = open.shares.keys.sorted().map(displayName)
        return .shares(round: open.opening.round, .init(names), undoing: lastUndoing?.what)
    }

    private var holdBetweenRounds: Hold? {
        guard !ledger.isTrained, !ledger.isEnded, pending.isEmpty else { return nil }
        if isTrialOver {
            return .evaluators(.init(names { $0.hello.evaluates }))
        }
        guard hasBegun || ledger.nextRound > 0 else {
            if provenTrainers < spec.minimumWorkers { return .workers(there: provenTrainers, needed: spec.minimumWorkers) }
            return awaitsEvaluators ? .evaluators(.init(names { $0.hello.evaluates && !$0.isProven })) : nil
        }
        guard !hasBegun else { return activeTrainers.isEmpty ? .workers(there: 0, needed: 1) : nil }
        let back = Set(peers.values.compactMap { $0.isActive ? $0.machine : nil })
        let missing = ledger.machines.values.filter { $0.admission.trains && !back.contains($0.admission.machine) }
        return missing.isEmpty ? nil : .returning(.init(missing.map(\.admission.name).sorted()))
    }

    /// Names of the workers that have not yet proved the final parameters, or not measured them.
    private var unsettledNames: [String] {
        let final = references.last.flatMap { $0.position == ledger.parameters.records ? $0 : nil }
        let missing = names { peer in
            guard peer.machine != nil else { return false }
            let hasProved = final?.supporters.contains(peer.id) ?? false
            return !hasProved || (peer.hello.evaluates && peer.lastEvaluation < (final?.position ?? .max))
        }
        let attached = Set(peers.values.compactMap(\.machine))
        return missing + ledger.machines.values.filter { !attached.contains($0.admission.machine) }.map(\.admission.name).sorted()
    }

    private func names(where holds: (CoordinatorPeer) -> Bool) -> [String] { peers.values.filter(holds).map(\.hello.name).sorted() }

    private func displayName(_ machine: MachineID) -> String { ledger.machines[machine]?.admission.name ?? "\(machine)" }
}
