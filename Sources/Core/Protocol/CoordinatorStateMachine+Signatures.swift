/// How the ledger is signed: the coordinator signs all of it, and machines countersign the digests that they found (docs/reference/ledger.md).
extension CoordinatorStateMachine {
    /// Signs everything that the ledger holds so far.
    mutating func signLedger() {
        guard let notary else { return }
        append(.signature(LedgerSignature(signer: notary.publicKey, signature: notary.sign(SignedStatement.history(ledger.position)))))
    }

    /// Appends the countersignatures of a comparison after its digest record. A wrong countersignature is left out. It says nothing against the
    /// digest, which was compared.
    mutating func appendWitnesses(of check: DigestCheck, digest: Digest, machines: [MachineID]) {
        guard let notary else { return }
        let statement = SignedStatement.parameters(digest, at: check.position)
        var entries: [Witnesses.Entry] = []
        for (id, signature) in check.signatures.sorted(by: { $0.key.bytes.lexicographicallyPrecedes($1.key.bytes) }) {
            guard check.reports[id] == digest, let machine = peers[id]?.machine, machines.contains(machine),
                let key = ledger.machines[machine]?.admission.signingKey
            else { continue }
            if notary.isValid(signature, of: statement, by: key) {
                entries.append(Witnesses.Entry(machine: machine, signature: signature))
            } else {
                effects.append(.notice(.warning("the countersignature of \(name(id)) is not of what it reported")))
            }
        }
        if !entries.isEmpty { append(.witnesses(Witnesses(entries))) }
    }
}
