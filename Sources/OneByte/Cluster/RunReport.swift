import Core
import Training

/// The result of a run; `report.json` in the run directory. Its keys do not change.
package struct RunReport: Codable, Hashable, Sendable {
    /// Scores of the base model, measured before round 0 and at no other time.
    package var before: HeldOutScore?
    /// Scores after the last round, measured then and at no other time.
    package var after: HeldOutScore?
    /// Round before which the parameters had the lowest validation loss of those in force; nil without validation.
    package var bestRound: Int?
    /// The run's own learning rate times the factors of trials and guard.
    package var learningRate: Double
    /// The data of `before` and `after`; nil if nothing was to be measured.
    package var evaluation: EvaluationData?
    /// Size of the payload: one byte per sample.
    package var contributionBytes: Int
    /// All bytes that went through the coordinator's socket, in both directions, counted there.
    package var wireBytes: UInt64
    /// The contributions and commits among these bytes, which are the cost of training itself. The rest is joining, heartbeats, digests,
    /// evaluations and workers' status messages.
    package var wireBytesOfRounds: UInt64
    package var samples: Int
    package var seconds: Seconds
    /// Digest of the parameters after the last round that was checked; all machines have reported the same.
    package var digest: String?
    package var rounds: Int
    package var roundsRewound: Int
    package var workers: Int
    package var seed: Int
    package var payloadBytesPerSample: Double
    package var wireBytesPerSample: Double
    /// Number of samples without a value: their loss was not finite, a private worker's budget was spent, or the filter left them out.
    package var samplesWithoutValue: Int
    /// Number of samples, of those without a value, that the filter left out. Nil in reports of earlier versions.
    package var samplesLeftOut: Int?
    /// Number of comparisons at which all machines had the same digest.
    package var digestChecks: Int
    /// Nil if a coordinator, which has no model, can't tell.
    package var trainedParameters: Int?
    /// Nil if the run has no prompts with wanted texts, or if no model is here.
    package var texts: WrittenScores?
    /// Side effects of the last round's parameters, whatever the outcome.
    package var sideEffects: SideEffects?
    /// What the bytes have revealed; nil if the run is not private.
    package var privacy: PrivacyReport?
    /// Bytes that the same number of rounds would have moved if every contributing machine had sent its gradient as F32 and fetched the mean.
    package var floatGradientBytes: UInt64?
    /// The ledger's hash chain after its last record, which identifies the whole ledger, and the public key that signed it.
    package var chain: String?
    package var signer: String?
    package var ledger: String
    package var ledgerBytes: UInt64
    /// Nil in the report of a coordinator, which needs no model.
    package var model: String?
    package var outcome: String

    /// The data that judge a run, and how much of them the run has seen.
    package struct EvaluationData: Codable, Hashable, Sendable {
        package var file: String
        /// Number of its examples that also train the run, and of those that also steer it; equal examples give the model the same tokens.
        /// Nil if nobody has compared them.
        package var alsoInTraining: Int?
        package var alsoInValidation: Int?
        /// Whether none of the data train or steer the run; nil if nobody has compared them.
        package var isHeldOut: Bool?
        /// Meaning of the losses in `before` and `after`.
        package var lossMeaning: String
        /// Name of the data, used only in `text`.
        var name = MeasuredData.heldOut.name

        init(file: String, _ use: DataUse, task: TaskSpec) {
            let overlaps = use.overlaps.filter { $0.use == .evaluation }
            self.file = file
            alsoInTraining = overlaps.first { $0.with == .training }?.shared ?? 0
            alsoInValidation = overlaps.first { $0.with == .validation }?.shared ?? 0
            isHeldOut = overlaps.isEmpty
            name = MeasuredData(use).name
            lossMeaning = task.lossMeaning
        }

        /// Data that another machine holds and measures, and that are otherwise unknown here.
        init(ofEvaluators task: TaskSpec) {
            (file, isHeldOut) = ("", nil)
            name = MeasuredData.unknown.name
            lossMeaning = task.lossMeaning
        }

        enum CodingKeys: String, CodingKey {
            case file
            case alsoInTraining = "also_in_training"
            case alsoInValidation = "also_in_validation"
            case isHeldOut = "held_out"
            case lossMeaning = "loss_is"
        }

        /// A remark about overlaps; nil if there are none.
        var remark: String? {
            let parts = [(alsoInTraining ?? 0, "train the run"), (alsoInValidation ?? 0, "steer it")].filter { $0.0 > 0 }.map {
                "\(grouped($0.0)) also \($0.1)"
            }
            return parts.isEmpty ? nil : "of the examples that judge the run " + parts.joined(separator: ", ")
        }
    }

    package struct Seconds: Codable, Hashable, Sendable {
        /// Seconds for making the basis, reading the model, and computing what lies below the first trained tensor, on all workers at once.
        package var preparing: Double
        /// The same number under its first name.
        package var prefixCache: Double
        /// Seconds from the first round's opening to the last commit.
        package var training: Double
        package var total: Double

        enum CodingKeys: String, CodingKey {
            case preparing
            case prefixCache = "prefix_cache"
            case training, total
        }
    }

    enum CodingKeys: String, CodingKey {
        case before, after, evaluation
        case bestRound = "best_round"
        case learningRate = "learning_rate"
        case contributionBytes = "contribution_bytes"
        case wireBytes = "wire_bytes"
        case wireBytesOfRounds = "wire_bytes_of_rounds"
        case samples, seconds, digest, rounds
        case roundsRewound = "rounds_rewound"
        case workers, seed
        case payloadBytesPerSample = "payload_bytes_per_sample"
        case wireBytesPerSample = "wire_bytes_per_sample"
        case samplesWithoutValue = "samples_without_value"
        case samplesLeftOut = "samples_left_out"
        case digestChecks = "digest_checks"
        case trainedParameters = "trained_parameters"
        case texts
        case sideEffects = "side_effects"
        case privacy
        case floatGradientBytes = "float_gradient_bytes"
        case chain, signer, ledger
        case ledgerBytes = "ledger_bytes"
        case model, outcome
    }

    /// The report for people.
    package var text: String {
        var lines = ["Run \(outcome): \(grouped(rounds)) rounds, \(workers) workers, seed \(seed)"]
        func row(_ name: String, _ value: String) {
            lines.append("  " + name + String(repeating: " ", count: max(1, 18 - name.count)) + value)
        }
        if let evaluation {
            // "training data before" is longer than "held out before".
            row("\(evaluation.name) before", before?.text ?? "not known: nothing was measured before the first round")
            row("\(evaluation.name) after", after?.text ?? "not known: nothing was measured after the last round")
            if let learnt = after?.learnt { row("learnt", learnt) }
            if before?.score == nil, after?.score == nil { row("", "the loss is: \(evaluation.lossMeaning)") }
            if let remark = evaluation.remark { row("seen before", remark) }
            if let texts {
                row("texts before", "\(texts.before.text), \(grouped(texts.before.texts)) texts")
                row("texts after", texts.after.text)
            }
        }
        if roundsRewound > 0 {
            row("taken back", "\(grouped(roundsRewound)) of \(grouped(rounds)) rounds; the learning rate ended at \(significant(learningRate))")
        }
        let leftOut = samplesLeftOut ?? 0
        let lost = [
            (samplesWithoutValue - leftOut, "without \(privacy == nil ? "a finite loss" : "a value")"), (leftOut, "left out by the filter"),
        ]
        row("samples", ([grouped(samples)] + lost.filter { $0.0 > 0 }.map { "\(grouped($0.0)) \($0.1)" }).joined(separator: ", "))
        row("contributions", "\(grouped(contributionBytes)) bytes, \(fixed(payloadBytesPerSample, 2)) a sample")
        row("on the wire", "\(grouped(wireBytes)) bytes in both directions and to all machines, \(fixed(wireBytesPerSample, 2)) a sample:")
        let ofRounds = samples > 0 ? Double(wireBytesOfRounds) / Double(samples) : 0
        row("", "\(grouped(wireBytesOfRounds)) for the rounds (\(fixed(ofRounds, 2)) a sample), the rest for joining, heartbeats and checks")
        if wireBytes > 0, let floatGradientBytes {
            let ratio = Double(floatGradientBytes) / Double(wireBytes)
            row(
                "float gradients",
                "would have been \(grouped(floatGradientBytes)) bytes, \(ratio < 10 ? fixed(ratio, 1) : grouped(floatGradientBytes / wireBytes)) times as much"
            )
        }
        row("time", "\(duration(seconds.preparing)) preparing, \(duration(seconds.training)) training, \(duration(seconds.total)) in all")
        if let privacy { row("privacy", privacy.text) }
        for effect in sideEffects?.rows ?? [] { row(effect.name, effect.text) }
        if let digest { row("digest", "\(digest), the same on all machines at \(digestChecks) checks") }
        row("ledger", "\(ledger), \(grouped(ledgerBytes)) bytes")
        if let chain { row("", "chain \(chain)") }
        if let signer { row("", "signed by \(signer)") }
        row("model", "\(model ?? "the base model") + the ledger; as a Hugging Face directory:")
        row("", "onebyte export --model \(model.map(shellWord) ?? "MODEL") --ledger \(shellWord(ledger)) --output exported")
        return lines.joined(separator: "\n")
    }
}
