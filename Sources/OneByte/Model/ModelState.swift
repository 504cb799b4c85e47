import Core
import LanguageModel
import Training

/// Opens a model and reports downloads on standard error.
func openModel(_ reference: String) throws(ModelError) -> ModelSource {
    try ModelSource.open(reference, log: { standardError.write($0) })
}

/// A model as a command needs it: base files alone, or base and ledger.
struct ModelState {
    let source: ModelSource
    /// Nil for base files alone.
    let parameters: Parameters?
    let ledger: LedgerArchive?

    /// Opens a model and applies a ledger's rounds to it.
    ///
    /// - Parameters:
    ///   - ledger: a ledger or run directory whose rounds are applied; nil leaves the model as its files have it.
    ///   - round: gives the parameters before this round; nil gives those after the last.
    /// - Throws: errors from the model's files and the ledger; `ProcessFailure` if the base is not the ledger's.
    static func load(model: String, ledger: String?, atRound round: RoundChoice?, threads: Int) throws -> ModelState {
        let source = try openModel(model)
        guard let ledger else {
            guard round == nil else { throw ProcessFailure(.usage, "--at-round needs --ledger, which holds the rounds") }
            return ModelState(source: source, parameters: nil, ledger: nil)
        }
        let archive = try LedgerArchive(ledger, at: round)
        archive.warnIfTorn()
        let parameters = try archive.replay(on: source, threads: threads)
        return ModelState(source: source, parameters: parameters, ledger: archive)
    }
}

extension LedgerArchive {
    /// Warns about bytes after the last whole record, which are not part of the model.
    func warnIfTorn() {
        if !retractedLater.isEmpty {
            let machines = retractedLater.map { "\($0)" }.joined(separator: ", ")
            standardError.write(
                "note: \(path): the parameters before round \(history.nextRound) are without what was retracted later, of \(machines)")
        }
        guard unreadBytes > 0 else { return }
        standardError.write(
            "warning: \(path): \(unreadBytes) bytes at the end are no whole record (a crash, or a coordinator at work); the \(history.nextRound) rounds before them are taken"
        )
    }

    /// Returns the parameters that base and ledger give.
    ///
    /// - Throws: `ProcessFailure` `.configuration` with the names of the tensors if `source` is not the run's base.
    func replay(on source: ModelSource, threads: Int) throws -> Parameters {
        try checkBase(source, threads: threads)
        let tensors = try source.trainedTensors(matching: summary.spec.train, basis: basis)
        let parameters = try source.makeParameters(tensors)
        let directions = try Directions(summary.spec, tensors: tensors)
        parameters.apply(history.rounds, directions: directions, threads: threads)
        return parameters
    }

    /// Checks that a model is the run's base.
    ///
    /// - Throws: `ProcessFailure` `.configuration` with the names of the tensors if `source` is not the run's base.
    func checkBase(_ source: ModelSource, threads: Int) throws {
        guard let manifest else { return }
        let differences = manifest.differences(from: source.baseManifest(threads: threads))
        guard let first = differences.first else { return }
        let more = differences.count > 1 ? " and \(differences.count - 1) more" : ""
        throw ProcessFailure(
            .configuration, "\(source.path) is not the base model of \(path): \(first)\(more); give the model that the run began with")
    }
}
