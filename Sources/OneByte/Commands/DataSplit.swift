import ArgumentParser
import Core
import Foundation
import LanguageModel
import Training

/// Sizes of the parts of data, written as 80/10/10.
package struct SplitParts: ExpressibleByArgument {
    let shares: [Double]

    package init?(argument: String) {
        let numbers = argument.split(separator: "/", omittingEmptySubsequences: false).map { Double($0) }
        let shares = numbers.compactMap { $0 }
        guard shares.count == numbers.count, (2...3).contains(shares.count), shares.allSatisfy({ $0 > 0 && $0.isFinite }) else { return nil }
        self.shares = shares
    }

    /// Returns the part into which a point of 0…1 falls.
    package func part(of point: Double) -> Int {
        let sum = shares.reduce(0, +)
        var end = 0.0
        for (index, share) in shares.enumerated() {
            end += share / sum
            if point < end { return index }
        }
        return shares.count - 1
    }
}

extension DataCommand {
    struct Split: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Split a data file into parts to train on, to steer by and to judge by; the same example is always in the same part.",
            discussion: """
                Into reviews.train.jsonl, reviews.validation.jsonl and reviews.test.jsonl beside it:

                  onebyte data split reviews.csv --split 80/10/10

                Into two parts, train and test, in another directory:

                  onebyte data split reviews.jsonl --split 90/10 --output parts

                The part depends only on the example's fields other than its label. So copies of an example are never in
                two parts, even with different labels. Data added later move no example.
                """)

        @Argument(help: ArgumentHelp("JSON lines, CSV or TSV.", valueName: "file")) var file: String
        @Option(help: ArgumentHelp("The parts: train/validation/test, or train/test.", valueName: "parts")) var split: SplitParts
        @Option(name: .shortAndLong, help: ArgumentHelp("Where the parts go. (default: beside the file)", valueName: "directory"))
        var output: String?
        @Flag(help: "Replace existing parts.") var overwrite = false

        func run() throws {
            let records = try DataFile.read(file)
            let names = split.shares.count == 3 ? ["train", "validation", "test"] : ["train", "test"]
            var parts = Array(repeating: [String](), count: names.count)
            var seen: Set<Digest> = []
            var copies = 0
            for record in records {
                let key = Digest.sha256(Array(record.line(adding: [.init(key: "label", value: .null)]).utf8))
                if !seen.insert(key).inserted { copies += 1 }
                let point = key.bytes.prefix(6).reduce(0.0) { $0 * 256 + Double($1) } / 0x1p48
                parts[split.part(of: point)].append(record.line(adding: []))
            }
            let stem = URL(filePath: file).deletingPathExtension()
            let place = output.map { URL(filePath: $0).appending(path: stem.lastPathComponent) } ?? stem
            let paths = names.map { "\(place.relativePath).\($0).jsonl" }
            for path in paths where !overwrite && FileManager.default.fileExists(atPath: path) {
                throw ProcessFailure(.cannotCreate, "\(path) is there already; --overwrite replaces it")
            }
            if let empty = parts.firstIndex(where: \.isEmpty) {
                throw ProcessFailure(.usage, "\(file): \(records.count) examples are too few for a \(names[empty]) part of this size")
            }
            if let output { try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true) }
            for (path, lines) in zip(paths, parts) {
                try writeWhole(Data(lines.map { $0 + "\n" }.joined().utf8), to: path)
                standardOutput.write("\(path): \(grouped(lines.count)) examples")
            }
            if copies > 0 { standardOutput.write("\(grouped(copies)) examples are copies of others; each is in its original's part") }
        }
    }
}
