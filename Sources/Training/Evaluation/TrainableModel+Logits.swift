import LanguageModel

extension TrainableModel {
    /// Returns the logits of the whole vocabulary after the last token of each sequence. All sequences go through the model in one pass.
    ///
    /// - Throws: `TrainingError` for an empty sequence or a token outside the vocabulary; errors from the model's files.
    public func lastLogits(of sequences: [[Int32]]) throws -> [[Float]] {
        let vocabulary = configuration.vocabularySize
        let set = try ExampleSet(
            sequences.map { tokens in
                Example(
                    sequences: [TokenSequence(tokens: tokens, targets: [.init(position: tokens.count - 1, token: 0)])], objective: .tokens)
            }, for: configuration)
        try set.prepare(self)
        let pass = ForwardPass(model: self)
        pass.begin(directions: nil)
        for sequence in set.sequences {
            let number = pass.add(
                ForwardPass.Sequence(length: sequence.length, reads: set.reads(of: sequence), tokens: set.tokens(of: sequence), hidden: nil))
            _ = pass.add(segmentOf: number)
        }
        try pass.runFromEmbeddings(to: configuration.layerCount)
        pass.finalNorm()
        let out = ScratchBuffer<Float>(capacity: sequences.count * vocabulary)
        pass.allLogits(into: out.pointer)
        return sequences.indices.map { Array(UnsafeBufferPointer(start: out.pointer + $0 * vocabulary, count: vocabulary)) }
    }
}
