import Core
import Foundation
import LanguageModel
import Training

/// A forecast of what a run will take, made before anything is spent. It is a pure function of the run's settings, its data's size and this
/// machine's speed.
package struct RunForecast: Hashable, Sendable {
    /// Size of the data for one use, such as training.
    package struct Share: Hashable, Sendable {
        package var examples = 0
        /// Number of tokens that a pass goes through.
        package var positions = 0
        /// Number of these tokens that the loss reads.
        package var reads = 0

        package init(examples: Int = 0, positions: Int = 0, reads: Int = 0) {
            self.examples = examples
            self.positions = positions
            self.reads = reads
        }

        package init(_ set: [Example]) {
            for example in set {
                for sequence in example.sequences {
                    positions += (sequence.targets.last?.position ?? 0) + 1
                    reads += sequence.targets.count
                }
            }
            examples = set.count
        }
    }

    /// Seconds that each kind of work takes.
    package struct Speed: Hashable, Sendable {
        /// For the hidden states of training examples.
        package var perPosition: Double
        /// For those of data that are measured.
        package var perHeldOutPosition: Double
        package var perSample: Double
        package var perRead: Double
        /// Seconds that the measurement took.
        package var measured: Double

        /// - Parameter perHeldOutPosition: nil: as `perPosition`.
        package init(perPosition: Double, perHeldOutPosition: Double? = nil, perSample: Double, perRead: Double, measured: Double) {
            (self.perPosition, self.perSample, self.perRead, self.measured) = (perPosition, perSample, perRead, measured)
            self.perHeldOutPosition = perHeldOutPosition ?? perPosition
        }

        package init(_ probe: SpeedProbe) {
            self.init(
                perPosition: probe.secondsPerPosition, perHeldOutPosition: probe.secondsPerHeldOutPosition, perSample: probe.secondsPerSample,
                perRead: probe.secondsPerRead, measured: probe.seconds)
        }
    }

    package let spec: RunSpec
    package let workers: Int
    package let training: Share
    package let validation: Share
    package let evaluation: Share
    /// Public text from which the basis is made; empty if none is to be made.
    package let basis: Share
    /// Whether the loss needs the logits of all tokens.
    package let needsFullVocabulary: Bool
    /// Nil if nothing was measured, as when a program scores texts.
    package let speed: Speed?

    /// Seconds that a round takes in addition to its samples: messages, the ledger's sync, the update.
    private static let secondsOfRound = 0.004
    /// Bytes of a process with a small model that has computed nothing.
    private static let bytesOfProcess = 60 << 20

    package init(
        spec: RunSpec, workers: Int, training: Share, validation: Share = Share(), evaluation: Share = Share(), basis: Share = Share(),
        needsFullVocabulary: Bool, speed: Speed?
    ) {
        self.spec = spec
        self.workers = workers
        self.training = training
        self.validation = validation
        self.evaluation = evaluation
        self.basis = basis
        self.needsFullVocabulary = needsFullVocabulary
        self.speed = speed
    }

    // MARK: Bytes

    /// Bytes of the run's samples, one each. The rounds of trials that are taken back come on top.
    package var contributionBytes: Int { spec.rounds.multipliedReportingOverflow(by: spec.samplesPerRound).partialValue }

    /// Number of rounds, including those that trials of the rate take back, as far as known beforehand.
    package var rounds: Int { TimeLeft(TimeLeft.Plan(rounds: spec.rounds, trialRounds: spec.steering?.trialRounds)).roundsLeft }

    // MARK: Time

    /// Seconds for the basis: the states of public text and, if the loss reads all tokens, their way through the head and back.
    package var basisSeconds: Double? {
        speed.map { Double(basis.positions) * $0.perHeldOutPosition + (needsFullVocabulary ? 2 * Double(basis.reads) * $0.perRead : 0) }
    }

    /// Seconds for the hidden states of all examples, which are computed once.
    package var fillingSeconds: Double? {
        speed.map { Double(training.positions) * $0.perPosition + Double(validation.positions + evaluation.positions) * $0.perHeldOutPosition }
    }

    /// Seconds of a round that finds all hidden states in the cache.
    package var roundSeconds: Double? {
        guard let speed else { return nil }
        let samples = Double(spec.samplesPerRound)
        var seconds = Self.secondsOfRound + samples * speed.perSample
        if spec.trainsAdapters, needsFullVocabulary, training.examples > 0 {
            // Samples that share a batch share the head's gradient, which costs a pass forward and a pass back.
            let batch = spec.batchSize == RunSpecLimits.allExamples ? training.examples : min(spec.batchSize, training.examples)
            let batches = spec.batchSize == RunSpecLimits.allExamples ? 1 : (samples / Double(spec.samplesPerBatch ?? 1)).rounded(.up)
            seconds += 2 * batches * Double(batch) * readsPerExample * speed.perRead
        }
        return seconds
    }

    private var readsPerExample: Double { Double(training.reads) / Double(max(training.examples, 1)) }

    /// Seconds for measuring the data that judge and steer the run.
    package var evaluationSeconds: Double? {
        guard let speed, let secondsOfRound = roundSeconds, evaluation.examples > 0 else { return speed == nil ? nil : 0 }
        let often = spec.evaluateEvery > 0 ? rounds / spec.evaluateEvery : 0
        let examples = evaluation.examples + validation.examples
        let reads = needsFullVocabulary ? Double(evaluation.reads + validation.reads) * speed.perRead : 0
        // A sample makes two passes through the trained layers, so a clean pass takes about half of its time.
        let pass = Double(examples) * speed.perSample / Double(max(spec.batchSize, 1)) / 2
        // Rounds continue during all evaluations but the first and the last. An evaluator that is still busy skips one.
        let held = min(Double(often), Double(rounds) * secondsOfRound / max(reads + pass, 1e-9))
        return (2 + held) * (reads + pass)
    }

    package var totalSeconds: Double? {
        guard let basis = basisSeconds, let filling = fillingSeconds, let round = roundSeconds, let evaluating = evaluationSeconds else { return nil }
        return basis + filling + Double(rounds) * round + evaluating
    }

    // MARK: Memory

    /// Rough memory of all processes together. Memory mapped from the model's file is not counted, because the system can free it.
    package func memoryBytes(_ model: ModelConfiguration, trained: Int, cacheLimit: Int) -> Int {
        let processes = workers + (evaluation.examples > 0 ? 1 : 0)
        let all = training.positions + validation.positions + evaluation.positions
        let rows = spec.trainsAdapters ? training.reads + validation.reads + evaluation.reads : all
        let states = min(rows * model.hiddenSize * 4, cacheLimit * max(processes, 1))
        let head = needsFullVocabulary ? model.vocabularySize * model.hiddenSize * 4 : 0
        // Parameters are integers of four bytes. Trained layers also have a copy in floats.
        let parameters = trained * (spec.trainsAdapters ? 4 : 8)
        return states + processes * (head + parameters + Self.bytesOfProcess)
    }

    // MARK: Words

    /// Advice on what to change if the run takes longer than people like to wait; nil if it does not.
    package func remedy(ifLongerThan seconds: Double = 600) -> String? {
        guard let total = totalSeconds, total > seconds, let filling = fillingSeconds, let round = roundSeconds else { return nil }
        if filling > total / 2 {
            return "most of it goes into hidden states, once: fewer examples or a smaller --max-length; --cache-directory keeps them for the next run"
        }
        if (evaluationSeconds ?? 0) > total / 2 { return "most of it goes into evaluations: fewer held-out examples, or a larger --evaluate-every" }
        let rounds = "fewer --rounds (\(max(1, whole((Double(spec.rounds) * seconds / total).rounded(.down)))) would take about \(duration(seconds)))"
        if spec.trainsAdapters {
            return "most of it goes into rounds of \(fixed(round, 1)) s: \(rounds), or a smaller --batch-size"
        }
        return
            "most of it goes into samples: \(rounds), --train adapter:final, --samples-per-batch 16, or --precision int8"
    }

    /// Text such as "about 1:10 (measured for 2.0 s): 0:10 for the basis; 0:55 for hidden states, once; 0:01 for 64 rounds; 0:04 for evaluations".
    package var timeText: String {
        guard let speed, let total = totalSeconds, let basis = basisSeconds, let filling = fillingSeconds, let round = roundSeconds,
            let evaluating = evaluationSeconds
        else { return "not known beforehand: a program judges texts" }
        let parts = [
            basis > 0 ? "\(duration(basis)) for the basis" : nil,
            filling > 0 ? "\(duration(filling)) for hidden states, once" : nil, "\(duration(Double(rounds) * round)) for \(grouped(rounds)) rounds",
            evaluating > 0 ? "\(duration(evaluating)) for evaluations" : nil,
        ].compactMap { $0 }
        return "about \(duration(total)) (measured on this machine for \(fixed(speed.measured, 1)) s): \(parts.joined(separator: "; "))"
    }
}

/// The forecast as a table for people.
struct ForecastTable {
    let forecast: RunForecast
    let model: ModelConfiguration
    let modelName: String
    /// The trained tensors. Adapters on matrices have the ranks that they have at most.
    let trained: [TrainedTensor]
    let longest: Int
    let cut: Int
    let cacheLimit: Int
    let memoryAvailable: Int?

    private var trainedCount: Int { trained.reduce(0) { $0 + $1.shape.count } }

    var text: String {
        var lines = ["This run"]
        func row(_ name: String, _ value: String) {
            lines.append("  " + name + String(repeating: " ", count: max(1, 10 - name.count)) + value)
        }
        let spec = forecast.spec
        row("trains", trains)
        row("data", data)
        let trials = forecast.rounds > spec.rounds ? ", after about \(grouped(forecast.rounds - spec.rounds)) rounds of trials" : ""
        row(
            "rounds",
            "\(grouped(spec.rounds)) of \(grouped(spec.samplesPerRound)) samples\(trials): \(grouped(forecast.contributionBytes)) bytes, one for each sample (a direction that is tried)"
        )
        row("time", forecast.timeText)
        if let remedy = forecast.remedy() { row("", "too long? \(remedy)") }
        let memory = forecast.memoryBytes(model, trained: trainedCount, cacheLimit: cacheLimit)
        let processes = forecast.workers + 1 + (forecast.evaluation.examples > 0 ? 1 : 0)
        let available = memoryAvailable.map { "; \(Self.size($0)) are free" } ?? ""
        row("memory", "about \(Self.size(memory)) in \(processes) processes\(available)")
        if let memoryAvailable, memory > memoryAvailable {
            row("", "too much? fewer --workers, a smaller --cache-memory, or less to train: --train adapter:final")
        }
        return lines.joined(separator: "\n")
    }

    private var trains: String {
        let spec = forecast.spec
        let names = spec.train.joined(separator: ", ")
        if trained.allSatisfy(\.isAdapter) {
            guard trained.map(\.name) != [AdapterPlace.final.adapterName] else {
                return "\(names): \(grouped(trainedCount)) numbers in front of the head of \(modelName)"
            }
            return "\(names): at most \(grouped(trainedCount)) numbers in \(trained.count) adapter\(trained.count == 1 ? "" : "s") of \(modelName)"
        }
        let tensors = trained.count == 1 ? trained[0].name : "\(trained.count) tensors"
        let much =
            spec.train == ["all"] ? "; everything is much for one byte a sample: adapter:final or the last layer learn more from few bytes" : ""
        return "\(names): \(TrainableParts.rounded(trainedCount)) numbers in \(tensors) of \(modelName)\(much)"
    }

    private var data: String {
        var parts = ["\(grouped(forecast.training.examples)) examples to train on"]
        if forecast.validation.examples > 0 { parts.append("\(grouped(forecast.validation.examples)) to steer by") }
        if forecast.evaluation.examples > 0 { parts.append("\(grouped(forecast.evaluation.examples)) to judge by") }
        let mean = Double(forecast.training.positions) / Double(max(forecast.training.examples, 1))
        let cuts = cut > 0 ? ", \(grouped(cut)) cut at \(longest) (--max-length)" : ""
        return parts.joined(separator: ", ") + "; \(fixed(mean, 0)) tokens on average\(cuts)"
    }

    /// Formats bytes: 1300000000 → 1.3 GB.
    static func size(_ bytes: Int) -> String {
        bytes >= 1_000_000_000 ? "\(fixed(Double(bytes) / 1e9, 1)) GB" : "\(max(1, bytes / 1_000_000)) MB"
    }
}

/// Bytes of memory that the system reports as available.
func availableMemory() -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8) else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
        return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
    }
    return nil
}
