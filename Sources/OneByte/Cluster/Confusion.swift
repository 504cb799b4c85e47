import Core
import Training

/// A confusion matrix: how often each label was predicted for each right label.
package struct Confusion: Codable, Hashable, Sendable {
    package struct Label: Codable, Hashable, Sendable {
        package var label: String
        /// Number of examples with the label, of those predicted to have it, and of both.
        package var examples: Int
        package var predicted: Int
        package var right: Int
        /// right / predicted and right / examples; nil if the denominator is 0.
        package var precision: Double?
        package var recall: Double?
    }

    package var labels: [Label]
    /// One row per right label, with a count for each predicted label.
    package var counts: [[Int]]

    /// Returns nil if the evaluation has no labels.
    package init?(_ evaluation: Evaluation, _ task: TaskSpec) {
        guard let words = task.labels, !words.isEmpty, task.kind == .classification else { return nil }
        var counts = Array(repeating: Array(repeating: 0, count: words.count), count: words.count)
        var isThere = false
        for item in evaluation.items {
            guard let right = item.correct, let predicted = item.predicted, words.indices.contains(right), words.indices.contains(predicted) else {
                continue
            }
            counts[right][predicted] += 1
            isThere = true
        }
        guard isThere else { return nil }
        self.counts = counts
        labels = words.enumerated().map { index, word in
            let examples = counts[index].reduce(0, +)
            let predicted = counts.reduce(0) { $0 + $1[index] }
            let right = counts[index][index]
            return Label(
                label: word.label, examples: examples, predicted: predicted, right: right,
                precision: predicted > 0 ? Double(right) / Double(predicted) : nil, recall: examples > 0 ? Double(right) / Double(examples) : nil)
        }
    }

    /// Largest number of labels that fit a table; the JSON always has all.
    private static let columnsMax = 12

    /// The matrix as a table for people.
    package var text: String {
        guard labels.count <= Self.columnsMax else { return "\(labels.count) labels: their confusion is in --format json" }
        let names = labels.map { printable($0.label, onOneLine: true) }
        var rows = [["right ↓ predicted →"] + names + ["examples", "recall"]]
        for (index, label) in labels.enumerated() {
            rows.append([names[index]] + counts[index].map { grouped($0) } + [grouped(label.examples), label.recall.map(percent) ?? "–"])
        }
        rows.append(["predicted"] + labels.map { grouped($0.predicted) } + ["", ""])
        rows.append(["precision"] + labels.map { $0.precision.map(percent) ?? "–" } + ["", ""])
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = row.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + space : space + cell
            }
            return "  " + cells.joined(separator: "  ").trimmingEnd
        }.joined(separator: "\n")
    }
}

extension String {
    fileprivate var trimmingEnd: String { String(reversed().drop { $0 == " " }.reversed()) }
}
