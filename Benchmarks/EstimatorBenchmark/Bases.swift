import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

/// Makes the bases that the study compares.
struct Bases: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes the bases basis-1, basis-2 and so on, named by their numbers of damped components, into the run directory.")

    @OptionGroup var options: RunOptions
    @Option(help: "Public text.") var basisText = ".cache/movie-reviews/public.jsonl"
    @Option(help: "Numbers of components.") var components = "1,2,4,8,16"

    func run() throws {
        let spec = try options.spec()
        let source = try options.source()
        let examples = try TaskEncoder(task: spec.task, model: source).encodePublicText(try DataFile.readTexts(basisText))
        for count in numbers(components) {
            let basis = try BasisMaker.makeBasis(
                source: source, training: spec.train, examples: examples, components: count, threads: options.threads)
            try Data(basis.encoded()).write(to: URL(fileURLWithPath: "\(options.run)/basis-\(count)"))
        }
    }
}

func numbers(_ text: String) -> [Int] { text.split(separator: ",").compactMap { Int($0) } }
