import Core

/// The signatures of a ledger, and whether a trusted key is among them.
struct Vouching {
    private struct Holder: Hashable {
        let key: SignerKey
        let machine: MachineID?
    }

    private let vouchers: [LedgerVerifier.Voucher]
    /// Names of trusted keys; nil if none were given.
    private let names: [SignerKey: String]?

    init(_ vouchers: [LedgerVerifier.Voucher], names: [SignerKey: String]?) {
        self.vouchers = vouchers
        self.names = names
    }

    /// One line for each signer, with the last record that the signature covers.
    var text: String {
        guard !vouchers.isEmpty else { return "not signed: the hash chain tells accidents, but nobody vouches for these records" }
        var newest: [Holder: (voucher: LedgerVerifier.Voucher, count: Int)] = [:]
        for voucher in vouchers {
            let holder = Holder(key: voucher.signer, machine: voucher.machine)
            newest[holder] = (voucher, (newest[holder]?.count ?? 0) + 1)
        }
        let order = newest.sorted { a, b in
            (a.key.machine?.rawValue ?? 0, a.key.key.description) < (b.key.machine?.rawValue ?? 0, b.key.key.description)
        }
        return order.map { holder, found in
            let who = holder.machine.map { "countersigned by \($0)" } ?? "signed by the coordinator"
            let end = found.voucher.coversEnd ? " and the end" : ""
            return
                "\(who), key \(holder.key)\(standing(of: holder.key)): \(found.count) times, the last over \(found.voucher.records) records: all before round \(found.voucher.round)\(end)"
        }.joined(separator: "\n")
    }

    private func standing(of key: SignerKey) -> String {
        guard let names else { return "" }
        guard let name = names[key] else { return " (not trusted)" }
        return name.isEmpty ? " (trusted)" : " (trusted: \(name))"
    }

    /// Checks that a trusted key vouches for the parameters.
    ///
    /// - Throws: `ProcessFailure` if no trusted key vouches for everything that determines the parameters.
    func judge(_ archive: LedgerArchive) throws {
        let trusted = vouchers.filter { names?[$0.signer] != nil }
        guard let furthest = trusted.map(\.records).max() else {
            throw ProcessFailure(
                .badData,
                "\(archive.path): none of the \(names?.count ?? 0) trusted keys vouches for any of it\n  \(vouchers.isEmpty ? "it is not signed" : "it is signed by others")"
            )
        }
        let behind = archive.entries.filter { $0.record.changesParameters && $0.index >= furthest }.count
        guard behind == 0 else {
            throw ProcessFailure(
                .unproven, "\(archive.path): \(behind) records that change the parameters lie behind the last that a trusted key has signed")
        }
    }
}
