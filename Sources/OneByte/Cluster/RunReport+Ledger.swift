import Coordinator
import Core
import Foundation
import LanguageModel

extension RunReport {
    /// Makes the report from a ledger and the events of its run.
    ///
    /// - Parameters:
    ///   - model: nil if this machine does not have it, as at a coordinator.
    ///   - totalSeconds: seconds of the present process.
    init(
        _ archive: LedgerArchive, _ progress: RunProgress, model: String?, trainedParameters: Int?, texts: WrittenScores? = nil,
        sideEffects: SideEffects?, evaluation: EvaluationData?, basisSeconds: Double, totalSeconds: Double
    ) {
        let spec = archive.summary.spec
        let rounds = Int(archive.history.nextRound)
        let samples = Int(archive.summary.samples)
        // In each round each contributing machine would send a gradient and fetch the mean, at 4 bytes per parameter.
        let contributions = archive.contributions
        self.init(
            before: progress.first,
            after: progress.latest.flatMap { $0.round == rounds ? $0 : nil },
            bestRound: archive.summary.steering.best.map { Int($0.round) },
            learningRate: spec.learningRate * exp2(Double(archive.summary.rateShift)),
            evaluation: evaluation,
            contributionBytes: samples,
            wireBytes: progress.wireBytes,
            wireBytesOfRounds: progress.wireBytesOfRounds,
            samples: samples,
            seconds: .init(
                preparing: basisSeconds + progress.preparingSeconds, prefixCache: basisSeconds + progress.preparingSeconds,
                training: progress.trainingSeconds,
                total: progress.earlierSeconds + totalSeconds),
            digest: archive.digest?.digest.description,
            rounds: rounds,
            roundsRewound: rounds - archive.history.rounds.count,
            workers: contributions.workers,
            seed: Int(clamping: spec.seed),
            payloadBytesPerSample: samples > 0 ? 1 : 0,
            wireBytesPerSample: samples > 0 ? Double(progress.wireBytes) / Double(samples) : 0,
            samplesWithoutValue: progress.noValue,
            samplesLeftOut: progress.leftOut,
            digestChecks: progress.digestChecks,
            trainedParameters: trainedParameters,
            texts: texts,
            sideEffects: sideEffects,
            privacy: PrivacyReport(archive),
            floatGradientBytes: trainedParameters.map { UInt64(contributions.count) * 2 * 4 * UInt64($0) },
            chain: archive.summary.position.chain.description,
            signer: archive.signer?.description,
            ledger: archive.path,
            ledgerBytes: archive.summary.position.offset,
            model: model,
            outcome: progress.finish?.outcome.rawValue ?? "ended")
    }

    /// Returns the report that a coordinator, which has neither model nor data, can make of the run in its directory.
    init(ofCoordinator directory: RunDirectory) throws {
        let archive = try LedgerArchive(directory.ledger)
        let summary = archive.summary
        let record = RunRecord(of: summary.spec, in: directory)
        let progress = record.progress
        if let remark = record.remark(directory) { standardError.write("note: \(remark)") }
        let names = (archive.manifest?.entries ?? []).filter { entry in
            summary.spec.train.contains { TensorPattern($0)?.matches(entry.name, entry.shape) ?? false }
        }
        let adapters = summary.adapterShapes.reduce(0) { $0 + $1.rows * $1.columns }
        let layers = names.reduce(0) { $0 + $1.shape.count }
        let hasScores = progress.first != nil || progress.latest != nil
        self.init(
            archive, progress, model: nil, trainedParameters: adapters + layers > 0 ? adapters + layers : nil, sideEffects: nil,
            evaluation: hasScores ? EvaluationData(ofEvaluators: summary.spec.task) : nil, basisSeconds: 0,
            totalSeconds: progress.presentSeconds)
    }

    /// Writes `report.json` and `report.txt`.
    func write(to directory: RunDirectory) throws {
        try directory.write(json(self) + "\n", to: directory.report)
        try directory.write(printable(text) + "\n", to: directory.reportText)
    }
}
