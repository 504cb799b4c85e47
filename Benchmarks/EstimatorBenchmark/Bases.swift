import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

/// Makes bases of several kinds from one measurement of the inputs.
struct Bases: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes the bases basis-4 (4 components) and basis-channels-16 and so on into the run directory.")

    @OptionGroup var options: RunOptions
    @Option(help: "Public text.") var basisText = ".cache/movie-reviews/public.jsonl"
    @Option(help: "Numbers of components.") var components = "1,2,4,8,16"
    @Option(help: "Numbers of channels.") var channels = "4,16,64"

    func run() throws {
        let spec = try options.spec()
        let source = try options.source()
        let examples = try TaskEncoder(task: spec.task, model: source).encodePublicText(try DataFile.readTexts(basisText))
        let named: [(String, BasisMaker.Kind)] =
            numbers(components).map { ("basis-\($0)", .components($0)) } + numbers(channels).map { ("basis-channels-\($0)", .channels($0)) }
        let bases = try BasisMaker.makeBases(
            source: source, training: spec.train, examples: examples, kinds: named.map(\.1), threads: options.threads)
        for ((name, _), basis) in zip(named, bases) {
            try Data(basis.encoded()).write(to: URL(fileURLWithPath: options.run + "/" + name))
        }
    }
}

func numbers(_ text: String) -> [Int] { text.split(separator: ",").compactMap { Int($0) } }
