import Core
import Foundation
import LanguageModel
import Testing
import Training

/// The tiny Llama with an adapter at `final` whose factors are random.
struct AdaptedTinyLlama {
    static let machine = MachineID(3)
    static let train = ["adapter:final"]

    let source: ModelSource
    let basis: RunBasis
    let tensors: [TrainedTensor]
    let directions: Directions
    let parameters: Parameters
    let model: TrainableModel

    var rank: (outputs: Int, inputs: Int) { (basis.adapters[0].outputs.count, basis.adapters[0].inputs.count) }

    /// - Parameter isMoved: whether C differs from 0.
    init(outputs: Int = 3, inputs: Int = 5, sampling: DirectionSampling = .orthogonal, isMoved: Bool = true) throws {
        source = try EstimatorTests.tiny()
        let width = source.configuration.hiddenSize
        var random = SplitMix64(state: 17)
        func vectors(_ count: Int, _ size: Double) -> [[Double]] {
            (0..<count).map { _ in (0..<width).map { _ in Double.random(in: -size...size, using: &random) } }
        }
        basis = try RunBasis(
            spaces: [],
            adapters: [
                AdapterBasis(
                    place: "final", outputs: FixedPointVectors(rounding: vectors(outputs, 2)),
                    inputs: FixedPointVectors(rounding: vectors(inputs, 0.3)))
            ])
        tensors = try source.trainedTensors(matching: Self.train, basis: basis)
        directions = try Directions(seed: RunSeed(9), family: .rank1, sampling: sampling, tensors: tensors)
        parameters = try source.makeParameters(tensors)
        if isMoved {
            parameters.apply(
                [Self.record([60, -90, 127, 20, -55, 80], from: 1000, scale: Double(sign: .plus, exponent: -10, significand: 1))],
                directions: directions, threads: 1)
        }
        model = try TrainableModel(source: source, parameters: parameters, basis: basis)
    }

    /// Returns a round that subtracts scale·Σ q·z from C.
    static func record(_ bytes: [Int8], from first: SampleNumber, scale: Double) -> RoundRecord {
        RoundRecord(
            round: 0, scaleExponent: 0, step: .nearest(rate: scale),
            contributions: [Contribution(machine: machine, firstSample: first, bytes: bytes)])
    }

    var floats: (u: [Float], v: [Float], c: [Float]) {
        let c = [Float](unsafeUninitializedCapacity: tensors[0].shape.count) { buffer, count in
            if let start = buffer.baseAddress { parameters.copyFloats(at: 0, elements: 0..<tensors[0].shape.count, into: start) }
            count = tensors[0].shape.count
        }
        return (basis.adapters[0].outputs.floats(), basis.adapters[0].inputs.floats(), c)
    }

    /// Returns E + (E·U)·C·Vᵀ.
    func mergedHead() throws -> [Float] {
        let (u, v, c) = floats
        let (p, r) = rank
        let width = source.configuration.hiddenSize
        var head = try Self.values(of: source.headName, source)
        for token in 0..<source.configuration.vocabularySize {
            var row = head[token * width..<(token + 1) * width].map(Double.init)
            var outputs = [Double](repeating: 0, count: p)
            for i in 0..<p { for k in 0..<width { outputs[i] += row[k] * Double(u[i * width + k]) } }
            for j in 0..<r {
                var input = 0.0
                for i in 0..<p { input += outputs[i] * Double(c[i * r + j]) }
                for k in 0..<width { row[k] += input * Double(v[j * width + k]) }
            }
            for k in 0..<width { head[token * width + k] = Float(row[k]) }
        }
        return head
    }

    static func values(of name: String, _ source: ModelSource) throws -> [Float] {
        var values = [Float](repeating: 0, count: try #require(source.shape(of: name)).count)
        try values.withUnsafeMutableBufferPointer { try source.copyFloats(name, into: #require($0.baseAddress)) }
        return values
    }

    /// Runs a test on the tiny Llama with another head.
    static func withHead<R>(_ head: [Float], _ body: (ModelSource) throws -> R) throws -> R {
        let source = try EstimatorTests.tiny()
        return try withTemporaryDirectory { directory in
            var entries: [String: Any] = [:]
            var weights = Data()
            func add(_ name: String, _ shape: [Int], _ values: [Float]) {
                entries[name] = ["dtype": "F32", "shape": shape, "data_offsets": [weights.count, weights.count + 4 * values.count]]
                values.withUnsafeBytes { weights.append(contentsOf: $0) }
            }
            for name in source.tensorNames {
                add(name, try #require(source.shape(of: name)).dimensions, try values(of: name, source))
            }
            add("lm_head.weight", [source.configuration.vocabularySize, source.configuration.hiddenSize], head)
            let table = try JSONSerialization.data(withJSONObject: entries)
            var file = Data()
            withUnsafeBytes(of: UInt64(table.count).littleEndian) { file.append(contentsOf: $0) }
            try (file + table + weights).write(to: URL(filePath: directory + "/model.safetensors"))
            let original = try Data(contentsOf: fixture("tiny-llama/config.json"))
            var config = try #require(try JSONSerialization.jsonObject(with: original) as? [String: Any])
            config["tie_word_embeddings"] = false
            try JSONSerialization.data(withJSONObject: config).write(to: URL(filePath: directory + "/config.json"))
            return try body(ModelSource.open(directory))
        }
    }

    func cache(_ examples: [Example]) throws -> PrefixCache {
        try PrefixCache(model: model, set: ExampleSet(examples, for: source.configuration))
    }

    /// Returns the mean loss at C + scale·Σ q·z.
    func loss(
        _ examples: [Example], movedBy bytes: [Int8], from first: SampleNumber, scale: Double, generalizedCrossEntropy: Double = 0
    ) throws -> Double {
        let other = try Parameters(tensors: tensors) { _, _ in }
        #expect(other.assign(parameters))
        other.apply([Self.record(bytes.map { -$0 }, from: first, scale: scale)], directions: directions, threads: 1)
        let model = try TrainableModel(source: source, parameters: other, basis: basis)
        let cache = try PrefixCache(model: model, set: ExampleSet(examples, for: source.configuration))
        return try Evaluator(model: model, cache: cache, generalizedCrossEntropy: generalizedCrossEntropy).evaluate().meanLoss
    }

    /// Returns the examples of one kind, or all.
    static func examples(_ kind: String) throws -> [Example] {
        try EstimatorFixture.shared.get().trainingExamples().filter { example in
            switch example.objective {
            case .candidates: kind == "candidates" || kind == "all" || kind == "classes"
            case .options: kind == "options" || kind == "all" || kind == "classes"
            case .tokens: kind == "tokens" || kind == "all"
            case .text: false
            }
        }
    }

    /// Returns sentences whose class is given by their first token.
    static func sentences(_ count: Int) -> [Example] {
        (0..<count).map { (i: Int) -> Example in
            let first = Int32(10 + i * 7 % 40)
            let tokens: [Int32] = [first] + (1..<8).map { (j: Int) -> Int32 in Int32(60 + (i * 13 + j * 5) % 100) }
            let right = Int(first) % 2
            return Example(
                sequences: [TokenSequence(tokens: tokens, targets: [.init(position: 7, token: [20, 21][right])])],
                objective: .candidates([20, 21], correct: right))
        }
    }
}
