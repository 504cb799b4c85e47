import Foundation

/// Scores that compare written texts with the wanted ones.
package struct TextScores: Codable, Hashable, Sendable {
    package var texts: Int
    /// Part of the texts that equal the wanted text, apart from white space around it.
    package var exactMatch: Double
    /// Mean ROUGE-L (Lin, 2004): F1 of the longest common subsequence of words, in lower case, without punctuation.
    package var rougeL: Double

    enum CodingKeys: String, CodingKey {
        case texts
        case exactMatch = "exact_match"
        case rougeL = "rouge_l"
    }

    package init(_ pairs: [(written: String, wanted: String)]) {
        texts = pairs.count
        let count = Double(max(pairs.count, 1))
        exactMatch = Double(pairs.count { Self.trimmed($0.written) == Self.trimmed($0.wanted) }) / count
        rougeL = pairs.reduce(0) { $0 + Self.rougeL($1.written, $1.wanted) } / count
    }

    /// Returns F1 of the longest common subsequence of words; 1 for two texts without words.
    package static func rougeL(_ written: String, _ wanted: String) -> Double {
        let (a, b) = (words(written), words(wanted))
        guard !a.isEmpty, !b.isEmpty else { return a.isEmpty && b.isEmpty ? 1 : 0 }
        var row = Array(repeating: 0, count: b.count + 1)
        for word in a {
            var diagonal = 0
            for j in b.indices {
                let above = row[j + 1]
                row[j + 1] = word == b[j] ? diagonal + 1 : max(above, row[j])
                diagonal = above
            }
        }
        let common = Double(row[b.count])
        return 2 * common / Double(a.count + b.count)
    }

    private static func trimmed(_ text: String) -> String { text.trimmingCharacters(in: .whitespacesAndNewlines) }

    private static func words(_ text: String) -> [Substring] {
        text.lowercased().split { !$0.isLetter && !$0.isNumber }
    }

    /// Text such as "exact match 12.0 %, ROUGE-L 0.412".
    package var text: String { "exact match \(percent(exactMatch)), ROUGE-L \(fixed(rougeL, 3))" }
}
