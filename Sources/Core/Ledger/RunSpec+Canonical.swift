import FoundationEssentials

extension RunSpec {
    /// The only spelling of a spec: JSON with sorted keys and no white space. Its SHA-256 names the run.
    public func canonicalBytes() throws(RunSpecError) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return [UInt8](try encoder.encode(self))
        } catch {
            throw .notFinite
        }
    }

    /// Reads a spec from a ledger or a coordinator. Its spelling must be canonical. So everything that was hashed was also understood: a field that
    /// this version does not know is an error and is never silently dropped.
    public init(canonicalBytes bytes: [UInt8]) throws(RunSpecError) {
        guard bytes.count <= ProtocolLimits.jsonBytes else { throw .malformed("\(bytes.count) bytes of spec") }
        let spec: RunSpec
        do {
            spec = try JSONDecoder().decode(RunSpec.self, from: Data(bytes))
        } catch {
            throw .malformed(decodingReason(error))
        }
        guard spec.version == RunSpec.currentVersion else { throw .version(spec.version) }
        guard try spec.canonicalBytes() == bytes else {
            throw .malformed("it is not in canonical form, or holds fields that this version does not know")
        }
        try spec.validate()
        self = spec
    }

    /// SHA-256 of the canonical form.
    public func digest() throws(RunSpecError) -> Digest { Digest.sha256(try canonicalBytes()) }

    /// Checks every number that the protocol and the arithmetic rely on. An error names the field by its key in the canonical form.
    public func validate() throws(RunSpecError) {
        func check(_ holds: Bool, _ field: String, _ rule: String) throws(RunSpecError) {
            if !holds { throw .field(field, rule: rule) }
        }
        func check<Value: LosslessStringConvertible>(_ value: Value, in range: ClosedRange<Value>, _ field: String) throws(RunSpecError) {
            try check(range.contains(value), field, RunSpecLimits.text(range))
        }
        typealias Limits = RunSpecLimits
        try check(!train.isEmpty, "train", "names at least one tensor pattern")
        try check(dampedComponents, in: Limits.dampedComponents, "shapeComponents")
        try check(dampedComponents == 0 || perturbation == .rank1, "shapeComponents", "0, but for the rank1 perturbation")
        try check(sampling != .orthogonal || trainsOnlyAdapters, "sampling", "orthogonal only where all that is trained are adapters")
        if let momentum {
            try check(momentum > 0 && momentum <= 1, "momentum", "above 0, to 1")
            try check(trainsOnlyAdapters, "momentum", "only where all that is trained are adapters")
        }
        try check(epsilon, in: Limits.epsilon, "epsilon")
        try check(learningRate, in: Limits.learningRate, "learningRate")
        try check(warmupRounds, in: Limits.warmupRounds, "warmupRounds")
        try check(rounds, in: Limits.rounds, "rounds")
        try check(samplesPerRound, in: Limits.samplesPerRound, "samplesPerRound")
        if batchSize != Limits.allExamples { try check(batchSize, in: Limits.batchSize, "examplesPerSample") }
        try check(targetMagnitude, in: Limits.targetMagnitude, "targetMagnitude")
        try check(digestEvery, in: Limits.roundsBetween, "digestEvery")
        try check(evaluateEvery, in: Limits.roundsBetween, "evaluateEvery")
        try check(minimumWorkers, in: Limits.minimumWorkers, "minimumWorkers")
        if roundDeadlineFactor != 0 { try check(roundDeadlineFactor, in: Limits.roundDeadlineFactor, "roundDeadlineFactor") }
        try check(quorum, in: Limits.quorum, "quorum")
        try check(staleness, in: Limits.staleness, "staleness")
        if let roundSeconds { try check(roundSeconds, in: Limits.roundSeconds, "roundSeconds") }
        if let steering {
            if let trial = steering.trialRounds {
                try check(trial, in: Limits.trialRounds, "steering.trialRounds")
                try check(trial <= rounds, "steering.trialRounds", "no more than all rounds")
            }
            if let tolerance = steering.guardTolerance { try check(tolerance, in: Limits.guardTolerance, "steering.guardTolerance") }
            if let patience = steering.patience { try check(patience, in: Limits.patience, "steering.patience") }
            try check(evaluateEvery > 0 || steering.trialRounds != nil, "evaluateEvery", "above 0, for validations steer the run")
        }
        if let samplesPerBatch { try check(samplesPerBatch, in: Limits.samplesPerBatch, "samplesPerDraw") }
        if let retiredCandidatesPerExample {
            try check(retiredCandidatesPerExample, in: 1...1 << 10, "candidatesPerExample")
        }
        if let q = task.generalizedCrossEntropy {
            try check(q > 0 && Limits.generalizedCrossEntropy.contains(q), "task.generalizedCrossEntropy", "above 0, to 1")
            try check(
                task.kind == .classification && task.objective == nil, "task.generalizedCrossEntropy", "0, but for the loss of a classification")
        }
        try check(estimator != .oneSided || task.objective != .command, "estimator", "two-sided, where the objective is a program's score")
        if let filter { try check(filter.factor, in: Limits.filterFactor, "filter.factor") }
        if let privacy {
            try check(privacy.clip, in: Limits.privacyClip, "privacy.clip")
            try check(privacy.noiseMultiplier, in: Limits.noiseMultiplier, "privacy.noiseMultiplier")
            try check(privacy.epsilon, in: Limits.privacyEpsilon, "privacy.epsilon")
            try check(privacy.delta, in: Limits.privacyDelta, "privacy.delta")
            // What one example does to the F1 score of a batch depends on the others.
            try check(task.objective != .f1, "task.objective", "a mean over examples, such as accuracy, where bytes are private")
        }
        try check(heartbeatSeconds, in: Limits.heartbeatSeconds, "heartbeatSeconds")
        try check(heartbeatTimeoutSeconds, in: Limits.heartbeatTimeoutSeconds, "heartbeatTimeoutSeconds")
        try check(heartbeatTimeoutSeconds >= heartbeatSeconds, "heartbeatTimeoutSeconds", "at least the seconds between heartbeats")
        try check(task.maxLength, in: Limits.maxLength, "task.maxLength")
        switch task.objective {
        case nil: break
        case .accuracy, .f1: try check(task.kind == .classification, "task.objective", "accuracy and f1 need a classification")
        case .exactMatch: try check(task.kind != .classification, "task.objective", "exact-match needs completions, chats or texts")
        case .command:
            try check(task.writing != nil, "task.writing", "is needed where a command scores what the model writes")
        }
        if let writing = task.writing {
            try check(writing.maxTokens, in: Writing.maxTokensRange, "task.writing.maxTokens")
            try check(task.objective == .command, "task.writing", "belongs to the objective command")
        }
        if task.kind == .classification {
            try check(task.template != nil, "task.template", "is needed for classification")
            try check((task.labels?.count ?? 0) >= 2, "task.labels", "at least two for classification")
        }
    }
}

/// The reason why a run spec can't be used.
public enum RunSpecError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A number is NaN or infinite.
    case notFinite
    /// The bytes are not a canonical spec; the value says why.
    case malformed(String)
    /// The spec has a version that this program does not know.
    case version(Int)
    /// A field breaks a rule.
    case field(String, rule: String)

    public var description: String {
        switch self {
        case .notFinite: "the run spec holds a number that is not finite"
        case .malformed(let reason): "the run spec can't be read: \(reason)"
        case .version(let version):
            "the run spec has version \(version), this program knows version \(RunSpec.currentVersion); use a newer program"
        case .field(let field, let rule): "the run spec's \(field) must be: \(rule)"
        }
    }
}

/// Returns the field and the reason, without Foundation's wrapping.
func decodingReason(_ error: any Error) -> String {
    func path(_ context: DecodingError.Context) -> String { context.codingPath.map(\.stringValue).joined(separator: ".") }
    return switch error as? DecodingError {
    case .keyNotFound(let key, let context): "\((context.codingPath.map(\.stringValue) + [key.stringValue]).joined(separator: ".")) is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context): "\(path(context)): \(context.debugDescription)"
    case .dataCorrupted(let context): "\(path(context)): \(context.debugDescription)"
    default: "\(error)"
    }
}
