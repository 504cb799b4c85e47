import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

/// Options that all these benchmarks read: a model, and the spec, basis and examples of an earlier run.
struct RunOptions: ParsableArguments {
    @Option(help: "The base model.") var model = ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
    @Option(help: ArgumentHelp("A run directory: its run.json and basis are read.", valueName: "directory")) var run: String
    @Option(help: "JSON lines to train on.") var trainFile = ".cache/movie-reviews/train.jsonl"
    @Option(help: "Files of hidden states that further calls take over.") var cacheDirectory = ".cache/hidden-states"
    @Option(help: "Threads.") var threads = 1

    func spec() throws -> RunSpec {
        try JSONDecoder().decode(RunSpec.self, from: Data(contentsOf: URL(fileURLWithPath: run + "/run.json")))
    }

    func basis(_ file: String? = nil) throws -> RunBasis? {
        guard let data = FileManager.default.contents(atPath: file ?? run + "/basis") else {
            guard let file else { return nil }
            throw ValidationError("\(file) can't be read")
        }
        return try RunBasis(decoding: [UInt8](data))
    }

    /// Returns the matrices of the top `count` layers. Those that the run trains have its damped components; the others have none, because
    /// the run's basis does not cover them.
    func topLayers(_ count: Int, of source: ModelSource) throws -> [TrainedTensor] {
        let end = source.configuration.layerCount
        let shaped = try source.trainedTensors(matching: spec().train, basis: basis())
        return try source.trainedTensors(matching: ["layers.\(end - count)-\(end - 1)"], basis: nil).map { plain in
            shaped.first { $0.index == plain.index } ?? plain
        }
    }

    func source() throws -> ModelSource {
        MatrixLibrary.setThreads(1)
        return try ModelSource.open(model)
    }

    func examples(_ file: String, _ source: ModelSource, limit: Int = .max) throws -> ExampleSet {
        let records = try DataFile.read(file, limit: limit)
        let encoded = try TaskEncoder(task: try spec().task, model: source).encode(records)
        return try ExampleSet(encoded.examples, for: source.configuration)
    }

    /// Returns the hidden states of these examples, from a file if there is one.
    func cache(_ set: ExampleSet, _ model: TrainableModel, _ source: ModelSource) throws -> PrefixCache {
        try FileManager.default.createDirectory(atPath: cacheDirectory, withIntermediateDirectories: true)
        var hash = SHA256()
        for entry in source.baseManifest(threads: threads).entries { hash.update(entry.digest.bytes) }
        let cache = try PrefixCache(
            model: model, set: set,
            options: .init(memoryLimit: 0, directory: cacheDirectory, baseDigest: hash.finalize(), threads: threads))
        try cache.fill { _, _ in true }
        return cache
    }
}

@main
struct EstimatorBenchmark: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "EstimatorBenchmark",
        abstract: "How fast samples are computed, how well estimators learn, and how well they agree, in one process without a cluster around it.",
        subcommands: [Speed.self, Step.self, Learn.self, Agreement.self, Curvature.self, Products.self, Prefix.self, Bases.self])
}
