import Core
import Training

extension LedgerArchive {
    func admission(of machine: MachineID) -> Admission? {
        for case .admission(let found) in entries.lazy.map(\.record) where found.machine == machine { return found }
        return nil
    }
}

extension Settings {
    /// Returns the precision in which a machine computed: what its admission says, or else what the flags say, or else floats, which were the default
    /// of the versions that did not say it.
    ///
    /// - Parameter told: what the machine's admission says; nil in ledgers before format 4.
    /// - Throws: `ProcessFailure` if a flag contradicts the ledger.
    func precision(ofMachine machine: UInt32, told: ComputePrecision?) throws -> ComputePrecision {
        let given = try precision()
        func choose(_ key: SettingKey, _ part: KeyPath<ComputePrecision, Precision>) throws -> Precision {
            guard isGiven(key) else { return told?[keyPath: part] ?? .float }
            guard let told, told[keyPath: part] != given[keyPath: part] else { return given[keyPath: part] }
            throw ProcessFailure(
                .usage,
                "\(key.flag) \(given[keyPath: part]): the ledger says that machine \(machine) computed in \(told[keyPath: part])\nleave the flag out")
        }
        return ComputePrecision(samples: try choose(.precision, \.samples), hiddenStates: try choose(.prefixPrecision, \.hiddenStates))
    }
}
