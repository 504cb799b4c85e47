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

/// The examples of a file, split into parts to train on, to steer by and to judge by.
///
/// The part of an example depends only on its fields other than its label. So copies of an example are never in two parts, even with different
/// labels, and data that are added later move no example.
struct DataParts: Sendable {
    struct Part: Sendable {
        let use: DataUse.Use
        /// Name of its file.
        var name: String {
            switch use {
            case .training: "train"
            case .validation: "validation"
            case .evaluation: "test"
            }
        }
        fileprivate(set) var records: [DataRecord] = []

        /// Writes the part as JSON lines.
        ///
        /// - Throws: `ProcessFailure` with the file's name.
        func write(to path: String) throws(ProcessFailure) {
            try writeWhole(Data(records.map { $0.line(adding: []) + "\n" }.joined().utf8), to: path)
        }
    }

    private(set) var parts: [Part]
    /// Number of examples whose fields other than the label are those of an earlier example.
    private(set) var copies = 0

    /// - Throws: `DataError` for a file that can't be read; `ProcessFailure` `.usage` if a part is empty.
    init(of file: String, _ split: SplitParts) throws {
        parts = (split.shares.count == 3 ? [.training, .validation, .evaluation] : [.training, .evaluation]).map { Part(use: $0) }
        let records = try DataFile.read(file)
        var seen: Set<Digest> = []
        for record in records {
            let key = Digest.sha256(Array(record.line(adding: [.init(key: "label", value: .null)]).utf8))
            if !seen.insert(key).inserted { copies += 1 }
            let point = key.bytes.prefix(6).reduce(0.0) { $0 * 256 + Double($1) } / 0x1p48
            parts[split.part(of: point)].records.append(record)
        }
        if let empty = parts.first(where: \.records.isEmpty) {
            throw ProcessFailure(.usage, "\(file): \(records.count) examples are too few for a \(empty.name) part of this size")
        }
    }

    /// Returns the examples for a use; nil if no part is for it.
    func records(for use: DataUse.Use) -> [DataRecord]? { parts.first { $0.use == use }?.records }
}
