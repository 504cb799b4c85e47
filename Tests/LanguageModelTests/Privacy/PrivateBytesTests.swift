import Core
import Foundation
import LanguageModel
import Synchronization
import Testing
import Training

struct PrivateBytesTests {
    private static func square(_ x: [Int64]) -> Int64 { x.reduce(0) { $0 + $1 * $1 } }

    // MARK: Clipping

    @Test("No vector counts for more than the clip, in exact integers, whatever it holds")
    func clipping() {
        var random = SplitMix64(state: 5)
        let unit = ClippedSum.unit
        for count in [1, 2, 7, 128, 1000] {
            for exponent in [-300, -20, -3, 0, 3, 20, 300] {
                let size = pow(10, Double(exponent))
                let vector = (0..<count).map { _ in Double.random(in: -size...size, using: &random) }
                for clip in [1e-6, 0.3, 1, 1e6] {
                    let clipped = ClippedSum.clipped(vector, at: clip)
                    #expect(Self.square(clipped) <= unit * unit)
                    let length = vector.reduce(0) { $0 + $1 / size * $1 / size }.squareRoot() * size
                    if length > 2 * clip { #expect(Self.square(clipped) > (unit - 2 * Int64(count)) * (unit - 2 * Int64(count))) }
                    // A short vector only moves to the grid.
                    guard length <= 0.99 * clip else { continue }
                    for (a, b) in zip(clipped, vector) { #expect(abs(Double(a) - b / clip * Double(unit)) <= 1) }
                }
            }
        }
        for bad in [Double.nan, .infinity, -.infinity] { #expect(ClippedSum.clipped([1, bad, 3], at: 1) == [0, 0, 0]) }
        let edge = ClippedSum.clipped(Array(repeating: 1, count: 1000), at: 1000.0.squareRoot())
        #expect(Self.square(edge) <= unit * unit)
    }

    @Test("An example that stands in a batch twice is clipped as one")
    func repetition() {
        var sum = ClippedSum(clip: 1, count: 2)
        sum.add([0.6, 0.8], times: 3)
        #expect(Self.square(sum.sum) <= ClippedSum.unit * ClippedSum.unit)
    }

    @Test("Noise has the promised deviation in the units of a projected gradient")
    func deviation() {
        var sum = ClippedSum(clip: 2, count: 3000)
        sum.add(Array(repeating: 2 / 3000.0.squareRoot(), count: 3000))
        var random = SplitMix64(state: 8)
        let found = sum.released(noiseMultiplier: 4, divisor: 50, using: &random)
        let mean = found.reduce(0, +) / 3000
        let variance = found.reduce(0) { $0 + $1 * $1 } / 3000
        #expect(abs(variance.squareRoot() / (4 * 2 / 50.0) - 1) < 0.07 && abs(mean) < 0.01)
    }

    // MARK: The estimators

    /// Every way to estimate, with its examples: by the gradient and by differences, one-sided and two-sided, by the head's gradient, by scores.
    private static let kinds = ["final", "final score", "two-sided", "one-sided", "head", "layers"]

    private func estimator(_ kind: String, dropping dropped: Int? = nil) throws -> any GradientEstimator {
        var options = EstimatorOptions(epsilon: 0.01, batchSize: 4, samplesPerBatch: 6, orderSeed: 4, threads: 2)
        func examples(_ name: String) throws -> [Example] {
            let all = name == "sentences" ? AdaptedTinyLlama.sentences(12) : try AdaptedTinyLlama.examples(name)
            return all.enumerated().filter { $0.offset != dropped }.map(\.element)
        }
        let run = try AdaptedTinyLlama()
        switch kind {
        case "final", "final score":
            if kind == "final score" { (options.objective, options.epsilon) = (.accuracy, 0.5) }
            return try FinalAdapterEstimator(model: run.model, directions: run.directions, cache: run.cache(examples("sentences")), options: options)
        case "layers":
            return try AdapterGradientEstimator(
                model: run.model, directions: run.directions, cache: run.cache(examples("sentences")), options: options)
        default:
            let source = try EstimatorTests.tiny()
            let model = try EstimatorTests.model(source, ["layers.2"])
            options.estimator = kind == "one-sided" ? .oneSided : .twoSided
            let cache = try PrefixCache(model: model, set: ExampleSet(examples(kind == "head" ? "tokens" : "sentences"), for: source.configuration))
            options.batchSize = min(4, cache.set.count)
            return try Estimator(model: model, directions: Directions(seed: RunSeed(2), family: .rank1), cache: cache, options: options)
        }
    }

    @Test("The mean of a batch's examples is the sample's own projected gradient", arguments: kinds)
    func means(_ kind: String) throws {
        let estimator = try estimator(kind)
        let batch = min(4, estimator.exampleCount)
        let machine = AdaptedTinyLlama.machine
        let wanted = try estimator.projectedGradients(machine: machine, samples: 3..<21).values
        let batches = SampleBatches(
            exampleCount: estimator.exampleCount, options: .init(batchSize: batch, samplesPerBatch: 6, orderSeed: 4)
        ).of(machine, 3..<21)
        #expect(batches.map(\.samples) == [3..<6, 6..<12, 12..<18, 18..<21])
        var found: [Double] = []
        for batch in batches {
            var sums = [Double](repeating: 0, count: batch.samples.count)
            try estimator.visitExamples(batch.counts.keys.sorted(), machine: machine, samples: batch.samples) { example, gradients in
                for i in sums.indices { sums[i] += gradients[i] * Double(batch.counts[example] ?? 0) }
            }
            found += sums.map { $0 / Double(batch.exampleCount) }
        }
        let size = Double(wanted.map(abs).max() ?? 0)
        #expect(size > 1e-3 && found.count == wanted.count)
        for (a, b) in zip(found, wanted) { #expect(abs(a - Double(b)) < 1e-3 + 2e-2 * size, "\(a) \(b) of \(size)") }
    }

    /// The sum over a batch without one example differs from the whole sum by at most the clip. What other examples add may differ in the last bits
    /// of a matrix product whose rows they share; the margin is for those.
    @Test("One example moves the vector before the noise by at most the clip", arguments: kinds)
    func sensitivity(_ kind: String) throws {
        let machine = AdaptedTinyLlama.machine
        for clip in [0.05, 5] {
            let privacy = Privacy(clip: clip, noiseMultiplier: 1, epsilon: 1, delta: 1e-5)
            func sum(_ estimator: any GradientEstimator) throws -> ClippedSum {
                let all = Dictionary(uniqueKeysWithValues: (0..<estimator.exampleCount).map { ($0, 1) })
                let bytes = PrivateBytes(privacy, account: PrivacyAccount(), examples: Array(0..<all.count), options: .init(batchSize: 0))
                return try bytes.sum(SampleBatch(samples: 0..<16, counts: all), machine, estimator)
            }
            let whole = try sum(estimator(kind))
            #expect(Self.square(whole.sum) > 0)
            for dropped in [0, 1, 2] {
                let difference = zip(whole.sum, try sum(estimator(kind, dropping: dropped)).sum).map { $0 - $1 }
                let length = Double(Self.square(difference)).squareRoot()
                #expect(length <= Double(ClippedSum.unit) * 1.01, "\(kind), without \(dropped): \(length)")
            }
        }
    }

    /// Counts how often each example was asked for, and gives everyone the vector (1, 1, …).
    private final class Ones: GradientEstimator {
        let exampleCount: Int
        var visits: [Int: Int] = [:]
        init(_ count: Int) { exampleCount = count }
        func projectedGradients(machine: MachineID, samples: Range<SampleNumber>) -> ProjectedGradients {
            ProjectedGradients(values: samples.map { _ in 1 }, meanLoss: 1)
        }
        func visitExamples(
            _ examples: [Int], machine: MachineID, samples: Range<SampleNumber>, _ visit: (_ example: Int, _ gradients: [Double]) throws -> Void
        ) throws {
            for example in examples {
                visits[example, default: 0] += 1
                try visit(example, samples.map { _ in 1 })
            }
        }
    }

    @Test("A record that says nothing counts as an example: it is in batches, paid for, and adds zero", arguments: [0, 4])
    func silentRecords(_ batchSize: Int) throws {
        let records: [Int?] = [0, nil, 1, nil, 2, nil]
        let options = EstimatorOptions(batchSize: batchSize, samplesPerBatch: 2, orderSeed: 3)
        let privacy = Privacy(clip: 100, noiseMultiplier: 0.05, epsilon: 1000, delta: 1e-5)
        let account = PrivacyAccount()
        let bytes = PrivateBytes(privacy, account: account, examples: records, options: options)
        let estimator = Ones(3)
        let samples: Range<SampleNumber> = 0..<6
        // The same records with something to learn from in each read the same batches and pay the same.
        let full = PrivacyAccount()
        let others = PrivateBytes(privacy, account: full, examples: Array(0..<6), options: options)
        _ = try bytes.projectedGradients(MachineID(1), samples, estimator, isOver: { false })
        _ = try others.projectedGradients(MachineID(1), samples, Ones(6), isOver: { false })
        #expect(account.rho == full.rho && account.rho > 0)
        #expect(Set(estimator.visits.keys) == [0, 1, 2])
        for batch in SampleBatches(exampleCount: 6, options: options).of(MachineID(1), samples) {
            let sum = try bytes.sum(batch, MachineID(1), Ones(3))
            let said = [0, 2, 4].reduce(0) { $0 + (batch.counts[$1] ?? 0) }
            let expected = Double(said) / sum.clip * Double(ClippedSum.unit)
            #expect(sum.sum.count == batch.samples.count && sum.sum.allSatisfy { abs(Double($0) - expected) <= Double(said) })
            #expect(batch.exampleCount == (batchSize == 0 ? 6 : 4))
        }
        // Nothing is visited if nobody has anything to say.
        let silent = Ones(0)
        #expect(
            try PrivateBytes(privacy, account: PrivacyAccount(), examples: [nil, nil], options: options)
                .projectedGradients(MachineID(1), samples, silent, isOver: { false })?.count == 6)
        #expect(silent.visits.isEmpty)
    }

    // MARK: The account

    @Test("A batch that reads all examples is one release, whatever the number of its samples")
    func allExamples() {
        let batches = SampleBatches(exampleCount: 5, options: .init(batchSize: 0)).of(MachineID(1), 10..<500)
        #expect(batches == [SampleBatch(samples: 10..<500, counts: [0: 1, 1: 1, 2: 1, 3: 1, 4: 1])])
    }

    @Test("The account pays for each example's releases, stops before the budget is passed, and keeps what it paid before bytes are made")
    func account() throws {
        let privacy = Privacy(clip: 1, noiseMultiplier: 4, epsilon: 2, delta: 1e-5)
        let kept = Mutex<[Double]>([])
        let most = Int(PrivacyLoss.rho(epsilon: 2, delta: 1e-5) / privacy.rhoOfRelease)
        #expect(most > 2)
        func pay(_ account: PrivacyAccount, _ releases: [Int: Int]) throws -> Bool {
            try account.pay(for: releases, each: privacy.rhoOfRelease, limit: account.limit(privacy))
        }
        let account = PrivacyAccount(rho: 0, keep: { rho in kept.withLock { $0.append(rho) } })
        for round in 0..<most {
            #expect(try pay(account, [0: 1, round + 1: 1]))
            #expect(account.rho == kept.withLock { $0.last })
            #expect(abs(account.rho - Double(round + 1) * privacy.rhoOfRelease) < 1e-12)
        }
        #expect(account.epsilon(privacy) <= 2)
        #expect(try !pay(account, [0: 1]))
        // It stays spent: what is released must not depend on who was asked last.
        #expect(try !pay(account, [99: 1]))
        #expect(account.isSpent && kept.withLock { $0.count } == most)

        // A restarted worker goes on from there.
        #expect(try !pay(PrivacyAccount(rho: account.rho), [0: 1]))
        // The host's own limit counts, if it is lower.
        let strict = PrivacyAccount(budget: .init(epsilon: 0.5, delta: 1e-6))
        #expect(strict.limit(privacy) < PrivacyLoss.rho(epsilon: 0.5, delta: 1e-5))
        #expect(PrivacyAccount(budget: .init(epsilon: 9)).limit(privacy) == PrivacyLoss.rho(epsilon: 2, delta: 1e-5))
    }

    @Test("If the account can't be kept, nothing is released")
    func unkept() throws {
        struct Full: Error {}
        let estimator = try estimator("final")
        let bytes = PrivateBytes(
            Privacy(clip: 1, noiseMultiplier: 4, epsilon: 8, delta: 1e-5), account: PrivacyAccount(keep: { _ in throw Full() }),
            examples: Array(0..<estimator.exampleCount), options: .init(batchSize: 0))
        #expect(throws: Full.self) { try bytes.projectedGradients(MachineID(1), 0..<8, estimator, isOver: { false }) }
    }

    // MARK: The trainer

    private func trainer(
        _ account: PrivacyAccount?, privacy: Privacy?, records: [Example?] = AdaptedTinyLlama.sentences(12),
        onRemark: @escaping @Sendable (String) -> Void = { _ in }
    ) throws -> LanguageModelTrainer {
        let trainer = try LanguageModelTrainer(
            LanguageModelTrainer.Configuration(
                model: fixture("tiny-llama").path, trainingExamples: { _, _ in records }, onRemark: onRemark, dataSecret: [1, 2, 3],
                privacy: account))
        _ = try trainer.hashBase(TaskContext())
        let spec = RunSpec(
            seed: 9, train: ["adapter:final"], sampling: .orthogonal, learningRate: 1, rounds: 10, samplesPerRound: 16, batchSize: 0,
            task: TaskSpec(
                kind: .classification, template: "{text}", labels: ["a", "b"].map { LabelWord(label: $0, word: $0) }, maxLength: 32),
            privacy: privacy)
        try trainer.prepare(spec, basis: AdaptedTinyLlama().basis.encoded(), TaskContext())
        return trainer
    }

    @Test("No loss and no commitment leaves a private worker, the same order is paid for again, and then the bytes have no value")
    func privateTrainer() throws {
        let privacy = Privacy(
            clip: 1, noiseMultiplier: PrivacyLoss.noiseMultiplier(epsilon: 4, delta: 1e-3, releases: 3), epsilon: 4, delta: 1e-3)
        let account = PrivacyAccount()
        let trainer = try trainer(account, privacy: privacy)
        #expect(trainer.dataCommitment == nil)
        let order = ComputeOrder(round: 0, machine: AdaptedTinyLlama.machine, firstSample: 0, count: 100, scaleExponent: -7)
        var seen: Set<[Int8]> = []
        for count in 1...3 {
            let (bytes, statistics) = try trainer.compute(order, TaskContext())
            #expect(bytes.count == 100 && !bytes.contains(Contribution.noValue))
            #expect(statistics.meanLoss.isNaN)
            let status = try #require(statistics.privacy)
            #expect(abs(status.epsilon - privacy.epsilon(releases: count)) < 1e-6 && status.epsilon <= 4 && !status.isSpent)
            seen.insert(bytes)
        }
        #expect(seen.count == 3, "each answer has noise of its own")
        let (bytes, statistics) = try trainer.compute(order, TaskContext())
        #expect(bytes == Array(repeating: Contribution.noValue, count: 100))
        #expect(statistics.privacy?.isSpent == true && statistics.meanLoss.isNaN)
        #expect(abs(account.rho - 3 * privacy.rhoOfRelease) < 1e-12)
    }

    @Test("A worker without an account takes part in no private run, one with a budget in no other")
    func disagreement() throws {
        let privacy = Privacy(clip: 1, noiseMultiplier: 4, epsilon: 4, delta: 1e-3)
        let without = #expect(throws: PrivacyError.self) { try trainer(nil, privacy: privacy) }
        #expect(without?.code == .noAccount)
        let strict = #expect(throws: PrivacyError.self) { try trainer(PrivacyAccount(budget: .init(epsilon: 1)), privacy: nil) }
        #expect(strict?.code == .notPrivate)
        let named = #expect(throws: PrivacyError.self) { try trainer(PrivacyAccount(isForPrivateRunsAlone: true), privacy: nil) }
        #expect(named?.code == .notPrivate)
        let spent = #expect(throws: PrivacyError.self) { try trainer(PrivacyAccount(rho: 0.01), privacy: nil) }
        #expect(spent?.code == .notPrivate && spent?.description.contains("would make it void") == true)
        // An account that nobody asked for and nothing was spent on, as in a state directory, forbids nothing.
        _ = try trainer(PrivacyAccount(), privacy: nil)
        #expect(try trainer(nil, privacy: nil).dataCommitment != nil)
    }

    @Test("All records count in a private run, whatever they hold, and δ is judged by their number")
    func recordsCount() throws {
        let privacy = Privacy(clip: 1, noiseMultiplier: 4, epsilon: 4, delta: 1e-3)
        let (long, alien) = (
            Example(
                sequences: [TokenSequence(tokens: Array(repeating: 20, count: 5000), targets: [.init(position: 4000, token: 20)])],
                objective: .candidates([20, 21], correct: 0)),
            Example(
                sequences: [TokenSequence(tokens: [1_000_000], targets: [.init(position: 0, token: 20)])],
                objective: .candidates([20, 21], correct: 0))
        )
        let sentences = AdaptedTinyLlama.sentences(12) as [Example?]
        let cases: [([Example?], Bool)] = [
            (sentences, false), (sentences + Array(repeating: nil, count: 90), true), ([long, alien, nil] + sentences, false), ([nil, long], false),
        ]
        for (records, isRemarked) in cases {
            let remarks = Mutex<[String]>([])
            let trainer = try trainer(
                PrivacyAccount(), privacy: privacy, records: records, onRemark: { text in remarks.withLock { $0.append(text) } })
            #expect(remarks.withLock { $0.contains { $0.contains("above 1/\(10 * records.count)") } } == isRemarked)
            let order = ComputeOrder(round: 0, machine: AdaptedTinyLlama.machine, firstSample: 0, count: 100, scaleExponent: -7)
            let (bytes, _) = try trainer.compute(order, TaskContext())
            #expect(bytes.count == 100 && !bytes.contains(Contribution.noValue))
        }
        #expect(throws: TrainingError.self) { try trainer(nil, privacy: nil, records: [nil]) }
        #expect(throws: TrainingError.self) { try trainer(nil, privacy: nil, records: [alien]) }
    }
}
