import FoundationEssentials

extension RunSpec {
    /// The one spelling of a spec: JSON with sorted keys and no white space. Its SHA-256 names the run.
    public func canonicalBytes() throws(RunSpecError) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return [UInt8](try encoder.encode(self))
        } catch {
            throw .notFinite
        }
    }

    /// The spec in a ledger or from a coordinator. It must be spelt canonically, so that what a program understood is all that
    /// was hashed: a field that this version does not know is an error, never silently dropped.
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

    /// Checks every number that the protocol and the arithmetic rely on.
    public func validate() throws(RunSpecError) {
        func check(_ holds: Bool, _ field: String, _ rule: String) throws(RunSpecError) {
            if !holds { throw .field(field, rule: rule) }
        }
        try check(!train.isEmpty, "train", "names at least one tensor pattern")
        try check((0...255).contains(dampedComponents), "dampedComponents", "0…255")
        try check(dampedComponents == 0 || perturbation == .rank1, "dampedComponents", "needs the rank1 perturbation")
        try check(sampling != .orthogonal || trainsOnlyAdapters, "sampling", "orthogonal only where all that is trained are adapters")
        if let momentum {
            try check(momentum > 0 && momentum <= 1, "momentum", "above 0, to 1")
            try check(trainsOnlyAdapters, "momentum", "only where all that is trained are adapters")
        }
        try check(epsilon.isFinite && epsilon > 0, "epsilon", "above 0")
        try check(learningRate.isFinite && learningRate > 0, "learningRate", "above 0")
        try check((0...Int(Int32.max)).contains(warmupRounds), "warmupRounds", "0 or more")
        try check((1...Int(Int32.max)).contains(rounds), "rounds", "at least 1")
        try check((1...ProtocolLimits.samplesPerRound).contains(samplesPerRound), "samplesPerRound", "1…\(ProtocolLimits.samplesPerRound)")
        try check((1...1 << 20).contains(batchSize), "batchSize", "1…\(1 << 20)")
        try check(ScaleAdapter.targets.contains(targetMagnitude), "targetMagnitude", "1…\(ScaleAdapter.targets.upperBound)")
        try check(digestEvery >= 0, "digestEvery", "0 or more")
        try check(evaluateEvery >= 0, "evaluateEvery", "0 or more")
        try check((1...ProtocolLimits.peers).contains(minimumWorkers), "minimumWorkers", "1…\(ProtocolLimits.peers)")
        try check(roundDeadlineFactor == 0 || (1...1e6).contains(roundDeadlineFactor), "roundDeadlineFactor", "0, or at least 1")
        try check((0...1).contains(quorum), "quorum", "0…1")
        try check((0...64).contains(staleness), "staleness", "0…64")
        if let roundSeconds { try check((0.05...86400).contains(roundSeconds), "roundSeconds", "0.05…86400") }
        if let steering {
            if let trial = steering.trialRounds { try check((1...1 << 20).contains(trial) && trial <= rounds, "steering.trialRounds", "1…rounds") }
            if let tolerance = steering.guardTolerance { try check((0...1e6).contains(tolerance), "steering.guardTolerance", "0…1e6") }
            if let patience = steering.patience { try check((1...1 << 20).contains(patience), "steering.patience", "at least 1") }
            try check(evaluateEvery > 0 || steering.trialRounds != nil, "steering", "needs evaluateEvery")
        }
        if let samplesPerBatch { try check((1...1 << 16).contains(samplesPerBatch), "samplesPerBatch", "1…\(1 << 16)") }
        if let retiredCandidatesPerExample {
            try check((1...1 << 10).contains(retiredCandidatesPerExample), "candidatesPerExample", "1…\(1 << 10)")
        }
        if let q = task.generalizedCrossEntropy {
            try check(q > 0 && q <= 1, "task.generalizedCrossEntropy", "above 0, to 1")
            try check(
                task.kind == .classification && task.objective == nil, "task.generalizedCrossEntropy", "0, but for the loss of a classification")
        }
        try check(estimator != .oneSided || task.objective != .command, "estimator", "two-sided, where the objective is a program's score")
        if let filter { try check((1...127).contains(filter.factor), "filter.factor", "1…127") }
        try check((0.01...3600).contains(heartbeatSeconds), "heartbeatSeconds", "0.01…3600")
        try check(
            (heartbeatSeconds...86400).contains(heartbeatTimeoutSeconds), "heartbeatTimeoutSeconds", "from the heartbeat's seconds to a day")
        try check((1...1 << 20).contains(task.maxLength), "task.maxLength", "1…\(1 << 20)")
        switch task.objective {
        case nil: break
        case .accuracy, .f1: try check(task.kind == .classification, "task.objective", "accuracy and f1 need a classification")
        case .exactMatch: try check(task.kind != .classification, "task.objective", "exact-match needs completions, chats or texts")
        case .command:
            try check(task.writing != nil, "task.writing", "is needed where a command scores what the model writes")
        }
        if let writing = task.writing {
            let range = Writing.maxTokensRange
            try check(range.contains(writing.maxTokens), "task.writing.maxTokens", "\(range.lowerBound)…\(range.upperBound)")
            try check(task.objective == .command, "task.writing", "belongs to the objective command")
        }
        if task.kind == .classification {
            try check(task.template != nil, "task.template", "is needed for classification")
            try check((task.labels?.count ?? 0) >= 2, "task.labels", "at least two for classification")
        }
    }
}

public enum RunSpecError: Error, Hashable, Sendable, CustomStringConvertible {
    case notFinite
    case malformed(String)
    case version(Int)
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

/// The field and the reason, without Foundation's wrapping.
func decodingReason(_ error: any Error) -> String {
    func path(_ context: DecodingError.Context) -> String { context.codingPath.map(\.stringValue).joined(separator: ".") }
    return switch error as? DecodingError {
    case .keyNotFound(let key, let context): "\((context.codingPath.map(\.stringValue) + [key.stringValue]).joined(separator: ".")) is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context): "\(path(context)): \(context.debugDescription)"
    case .dataCorrupted(let context): "\(path(context)): \(context.debugDescription)"
    default: "\(error)"
    }
}
