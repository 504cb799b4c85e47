import Core
import LanguageModel
import Training

/// Every setting by its place in a run file. The last component is the flag that overrides it: `training.learning-rate` is
/// `--learning-rate`. `--print-config` and the reference page keep this order.
package enum SettingKey: String, CaseIterable, Sendable {
    case preset
    case model
    case kind = "task.kind"
    case template = "task.template"
    case labels = "task.labels"
    case maxLength = "task.max-length"
    case objective = "task.objective"
    case generalizedCrossEntropy = "task.generalized-cross-entropy"
    case objectiveCommand = "task.objective-command"
    case objectiveMaxTokens = "task.objective-max-tokens"
    case objectiveStop = "task.objective-stop"
    case objectiveTimeout = "task.objective-timeout"
    case trainFile = "data.train-file"
    case evalFile = "data.eval-file"
    case validationFile = "data.validation-file"
    case split = "data.split"
    case basisText = "data.basis-text"
    case generalFile = "data.general-file"
    case train = "training.train"
    case rounds = "training.rounds"
    case samplesPerRound = "training.samples-per-round"
    case adapterInputs = "training.adapter-inputs"
    case adapterOutputs = "training.adapter-outputs"
    case outputDirections = "training.output-directions"
    case whiteningFloor = "training.whitening-floor"
    case momentum = "training.momentum"
    case perturbation = "training.perturbation"
    case sampling = "training.sampling"
    case dampedComponents = "training.damped-components"
    case epsilon = "training.epsilon"
    case learningRate = "training.learning-rate"
    case schedule = "training.schedule"
    case warmupRounds = "training.warmup-rounds"
    case batchSize = "training.batch-size"
    case samplesPerBatch = "training.samples-per-batch"
    case estimator = "training.estimator"
    case targetMagnitude = "training.target-magnitude"
    case seed = "training.seed"
    case evaluateEvery = "training.evaluate-every"
    case digestEvery = "training.digest-every"
    case rateTrials = "training.rate-trials"
    case guardTolerance = "training.guard"
    case patience = "training.patience"
    case privacyEpsilon = "training.privacy-epsilon"
    case privacyDelta = "training.privacy-delta"
    case privacyClip = "training.privacy-clip"
    case privacyNoise = "training.privacy-noise"
    case minimumWorkers = "cluster.minimum-workers"
    case roundDeadlineFactor = "cluster.round-deadline-factor"
    case quorum = "cluster.quorum"
    case staleness = "cluster.staleness"
    case roundSeconds = "cluster.round-seconds"
    case filter = "cluster.filter"
    case filterFactor = "cluster.filter-factor"
    case onFaulty = "cluster.on-faulty"
    case heartbeat = "cluster.heartbeat"
    case heartbeatTimeout = "cluster.heartbeat-timeout"
    case workers = "cluster.workers"
    case directory = "cluster.directory"
    case listen = "cluster.listen"
    case dashboard = "cluster.dashboard"
    case cacheMemory = "cluster.cache-memory"
    case cacheDirectory = "cluster.cache-directory"
    case threads = "cluster.threads"
    case precision = "cluster.precision"
    case prefixPrecision = "cluster.prefix-precision"

    package var setting: Setting {
        typealias Limits = RunSpecLimits
        switch self {
        case .preset:
            return Setting(
                .oneOf(Preset.allCases.map(\.rawValue)), valueName: "kind", owner: .host, flags: .preset,
                "Purpose of the run, with the best known settings for it: classify, generate or score (docs/guide/presets.md).",
                "It replaces defaults only; settings that you give take precedence.")
        case .model:
            return Setting(
                .text, valueName: "model", owner: .host, flags: .model,
                aliases: ["model-name-or-path", "model-name", "model-path", "base-model", "pretrained"],
                "The base model: a Hugging Face directory, a .gguf file, a directory of a LoRA adapter, or org/name from the hub's cache.")

        // MARK: Task
        case .kind:
            return Setting(
                .oneOf(TaskSpec.Kind.allCases.map(\.rawValue)), .elsewhere("from template and labels, or the data's fields"),
                valueName: "kind", owner: .run("task.kind"), flags: .task,
                "What an example is: classification, completion, chat or text.")
        case .template:
            return Setting(
                .text, valueName: "template", owner: .run("task.template"), flags: .task, aliases: ["prompt-template", "prompt-format"],
                "The prompt, with {text} or another field in braces where it goes.")
        case .labels:
            return Setting(
                .table, valueName: "label=word", owner: .run("task.labels"), flags: .task, flagName: "label",
                "A label's word, such as '1= great'; once for each label.",
                "In a run file a table: `{ 0 = \" terrible\", 1 = \" great\" }`.")
        case .maxLength:
            return Setting(
                .integer(Limits.maxLength),
                .rule("128; in a local cluster, what 95 of 100 training examples need if that is more") { _ in (.integer(128), nil) },
                unit: "tokens", owner: .run("task.maxLength"), flags: .task,
                aliases: ["max-seq-length", "max-seq-len", "seq-len", "block-size", "max-len"],
                "Longest example in tokens; longer texts are cut.")
        case .objective:
            return Setting(
                .oneOf(["loss"] + Objective.allCases.map(\.rawValue)),
                .rule("loss; command where there is an objective-command") {
                    $0.has(.objectiveCommand) ? (.text(Objective.command.rawValue), "since there is a command") : (.text("loss"), nil)
                },
                valueName: "objective", owner: .run("task.objective"), flags: .task,
                "Loss to minimise: loss; 1 − accuracy, f1 or exact-match; or command, minus the score that a program gives.",
                "Accuracy and f1 need a classification, exact-match a completion, chat or text. In a run file also a table: `{ command = \"…\", max-tokens = 16, stop = \"end\", timeout = 60 }`; its parts are the four keys that begin with `objective-`."
            )
        case .generalizedCrossEntropy:
            return Setting(
                .number(Limits.generalizedCrossEntropy), .value(.number(0)), valueName: "q", owner: .run("task.generalizedCrossEntropy"),
                flags: .task,
                "Classifications: minimise (1 − p^q)/q in place of −log p, which down-weights badly misclassified examples; 0: −log p.",
                "p is the right class's probability. Held-out losses stay −log p; the validation loss, which steers, is the one that is minimised.")
        case .objectiveCommand:
            return Setting(
                .text, valueName: "command", owner: .host, flags: .objective,
                "Command line (/bin/sh -c) of a program that scores the model's texts, as JSON lines.")
        case .objectiveMaxTokens:
            return Setting(
                .integer(Writing.maxTokensRange), .ofCommand(.integer(Writing.defaultMaxTokens)), unit: "tokens",
                owner: .run("task.writing.maxTokens"),
                flags: .task,
                "Maximum tokens of a text that a command scores.")
        case .objectiveStop:
            return Setting(
                .oneOf(["end", "newline"]), .ofCommand(.text("end")), valueName: "what", owner: .run("task.writing.stopsAtNewline"), flags: .task,
                "What ends such a text: end, the model's own end of text; or newline, also a line break.")
        case .objectiveTimeout:
            return Setting(
                .number(0.1...86400), .ofCommand(.number(ScoringProgram.Options.defaultTimeoutSeconds)), unit: "seconds", owner: .host,
                flags: .objective,
                "Time limit of the program for the answers to one batch.")

        // MARK: Data
        case .trainFile:
            return Setting(
                .text, valueName: "file", owner: .host, flags: .data, aliases: ["train-data", "training-file", "train-dataset", "dataset", "data"],
                "JSON lines, CSV or TSV to train on; every worker of a local cluster takes its own share.")
        case .evalFile:
            return Setting(
                .text, valueName: "file", owner: .host, flags: .data, aliases: ["eval-data", "eval-dataset", "evaluation-file"],
                "Examples that are only measured.")
        case .validationFile:
            return Setting(
                .text, valueName: "file", owner: .host, flags: .data, aliases: ["val-file", "valid-file", "validation-data", "dev-file"],
                "Examples that steer the run (rate-trials, guard, patience) and are neither trained on nor reported.")
        case .split:
            return Setting(
                .text, valueName: "parts", owner: .host, flags: .data, aliases: ["train-test-split", "splits"],
                "Split train-file into train/validation/test parts, such as 80/10/10, or into train/test; for a local cluster.",
                "The parts are written into the run directory, by the rule of `onebyte data split`. They take the place of eval-file and validation-file."
            )
        case .basisText:
            return Setting(
                .text, .value(.text(PublicTextChoice.shipped)), valueName: "file", owner: .run("basisDigest"), flags: .publicText,
                "Public text that the basis is made from, of adapters or damped components: lines, or JSON lines, CSV or TSV with a field text.",
                "shipped: sentences of English prose that come with the program. none: random tokens, which help much less. A hundred texts that look like the task's are best; they must not be anybody's private ones."
            )
        case .generalFile:
            return Setting(
                .text, valueName: "file", owner: .host, flags: .data,
                "General text, in the forms that basis-text takes; the report gives the model's perplexity per token on it before and after.")

        // MARK: Training
        case .train:
            return Setting(
                .texts,
                .rule("adapter:final; for the objectives command and exact-match the last layer in a local cluster, else all") {
                    $0.objectiveNeedsTexts
                        ? (.texts(["all"]), "since the objective is a score of texts")
                        : (.texts(["\(RunSpec.adapterPrefix)\(AdapterPlace.finalName)"]), nil)
                },
                valueName: "pattern", owner: .run("train"), flags: .training,
                "What to train: adapter:final, layers.29, layers.20-29, all, or name patterns with *.",
                "adapter:final is a small matrix in front of the head: it learns most from few bytes and leaves other text nearly as it was. adapter: before any other pattern puts adapters on these matrices, as in adapter:layers.29.mlp.down_proj."
            )
        case .rounds:
            return Setting(
                .integer(Limits.rounds),
                .rule("64 where only adapters are trained, else 400") {
                    $0.trainsOnlyAdapters ? (.integer(64), Settings.sinceOnlyAdapters) : (.integer(400), nil)
                }, unit: "rounds", owner: .run("rounds"), flags: .training,
                aliases: ["steps", "epochs", "num-steps", "n-epochs", "max-steps", "num-epochs", "num-train-epochs", "iterations", "iters"],
                "Rounds of the run; each is one step of all workers together.")
        case .samplesPerRound:
            return Setting(
                .integer(Limits.samplesPerRound),
                .rule("64 for the adapters of a classification, else 256") {
                    $0.trainsOnlyAdapters && $0.isClassification ? (.integer(64), Settings.sinceOnlyAdapters) : (.integer(256), nil)
                }, unit: "samples", owner: .run("samplesPerRound"), flags: .training, aliases: ["samples", "num-samples", "directions"],
                "Directions tried in a round by all workers together, one byte each.")
        case .adapterInputs:
            return Setting(
                .integer(1...AdapterBasis.rankMax),
                .rule("2√bytes as a power of two, 16…256 (512 from 65,536 bytes on); 16 for texts and for adapters on layers") {
                    if $0.adaptsLayers { return (.integer(16), "since matrices of layers are adapted") }
                    guard $0.trainsOnlyAdapters else { return nil }
                    guard $0.isClassification else { return (.integer(16), "for texts") }
                    return (.integer(AdapterDefaults.inputs(bytes: $0.plannedBytes)), "by the bytes of the run")
                },
                unit: "vectors", owner: .run("basisDigest"), flags: .training,
                "r: how many components of what the head reads an adapter sees.",
                "They are whitened by public text. More of them can learn more, from more bytes. At most the model's width.")
        case .adapterOutputs:
            return Setting(
                .integer(1...AdapterBasis.rankMax),
                .rule("256 for texts, 4 for adapters on layers; if outputs point along labels, always one fewer than there are labels") {
                    if $0.adaptsLayers { return (.integer(4), "since matrices of layers are adapted") }
                    return $0.trainsOnlyAdapters && !$0.isClassification ? (.integer(256), "for texts") : nil
                },
                unit: "vectors", owner: .run("basisDigest"), flags: .training,
                "p: number of directions in which an adapter moves what the head reads, unless they are the labels' own.")
        case .outputDirections:
            return Setting(
                .oneOf(AdapterBasisMaker.OutputDirections.allCases.map(\.rawValue)),
                .elsewhere(
                    "labels for classifications; for texts loss with public text, else seed; singular on matrices that do not add to the residual stream"
                ), valueName: "what", owner: .run("basisDigest"),
                flags: .training,
                "Where an adapter's outputs point: along the label words' differences, along what a token loss asks for, along random signs, or along a matrix's singular vectors."
            )
        case .whiteningFloor:
            return Setting(
                .number(1e-6...1e3), .value(.number(0.05)), valueName: "part", owner: .run("basisDigest"), flags: .training,
                "τ: components of an adapter's inputs that vary less than this part of the second largest are not amplified.")
        case .momentum:
            return Setting(
                .number(0...1),
                .rule("0.9 where only adapters are trained, 0.5 there with staleness, else 0") {
                    guard $0.trainsOnlyAdapters else { return (.number(0), nil) }
                    return $0.given(.staleness) ?? .integer(0) == .integer(0)
                        ? (.number(0.9), Settings.sinceOnlyAdapters) : (.number(0.5), "since bytes may be late")
                },
                valueName: "part", owner: .run("momentum"), flags: .training,
                "Part of its velocity that an adapter's coordinate keeps from round to round (Nesterov); 0: none.",
                "It rises to this value as t/(t+3) over the rounds t.")
        case .perturbation:
            return Setting(
                .oneOf(PerturbationFamily.allCases.map(\.rawValue)), .value(.text(PerturbationFamily.rank1.rawValue)), valueName: "family",
                owner: .run("perturbation"), flags: .training,
                "Family of the directions: rank1, rademacher or gaussian.")
        case .sampling:
            return Setting(
                .oneOf(DirectionSampling.allCases.map(\.rawValue)),
                .rule("orthogonal where only adapters are trained, else random") {
                    let patterns = (try? $0.texts(.train)) ?? []
                    return patterns.allSatisfy { $0.hasPrefix(RunSpec.adapterPrefix) }
                        ? (.text(DirectionSampling.orthogonal.rawValue), "since only adapters are trained")
                        : (.text(DirectionSampling.random.rawValue), "since not only adapters are trained")
                },
                valueName: "how", owner: .run("sampling"), flags: .training,
                "How a machine's directions are drawn: random, each on its own; or orthogonal, block by block, for adapters only.",
                "A whole block of orthogonal directions determines the gradient exactly.")
        case .dampedComponents:
            return Setting(
                .integer(Limits.dampedComponents, words: ["none": 0]),
                .rule("4 for rank1 with public text, else 0") {
                    // Bases are made from public text, and pay off at the top of the model.
                    if $0.trainsOnlyAdapters { return (.integer(0), Settings.sinceOnlyAdapters) }
                    let isDamped =
                        $0.optionalText(.perturbation) == PerturbationFamily.rank1.rawValue && $0.isGiven(.basisText) && $0.publicText != .none
                    return (.integer(isDamped ? 4 : 0), isDamped ? "since there is public text" : "without public text")
                },
                unit: "components", valueName: "k", owner: .run("shapeComponents"), flags: .training, formerly: ["shape"],
                "Components of each layer's inputs that rank1 directions avoid; none or 0: plain directions.")
        case .epsilon:
            return Setting(
                .number(Limits.epsilon),
                .rule("0.001; 0.03 for an objective other than loss") {
                    $0.objectiveHasSteps ? (.number(0.03), Settings.sinceObjectiveHasSteps) : (.number(1e-3), nil)
                },
                owner: .run("epsilon"), flags: .training, aliases: ["eps"],
                "ε, the step of the loss difference.")
        case .learningRate:
            return Setting(
                .number(Limits.learningRate),
                .rule(
                    "for adapters by labels, momentum and bytes; 0.04 for rank1 with damped components, 0.016 without, 0.1 for an objective other than loss, 3e-5 for the other families"
                ) {
                    if $0.trainsOnlyAdapters { return (.number(AdapterDefaults.learningRate($0)), "for adapters, by labels, momentum and samples") }
                    let isDamped = (try? $0.integer(.dampedComponents)) != 0
                    return switch ($0.optionalText(.perturbation), isDamped) {
                    case ("rank1", _) where $0.objectiveHasSteps: (.number(0.1), "for rank1 and an objective with steps")
                    case ("rank1", true): (.number(0.04), "for rank1 with damped components")
                    case ("rank1", false): (.number(0.016), "for a plain rank1")
                    default: (.number(3e-5), "for a dense perturbation")
                    }
                },
                owner: .run("learningRate"), flags: .training, aliases: ["lr", "rate", "step-size"],
                "Learning rate for the mean over a round's samples.",
                "The defaults fit the top layer of a small model. The more is trained, the lower the rate must be.")
        case .schedule:
            return Setting(
                .oneOf(LearningRateSchedule.allCases.map(\.rawValue)), .value(.text(LearningRateSchedule.linear.rawValue)), valueName: "schedule",
                owner: .run("schedule"), flags: .training, aliases: ["lr-scheduler-type", "lr-schedule"],
                "How the rate falls to 0 over the rounds: linear, cosine, or constant (not at all).")
        case .warmupRounds:
            return Setting(
                .integer(Limits.warmupRounds), .value(.integer(0)), unit: "rounds", owner: .run("warmupRounds"), flags: .training,
                aliases: ["warmup", "warmup-steps"],
                "Rounds in which the rate rises from 0.")
        case .batchSize:
            return Setting(
                .integer(Limits.batchSize, words: ["all": Limits.allExamples]),
                .rule(
                    "all for a classification's adapter at final; 32 for the adapters of texts and of layers; else 1, or 32 for an objective other than loss"
                ) {
                    if $0.adaptsLayers { return (.integer(32), "since matrices of layers are adapted") }
                    if $0.trainsOnlyAdapters {
                        // A text has a loss at each token, and each costs a product with the whole head.
                        return $0.isClassification ? (.integer(Limits.allExamples), Settings.sinceOnlyAdapters) : (.integer(32), "for texts")
                    }
                    return $0.objectiveHasSteps ? (.integer(32), Settings.sinceObjectiveHasSteps) : (.integer(1), nil)
                },
                unit: "examples", owner: .run("examplesPerSample"), flags: .training, formerly: ["examples-per-sample"],
                aliases: ["bs", "batch", "per-device-train-batch-size", "train-batch-size"],
                "Examples on which a direction is tried; all: every example of the worker.",
                "With more of them a byte carries more, costs more computing, and needs a higher rate.")
        case .samplesPerBatch:
            return Setting(
                .integer(Limits.samplesPerBatch),
                .rule(
                    "2; 64 for the adapters of texts and of layers; 1 for a classification's adapter at final, an objective other than loss, or fewer than 64 samples a round"
                ) {
                    if $0.adaptsLayers { return (.integer(64), "since matrices of layers are adapted") }
                    if $0.trainsOnlyAdapters { return $0.isClassification ? (.integer(1), Settings.sinceOnlyAdapters) : (.integer(64), "for texts") }
                    // Sharing between two samples has no measurable effect on learning, between more it has. A round still reads at least
                    // 32 examples.
                    let samples = (try? $0.integer(.samplesPerRound)) ?? 0
                    return (.integer(!$0.objectiveHasSteps && samples >= 64 ? 2 : 1), "by the samples of a round")
                },
                unit: "samples", owner: .run("samplesPerDraw"), flags: .training, formerly: ["samples-per-draw"],
                "Neighbouring samples that read the same examples, each along its own direction; what they share is computed once.")
        case .estimator:
            return Setting(
                .oneOf(EstimatorKind.allCases.map(\.rawValue)),
                .rule("one-sided where samples share a batch and the objective is the loss, else two-sided") {
                    if $0.objectiveHasSteps { return (.text(EstimatorKind.twoSided.rawValue), Settings.sinceObjectiveHasSteps) }
                    return (try? $0.integer(.samplesPerBatch)) != 1
                        ? (.text(EstimatorKind.oneSided.rawValue), "since samples share examples")
                        : (.text(EstimatorKind.twoSided.rawValue), "since no samples share examples")
                },
                valueName: "estimator", owner: .run("estimator"), flags: .training,
                "two-sided, (L(θ+εz) − L(θ−εz))/2ε; or one-sided, (L(θ+εz) − L(θ))/ε: half the work where samples share a batch.")
        case .targetMagnitude:
            return Setting(
                .integer(Limits.targetMagnitude), .value(.integer(32)), owner: .run("targetMagnitude"), flags: .training,
                "Mean |byte| at which the scale is kept.")
        case .seed:
            // Integers in a run file have 63 bits and a sign.
            return Setting(
                .integer(0...Int.max), .value(.integer(0)), owner: .run("seed"), flags: .training, aliases: ["random-seed", "rng-seed"],
                "Random seed; it decides all directions of the run.")
        case .evaluateEvery:
            return Setting(
                .integer(Limits.roundsBetween), .value(.integer(20)), unit: "rounds", owner: .run("evaluateEvery"), flags: .training,
                aliases: ["eval-every", "eval-steps"],
                "Rounds between evaluations; 0: only before the first and after the last.")
        case .digestEvery:
            return Setting(
                .integer(Limits.roundsBetween), .value(.integer(20)), unit: "rounds", owner: .run("digestEvery"), flags: .training,
                "Rounds between comparisons of the parameter digests; 0: only at the end.")
        case .rateTrials:
            return Setting(
                .integer(0...Limits.trialRounds.upperBound), .value(.integer(0)), unit: "rounds", owner: .run("steering.trialRounds"),
                flags: .training,
                "Rounds of each trial that chooses a learning rate around the given one; 0: use the given rate.")
        case .guardTolerance:
            return Setting(
                .number(Limits.guardTolerance),
                .rule("0.1 with validation data, else 0") {
                    let isOn = $0.has(.validationFile) && (try? $0.integer(.evaluateEvery)) != 0
                    return (.number(isOn ? 0.1 : 0), isOn ? "since there is validation data" : "without validations")
                },
                valueName: "part", owner: .run("steering.guardTolerance"), flags: .training,
                "Go back and halve the step when the validation loss exceeds (1 + this) times the lowest; 0: never.",
                "The run goes back to the round of the lowest loss, or to the round where a new rate began. It also goes back when the bytes' mean magnitude is far from its target."
            )
        case .patience:
            return Setting(
                .integer(0...Limits.patience.upperBound), .value(.integer(0)), unit: "validations", owner: .run("steering.patience"),
                flags: .training,
                "Stop at the best round after this many validations without improvement; 0: never.")

        // MARK: Privacy
        case .privacyEpsilon:
            return Setting(
                .number(Limits.privacyEpsilon, orZero: true), .value(.number(0)), owner: .run("privacy.epsilon"), flags: .training,
                aliases: ["target-epsilon"],
                "Differential privacy: the ε that each worker's bytes may spend on each of its examples; 0: no clipping and no noise.",
                "docs/guide/privacy.md says what this protects and what it does not.")
        case .privacyDelta:
            return Setting(
                .number(Limits.privacyDelta),
                .rule("1e-5; less than that in a local cluster with more than 10,000 examples a worker: 1/10n for n") { _ in (.number(1e-5), nil) },
                owner: .run("privacy.delta"), flags: .training, aliases: ["target-delta"],
                "The δ that goes with it.")
        case .privacyClip:
            return Setting(
                .number(Limits.privacyClip), .value(.number(2)), valueName: "norm", owner: .run("privacy.clip"), flags: .training,
                aliases: ["max-grad-norm", "l2-norm-clip", "clip"],
                "Private runs: the largest root mean square of one example's projected gradients; larger ones are scaled down to it.",
                "With a whole block of orthogonal samples this is the norm of the example's gradient.")
        case .privacyNoise:
            return Setting(
                .number(Limits.noiseMultiplier), .elsewhere("the least with which the planned rounds stay within the budget"),
                valueName: "multiplier", owner: .run("privacy.noiseMultiplier"), flags: .training, aliases: ["noise-multiplier"],
                "Private runs: standard deviation of the noise on a sum over examples, as a multiple of what one of them can add.")

        // MARK: The machines
        case .minimumWorkers:
            return Setting(
                .integer(Limits.minimumWorkers), .rule("1; in a local cluster all its workers") { _ in (.integer(1), nil) }, unit: "machines",
                owner: .run("minimumWorkers"), flags: .machines,
                "Training machines that must be ready before rounds begin.")
        case .roundDeadlineFactor:
            return Setting(
                .number(Limits.roundDeadlineFactor, orZero: true), .value(.number(0)), valueName: "factor", owner: .run("roundDeadlineFactor"),
                flags: .machines,
                "Close a round after this multiple of the usual answer time, if the quorum has answered; 0: wait for all.")
        case .quorum:
            return Setting(
                .number(Limits.quorum), .value(.number(0.5)), valueName: "part", owner: .run("quorum"), flags: .machines,
                "Part of a round's samples that must be there at a deadline.")
        case .staleness:
            return Setting(
                .integer(Limits.staleness), .value(.integer(0)), unit: "rounds", owner: .run("staleness"), flags: .machines,
                "Rounds that a worker may be ahead, which hides a link's latency, or behind; 0: neither.",
                "A worker begins the next rounds' samples while a commit is on its way, and late bytes still count. The ledger then depends on who was fast."
            )
        case .roundSeconds:
            return Setting(
                .number(Limits.roundSeconds, orZero: true), .value(.number(0)), unit: "seconds", owner: .run("roundSeconds"), flags: .machines,
                "Time limit of a round: each machine sends what it has by then, samples-per-round at most; 0: its whole share.",
                "Slow machines hold nobody up and fast ones count fully. samples-per-round is shared out evenly, so set it high.")
        case .filter:
            return Setting(
                .oneOf(["none"] + RoundFilter.Kind.allCases.map(\.rawValue)), .value(.text("robust")), valueName: "filter",
                owner: .run("filter.kind"),
                flags: .machines,
                "Filter of a round's bytes before they are committed: robust, none, clip, sign or drop.",
                "robust does nothing below three machines; from then on no machine moves a round by more than filter-factor × what the median machine does, a machine whose mean |q| is above that gives 'no value', and so does one whose bytes point against the others' (adapters only). clip holds every |q| within filter-factor × the round's median |q|. sign keeps only signs, at the median |q|. drop turns the bytes of a machine whose mean |q| is above filter-factor × the machines' median into 'no value' (three machines or more). The ledger holds the filtered bytes."
            )
        case .filterFactor:
            return Setting(
                .number(Limits.filterFactor), .value(.number(3)), valueName: "factor", owner: .run("filter.factor"), flags: .machines,
                "Multiple of the median that robust, clip and drop allow.")
        case .onFaulty:
            return Setting(
                .oneOf(["show", "evict"]), .value(.text("show")), valueName: "what", owner: .run("setsAsideBadMachines"), flags: .machines,
                formerly: ["bad-machines"], formerWords: ["set-aside": "evict"],
                "Action against a machine that keeps sending useless bytes: show it, or evict it too.",
                "Useless: half of its last 512 bytes are 'no value' or saturated.")
        case .heartbeat:
            return Setting(
                .number(Limits.heartbeatSeconds), .value(.number(1)), unit: "seconds", owner: .run("heartbeatSeconds"), flags: .machines,
                "Seconds between heartbeats.")
        case .heartbeatTimeout:
            return Setting(
                .number(Limits.heartbeatTimeoutSeconds), .value(.number(10)), unit: "seconds", owner: .run("heartbeatTimeoutSeconds"),
                flags: .machines,
                "Silence after which a machine counts as lost.")

        // MARK: This host
        case .workers:
            return Setting(
                .integer(1...256), .value(.integer(3)), unit: "processes", owner: .host, flags: .workers,
                aliases: ["num-workers", "nproc", "nproc-per-node", "world-size"],
                "Worker processes of a local cluster.")
        case .directory:
            return Setting(
                .text, .elsewhere("runs/<time> for a local cluster"), valueName: "directory", owner: .host, flags: .place,
                aliases: ["run-dir", "run-directory", "logging-dir"],
                "The run directory: ledger, logs and report.")
        case .listen:
            return Setting(
                .text, .rule("tcp://127.0.0.1:5151; for a local cluster any free port") { _ in (.text("tcp://127.0.0.1:5151"), nil) },
                valueName: "address",
                owner: .host, flags: .place, aliases: ["bind"],
                "Where the coordinator listens.")
        case .dashboard:
            return Setting(
                .text, valueName: "address", owner: .host, flags: .place, aliases: ["http", "web", "ui", "metrics-address"],
                "Show the run over HTTP at this port of this host: a page, and metrics for Prometheus.",
                "With a port alone, only this host can connect. With an address (`0.0.0.0:8080`), everyone who reaches it can see the run; there is no password."
            )
        case .cacheMemory:
            return Setting(
                .size, .value(.text("2GiB")), owner: .host, flags: .processes,
                "Hidden states that a process keeps in memory; more go to a file under $XDG_CACHE_HOME/onebyte (~/.cache/onebyte).")
        case .cacheDirectory:
            return Setting(
                .text, valueName: "directory", owner: .host, flags: .processes,
                "Keep all hidden states in files here, for a restart or later runs on the same model, data and template.")
        case .threads:
            return Setting(
                .integer(Setting.threads), .elsewhere("the cores, shared out evenly"), owner: .host, flags: .workers,
                aliases: ["num-threads", "n-threads", "num-proc"],
                "Threads of each worker.",
                "The cores are those that the process may use: an affinity mask, a container's cpuset or quota.")
        case .precision:
            return Setting(
                .oneOf(Precision.allCases.map(\.rawValue)), .value(.text(Precision.float.rawValue)), valueName: "numbers", owner: .host,
                flags: .processes, formerly: ["compute"],
                "Precision of samples: float; or int8, what directions change in 8-bit integers, which is faster (rank1 only).",
                "Held-out data are measured in floats.")
        case .prefixPrecision:
            return Setting(
                .oneOf(Precision.allCases.map(\.rawValue)), .value(.text(Precision.int8.rawValue)), valueName: "numbers", owner: .host,
                flags: .processes,
                "Precision of the training examples' hidden states, which are computed once: int8 (8-bit products), or float.",
                "Held-out data are measured in floats.")
        }
    }
}

extension Setting {
    /// Range of a process's threads.
    static let threads = 1...1024

    /// Settings of earlier versions that have no successor, with what to do.
    static let retired = [
        "candidates-per-example": "was removed: every example counts alike; leave it out"
    ]
}

extension Setting.Standard {
    /// A default that applies only if a program scores the model's texts.
    fileprivate static func ofCommand(_ value: SettingValue) -> Self {
        .rule(value.bare) { $0.optionalText(.objective) == Objective.command.rawValue ? (value, nil) : nil }
    }
}

extension Settings {
    fileprivate static let sinceObjectiveHasSteps = "since the objective has steps"
    /// Whether the objective is flat with steps, as all are except the loss: its differences are 0 if ε is small.
    fileprivate var objectiveHasSteps: Bool { optionalText(.objective) != "loss" }
}
