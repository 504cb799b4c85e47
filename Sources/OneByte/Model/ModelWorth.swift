import Coordinator
import Core
import Foundation
import LanguageModel
import Training

/// Scores of a run's model before and after a change to its ledger, on the run's validation data or else on the data that judge it.
struct ModelWorth {
    /// The ledger before the change.
    private let before: LedgerArchive
    private let directory: RunDirectory

    /// Largest number of examples that are measured, because a quick answer matters more than its last digit.
    private static let examplesMost = 500

    init(before: LedgerArchive, path: String) {
        self.before = before
        directory = RunDirectory(holding: path)
    }

    /// Returns a sentence with the scores before and now; nil if this machine does not have the run's files.
    func text() -> String? {
        guard let run = try? directory.readSettings(), case .text(let model)? = run[.model]?.0,
            case .text(let file)? = (run[.validationFile] ?? run[.evalFile])?.0, let now = try? LedgerArchive(directory.path),
            before.summary.spec.task.objective != .command
        else { return nil }
        do {
            let source = try openModel(model)
            let encoder = try TaskEncoder(task: before.summary.spec.task, model: source)
            let all = try encoder.encode(try DataFile.read(file)).examples
            let examples = Array(all.prefix(Self.examplesMost))
            let threads = Processors.count
            let parameters = try before.replay(on: source, threads: threads)
            let trainable = try TrainableModel(source: source, parameters: parameters, basis: before.basis)
            let cache = try PrefixCache(
                model: trainable, set: try ExampleSet(examples, for: source.configuration), options: .init(threads: threads))
            var meter = Meter("measuring what the model is worth")
            try cache.fill { done, total in meter.show(done, of: total) }
            meter.end()
            let evaluator = Evaluator(model: trainable, cache: cache, threads: threads, objective: encoder.task.objective)
            let old = HeldOutScore(try evaluator.evaluate(), of: encoder.task)
            guard parameters.assign(try now.replay(on: source, threads: threads)) else { return nil }
            trainable.parametersChanged(threads: threads)
            let new = HeldOutScore(try evaluator.evaluate(), of: encoder.task)
            let part = examples.count < all.count ? "the first \(grouped(examples.count)) of \(grouped(all.count))" : grouped(all.count)
            return "on \(part) examples of \(file): \(old.brief) before, \(new.brief) now"
        } catch {
            return "what the model is worth now could not be measured: \(shortened(describe(error), to: 300))"
        }
    }
}
