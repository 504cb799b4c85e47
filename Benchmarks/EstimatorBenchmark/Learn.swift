import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

/// Runs one machine without a cluster. Arithmetic and schedule are those of a cluster. Some options exist only here: they did not prove
/// useful enough for a cluster, or no byte can hold their values.
struct Learn: ParsableCommand {
    enum Value: String, CaseIterable, ExpressibleByArgument {
        /// One byte per value.
        case byte
        /// 15 bits at the round's own scale, as good as a float. The value is two bytes whose contributions are added.
        case float
        /// The sign alone, scaled by the round's mean |g|.
        case sign
    }

    static let configuration = CommandConfiguration(
        abstract: "One run in one process; prints its held-out scores as JSON.",
        discussion: "Seed, ε, schedule and rounds are those of the run directory's spec where they are not given.")

    @OptionGroup var options: RunOptions
    @Option(help: "JSON lines to measure on.") var evalFile = ".cache/movie-reviews/test.jsonl"
    @Option(help: "The run's seed.") var seed: UInt64 = 0
    @Option(help: "Tensors to train.") var train: String?
    @Option(help: "rank1, rademacher or gaussian.") var perturbation: PerturbationFamily?
    @Option(help: ArgumentHelp("The run directory's where it is not given; none: no shape.", valueName: "file")) var basis: String?
    @Option(help: "Of the mean over a round's samples.") var learningRate: Double?
    @Option(help: "Rounds.") var rounds: Int?
    @Option(help: "Samples of a round.") var samplesPerRound: Int?
    @Option(help: "Examples of a sample.") var batchSize: Int?
    @Option(help: "Samples that read the same examples.") var samplesPerBatch = 1
    @Option(help: "q of the generalized cross-entropy; the spec's where it is not given.") var generalizedCrossEntropy: Double?
    @Option(help: "two-sided or one-sided.") var estimator: EstimatorKind = .twoSided
    @Option(help: "Of the matrix products: float or int8.") var precision: Precision = .float
    @Option(help: "byte, float or sign.") var value: Value = .byte
    @Option(help: "ε; the spec's where it is not given.") var epsilon: Double?
    @Flag(help: "Takes the mean of a draw's projected gradients off each of them.") var meanOff = false
    @Option(help: "Every contribution is applied again in later rounds, each time so much weaker; 0: once.") var momentum = 0.0
    @Option(help: "The step is divided by the slow mean of |g| and multiplied by this; 0: it is the learning rate's.") var spread = 0.0
    @Option(help: "Trains for so many seconds instead of --rounds, processor time where there is one thread.") var seconds = 0.0

    func run() throws {
        var spec = try options.spec()
        spec.seed = seed
        if let train { spec.train = train.split(separator: ",").map(String.init) }
        if let perturbation { spec.perturbation = perturbation }
        if let learningRate { spec.learningRate = learningRate }
        if let rounds { spec.rounds = rounds }
        if let samplesPerRound { spec.samplesPerRound = samplesPerRound }
        let source = try options.source()
        let basis = spec.perturbation != .rank1 || basis == "none" ? nil : try options.basis(basis)
        let tensors = try source.trainedTensors(matching: spec.train, basis: basis)
        let parameters = try source.makeParameters(tensors)
        let model = try TrainableModel(source: source, parameters: parameters)
        let directions = Directions(seed: RunSeed(spec.seed), family: spec.perturbation)
        let own = EstimatorOptions(
            epsilon: epsilon ?? spec.epsilon, batchSize: batchSize ?? spec.batchSize, samplesPerBatch: samplesPerBatch,
            estimator: self.estimator,
            generalizedCrossEntropy: generalizedCrossEntropy ?? spec.task.generalizedCrossEntropy ?? 0, threads: options.threads,
            precision: precision)
        let estimator = try Estimator(
            model: model, directions: directions, cache: try options.cache(try options.examples(options.trainFile, source), model, source),
            options: own)
        let evaluator = Evaluator(
            model: model, cache: try options.cache(try options.examples(evalFile, source), model, source), threads: options.threads)

        let machine = MachineID(1)
        var adapter = ScaleAdapter(target: spec.targetMagnitude)
        var past: [RoundRecord] = []
        var meanMagnitude = 0.0
        // Processor time does not count other work on the machine.
        let now = { clockSeconds(options.threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC) }
        let start = now()
        var done = 0
        while seconds > 0 ? now() - start < seconds : done < spec.rounds {
            let first = SampleNumber(done * spec.samplesPerRound)
            var g = try estimator.projectedGradients(machine: machine, samples: first..<first + SampleNumber(spec.samplesPerRound)).values
                .map { Double($0) }
            if meanOff { takeMeansOff(&g) }
            let magnitude = g.reduce(0) { $0 + ($1.isFinite ? abs($1) : 0) } / Double(g.count)
            meanMagnitude += (magnitude - meanMagnitude) * max(0.1, 1 / Double(done + 1))
            if value == .sign { g = g.map { $0 > 0 ? magnitude : -magnitude } }

            // A budget in seconds also has its schedule in seconds.
            let t = seconds > 0 ? Int((now() - start) / seconds * Double(spec.rounds)) : done
            var rate = spec.learningRate(round: RoundNumber(t)) / Double(g.count)
            if spread > 0, meanMagnitude > 0 { rate *= spread / meanMagnitude }
            func record(_ bytes: [Int8], _ exponent: Int8, _ rate: Double) -> RoundRecord {
                RoundRecord(
                    round: RoundNumber(done), scaleExponent: exponent, step: .nearest(rate: rate * exp2(Double(exponent))),
                    contributions: [Contribution(machine: machine, firstSample: first, bytes: bytes)])
            }
            var records: [RoundRecord]
            if value == .float {
                let largest = g.reduce(0) { max($0, $1.isFinite ? abs($1) : 0) }
                let exponent = Int8(clamping: Int(log2(max(largest, 1e-30) / 127).rounded(.up)))
                let high = g.map { ByteCodec.encode($0, scaleExponent: exponent) }
                let low = zip(g, high).map {
                    ByteCodec.encode($0 - (ByteCodec.decode($1, scaleExponent: exponent) ?? 0), scaleExponent: exponent - 7)
                }
                records = [record(high, exponent, rate), record(low, exponent - 7, rate)]
            } else {
                let bytes = g.map { ByteCodec.encode($0, scaleExponent: adapter.exponent) }
                records = [record(bytes, adapter.exponent, rate)]
                adapter.observe(records[0])
            }
            if momentum > 0 {
                past = records + past.prefix(Int(log(0.05) / log(momentum)))
                records = past.enumerated().map { age, record in
                    RoundRecord(
                        round: record.round, scaleExponent: record.scaleExponent,
                        step: .nearest(rate: record.step.value * (1 - momentum) * pow(momentum, Double(age))),
                        contributions: record.contributions)
                }
            }
            parameters.apply(records, directions: directions, threads: options.threads)
            model.parametersChanged(threads: options.threads)
            done += 1
        }
        let training = now() - start
        let found = try evaluator.evaluate()
        struct Result: Encodable {
            let loss: Double
            let accuracy, accuracyBestThreshold, auc: Double?
            let samples: Int
            let seconds: Double
        }
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys]
        let result = Result(
            loss: found.meanLoss.isFinite ? found.meanLoss : 99, accuracy: found.accuracy, accuracyBestThreshold: found.accuracyAtBestThreshold,
            auc: found.areaUnderCurve, samples: done * spec.samplesPerRound, seconds: training)
        print(String(decoding: try encoder.encode(result), as: UTF8.self))
    }

    private func takeMeansOff(_ g: inout [Double]) {
        for start in stride(from: 0, to: g.count, by: samplesPerBatch) {
            let own = start..<min(start + samplesPerBatch, g.count)
            let mean = g[own].reduce(0, +) / Double(own.count)
            for i in own { g[i] -= mean }
        }
    }
}

extension EstimatorKind: ExpressibleByArgument {}
extension PerturbationFamily: ExpressibleByArgument {}
extension Precision: ExpressibleByArgument {}
