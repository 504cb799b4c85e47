import ArgumentParser

/// Where the settings come from besides the flags.
struct ConfigFlags: ParsableArguments {
    @Option(help: ArgumentHelp("A run file (docs/reference/settings.md); flags override what it says.", valueName: "file"))
    var config: String?

    @Flag(help: "Print the effective settings, each with its source, and end.")
    var printConfig = false
}

struct ModelFlags: ParsableArguments {
    @Option(help: ArgumentHelp(
        "The base model: a Hugging Face directory, a .gguf file, or org/name from the hub's cache.", valueName: "model"))
    var model: String?

    var settings: [SettingKey: [String]] { list([(.model, model)]) }
}

/// How examples become tokens and a loss.
struct TaskFlags: ParsableArguments {
    @Option(help: ArgumentHelp(
        "classification, completion, chat or text; by default what the first line's fields show.", valueName: "kind"))
    var kind: String?

    @Option(help: ArgumentHelp("The prompt, with {text} or another field in braces where it goes.", valueName: "template"))
    var template: String?

    @Option(help: ArgumentHelp("A label's word, such as '1= great'; once for each label.", valueName: "label=word"))
    var label: [String] = []

    @Option(help: ArgumentHelp("Longest example in tokens; longer texts lose their end. (default: 128)", valueName: "tokens"))
    var maxLength: String?

    @Option(help: ArgumentHelp(
        "What is minimised: loss; one minus accuracy, f1 or exact-match, which have no derivative; or command: minus the score of a program. (default: loss)",
        valueName: "objective"))
    var objective: String?

    @Option(help: ArgumentHelp(
        "Classifications: minimise (1 − p^q)/q in place of −log p, which heeds examples less that are far from right; 0: −log p. (default: 0)",
        valueName: "q"))
    var generalizedCrossEntropy: String?

    @Option(help: ArgumentHelp("Tokens of a text that a command scores, at most. (default: 16)", valueName: "tokens"))
    var objectiveMaxTokens: String?

    @Option(help: ArgumentHelp(
        "What ends such a text: end (the model's own end of text), or newline (that too). (default: end)", valueName: "what"))
    var objectiveStop: String?

    var settings: [SettingKey: [String]] {
        var settings = list([
            (.kind, kind), (.template, template), (.maxLength, maxLength), (.objective, objective), (.generalizedCrossEntropy, generalizedCrossEntropy),
            (.objectiveMaxTokens, objectiveMaxTokens), (.objectiveStop, objectiveStop),
        ])
        if !label.isEmpty { settings[.labels] = label }
        return settings
    }
}

/// The program that scores texts: this host's own affair, never the run's.
struct ObjectiveFlags: ParsableArguments {
    @Option(help: ArgumentHelp(
        "A program that scores what the model writes, as JSON lines (docs/reference/tasks.md), for /bin/sh -c.", valueName: "command"))
    var objectiveCommand: String?

    @Option(help: ArgumentHelp("It has so long for the answers to one batch. (default: 60)", valueName: "seconds"))
    var objectiveTimeout: String?

    var settings: [SettingKey: [String]] { list([(.objectiveCommand, objectiveCommand), (.objectiveTimeout, objectiveTimeout)]) }
}

/// What is trained and how.
struct TrainingFlags: ParsableArguments {
    @Option(help: ArgumentHelp(
        "Tensors to train: layers.29, layers.20-29, all, or name patterns with *. (default: all)", valueName: "pattern"))
    var train: [String] = []

    @Option(help: ArgumentHelp("rank1, rademacher or gaussian. (default: rank1)", valueName: "family"))
    var perturbation: String?

    @Option(help: ArgumentHelp(
        "Components of the inputs that rank1 directions avoid; none or 0: plain. (default: 4 with public text)", valueName: "k"))
    var dampedComponents: String?

    @Option(help: ArgumentHelp("ε of the two-sided difference. (default: 0.001)", valueName: "number"))
    var epsilon: String?

    @Option(help: ArgumentHelp("Of the mean over a round's samples. (default: by the perturbation)", valueName: "number"))
    var learningRate: String?

    @Option(help: ArgumentHelp("constant, linear or cosine. (default: linear)", valueName: "schedule"))
    var schedule: String?

    @Option(help: ArgumentHelp("Rounds in which the rate rises from 0. (default: 0)", valueName: "rounds"))
    var warmupRounds: String?

    @Option(help: ArgumentHelp("(default: 400)", valueName: "rounds"))
    var rounds: String?

    @Option(help: ArgumentHelp("Directions tried in a round, by all workers together. (default: 256)", valueName: "samples"))
    var samplesPerRound: String?

    @Option(help: ArgumentHelp("Examples that a direction is tried on. (default: 1)", valueName: "examples"))
    var batchSize: String?

    @Option(help: ArgumentHelp(
        "Neighbouring samples that read the same examples, which makes them cheaper. (default: 2)", valueName: "samples"))
    var samplesPerBatch: String?

    @Option(help: ArgumentHelp(
        "two-sided, or one-sided: half the work where samples share their examples. (default: one-sided there)", valueName: "estimator"))
    var estimator: String?

    @Option(help: ArgumentHelp(
        "Choose the learning rate by trials of so many rounds, around --learning-rate; 0: take it as it is. (default: 0)",
        valueName: "rounds"))
    var rateTrials: String?

    @Option(name: .customLong("guard"), help: ArgumentHelp(
        "Go back and halve the step where the validation loss is above (1 + this) times the lowest; 0: never. (default: 0.1 with validation data)",
        valueName: "part"))
    var guardTolerance: String?

    @Option(help: ArgumentHelp(
        "End at the best round after so many validations without a better one; 0: go on. (default: 0)", valueName: "validations"))
    var patience: String?

    @Option(help: ArgumentHelp("The mean |byte| that the scale is steered to. (default: 32)", valueName: "1…58"))
    var targetMagnitude: String?

    @Option(help: ArgumentHelp("Names all directions of the run. (default: 0)", valueName: "number"))
    var seed: String?

    @Option(help: ArgumentHelp("Rounds between evaluations; 0: before and after only. (default: 20)", valueName: "rounds"))
    var evaluateEvery: String?

    @Option(help: ArgumentHelp("Rounds between comparisons of the digests. (default: 20)", valueName: "rounds"))
    var digestEvery: String?

    var settings: [SettingKey: [String]] {
        var settings = list([
            (.perturbation, perturbation), (.dampedComponents, dampedComponents), (.epsilon, epsilon), (.learningRate, learningRate),
            (.schedule, schedule), (.warmupRounds, warmupRounds), (.rounds, rounds), (.samplesPerRound, samplesPerRound),
            (.batchSize, batchSize), (.targetMagnitude, targetMagnitude), (.seed, seed),
            (.evaluateEvery, evaluateEvery), (.digestEvery, digestEvery), (.samplesPerBatch, samplesPerBatch),
            (.estimator, estimator),
            (.rateTrials, rateTrials), (.guardTolerance, guardTolerance), (.patience, patience),
        ])
        if !train.isEmpty { settings[.train] = train }
        return settings
    }
}

/// How the machines get along.
struct ProtocolFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Close a round at so many times the usual answer time; 0: wait for all. (default: 0)", valueName: "factor"))
    var roundDeadlineFactor: String?

    @Option(help: ArgumentHelp("The part of a round's samples that a deadline needs. (default: 0.5)", valueName: "0…1"))
    var quorum: String?

    @Option(help: ArgumentHelp(
        "Rounds that a worker may be ahead, which hides a link's latency, or late; 0: neither. (default: 0)", valueName: "rounds"))
    var staleness: String?

    @Option(help: ArgumentHelp(
        "Time-boxed rounds: each machine gives what it managed, --samples-per-round being the most; 0: all of its share. (default: 0)",
        valueName: "seconds"))
    var roundSeconds: String?

    @Option(help: ArgumentHelp(
        "What is done to a round's bytes before they are committed: none, clip, sign or drop. (default: none)", valueName: "filter"))
    var filter: String?

    @Option(help: ArgumentHelp("The multiple of the median that clip and drop allow. (default: 3)", valueName: "factor"))
    var filterFactor: String?

    @Option(help: ArgumentHelp(
        "Machines that send useless bytes for long: show, or evict. (default: show)", valueName: "what"))
    var onFaulty: String?

    @Option(help: ArgumentHelp("Seconds between heartbeats. (default: 1)", valueName: "seconds"))
    var heartbeat: String?

    @Option(help: ArgumentHelp("Silence after which a machine has left. (default: 10)", valueName: "seconds"))
    var heartbeatTimeout: String?

    var settings: [SettingKey: [String]] {
        list([
            (.roundDeadlineFactor, roundDeadlineFactor), (.quorum, quorum), (.staleness, staleness),
            (.roundSeconds, roundSeconds), (.filter, filter),
            (.filterFactor, filterFactor), (.onFaulty, onFaulty), (.heartbeat, heartbeat),
            (.heartbeatTimeout, heartbeatTimeout),
        ])
    }
}

/// What was given, without what was not.
func list(_ flags: [(SettingKey, String?)]) -> [SettingKey: [String]] {
    Dictionary(uniqueKeysWithValues: flags.compactMap { key, value in value.map { (key, [$0]) } })
}

extension [SettingKey: [String]] {
    static func + (a: Self, b: Self) -> Self { a.merging(b) { $1 } }
}
