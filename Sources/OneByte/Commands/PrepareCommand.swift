import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

struct PrepareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prepare",
        abstract: "Make the basis of a run: where its adapters look and point, or which components its directions avoid.",
        discussion: joined(
            """
            It is made once, from public text that looks like the task's, never from private examples, and becomes data of the \
            run. `onebyte cluster` makes it by itself.

              onebyte prepare --model SmolLM2.gguf --template '{text} It was' \\
                --label '0= terrible' --label '1= great' \\
                --basis-text headlines.txt --output basis
              onebyte coordinator --config run.toml --basis basis --directory runs/reviews
            """))

    @OptionGroup var config: ConfigFlags
    @OptionGroup var model: SettingFlags<ModelSettings>
    @OptionGroup var task: SettingFlags<TaskSettings>
    @OptionGroup var training: SettingFlags<TrainingSettings>
    @OptionGroup var threads: ThreadFlags
    @OptionGroup var publicText: SettingFlags<PublicTextSettings>
    @Option(name: .shortAndLong, help: ArgumentHelp("Where the basis goes.", valueName: "file")) var output: String

    func run() throws {
        var settings = try Settings(
            file: config.config, flags: model.settings + task.settings + training.settings + publicText.settings)
        let task = try settings.resolveTask()
        if config.printConfig { return standardOutput.writeContents(settings.annotated) }
        let basis = try Preparation.makeBasis(settings, task: task, threads: threads.count)
        let bytes = basis.encoded()
        try writeWhole(Data(bytes), to: output)
        standardOutput.write("\(output): \(Self.contents(of: basis)), \(grouped(bytes.count)) bytes, SHA-256 \(Digest.sha256(bytes))")
    }

    private static func contents(of basis: RunBasis) -> String {
        let adapters = basis.adapters.map { "an adapter at \($0.place) of \($0.outputs.count) × \($0.inputs.count)" }
        return (adapters + (basis.spaces.isEmpty ? [] : ["\(basis.spaces.count) input spaces"])).joined(separator: ", ")
    }
}

enum Preparation {
    /// Makes the basis that the settings ask for.
    static func makeBasis(_ settings: Settings, task: TaskSpec, threads: Int) throws -> RunBasis {
        let components = try settings.integer(.dampedComponents)
        let patterns = try settings.texts(.train)
        let adapters = patterns.filter { $0.hasPrefix(RunSpec.adapterPrefix) }
        guard components > 0 || !adapters.isEmpty else {
            throw SettingsError(.usage, "the run needs no basis: it trains no adapter, and --damped-components is 0")
        }
        let source = try openModel(try settings.text(.model))
        try source.checkPatterns(patterns)
        MatrixLibrary.setThreads(1)
        var spaces: [InputBasis] = []
        if components > 0 {
            let texts = try settings.publicText.texts()
            let examples = try TaskEncoder(task: task, model: source).encodePublicText(texts)
            var meter = Meter("measuring what layers read", tells: true)
            defer { meter.end() }
            spaces = try BasisMaker.makeBasis(
                source: source, training: patterns.filter { !$0.hasPrefix(RunSpec.adapterPrefix) }, examples: examples, components: components,
                threads: threads
            ) { done, total in meter.show(done, of: total) }.spaces
        }
        return try RunBasis(
            spaces: spaces, adapters: adapters.isEmpty ? [] : try makeAdapters(settings, adapters, task: task, source: source, threads: threads))
    }

    /// Number of texts with which whitening is as good as with many.
    private static let fewTexts = 30

    private static func makeAdapters(
        _ settings: Settings, _ patterns: [String], task: TaskSpec, source: ModelSource, threads: Int
    ) throws -> [AdapterBasis] {
        let places = try source.adapterPlaces(matching: patterns)
        let publicText = settings.publicText
        let texts = try publicText.texts()
        if case .file(let path) = publicText, texts.count < Self.fewTexts {
            standardError.write(
                "note: \(path): \(texts.count) public texts are few; a hundred say much better what the model's states have in common")
        } else if publicText == .none {
            standardError.write(
                "note: without public text random tokens stand in for it; leave out --basis-text none, or give a hundred texts that look like the task's"
            )
        }
        // The default rank is lowered for a narrow model; only a rank that the user gave is refused.
        func rank(_ key: SettingKey, standard: Int, width: Int) throws -> Int {
            guard settings.has(key) else { return min(standard, width) }
            let given = try settings.integer(key)
            return settings.isGiven(key) ? given : min(given, width)
        }
        let widths = places.compactMap(source.widths)
        let (narrowest, shortest) = (widths.map(\.inputs).min() ?? 1, widths.map(\.outputs).min() ?? 1)
        let options = AdapterBasisMaker.Options(
            inputs: try rank(.adapterInputs, standard: 128, width: narrowest),
            outputs: try rank(.adapterOutputs, standard: 16, width: shortest),
            tau: try settings.number(.whiteningFloor),
            outputDirections: settings.optionalText(.outputDirections).flatMap(AdapterBasisMaker.OutputDirections.init(rawValue:)),
            seed: UInt64(try settings.integer(.seed)), threads: threads)
        var meter = Meter("making the basis", tells: true)
        defer { meter.end() }
        return try AdapterBasisMaker.makeBases(source: source, task: task, texts: texts, places: places, options: options) { done, total in
            meter.show(done, of: total)
        }
    }
}
