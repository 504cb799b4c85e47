import Core
import LanguageModel

/// When the examples' hidden states are computed: of held-out data all before the first measurement, which needs them; of
/// training data a head start, and the rest when samples ask for them or when there is nothing else to do.
extension LanguageModelTrainer {
    /// What a machine that joins has at least before it takes part: the others are not to wait, nor to get bytes that all tell of one example.
    private static let headStartExamples = 16

    func fillEnough(
        _ training: PrefixCache?, evaluators: [PrefixCache], batchSize: Int, headStartSeconds: Double, _ task: TaskContext
    ) throws {
        let positions = evaluators.map { Double($0.set.positionCount) }
        var before = 0.0
        do {
            for (cache, count) in zip(evaluators, positions) {
                try cache.fill { _, _ in
                    task.progress((before + cache.filledPart * count) / positions.reduce(0, +))
                    return !task.isAbandoned()
                }
                before += count
            }
        } catch let error as TrainingError where error.code == .cancelled {
            throw Abandoned()
        }
        guard let training else { return }
        let end = monotonicSeconds() + headStartSeconds
        let least = max(Self.headStartExamples, batchSize)
        while try training.fillSlice(), training.readyCount < least || monotonicSeconds() < end {
            guard !task.isAbandoned() else { throw Abandoned() }
            task.progress(training.filledPart)
        }
    }
}
