import Core
import LanguageModel
import Training

/// What a run changed in the model besides its task.
package struct SideEffects: Codable, Hashable, Sendable {
    /// ‖θ − θ₀‖ of the trained tensors, the same divided by ‖θ₀‖, and the largest |θ − θ₀|.
    package var updateNorm: Double
    package var updateRelative: Double
    package var updateLargest: Double
    /// The matrix that has moved most, and its movement as a part of its norm. An adapter's movement is what it adds to a state, as a part of the
    /// state's norm.
    package var mostMoved: MovedTensor?
    /// Nil without general text.
    package var generalText: GeneralText?

    package struct MovedTensor: Codable, Hashable, Sendable {
        package var tensor: String
        package var part: Double
        /// Whether `part` is what an adapter adds to a state, as a part of the state's norm.
        package var isAdapter: Bool { tensor.hasSuffix(AdapterPlace.nameSuffix) }
    }

    package struct GeneralText: Codable, Hashable, Sendable {
        package var texts: Int
        /// Number of predicted tokens, from the beginnings of the texts.
        package var tokens: Int
        /// Perplexity per token, over all tokens of all texts.
        package var perplexityBefore: Double?
        package var perplexityAfter: Double?

        enum CodingKeys: String, CodingKey {
            case texts, tokens
            case perplexityBefore = "perplexity_before"
            case perplexityAfter = "perplexity_after"
        }
    }

    enum CodingKeys: String, CodingKey {
        case updateNorm = "update_norm"
        case updateRelative = "update_relative"
        case updateLargest = "update_largest"
        case mostMoved = "most_moved"
        case generalText = "general_text"
    }

    /// Largest number of tokens read from a text.
    private static let tokensOfText = 128

    /// Reads the texts that show a run's side effects: lines, JSON lines or a table, in the formats of public text.
    static func generalExamples(_ path: String, _ source: ModelSource) throws -> [Example] {
        let examples = try TaskEncoder(task: TaskSpec(kind: .text, maxLength: tokensOfText), model: source).encodePublicText(
            try DataFile.readTexts(path))
        guard !examples.isEmpty else { throw ProcessFailure(.badData, "\(path): no text has two tokens, of which one can predict the other") }
        return examples
    }

    /// - Parameters:
    ///   - texts: path of a file of texts; nil measures no general text.
    /// - Throws: `DataError` for a file that can't be read; errors from model and ledger.
    init(of archive: LedgerArchive, on source: ModelSource, texts: String?, threads: Int) throws {
        let parameters = try source.makeParameters(try source.trainedTensors(matching: archive.summary.spec.train, basis: archive.basis))
        let trained = try archive.replay(on: source, threads: threads)
        guard let change = trained.change(from: parameters) else {
            throw ProcessFailure(.internalError, "the replayed parameters are not those of the base's tensors")
        }
        (updateNorm, updateRelative, updateLargest) = (change.norm, change.relative, change.largest)
        let examples = try texts.map { try Self.generalExamples($0, source) }
        let model = try TrainableModel(source: source, parameters: parameters, basis: archive.basis)
        let movement = try Movement(from: parameters, model: model)
        func noteMovement() throws {
            guard parameters.assign(trained) else { throw ProcessFailure(.internalError, "the replayed parameters are scaled otherwise") }
            model.parametersChanged(threads: threads)
            mostMoved = movement.largest(in: parameters).map { MovedTensor(tensor: $0.name, part: $0.part) }
        }
        guard let examples else {
            try noteMovement()
            return
        }
        // States below the trained tensors are the same before and after the run.
        let cache = try PrefixCache(model: model, set: ExampleSet(examples, for: source.configuration), options: .init(threads: threads))
        let evaluator = Evaluator(model: model, cache: cache, threads: threads)
        let before = try evaluator.evaluate()
        try noteMovement()
        let after = try evaluator.evaluate()
        generalText = GeneralText(
            texts: examples.count, tokens: before.tokenCount, perplexityBefore: before.perplexity.flatMap { $0.isFinite ? $0 : nil },
            perplexityAfter: after.perplexity.flatMap { $0.isFinite ? $0 : nil })
    }

    /// Name and text of each row of a report.
    package var rows: [(name: String, text: String)] {
        // An adapter begins at 0, so a relative change does not exist.
        let change =
            updateRelative == 0 && updateNorm > 0
            ? "the adapter's numbers, which begin at 0, have a norm of \(fixed(updateNorm, 3))"
            : "\(percent(updateRelative)) of the trained tensors' norm"
        var rows = [("update", "\(change), \(fixed(updateLargest, 5)) at most")]
        if let moved = mostMoved {
            let what =
                moved.isAdapter
                ? "\(moved.tensor) adds \(percent(moved.part)) of a state's norm to it"
                : "\(moved.tensor) has moved most, by \(percent(moved.part)) of its norm"
            let warning =
                moved.part > SteeringHistory.largestMovement
                ? ", which is too far: the model's other abilities have suffered; take a smaller learning rate" : ""
            rows.append(("", what + warning))
        }
        if let general = generalText {
            let numbers = [general.perplexityBefore, general.perplexityAfter].map { $0.map { fixed($0, 2) } ?? "not finite" }
            rows.append(
                (
                    "general text",
                    "perplexity per token \(numbers[0]) before, \(numbers[1]) after: \(grouped(general.texts)) texts, \(grouped(general.tokens)) tokens (the first \(Self.tokensOfText) of each)"
                ))
        }
        return rows
    }
}
