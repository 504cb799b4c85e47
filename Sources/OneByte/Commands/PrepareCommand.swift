import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

struct PrepareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prepare",
        abstract: "Make the basis of a run with a shape: what the inputs of the trained layers have in common.",
        discussion: """
            It is made once, from public text that looks like the task's, never from private examples, and becomes data of the \
            run: `onebyte cluster` does it by itself where it is given --basis-text.

              onebyte prepare --model SmolLM2.gguf --train layers.29 --damped-components 4 \\
                --template '{text} It was' --label '0= terrible' --label '1= great' \\
                --basis-text headlines.txt --output basis
              onebyte coordinator --config run.toml --basis basis --directory runs/reviews
            """)

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
        if config.printConfig { return standardOutput.writeRaw(settings.annotated) }
        let basis = try Preparation.makeBasis(settings, task: task, threads: threads.count)
        let bytes = basis.encoded()
        try writeWhole(Data(bytes), to: output)
        standardOutput.write("\(output): \(basis.spaces.count) input spaces, \(grouped(bytes.count)) bytes, SHA-256 \(Digest.sha256(bytes))")
    }
}

enum Preparation {
    /// The basis that the settings ask for.
    static func makeBasis(_ settings: Settings, task: TaskSpec, threads: Int) throws -> RunBasis {
        let components = try settings.integer(.dampedComponents)
        guard components > 0 else { throw SettingsError(.usage, "--damped-components is 0: a plain run has no basis") }
        let texts = try DataFile.readTexts(try settings.text(.basisText))
        let source = try openModel(try settings.text(.model))
        let examples = try TaskEncoder(task: task, model: source).encodePublicText(texts)
        MatrixLibrary.setThreads(1)
        var meter = Meter("making the basis")
        defer { meter.end() }
        return try BasisMaker.makeBasis(
            source: source, training: try settings.texts(.train), examples: examples, components: components, threads: threads
        ) { done, total in meter.show(done, of: total) }
    }
}
