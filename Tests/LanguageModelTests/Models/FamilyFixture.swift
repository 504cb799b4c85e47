import Core
import Foundation
import LanguageModel
import Testing
import Training

/// A tiny model of a family, and the results of transformers for it (make_families.py).
struct FamilyFixture: @unchecked Sendable {  // constants of a file
    let name: String
    /// config.json as transformers writes it.
    let config: [String: Any]
    /// All tensors of model.safetensors with the mean and half the range of their values.
    let tensors: [(name: String, shape: [Int], mean: Double, halfWidth: Double)]
    let tokens: [Int32]
    /// −log p of each token after the first.
    let losses: [Double]
    /// Loss of token 9 against token 5 after all tokens.
    let choice: Double
    /// Greedy continuation of the first eight tokens.
    let written: [Int32]

    static let all: [String: FamilyFixture] = {
        guard let data = try? Data(contentsOf: fixture("families.json")),
            let list = try? JSONSerialization.jsonObject(with: data) as? [[String: Any]]
        else { return [:] }
        return Dictionary(uniqueKeysWithValues: list.compactMap { FamilyFixture($0) }.map { ($0.name, $0) })
    }()
    static let names = all.keys.sorted()

    static func named(_ name: String) throws -> FamilyFixture { try #require(all[name]) }

    private init?(_ json: [String: Any]) {
        guard let name = json["name"] as? String, let config = json["config"] as? [String: Any], let tensors = json["tensors"] as? [String: [Any]],
            let tokens = json["tokens"] as? [Int], let losses = json["losses"] as? [Double], let choice = json["choice"] as? Double,
            let written = json["written"] as? [Int]
        else { return nil }
        self.name = name
        self.config = config
        self.tokens = tokens.map { Int32($0) }
        self.losses = losses
        self.choice = choice
        self.written = written.map { Int32($0) }
        let layers = ["num_hidden_layers", "n_layer", "num_layers"].compactMap { config[$0] as? Int }.first ?? 0
        self.tensors = tensors.flatMap { key, form -> [(String, [Int], Double, Double)] in
            guard let shape = form[0] as? [Int], let mean = form[1] as? Double, let halfWidth = form[2] as? Double else { return [] }
            guard key.contains("{}") else { return [(key, shape, mean, halfWidth)] }
            return (0..<layers).map { (key.replacingOccurrences(of: "{}", with: String($0)), shape, mean, halfWidth) }
        }
    }

    /// Returns values uniform in mean ± halfWidth: splitmix64 from the FNV-1a hash of the name, 24 bits per value.
    static func values(_ name: String, _ count: Int, mean: Double, halfWidth: Double) -> [Float] {
        var state: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in name.utf8 { state = (state ^ UInt64(byte)) &* 0x100_0000_01B3 }
        var random = SplitMix64(state: state)
        return (0..<count).map { _ in Float(mean + halfWidth * (2 * Double(random.next() >> 40) / Double(1 << 24) - 1)) }
    }

    /// Writes config.json and model.safetensors.
    ///
    /// - Parameter renaming: returns a tensor's name in the file; nil leaves the tensor out.
    func write(to directory: String, settings: [String: Any] = [:], renaming: (String) -> String? = { $0 }) throws {
        let own = config.merging(settings) { $1 }
        try JSONSerialization.data(withJSONObject: own).write(to: URL(filePath: directory + "/config.json"))
        let files = tensors.compactMap { tensor in
            renaming(tensor.name).map { name in
                let values = Self.values(tensor.name, tensor.shape.reduce(1, *), mean: tensor.mean, halfWidth: tensor.halfWidth)
                return (name: name, shape: tensor.shape, values: values)
            }
        }
        try Self.writeSafetensors(files, to: directory + "/model.safetensors")
    }

    static func writeSafetensors(_ tensors: [(name: String, shape: [Int], values: [Float])], to path: String) throws {
        var header: [String: Any] = [:]
        var data = Data()
        for tensor in tensors {
            let begin = data.count
            tensor.values.withUnsafeBytes { data.append(contentsOf: $0) }
            header[tensor.name] = ["dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, data.count]]
        }
        let json = try JSONSerialization.data(withJSONObject: header)
        var file = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Data($0) }
        file.append(json)
        file.append(data)
        try file.write(to: URL(filePath: path))
    }

    /// Runs a test on the model.
    func with<T>(_ body: (ModelSource) throws -> T) throws -> T {
        try withTemporaryDirectory { directory in
            try write(to: directory)
            return try body(try ModelSource.open(directory))
        }
    }

    /// A text, two texts of different lengths of which one is partly read, and a choice.
    var examples: [Example] {
        func part(_ from: Int, _ count: Int, reading reads: [Int]) -> Example {
            let own = Array(tokens[from..<from + count])
            return Example(
                sequences: [TokenSequence(tokens: own, targets: reads.map { .init(position: $0, token: tokens[from + $0 + 1]) })], objective: .tokens)
        }
        return [ForwardParityTests.text(tokens), part(3, 9, reading: [2, 3, 7]), part(10, 21, reading: [20]), choiceExample]
    }

    var textExamples: [Example] { examples.filter { $0.objective == .tokens } }

    var choiceExample: Example {
        Example(
            sequences: [TokenSequence(tokens: tokens, targets: [.init(position: tokens.count - 1, token: 9)])],
            objective: .candidates([5, 9], correct: 1))
    }
}
