import LanguageModel

extension TrainableModel {
    /// Puts tokens through the embedding and the first layer, and returns whether the result is finite.
    ///
    /// - Throws: `TrainingError` for tokens that the model can't take; errors from the model's files.
    public func firstLayerIsFinite(_ tokens: [Int32]) throws -> Bool {
        let example = Example(
            sequences: [TokenSequence(tokens: tokens, targets: [.init(position: max(tokens.count - 1, 0), token: 0)])], objective: .tokens)
        let set = try ExampleSet([example], for: configuration)
        preparePositions(set.longestText)
        let pass = ForwardPass(model: self)
        pass.begin(directions: nil)
        for sequence in set.sequences {
            let number = pass.add(
                ForwardPass.Sequence(length: sequence.length, reads: set.reads(of: sequence), tokens: set.tokens(of: sequence), hidden: nil))
            _ = pass.add(segmentOf: number)
        }
        try pass.runFromEmbeddings(to: 1)
        let rows = configuration.layerCount == 1 ? pass.segmentReads : pass.segmentRows
        return (0..<rows * sizes.hidden).allSatisfy { pass.x.pointer[$0].isFinite }
    }
}
