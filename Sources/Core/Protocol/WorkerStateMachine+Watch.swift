/// What a worker notices if the coordinator, or a relay before it, changes what the worker says. Nobody else can notice it.
extension WorkerStateMachine {
    /// Checks that the ledger holds this worker's own signing key. Otherwise what it signs counts for nothing, and somebody else signs in its name.
    ///
    /// - Returns: whether it does, or nobody signs. If the ledger holds no key at all for this worker, it warns.
    mutating func checkOwnKey(_ admission: Admission) -> Bool {
        guard let own = configuration.notary?.publicKey, admission.signingKey != own else { return true }
        guard let found = admission.signingKey else {
            if welcome?.signer != nil {
                let text =
                    "the coordinator signs the ledger, which holds no signing key for this worker: what it signs counts for nothing. The coordinator, or a relay before it, has left the key out"
                effects.append(.notice(.warning(text)))
            }
            return true
        }
        let text =
            "the ledger holds another signing key for this worker (\(found)) than its own (\(own)): the coordinator, or a relay before it, has replaced it"
        leave(.failed(ProcessFailure(.refused, text)), saying: "another signing key")
        return false
    }
}
