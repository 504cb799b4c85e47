import Core

/// A pattern by which a run spec picks tensors: `all`, `layers.29`, `layers.20-29`, a part of a layer such as `layers.29.mlp` or
/// `layers.*.mlp`, or a Hugging Face name in which `*` stands for any characters. Names of adapters, which begin with `adapter:`, are not
/// patterns.
///
/// `layers.29` means the matrices of that layer. The weights of its two norms are left out unless they are named (by `all`, by
/// `layers.29.input_layernorm` or with `*`). They multiply every channel, so a run that trains them at the step sizes of the matrices
/// diverges (movie reviews, last layer, rate 0.04: loss 0.98 with them, 0.42 without).
package struct TensorPattern {
    private enum Kind {
        case all
        case layers(ClosedRange<Int>, part: String)
        case glob([UInt8])
        /// A name, or the first parts of one, with `*` in the layer's number.
        case anyLayer([UInt8])
    }
    private let kind: Kind

    /// Prefix of a layer's number in the model's names, such as `model.layers.`.
    private let prefix: String

    /// Parses a pattern; nil if the text is not one, such as `layers.9-2`.
    package init?(_ text: String, layers modelPrefix: String = "model.layers.") {
        prefix = modelPrefix
        guard !text.isEmpty else { return nil }
        if text == "all" {
            kind = .all
            return
        }
        let prefix = "layers."
        if text.hasPrefix(prefix) {
            let rest = text.dropFirst(prefix.count)
            let number = rest.prefix { $0 != "." }
            let part = rest.dropFirst(number.count)
            let ends = number.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            if let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2, first <= last, first >= 0 {
                kind = .layers(first...last, part: String(part))
                return
            }
            guard number.contains("*") else { return nil }
            kind = .anyLayer(Array((modelPrefix + rest).utf8))
            return
        }
        kind = .glob(Array(text.utf8))
    }

    /// The last layer of a pattern of layers; nil for other patterns.
    package var lastLayer: Int? { if case .layers(let range, _) = kind { range.upperBound } else { nil } }

    package func matches(_ name: String, _ shape: TensorShape?) -> Bool {
        switch kind {
        case .all: return true
        case .glob(let pattern): return Self.glob(pattern[...], Array(name.utf8)[...])
        case .anyLayer(let pattern): return [pattern, pattern + Array(".*".utf8)].contains { Self.glob($0[...], Array(name.utf8)[...]) }
        case .layers(let range, let part):
            guard name.hasPrefix(prefix) else { return false }
            let rest = name.dropFirst(prefix.count)
            let number = rest.prefix { $0 != "." }
            guard let layer = Int(number), range.contains(layer) else { return false }
            let below = rest.dropFirst(number.count)
            if part.isEmpty {
                if case .matrix? = shape { return true }
                return false
            }
            if below == part || below.hasPrefix(part + ".") { return true }
            return part.contains("*") && Self.glob(Array(part.utf8)[...], Array(below.utf8)[...])
        }
    }

    /// Matches `*` with any run of bytes. It is iterative and remembers one point to go back to, so no pattern takes more than n·m steps.
    private static func glob(_ pattern: ArraySlice<UInt8>, _ text: ArraySlice<UInt8>) -> Bool {
        let star = UInt8(ascii: "*")
        var p = pattern.startIndex
        var t = text.startIndex
        var retry: (p: Int, t: Int)?
        while t < text.endIndex {
            if p < pattern.endIndex, pattern[p] == star {
                retry = (p + 1, t)
                p += 1
            } else if p < pattern.endIndex, pattern[p] == text[t] {
                p += 1
                t += 1
            } else if let (afterStar, from) = retry {
                retry = (afterStar, from + 1)
                p = afterStar
                t = from + 1
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == star }
    }
}

/// The input spaces of a layer. Matrices that read the same numbers share one space, and one basis.
package enum InputSpace: Int, CaseIterable, Sendable {
    case attention, output, feedForward, down

    /// A matrix that reads the space.
    private var reader: LayerModule {
        switch self {
        case .attention: .query
        case .output: .output
        case .feedForward: .up
        case .down: .down
        }
    }

    /// Name such as `model.layers.3.self_attn:in`, or `model.layers.3.mlp.down_proj:in` for the input of a single matrix.
    package func name(layer: Int, _ names: TensorNames) -> String {
        let isShared = self == .attention || self == .feedForward
        let module = isShared ? names.parent(reader) : names.modules[reader]?.name ?? ""
        return "\(names.layers)\(layer)\(module.isEmpty ? "" : ".")\(module):in"
    }

    package init?(of tensor: LayerTensor) {
        guard !tensor.isBias else { return nil }
        switch tensor.module {
        case .query, .key, .value: self = .attention
        case .output: self = .output
        case .gate, .up: self = .feedForward
        case .down: self = .down
        default: return nil
        }
    }

    package func width(_ sizes: LayerSizes) -> Int {
        switch self {
        case .attention, .feedForward: sizes.hidden
        case .output: sizes.query
        case .down: sizes.feedForward
        }
    }
}

extension ModelSource {
    /// Returns the tensors that the patterns name, in rising τ. Tensors of the model come with the basis of their input space if the run
    /// damps components; adapters have the ranks of the basis.
    ///
    /// - Throws: `TrainingError` as `checkPatterns` does, and for a basis that lacks an input space or an adapter or that has other widths
    ///   than the model.
    public func trainedTensors(matching patterns: [String], basis: RunBasis?) throws(TrainingError) -> [TrainedTensor] {
        let (chosen, places) = try resolve(patterns)
        return try modelTensors(chosen, basis: basis) + adapterTensors(places, basis: basis)
    }

    /// Checks that the patterns name something that can be trained; needs no basis.
    ///
    /// - Throws: `TrainingError` for a malformed pattern, for one that matches nothing (listing what can be named), for an adapter at an
    ///   impossible place, and for an empty list of patterns.
    public func checkPatterns(_ patterns: [String]) throws(TrainingError) { _ = try resolve(patterns) }

    /// Returns the places of the adapters that the patterns name, in the order of their indices τ.
    ///
    /// - Throws: as `checkPatterns`.
    public func adapterPlaces(matching patterns: [String]) throws(TrainingError) -> [AdapterPlace] { try resolve(patterns).adapters }

    /// Returns the positions of the named tensors in `tensorNames`, rising, and the places of the named adapters, in the order of τ.
    private func resolve(_ patterns: [String]) throws(TrainingError) -> (tensors: [Int], adapters: [AdapterPlace]) {
        guard !patterns.isEmpty else {
            throw TrainingError(.badTensors, "no tensors to train are named (try layers.\(configuration.layerCount - 1))")
        }
        var chosen = Set<Int>()
        var places = Set<AdapterPlace>()
        for text in patterns {
            guard text.hasPrefix(RunSpec.adapterPrefix) else {
                chosen.formUnion(try tensors(matching: text, named: text))
                continue
            }
            let place = String(text.dropFirst(RunSpec.adapterPrefix.count))
            if place == AdapterPlace.finalName {
                places.insert(.final)
                continue
            }
            let maps = linearMaps
            let found = try tensors(matching: place, named: text).filter { maps.contains(tensorNames[$0]) }
            guard !found.isEmpty else {
                throw TrainingError(.badTensors, "'\(text)' names no matrix of a layer, where an adapter could be. \(whatCanBeNamed)")
            }
            for index in found { places.insert(.tensor(name: tensorNames[index], index: UInt32(index))) }
        }
        return (chosen.sorted(), places.sorted { $0.adapterIndex < $1.adapterIndex })
    }

    /// Returns positions in `tensorNames`.
    ///
    /// - Parameter text: the pattern as the user gave it, for errors.
    private func tensors(matching name: String, named text: String) throws(TrainingError) -> [Int] {
        guard let pattern = TensorPattern(name, layers: configuration.description.names.layers) else {
            throw TrainingError(.badTensors, "'\(text)' is no tensor name pattern. \(whatCanBeNamed)")
        }
        if let last = pattern.lastLayer, last >= configuration.layerCount {
            throw TrainingError(.badTensors, "'\(text)' goes beyond the model's last layer, \(configuration.layerCount - 1). \(whatCanBeNamed)")
        }
        let found = tensorNames.indices.filter { pattern.matches(tensorNames[$0], shape(of: tensorNames[$0])) }
        guard !found.isEmpty else { throw TrainingError(.badTensors, "no tensor of the model matches '\(text)'. \(whatCanBeNamed)") }
        return found
    }

    /// Names of the layers' matrices.
    private var linearMaps: Set<String> {
        let sizes = LayerSizes(configuration)
        let names = configuration.description.names
        return Set(
            (0..<configuration.layerCount).flatMap { layer in
                LayerModule.matrices.filter(sizes.has).map { names.name(LayerTensor($0), layer: layer) }
            })
    }

    private func adapterTensors(_ places: [AdapterPlace], basis: RunBasis?) throws(TrainingError) -> [TrainedTensor] {
        var tensors: [TrainedTensor] = []
        let named = Set(places.map(\.name))
        if !places.isEmpty, let other = basis?.adapters.first(where: { !named.contains($0.place) }) {
            throw TrainingError(
                .badTensors, "the basis has an adapter at \(other.place), which is not named: make one for these places with onebyte prepare")
        }
        for place in places {
            guard let own = basis?.adapter(at: place.name), let widths = widths(of: place) else {
                throw TrainingError(
                    .badTensors, "\(RunSpec.adapterPrefix)\(place.name) needs a basis that has this adapter; make it with onebyte prepare")
            }
            guard own.outputs.length == widths.outputs, own.inputs.length == widths.inputs else {
                throw TrainingError(
                    .badTensors,
                    "the basis of the adapter at \(place.name) is from \(own.inputs.length) to \(own.outputs.length) numbers, the model's map there from \(widths.inputs) to \(widths.outputs); make it again with onebyte prepare"
                )
            }
            tensors.append(TrainedTensor(adapterAt: place, rows: own.outputs.count, columns: own.inputs.count))
        }
        return tensors
    }

    private func modelTensors(_ chosen: [Int], basis: RunBasis?) throws(TrainingError) -> [TrainedTensor] {
        let spaces = Dictionary((basis?.spaces ?? []).map { ($0.space, $0) }, uniquingKeysWith: { first, _ in first })
        let sizes = LayerSizes(configuration)
        let names = configuration.description.names
        var inputs: [String: (space: String, width: Int)] = [:]
        for layer in 0..<configuration.layerCount {
            for tensor in sizes.tensors {
                guard let space = InputSpace(of: tensor) else { continue }
                inputs[names.name(tensor, layer: layer)] = (space.name(layer: layer, names), space.width(sizes))
            }
        }
        var tensors: [TrainedTensor] = []
        for index in chosen {
            let name = tensorNames[index]
            guard let shape = shape(of: name) else { continue }
            var own: InputBasis?
            if let basis, !basis.hasAdaptersAlone, let input = inputs[name] {
                guard let found = spaces[input.space] else {
                    throw TrainingError(
                        .badTensors,
                        "the basis has no \(input.space), which \(name) needs: it was made for other tensors; make it again with onebyte prepare")
                }
                guard found.width == input.width else {
                    throw TrainingError(
                        .badTensors,
                        "the basis of \(input.space) is \(found.width) wide, the model's layer \(input.width); make it again with onebyte prepare")
                }
                own = found
            }
            tensors.append(TrainedTensor(name: name, index: UInt32(index), shape: shape, basis: own))
        }
        return tensors
    }

    private var whatCanBeNamed: String {
        let last = configuration.layerCount - 1
        let names = configuration.description.names
        let attention = names.parent(.query)
        let parts = attention.isEmpty ? names.modules[.up]?.name ?? "" : attention
        return
            "Possible: all; layers.0 to layers.\(last) (a layer's matrices); ranges such as layers.0-\(last); parts such as layers.\(last).\(parts) or "
            + "layers.\(last).\(names.modules[.down]?.name ?? ""); full names, with * for any characters, such as *.\(names.modules[.down]?.name ?? "").*; "
            + names.name(.embedding) + (configuration.tiedHead ? " (which is the head too)" : "; " + names.name(.head))
            + (configuration.has(.finalNorm) ? "; " + names.name(.finalNorm) : "")
            + "; adapter:final (an adapter of the states that the head reads); adapter: and any of these that name matrices of layers, such as adapter:layers.\(last).\(names.modules[.down]?.name ?? "")"
    }
}

extension RunBasis {
    /// Whether the basis holds adapters and no input spaces, as in a run that damps nothing.
    fileprivate var hasAdaptersAlone: Bool { spaces.isEmpty && !adapters.isEmpty }
}
