import Core
import LanguageModel
import Testing
import Training

/// Tests of scores without derivatives.
struct ObjectiveTests {
    private func loss(_ objective: Objective, _ items: [(predicted: Int, correct: Int)], classes: Int = 3) -> Double {
        let all = items.map { item in
            Evaluation.Item(
                loss: 1, scores: (0..<classes).map { $0 == item.predicted ? 1 : 0 }, correct: item.correct,
                isRight: item.predicted == item.correct)
        }
        return Evaluation(items: all, tokenLosses: false, objective: objective).meanLoss
    }

    /// Reference: sklearn.metrics.f1_score([0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 0, 2], average="macro") = 0.6555…; accuracy 4/6. A class that
    /// neither occurs nor is predicted does not count.
    @Test func knownAnswers() {
        let items = [(0, 0), (1, 0), (1, 1), (1, 1), (0, 2), (2, 2)].map { (predicted: $0.0, correct: $0.1) }
        #expect(abs(loss(.f1, items) - (1 - (0.5 + 0.8 + 2.0 / 3) / 3)) < 1e-12)
        #expect(abs(loss(.accuracy, items) - 1.0 / 3) < 1e-12)
        #expect(loss(.f1, [(0, 0), (1, 1)], classes: 5) == 0)
        #expect(loss(.f1, [(0, 1), (1, 0)]) == 1)
    }

    @Test("A completion is right if greedy decoding gives it token for token")
    func exactMatch() throws {
        let source = try EstimatorTests.tiny()
        let model = try TrainableModel(source: source)
        let prompt: [Int32] = [5, 9, 14, 3]
        let answer = try Generator(model: model).generate(prompt: prompt, options: .init(maxTokens: 5))
        try #require(answer.count == 5)
        func example(_ answer: [Int32]) -> Example {
            let targets = answer.enumerated().map { TokenSequence.Target(position: prompt.count - 1 + $0, token: $1) }
            return Example(sequences: [TokenSequence(tokens: prompt + answer, targets: targets)], objective: .tokens)
        }
        var wrong = answer
        wrong[4] = wrong[4] == 7 ? 8 : 7
        for (examples, expected) in [([answer], 0.0), ([wrong], 1), ([answer, wrong, wrong, answer], 0.5)] {
            let cache = try PrefixCache(model: model, set: ExampleSet(examples.map(example), for: source.configuration))
            #expect(try Evaluator(model: model, cache: cache, objective: .exactMatch).evaluate().meanLoss == expected)
        }
    }

    /// With n examples a sample's score is a multiple of 1/n, so 2ε·g is one too. Some direction changes the score.
    @Test(arguments: [Objective.accuracy, .exactMatch])
    func samplesAreDifferencesOfScores(_ objective: Objective) throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.2"])
        let count = 8
        let tokens = (0..<count).map { (i: Int) -> [Int32] in (0..<6).map { (j: Int) -> Int32 in Int32((i * 37 + j * 11) % 200) } }
        let likeliest = try tokens.map { try Generator(model: model).generate(prompt: $0, options: .init(maxTokens: 1))[0] }
        let examples = zip(tokens, likeliest).map { tokens, top in
            Example(
                sequences: [TokenSequence(tokens: tokens, targets: [.init(position: 5, token: top)])],
                objective: objective == .accuracy ? .candidates([top, (top + 1) % 200], correct: 0) : .tokens)
        }
        let cache = try PrefixCache(model: model, set: ExampleSet(examples, for: source.configuration))
        let epsilon = 0.5
        let estimator = try Estimator(
            model: model, directions: Directions(seed: RunSeed(3), family: .rank1), cache: cache,
            options: .init(epsilon: epsilon, batchSize: count, objective: objective))
        let found = try estimator.projectedGradients(machine: MachineID(1), samples: 0..<64)
        #expect(found.values.contains { $0 != 0 })
        for g in found.values {
            let steps = Double(g) * 2 * epsilon * Double(count)
            #expect(abs(steps - steps.rounded()) < 1e-4)
        }
        #expect((0...1).contains(found.meanLoss))
    }

    @Test func objectivesBelongToTheirKinds() throws {
        func check(_ kind: TaskSpec.Kind, _ objective: Objective) throws {
            let labels = [LabelWord(label: "0", word: " a"), LabelWord(label: "1", word: " b")]
            let isChoice = kind == .classification
            let task = TaskSpec(
                kind: kind, template: isChoice ? "{text}" : nil, labels: isChoice ? labels : nil, maxLength: 8, objective: objective)
            try RunSpec(seed: 0, train: ["all"], learningRate: 0.1, rounds: 1, samplesPerRound: 1, task: task).validate()
        }
        try check(.classification, .accuracy)
        try check(.classification, .f1)
        try check(.completion, .exactMatch)
        #expect(throws: RunSpecError.self) { try check(.text, .accuracy) }
        #expect(throws: RunSpecError.self) { try check(.completion, .f1) }
        #expect(throws: RunSpecError.self) { try check(.classification, .exactMatch) }
    }

    @Test func classesAreNeededForTheGeneralizedLoss() throws {
        func check(_ kind: TaskSpec.Kind, q: Double? = nil, objective: Objective? = nil) throws {
            let labels = [LabelWord(label: "0", word: " a"), LabelWord(label: "1", word: " b")]
            let isChoice = kind == .classification
            let task = TaskSpec(
                kind: kind, template: isChoice ? "{text}" : nil, labels: isChoice ? labels : nil, maxLength: 8, objective: objective,
                generalizedCrossEntropy: q)
            let spec = RunSpec(
                seed: 0, train: ["all"], learningRate: 0.1, rounds: 1, samplesPerRound: 1, task: task)
            try spec.validate()
            #expect(try RunSpec(canonicalBytes: spec.canonicalBytes()) == spec)
        }
        try check(.classification, q: 0.7)
        try check(.classification, q: 1)
        for q in [0, -0.1, 1.1, .nan] { #expect(throws: RunSpecError.self) { try check(.classification, q: q) } }
        #expect(throws: RunSpecError.self) { try check(.completion, q: 0.7) }
        #expect(throws: RunSpecError.self) { try check(.classification, q: 0.7, objective: .accuracy) }
    }
}
