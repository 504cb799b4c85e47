import ArgumentParser
import Core
import Foundation

extension DataCommand {
    struct Split: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Split a data file into parts to train on, to steer by and to judge by; the same example is always in the same part.",
            discussion: joined(
                """
                Into reviews.train.jsonl, reviews.validation.jsonl and reviews.test.jsonl beside it:

                  onebyte data split reviews.csv --split 80/10/10

                Into two parts, train and test, in another directory:

                  onebyte data split reviews.jsonl --split 90/10 --output parts

                The part depends only on the example's fields other than its label. So copies of an example are never in
                two parts, even with different labels. Data added later move no example.
                """))

        @Argument(help: ArgumentHelp("JSON lines, CSV or TSV.", valueName: "file")) var file: String
        @Option(help: ArgumentHelp("The parts: train/validation/test, or train/test.", valueName: "parts")) var split: SplitParts
        @Option(name: .shortAndLong, help: ArgumentHelp("Where the parts go. (default: beside the file)", valueName: "directory"))
        var output: String?
        @Flag(help: "Replace existing parts.") var overwrite = false

        func run() throws {
            let data = try DataParts(of: file, split)
            let stem = URL(filePath: file).deletingPathExtension()
            let place = output.map { URL(filePath: $0).appending(path: stem.lastPathComponent) } ?? stem
            let paths = data.parts.map { "\(place.relativePath).\($0.name).jsonl" }
            for path in paths where !overwrite && FileManager.default.fileExists(atPath: path) {
                throw ProcessFailure(.cannotCreate, "\(path) is there already; --overwrite replaces it")
            }
            if let output { try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true) }
            for (path, part) in zip(paths, data.parts) {
                try part.write(to: path)
                standardOutput.write("\(path): \(grouped(part.records.count)) examples")
            }
            if data.copies > 0 { standardOutput.write("\(grouped(data.copies)) examples are copies of others; each is in its original's part") }
        }
    }
}
