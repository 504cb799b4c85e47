import ArgumentParser
import Core
import LanguageModel
import Training

struct ModelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model",
        abstract: "Look into a model's files.",
        discussion: "  onebyte model inspect SmolLM2.gguf",
        subcommands: [Inspect.self])

    struct Inspect: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what a model is, and which of its tensors --train can name.",
            discussion: joined(
                """
                What it is:

                  onebyte model inspect SmolLM2.gguf
                  onebyte model inspect HuggingFaceTB/SmolLM2-135M-Instruct

                What would be trained, its size, and what a sample costs:

                  onebyte model inspect SmolLM2.gguf --train layers.29
                  onebyte model inspect SmolLM2.gguf --train layers.29 \\
                    --tokens 100 --reads 30 --all-logits
                  onebyte model inspect SmolLM2.gguf --train layers.28-29 --tensors
                """))

        @Argument(help: ArgumentHelp("A Hugging Face directory, a .gguf file, a directory of a LoRA adapter, or org/name.", valueName: "model"))
        var model: String
        @Option(help: ArgumentHelp("What would be trained: layers.29, layers.20-29, all, or patterns with *.", valueName: "pattern"))
        var train: [String] = []
        @Flag(help: "List every tensor.") var tensors = false
        @Option(help: ArgumentHelp("For the cost of a sample: tokens of an example.", valueName: "number")) var tokens = 20
        @Option(help: ArgumentHelp("For the cost: positions that the loss reads.", valueName: "number")) var reads = 1
        @Flag(help: "For the cost: the loss needs all tokens' logits, as of a text, completion or chat, not those of label words.")
        var allLogits = false

        @Option(help: ArgumentHelp("r of adapters on layers, for the cost.", valueName: "number")) var adapterInputs = 16
        @Option(help: ArgumentHelp("p of adapters on layers, for the cost.", valueName: "number")) var adapterOutputs = 4

        func validate() throws {
            guard (1...AdapterBasis.rankMax).contains(adapterInputs), (1...AdapterBasis.rankMax).contains(adapterOutputs) else {
                throw ValidationError("--adapter-inputs and --adapter-outputs must be within 1 … \(AdapterBasis.rankMax)")
            }
            guard (1...1 << 20).contains(tokens), (1...tokens).contains(reads) else {
                throw ValidationError("--tokens must be within 1 … \(1 << 20), --reads within 1 … --tokens")
            }
        }

        /// Describes the windows of layers that see a part of the context.
        private func windows(of configuration: ModelConfiguration) -> String {
            let found = configuration.windows
            guard let window = found.max() else { return "" }
            let layers = found.count == configuration.layerCount ? "all layers" : "\(found.count) of \(configuration.layerCount) layers"
            return ", of which \(layers) see the last \(grouped(window))"
        }

        private func longTexts(of configuration: ModelConfiguration) -> String {
            configuration.longTextLength.map { ", rotated by other factors above \(grouped($0))" } ?? ""
        }

        func run() throws {
            let source = try openModel(model)
            let configuration = source.configuration
            let total = source.tensorNames.reduce(0) { $0 + (source.shape(of: $1)?.count ?? 0) }
            try source.checkPatterns(train.isEmpty ? ["all"] : train)
            // Only a run's basis says what ranks an adapter has.
            let plain = train.filter { !$0.hasPrefix(RunSpec.adapterPrefix) }
            let trained = plain.isEmpty ? nil : try source.trainedTensors(matching: plain, basis: nil)
            var lines: [String] = []
            func row(_ name: String, _ value: String) {
                lines.append(name + String(repeating: " ", count: max(1, 16 - name.count)) + value)
            }
            let readiness = Readiness(source)
            row("can be trained", readiness.text)
            row("model", source.path)
            row("family", "\(configuration.family.name) (\(configuration.family.title))")
            row("parameters", "\(grouped(total)) in \(source.tensorNames.count) tensors")
            row(
                "layers",
                "layers.0 … layers.\(configuration.layerCount - 1): hidden \(configuration.hiddenSize), FFN \(configuration.feedForwardSize), \(configuration.headCount) heads of \(configuration.headDimension), \(configuration.keyValueHeadCount) for keys and values"
            )
            row("vocabulary", "\(grouped(configuration.vocabularySize)), head \(configuration.tiedHead ? "tied to the embedding" : "of its own")")
            row("context", "\(grouped(configuration.contextLength)) tokens\(windows(of: configuration))\(longTexts(of: configuration))")
            let types = Dictionary(grouping: source.tensorNames) { source.dataType(of: $0).map { "\($0)" } ?? "?" }
            row("stored as", types.sorted { $0.value.count > $1.value.count }.map { "\($0.value.count) × \($0.key)" }.joined(separator: ", "))
            if let trained {
                let count = trained.reduce(0) { $0 + $1.shape.count }
                row("trained", "\(grouped(count)) parameters in \(trained.count) tensors (\(percent(Double(count) / Double(max(total, 1)))))")
            }
            lines += try TrainableParts(source).text(
                train: train, tokens: tokens, reads: reads, fullVocabulary: allLogits, ranks: (adapterOutputs, adapterInputs))
            standardOutput.write(lines.joined(separator: "\n"))
            if tensors { listTensors(source, trained) }
            if readiness.obstacle != nil { throw ExitCode(ExitStatus.badData.rawValue) }
        }

        private func listTensors(_ source: ModelSource, _ trained: [TrainedTensor]?) {
            let names = trained?.map(\.name) ?? source.tensorNames
            for name in names {
                let shape = source.shape(of: name).map { "\($0)" } ?? "?"
                standardOutput.write("  \(name)  \(shape)  \(source.dataType(of: name).map { "\($0)" } ?? "?")")
            }
        }
    }
}
