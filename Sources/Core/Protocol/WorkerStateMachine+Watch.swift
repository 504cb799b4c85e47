/// What a worker notices if the coordinator, or a relay before it, changes what the worker says. Nobody else can notice it.
extension WorkerStateMachine {
    /// Compares the bytes that a round holds of this worker with those that it sent.
    mutating func checkOwnBytes(_ record: RoundRecord) {
        guard !hasReportedOtherBytes, let machine else { return }
        for held in record.contributions where held.machine == machine {
            // A round that was opened again may have had several answers for one share. Each of them is the worker's own.
            let sent = answers.map(\.sent).filter { $0.contribution.machine == machine && $0.contribution.firstSample == held.firstSample }
            guard !sent.isEmpty, !sent.contains(where: { mayBecome(held, $0, scaleExponent: record.scaleExponent) }) else { continue }
            hasReportedOtherBytes = true
            let text =
                "round \(record.round) holds other bytes of this worker than it sent: the coordinator, or a relay before it, has changed them; others' bytes may be changed too"
            effects.append(.notice(.warning(text)))
            return
        }
    }

    /// Whether a round may hold `held` for what was sent: whole or in part, at the round's scale, and filtered. A filter takes a byte out, makes it
    /// smaller, or, if it leaves only signs, gives it another size. It never changes a sign.
    private func mayBecome(_ held: Contribution, _ sent: WireContribution, scaleExponent: Int8) -> Bool {
        let own = sent.contribution.requantised(from: sent.scaleExponent, to: scaleExponent).bytes
        guard held.bytes.count <= own.count else { return false }
        return zip(held.bytes, own).allSatisfy { held, own in
            if held == own || held == Contribution.noValue { return true }
            guard let filter = spec?.filter, own != Contribution.noValue else { return false }
            if filter.kind == .sign { return held.signum() == own.signum() }
            return (held == 0 || held.signum() == own.signum()) && abs(Int(held)) <= abs(Int(own))
        }
    }

    /// Checks that the ledger holds this worker's own signing key. Otherwise what it signs counts for nothing, and somebody else signs in its name.
    ///
    /// - Returns: whether it does, or nobody signs.
    mutating func checkOwnKey(_ admission: Admission) -> Bool {
        guard let own = configuration.notary?.publicKey, let found = admission.signingKey, found != own else { return true }
        let text =
            "the ledger holds another signing key for this worker (\(found)) than its own (\(own)): the coordinator, or a relay before it, has replaced it"
        leave(.failed(ProcessFailure(.refused, text)), saying: "another signing key")
        return false
    }
}
