import Core
import Foundation
import OneByte
import Testing
import Training

/// Everything that is made from the table of settings agrees with the table.
@Suite struct SettingsTableTests {
    @Test("Every setting is a flag of the cluster with the table's help, and no other flag has a setting's name")
    func flags() async throws {
        let help = try await Binary.run("cluster", "--help").output
        let options = help.split(separator: "USAGE: ").last ?? ""
        let found = Set(options.matches(of: /(?m)^ +(?:-h, )?(--[a-z0-9-]+)/).map { String($0.output.1) })
        let table = Set(SettingKey.allCases.map(\.flag))
        #expect(table.count == SettingKey.allCases.count, "two settings have the same flag")
        #expect(found == table.union(["--config", "--print-config", "--dry-run", "--resume", "--version", "--help"]))
        let words = help.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        for key in SettingKey.allCases { #expect(words.contains(key.setting.flagHelp), "\(key)") }
    }

    @Test("The page of settings is up to date (onebyte settings > docs/reference/settings.md)")
    func page() throws {
        let page = try String(contentsOf: Binary.packageRoot.appending(path: "docs/reference/settings.md"), encoding: .utf8)
        #expect(page == SettingsReference.markdown)
    }

    @Test("The table allows its own defaults, and a run file with them can be read")
    func defaults() throws {
        let settings = try Settings(file: nil, flags: [:])
        for key in SettingKey.allCases where key.setting.standard.text == nil { #expect(!settings.has(key), "\(key)") }
    }

    // MARK: The canonical spec

    /// Specs that together have every field.
    private static func objects() throws -> [[String: Any]] {
        var specs = try ["classification", "command"].map { try Golden.bytes("specs/all-of-a-\($0).json") }
        specs.append(
            try RunSpec(
                seed: 1, train: ["adapter:final"], sampling: .orthogonal, momentum: 0.9, learningRate: 1, rounds: 1, samplesPerRound: 1,
                task: TaskSpec(kind: .text, maxLength: 8), privacy: Privacy(clip: 1, noiseMultiplier: 4, epsilon: 8, delta: 1e-5)
            )
            .canonicalBytes())
        return try specs.map { try #require(JSONSerialization.jsonObject(with: Data($0)) as? [String: Any]) }
    }

    private static func places(in object: [String: Any], _ prefix: String = "") -> Set<String> {
        object.reduce(into: []) { places, entry in
            if let inner = entry.value as? [String: Any] {
                places.formUnion(Self.places(in: inner, prefix + entry.key + "."))
            } else {
                places.insert(prefix + entry.key)
            }
        }
    }

    @Test("Every field of the canonical spec belongs to a setting, and every setting of the run has a field")
    func fields() throws {
        let fields = try Self.objects().reduce(into: Set<String>()) { $0.formUnion(Self.places(in: $1)) }
        let settings = SettingKey.allCases.compactMap { if case .run(let place) = $0.setting.owner { place } else { nil } }
        // Several settings together determine a basis.
        let others = settings.filter { $0 != "basisDigest" }
        #expect(Set(others).count == others.count, "two settings have the same field")
        // These are the structure's own version, and a field that only old ledgers have.
        #expect(fields.subtracting(settings) == ["version", "candidatesPerExample"])
        #expect(Set(settings).subtracting(fields).isEmpty)
    }

    private static func setting(_ value: Any, at place: [String], in object: [String: Any]) -> [String: Any] {
        var object = object
        guard let name = place.first else { return object }
        object[name] = place.count == 1 ? value : setting(value, at: Array(place.dropFirst()), in: object[name] as? [String: Any] ?? [:])
        return object
    }

    /// Returns the field that the spec's own check complains about for a value; nil if it accepts the value.
    private static func complaint(_ value: Any, at place: String) throws -> String? {
        let object = try objects()[place == "momentum" || place.hasPrefix("privacy.") ? 2 : place.hasPrefix("task.writing") ? 1 : 0]
        let data = try JSONSerialization.data(withJSONObject: setting(value, at: place.split(separator: ".").map(String.init), in: object))
        do throws(RunSpecError) {
            guard let spec = try? JSONDecoder().decode(RunSpec.self, from: data) else { return "decoding" }
            try spec.validate()
            return nil
        } catch {
            guard case .field(let field, _) = error else { return "\(error)" }
            return field
        }
    }

    @Test("A run's spec refuses and accepts the same values as the table", arguments: SettingKey.allCases)
    func ranges(_ key: SettingKey) throws {
        // Any 64 bits are a valid seed, but a run file's integers have a sign.
        guard case .run(let place) = key.setting.owner, key != .seed, place != "basisDigest" else { return }
        let (inside, outside): ([Any], [Any])
        switch key.setting.type {
        case .integer(let range, let words):
            // 0 switches these off; the spec then does not have the field.
            let lower = [.rateTrials, .patience].contains(key) ? 1 : range.lowerBound
            inside = [lower, range.upperBound] + Array(words.values)
            outside = [range.lowerBound - 1, range.upperBound + 1].filter { !words.values.contains($0) } + [-1]
        case .number(let range, _):
            let lower = [.generalizedCrossEntropy, .momentum].contains(key) ? 0.5 : range.lowerBound
            inside = [lower, range.upperBound]
            outside = [range.lowerBound - range.lowerBound.magnitude / 100 - 1e-9, range.upperBound * 1.01]
        default: return
        }
        for value in inside { #expect(try Self.complaint(value, at: place) != place, "\(value)") }
        for value in outside { #expect(try Self.complaint(value, at: place) == place, "\(value)") }
    }

    // MARK: Former names

    @Test(
        "A former name is an error with file and line that names the new one",
        arguments: [
            ("[training]\nexamples-per-sample = 8\n", ":2: \"training.examples-per-sample\" is now \"training.batch-size\"; rename it"),
            ("[training]\nseed = 1\nsamples-per-draw = 8\n", ":3: \"training.samples-per-draw\" is now \"training.samples-per-batch\"; rename it"),
            ("[training]\nshape = \"none\"\n", ":2: \"training.shape\" is now \"training.damped-components\"; rename it"),
            ("[cluster]\ncompute = \"int8\"\n", ":2: \"cluster.compute\" is now \"cluster.precision\"; rename it"),
            (
                "[cluster]\nbad-machines = \"set-aside\"\n",
                ":2: \"cluster.bad-machines\" is now \"cluster.on-faulty\", and its word \"set-aside\" is now \"evict\"; rename it"
            ),
            ("[training]\ncandidates-per-example = 4\n", ":2: \"training.candidates-per-example\" was removed: every example counts alike"),
            ("[training]\nlr = 1\n", ":2: unknown setting \"training.lr\"; did you mean \"training.learning-rate\"?"),
            ("[training]\nbatch_size = 1\n", ":2: unknown setting \"training.batch_size\"; did you mean \"training.batch-size\"?"),
            ("[training]\nepochs = 3\n", ":2: unknown setting \"training.epochs\"; did you mean \"training.rounds\"?"),
        ])
    func formerKeys(_ toml: String, _ expected: String) throws {
        let scratch = try Scratch()
        let file = try scratch.file("run.toml", toml)
        let error = #expect(throws: SettingsError.self) { try Settings(file: file, flags: [:]) }
        #expect(error?.code == .file)
        #expect(error?.description.hasPrefix(file + expected) == true, "\(error?.description ?? "")")
    }

    @Test(
        "A flag's former name, or its name in another program, is answered with the flag",
        arguments: [
            ("--examples-per-sample", "--batch-size"), ("--samples-per-draw", "--samples-per-batch"), ("--shape", "--damped-components"),
            ("--compute", "--precision"), ("--bad-machines", "--on-faulty"), ("--lr", "--learning-rate"), ("--learning_rate", "--learning-rate"),
            ("--batch_size", "--batch-size"), ("--bs", "--batch-size"), ("--epochs", "--rounds"), ("--steps", "--rounds"),
            ("--candidates-per-example", "was removed"), ("--labels", "--label"),
        ])
    func formerFlags(_ flag: String, _ expected: String) throws {
        for arguments in [["cluster", flag, "3"], ["cluster", "\(flag)=3", "--seed", "1"]] {
            let error = try #require(CommandLineCheck.renamedFlag(in: arguments))
            #expect(error.code == .usage && error.description.contains(flag) && error.description.contains(expected), "\(error)")
        }
        #expect(CommandLineCheck.renamedFlag(in: ["generate", "--", flag]) == nil, "a text is no flag")
    }

    @Test("Former and foreign names differ from all settings, and each leads to one setting")
    func namesAreDistinct() {
        let names = SettingKey.allCases.flatMap { $0.setting.formerly + $0.setting.aliases }
        let flags = SettingKey.allCases.map { String($0.flag.dropFirst(2)) }
        #expect(Set(names).count == names.count)
        #expect(Set(names).isDisjoint(with: flags))
    }

    @Test(
        "The program names the flag that an unknown flag stands for, and ends with the status of wrong usage",
        arguments: [
            ["cluster", "--shape", "4"], ["worker", "--coordinator", "ipc:///x", "--model", "m", "--train-file", "f", "--compute", "int8"],
            ["coordinator", "--lr=0.1"],
        ])
    func formerFlagsOfTheProgram(_ arguments: [String]) async throws {
        let found = try await Binary.run(arguments)
        #expect(found.status == ExitStatus.usage.rawValue)
        #expect(found.errors.hasPrefix("error: ") && found.errors.split(separator: "\n").count == 1, "\(found.errors)")
    }

    @Test(
        "Giving a flag with a single value twice is an error in every command",
        arguments: [
            ["cluster", "--seed", "1", "--seed", "2", "--print-config"], ["cluster", "--seed=1", "--rounds", "3", "--seed", "1", "--print-config"],
            ["generate", "x", "--model", "m", "--temperature", "1", "--temperature=2"], ["export", "--model", "m", "--output", "a", "-o", "b"],
            ["worker", "--coordinator", "ipc:///x", "--model", "m", "--train-file", "f", "--shard", "1/2", "--shard", "2/2"],
        ])
    func flagsGivenTwice(_ arguments: [String]) async throws {
        let found = try await Binary.run(arguments)
        #expect(found.status == ExitStatus.usage.rawValue && found.output.isEmpty)
        #expect(found.errors.contains("is given twice"), "\(found.errors)")
    }

    @Test("Flags with lists may be given several times")
    func listsAreGivenSeveralTimes() async throws {
        let found = try await Binary.run(
            "cluster", "--model", "m", "--train-file", "f", "--template", "{text}", "--label", "0= no", "--label", "1= yes", "--train", "layers.1",
            "--train", "layers.2",
            "--print-config")
        #expect(found.status == 0, "\(found.errors)")
        #expect(found.output.contains(#"train = ["layers.1", "layers.2"]"#) && found.output.contains(#"labels = { "0" = " no", "1" = " yes" }"#))
    }

    // MARK: Exit statuses

    @Test("The page of exit statuses lists exactly the existing ones")
    func exitStatuses() throws {
        let docs = Binary.packageRoot.appending(path: "docs")
        let files = try #require(FileManager.default.enumerator(atPath: docs.path)).compactMap { $0 as? String }.filter { $0.hasSuffix(".md") }
        let pages = try files.map { try String(contentsOf: docs.appending(path: $0), encoding: .utf8) }.filter { $0.hasPrefix("# Exit ") }
        try #require(pages.count == 1)
        let listed = pages[0].split(separator: "\n").compactMap { $0.firstMatch(of: /^\| *(\d+) *\|/).flatMap { Int32($0.output.1) } }
        #expect(listed == ExitStatus.allCases.map(\.rawValue))
    }

    @Test("A library's error text is completed by the flag that resolves it")
    func remedies() async throws {
        #expect(describe(ScoringError(.tooSlow, "no answer")) == "no answer; --objective-timeout gives it longer")
        #expect(describe(ScoringError(.badAnswer, "no score")) == "no score")
        #expect(ProcessFailure(ScoringError(.tooSlow, "no answer")) == ProcessFailure(.unavailable, "no answer; --objective-timeout gives it longer"))
        let scratch = try Scratch()
        let open = try await Binary.run(
            "coordinator", "--directory", "\(scratch.path)/run", "--kind", "text", "--train", "all", "--listen", "tcp://0.0.0.0:5151")
        #expect(open.status == ExitStatus.configuration.rawValue && open.errors.contains("or say --insecure"), "\(open.errors)")
        _ = try scratch.file("config.json", "")
        let found = try await Binary.run("export", "--model", Binary.tinyModel, "--output", scratch.path)
        #expect(
            found.status == ExitStatus.usage.rawValue && found.errors.contains("not empty") && found.errors.contains("--overwrite replaces it"),
            "\(found.errors)")
    }
}
