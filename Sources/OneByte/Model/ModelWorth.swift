import Coordinator
import Core
import Foundation
import LanguageModel
import Training

/// What a run's model is worth by its own validation data, or by what judges it where it has none: told after a change to its ledger.
struct ModelWorth {
    /// Before the change.
    private let before: LedgerArchive
    private let directory: RunDirectory

    /// Examples that are measured at most: an answer within a minute is worth more than its last digit.
    private static let examplesMost = 500

    init(before: LedgerArchive, path: String) {
        self.before = before
        directory = RunDirectory(path)
    }

    /// A sentence with the scores before and now; nil where the run's files are not here.
    func text() -> String? {
        guard let run = try? SettingsFile.read(directory.configuration), case .text(let model)? = run[.model]?.0,
            case .text(let file)? = (run[.validationFile] ?? run[.evalFile])?.0, let now = try? LedgerArchive(directory.path),
            before.summary.spec.task.objective != .command
        else { return nil }
        do {
            let source = try openModel(model)
            let encoder = try TaskEncoder(task: before.summary.spec.task, model: source)
            let examples = Array(try encoder.encode(try DataFile.read(file)).examples.prefix(Self.examplesMost))
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
            return "on \(grouped(examples.count)) examples of \(file): \(old.brief) before, \(new.brief) now"
        } catch {
            return "what the model is worth now could not be measured: \(shortened(describe(error), to: 300))"
        }
    }
}
