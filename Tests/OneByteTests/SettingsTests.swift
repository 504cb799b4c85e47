import Core
import Foundation
import LanguageModel
import OneByte
import Testing
import Training

@Suite struct SettingsTests {
    private func settings(_ toml: String, flags: [SettingKey: [String]] = [:]) throws -> Settings {
        let url = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString).toml")
        try Data(toml.utf8).write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        return try Settings(file: url.path, flags: flags)
    }

    private func message(_ body: () throws -> Void) -> String {
        do { try body() } catch { return "\(error)" }
        return "no error"
    }

    @Test func flagsOverrideTheFileAndTheFileOverridesDefaults() throws {
        let settings = try settings("[training]\nrounds = 7\nseed = 3\n", flags: [.seed: ["9"]])
        #expect(try settings.integer(.rounds) == 7)
        #expect(try settings.integer(.seed) == 9)
        #expect(try settings.integer(.samplesPerRound) == 256)
        #expect(settings.source(.seed) == .flag("--seed"))
        #expect(settings.source(.samplesPerRound) == .standard)
        guard case .file(_, line: 2)? = settings.source(.rounds) else {
            Issue.record("\(String(describing: settings.source(.rounds)))")
            return
        }
    }

    @Test(arguments: [
        ("[training]\nlearning_rate = 0.1\n", ":2: unknown setting \"training.learning_rate\"; did you mean \"training.learning-rate\"?"),
        ("\n\nmodle = \"x\"\n", ":3: unknown setting \"modle\"; did you mean \"model\"?"),
        ("[training]\nworkers = 3\n", "did you mean \"cluster.workers\"?"),
        ("rounds = 3\n", "did you mean \"training.rounds\"?"),
        ("[trainig]\nrounds = 3\n", ":1: unknown setting \"trainig\""),
        ("[training]\nzzzzzz = 1\n", "`onebyte settings` lists"),
    ])
    func anUnknownKeyIsAnErrorWithItsLineAndAGuess(_ toml: String, _ expected: String) {
        let found = message { _ = try settings(toml) }
        #expect(found.contains(expected), "\(found)")
    }

    @Test(arguments: [
        ("[training]\nrounds = \"many\"\n", ":2: rounds: must be a whole number, not the text \"many\""),
        ("[training]\nrounds = 0\n", ":2: rounds: 0 is not within"),
        ("[training]\nrounds = 1.5\n", "must be a whole number"),
        ("[training]\nschedule = \"linaer\"\n", "did you mean \"linear\"?"),
        ("[training]\nepsilon = -1\n", "not within"),
        ("[task]\nlabels = 3\n", "must be a table"),
        ("[training]\ntrain = []\n", "not an empty list"),
        ("[training]\ntrain = [\"layers.1\", 3]\n", "not a list with something else in it"),
        ("[task]\nlabels = { 0 = 1 }\n", "the word of \"0\""),
        ("model = \n", ":1: not TOML"),
        ("\n[.task]\n", ":2: not TOML: a table's name must follow its ["),
        ("# [\nmodel = \"\"\"\n[.a]\"\"\"\"\n[[=", ":4: not TOML: a table's name"),
        ("a = '\\' # '\n \t[\n", ":2: not TOML: a table's name"),
        ("a = \"[\\\"\"\n[ [a]]\n", ":2: not TOML: "),
        ("[", ":1: not TOML"), ("[[", ":1: not TOML"), ("[]", ":1: not TOML"),
        ("[[[a]]]", ":1: not TOML: a table's name"),
        ("[[ [a]]]", ":1: not TOML: a table's name"),
        ("[training]\nseed = 7\n\0rounds = 3\n", ":3: a NUL byte"),
        ("[training]\nperturbation = \"gaussian\"\ndamped-components = 4\n", "needs the perturbation rank1"),
        ("[training]\nrounds = 3\nwarmup-rounds = 4\n", "more than all rounds"),
        ("model = \"\"\n", "must not be empty"),
        ("[training]\nbatch-size = 0\n", ":2: batch-size: 0 is not within 1…1048576, nor \"all\""),
        ("[training]\nbatch-size = \"most\"\n", "must be a whole number or \"all\", not the text \"most\""),
        ("[training]\nepsilon = nan\n", "epsilon: nan is not within"),
        ("[cluster]\non-faulty = \"set-aside\"\n", ":2: on-faulty: \"set-aside\" is now \"evict\""),
        ("[cluster]\ncache-memory = \"two\"\n", ":2: cache-memory: \"two\" is no size; say 512MB or 2GB"),
        ("[cluster]\ncache-memory = true\n", "must be a size such as \"2GB\""),
    ])
    func aWrongValueIsAnErrorWithItsLine(_ toml: String, _ expected: String) {
        let found = message { _ = try settings(toml) }
        #expect(found.contains(expected), "\(found)")
    }

    @Test(arguments: [
        (SettingKey.rounds, "x", "--rounds: \"x\" is no whole number"), (.epsilon, "nan", "--epsilon: \"nan\" is no number"),
        (.labels, "great", "--label: \"great\" must be label=word"), (.perturbation, "rank2", "did you mean \"rank1\"?"),
        (.seed, "-1", "--seed: -1 is not within"),
    ])
    func aWrongFlagIsAnErrorThatNamesIt(_ key: SettingKey, _ value: String, _ expected: String) {
        let found = message { _ = try Settings(file: nil, flags: [key: [value]]) }
        #expect(found.contains(expected), "\(found)")
    }

    @Test func theEffectiveSettingsAreARunFileThatGivesThemAgain() throws {
        let toml = """
            model = "m \\"x\\""
            [task]
            kind = "classification"
            template = "{text}\\nIt was"
            labels = { 1 = " great", 0 = " terrible" }
            [data]
            train-file = "t.jsonl"
            basis-text = "b.txt"
            [training]
            train = ["layers.28", "layers.29"]
            """
        let first = try settings(toml, flags: [.seed: ["5"]])
        let second = try settings(first.annotated)
        for key in SettingKey.allCases { #expect(first.has(key) == second.has(key), "\(key)") }
        #expect(try first.text(.template) == second.text(.template))
        #expect(try first.text(.model) == second.text(.model))
        #expect(try first.texts(.train) == second.texts(.train))
        #expect(first.table(.labels) == second.table(.labels))
        #expect(try second.integer(.seed) == 5)
        #expect(try second.number(.learningRate) == 0.04)
        #expect(first.annotated.contains("# --seed"))
    }

    @Test func theClassesAreInTheOrderOfTheirLabelsHoweverTheyAreGiven() throws {
        var a = try Settings(file: nil, flags: [.kind: ["classification"], .template: ["{text}"], .labels: ["10= c", "2= b", "1= a"]])
        #expect(try a.resolveTask().labels?.map(\.label) == ["1", "2", "10"])
        var b = try settings("[task]\nkind = \"classification\"\ntemplate = \"{text}\"\n[task.labels]\nyes = \" y\"\nno = \" n\"\n")
        #expect(try b.resolveTask().labels?.map(\.label) == ["no", "yes"])
    }

    @Test(arguments: [
        ("[cluster]\nheartbeat = 5\nheartbeat-timeout = 1\n", ":3: heartbeat-timeout: must be at least the seconds between heartbeats"),
        ("[cluster]\nround-deadline-factor = 0.5\n", ":2: round-deadline-factor: 0.5 is not 0 or within 1…1000000"),
        ("[cluster]\nround-seconds = 0.001\n", ":2: round-seconds: 0.001 is not 0 or within 0.05…86400"),
    ])
    func whatARunCannotBearIsNamedByItsSetting(_ toml: String, _ expected: String) {
        let found = message {
            var settings = try settings(toml + "[training]\ntrain = \"layers.1\"\n[task]\nkind = \"text\"\n")
            _ = try settings.runSpec(task: settings.resolveTask(), basisDigest: nil)
        }
        #expect(found.contains(expected), "\(found)")
    }

    @Test func theSpecIsValidAndSaysWhatTheSettingsSay() throws {
        var settings = try Settings(
            file: nil,
            flags: [
                .kind: ["text"], .train: ["layers.1,layers.2"], .rounds: ["5"], .dampedComponents: ["none"], .learningRate: ["0.5"], .seed: ["18"],
            ])
        let spec = try settings.runSpec(task: try settings.resolveTask(), basisDigest: nil)
        try spec.validate()
        #expect(spec.train == ["layers.1", "layers.2"])
        #expect(spec.rounds == 5)
        #expect(spec.dampedComponents == 0)
        #expect(spec.learningRate == 0.5)
        #expect(spec.seed == 18)
    }

    @Test(arguments: [
        ("512MB", 512_000_000), ("2GB", 2_000_000_000), ("2GiB", 2 << 30), ("1.5 kib", 1536), ("0", 0), ("17b", 17), ("64 MiB", 64 << 20),
        ("", nil), ("GB", nil), ("-1GB", nil), ("1e3", nil), ("inf", nil), ("nan", nil), ("2 XB", nil), ("99999999TB", nil),
    ])
    func sizesAreReadAsPeopleWriteThem(_ text: String, _ bytes: Int?) { #expect(ByteSize(text)?.bytes == bytes) }

    @Test("The objective's table and its flags give the same settings, spec and run file")
    func objectiveOfACommand() throws {
        let head = "[task]\nkind = \"text\"\n"
        var table = try settings(head + "objective = { command = \"python3 score.py\", max-tokens = 9, stop = \"newline\", timeout = 5 }\n")
        var flags = try Settings(
            file: nil,
            flags: [
                .kind: ["text"], .objectiveCommand: ["python3 score.py"], .objectiveMaxTokens: ["9"], .objectiveStop: ["newline"],
                .objectiveTimeout: ["5"],
            ])
        var again = try settings(table.annotated)
        let expected = TaskSpec(
            kind: .text, maxLength: 128, objective: .command, writing: Writing(maxTokens: 9, stopsAtNewline: true))
        #expect(try table.resolveTask() == expected)
        #expect(try flags.resolveTask() == expected)
        #expect(try again.resolveTask() == expected)
        for one in [table, flags, again] {
            #expect(try one.scoring()?.command == "python3 score.py")
            #expect(try one.scoring()?.timeoutSeconds == 5)
            #expect(try one.number(.epsilon) == 0.03)
        }
        // A coordinator needs no command, and its run needs only the kind of objective.
        var plain = try settings(head + "objective = \"command\"\n")
        #expect(try plain.resolveTask().writing == Writing(maxTokens: 16))
        #expect(try plain.scoring() == nil)
        let spec = try table.runSpec(task: table.resolveTask(), basisDigest: nil)
        #expect(!String(decoding: try spec.canonicalBytes(), as: UTF8.self).contains("score.py"), "no command in what workers are sent")
    }

    @Test(arguments: [
        (
            "[task]\nobjective = { comand = \"x\" }\n",
            ":2: objective: unknown setting \"comand\" (known: command, max-tokens, stop, timeout); did you mean \"command\"?"
        ),
        ("[task]\nobjective = { command = 3 }\n", "must be a text in quotes"),
        ("[task]\nobjective = { command = \"x\", max-tokens = 0 }\n", "0 is not within"),
        ("[task]\nobjective = { command = \"x\", stop = \"newlin\" }\n", "did you mean \"newline\"?"),
        ("[task]\nobjective = \"accuracy\"\nobjective-command = \"x\"\n", "belongs to the objective command, and the objective is accuracy"),
        ("[task]\nobjective-max-tokens = 4\n", "belongs to the objective command, and the objective is loss"),
    ])
    func aWrongObjectiveIsAnErrorWithItsPlace(_ toml: String, _ expected: String) {
        let found = message { _ = try settings(toml) }
        #expect(found.contains(expected), "\(found)")
    }

    @Test(
        "Directions are orthogonal if only adapters are trained, and random if a setting or another tensor requires it",
        arguments: [
            ("train = \"adapter:final\"", DirectionSampling.orthogonal), ("train = [\"adapter:final\", \"layers.1\"]", nil), ("", .orthogonal),
            ("train = \"adapter:final\"\nsampling = \"random\"", nil), ("train = \"adapter:final\"\nsampling = \"orthogonal\"", .orthogonal),
        ])
    func sampling(_ training: String, _ expected: DirectionSampling?) throws {
        var settings = try settings("[task]\nkind = \"text\"\n[training]\n\(training)\n")
        #expect(try settings.runSpec(task: settings.resolveTask(), basisDigest: nil).sampling == expected)
    }

    @Test func orthogonalDirectionsAreForAdaptersOnly() throws {
        let found = message {
            var settings = try settings("[task]\nkind = \"text\"\n[training]\nsampling = \"orthogonal\"\ntrain = \"layers.1\"\n")
            _ = try settings.runSpec(task: settings.resolveTask(), basisDigest: nil)
        }
        #expect(found.contains(":4: sampling: must be orthogonal only where all that is trained are adapters"), "\(found)")
    }

    @Test("A batch of all examples is a word in flags, run files and printed settings, and 0 in the spec")
    func batchOfAll() throws {
        var flags = try Settings(file: nil, flags: [.kind: ["text"], .batchSize: ["all"]])
        #expect(flags.annotated.contains("batch-size = \"all\""))
        var file = try settings(flags.annotated)
        for one in [try flags.runSpec(task: flags.resolveTask(), basisDigest: nil), try file.runSpec(task: file.resolveTask(), basisDigest: nil)] {
            #expect(one.batchSize == RunSpecLimits.allExamples)
            #expect(try RunSpec(canonicalBytes: one.canonicalBytes()) == one)
        }
    }
}
