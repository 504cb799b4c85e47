/// Who vouches for the ledger: the coordinator for all of it, machines for the digests that they found (docs/reference/ledger.md).
extension CoordinatorStateMachine {
    /// Signs all that the ledger holds by now.
    mutating func signLedger() {
        guard let notary else { return }
        append(.signature(LedgerSignature(signer: notary.publicKey, signature: notary.sign(SignedStatement.history(ledger.position)))))
    }

    /// Puts the countersignatures of a comparison behind its digest record. One that is wrong is left out: it says nothing of the digest,
    /// which was compared.
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
