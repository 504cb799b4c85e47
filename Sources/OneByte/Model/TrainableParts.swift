import Core
import LanguageModel
import Training

/// The parts of a model that --train can name, with their sizes and the cost of a sample.
struct TrainableParts {
    private let source: ModelSource

    init(_ source: ModelSource) { self.source = source }

    /// Lists parts of the model with their sizes and the cost of a sample.
    ///
    /// - Parameters:
    ///   - train: parts that the user named; if empty, the top of the model at some depths is listed.
    ///   - tokens: length of an example.
    ///   - reads: number of its positions that the loss reads.
    ///   - ranks: p and r of adapters on matrices of layers.
    func text(train: [String], tokens: Int, reads: Int, fullVocabulary: Bool, ranks: (outputs: Int, inputs: Int)) throws -> [String] {
        var lines: [String] = []
        if train.isEmpty {
            lines += ["", "--train can name", Self.row("tensors", "parameters", [])]
            for kind in kinds {
                lines.append(Self.row("  " + kind.pattern, grouped(kind.parameters), ["\(kind.tensors) tensor\(kind.tensors == 1 ? "" : "s")"]))
            }
        }
        let positions = "\(reads) position\(reads == 1 ? "" : "s") read\(fullVocabulary ? ", all logits" : "")"
        lines += [
            "", "what it costs with rank1 or adapters, in multiply-adds (\(tokens) tokens, \(positions))",
            Self.row("trained", "parameters", ["a sample", "a draw", "prefix"]),
        ]
        for names in train.isEmpty ? depths.map({ [$0] }) : [train] {
            let trained = try tensors(names, ranks)
            let cost = SampleCost(
                source.configuration, training: trained, family: .rank1, tokens: tokens, reads: reads, fullVocabulary: fullVocabulary)
            lines.append(
                Self.row(
                    "  " + names.joined(separator: ","), grouped(trained.reduce(0) { $0 + $1.shape.count }),
                    [cost.perSample, cost.perBatch, cost.prefix].map(Self.rounded)))
        }
        lines += [
            "  a sample: both signs of one direction on an example; a draw: once for the --samples-per-batch that share",
            "  an example; prefix: once for each example of a run, into the prefix cache",
        ]
        let places = try train.isEmpty ? [] : source.adapterPlaces(matching: train)
        if let memory = memory(places) { lines += ["", memory] }
        if train.isEmpty || places.contains(.final) {
            lines += [
                "", "adapter:final trains a small matrix in front of the head: for a classification (classes − 1) × r numbers, for texts p × r",
                "  (--adapter-inputs r, --adapter-outputs p). Every example goes through all layers once; a round then costs a pass of the head.",
            ]
        }
        return lines
    }

    /// Returns the named tensors of the model, and adapters of these ranks.
    ///
    /// - Parameters:
    ///   - ranks: p and r of adapters on matrices of layers. A narrow matrix lowers them.
    ///   - finalOutputs: p of the adapter at final; 1 is that of a classification with two labels.
    func tensors(_ names: [String], _ ranks: (outputs: Int, inputs: Int), finalOutputs: Int = 1) throws -> [TrainedTensor] {
        let plain = names.filter { !$0.hasPrefix(RunSpec.adapterPrefix) }
        let adapters = try source.adapterPlaces(matching: names).map { place in
            let widths = source.widths(of: place) ?? (1, 1)
            return TrainedTensor(
                adapterAt: place, rows: min(place == .final ? finalOutputs : ranks.outputs, widths.outputs), columns: min(ranks.inputs, widths.inputs)
            )
        }
        return (plain.isEmpty ? [] : try source.trainedTensors(matching: plain, basis: nil)) + adapters
    }

    /// Returns a sentence on the memory that the base takes in a worker; nil without adapters on matrices of layers.
    private func memory(_ places: [AdapterPlace]) -> String? {
        let count = places.count { $0 != .final }
        guard count > 0 else { return nil }
        return
            "\(count) matri\(count == 1 ? "x" : "ces") with an adapter W + U·C·Vᵀ: the base stays mapped as its file has it, \(grouped(source.mappedBytes)) bytes"
    }

    /// Patterns for the top of the model at increasing depth.
    private var depths: [String] {
        let layers = source.configuration.layerCount
        let tops = [1, 2, 4, 8].filter { $0 < layers }.map { $0 == 1 ? "layers.\(layers - 1)" : "layers.\(layers - $0)-\(layers - 1)" }
        return tops + ["all"]
    }

    /// Each kind of tensor with the pattern that names all of it, in the order of names.
    private var kinds: [(pattern: String, tensors: Int, parameters: Int)] {
        var found: [String: (tensors: Int, parameters: Int)] = [:]
        for name in source.tensorNames {
            let parts = name.split(separator: ".").map { Int($0) == nil ? String($0) : "*" }
            let count = source.shape(of: name)?.count ?? 0
            let old = found[parts.joined(separator: ".")] ?? (0, 0)
            found[parts.joined(separator: ".")] = (old.tensors + 1, old.parameters + count)
        }
        let layers = source.configuration.layerCount
        let last = "layers.\(layers - 1)"
        func size(_ pattern: String) -> (pattern: String, tensors: Int, parameters: Int)? {
            guard let tensors = try? source.trainedTensors(matching: [pattern], basis: nil) else { return nil }
            return (pattern, tensors.count, tensors.reduce(0) { $0 + $1.shape.count })
        }
        let named = ["all", "layers.0-\(layers - 1)", last, "\(last).self_attn", "\(last).mlp"].compactMap(size)
        return named + found.sorted { $0.key < $1.key }.map { ($0.key, $0.value.tensors, $0.value.parameters) }
    }

    private static func row(_ name: String, _ count: String, _ more: [String]) -> String {
        func right(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(1, width - text.count)) + text }
        return name + right(count, max(1, 60 - name.count)) + more.map { right($0, 12) }.joined()
    }

    /// Formats 6482944 as 6.48 M.
    static func rounded(_ number: Int) -> String {
        for (unit, size) in [("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)] where Double(number) >= size {
            let value = Double(number) / size
            return "\(fixed(value, value < 10 ? 2 : value < 100 ? 1 : 0)) \(unit)"
        }
        return "\(number)"
    }
}
