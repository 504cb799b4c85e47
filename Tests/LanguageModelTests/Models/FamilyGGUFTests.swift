import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Models of the families as llama.cpp's converter writes them (make_family_gguf.py) have the same losses, tensors and configuration.
@Suite struct FamilyGGUFTests {
    private static let directory = ProcessInfo.processInfo.environment["ONEBYTE_FAMILY_GGUF"]
    /// Models whose conversion loses something: their window or scale, or their family, which becomes one with state-space layers.
    private static let otherwise: Set = ["mistral", "starcoder2", "gemma3-scaled", "granite-4"]

    @Test(.enabled(if: directory != nil, "needs the files that make_family_gguf.py makes"), arguments: FamilyFixture.names)
    func lossesAreThoseOfTransformers(_ name: String) throws {
        let fixture = try FamilyFixture.named(name)
        guard let path = Self.directory.map({ "\($0)/\(name).gguf" }), FileManager.default.fileExists(atPath: path), !Self.otherwise.contains(name),
            ModelFamily.all.contains(where: { $0.name == fixture.config["model_type"] as? String && $0.gguf != nil })
        else { return }
        let source = try ModelSource.open(path)
        let model = try TrainableModel(source: source)
        let set = try ExampleSet([ForwardParityTests.text(fixture.tokens)], for: source.configuration)
        let found = try Evaluator(model: model, cache: PrefixCache(model: model, set: set)).evaluate().meanLoss
        let wanted = fixture.losses.reduce(0, +) / Double(fixture.losses.count)
        #expect(abs(found - wanted) < 1e-5 * wanted, "\(found), not \(wanted)")

        // The GGUF file has the same tensors as the converted directory.
        try withTemporaryDirectory { directory in
            try FileManager.default.createDirectory(atPath: directory + "/in", withIntermediateDirectories: false)
            try fixture.write(to: directory + "/in")
            let original = try ModelSource.open(directory + "/in")
            #expect(source.tensorNames == original.tensorNames)
            for tensor in source.tensorNames { #expect(source.shape(of: tensor) == original.shape(of: tensor), "\(tensor)") }
        }
    }
}
