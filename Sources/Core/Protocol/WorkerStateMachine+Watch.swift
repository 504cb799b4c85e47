/// What a worker notices if the coordinator, or a relay before it, changes what the worker says. Nobody else can notice it.
extension WorkerStateMachine {
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
