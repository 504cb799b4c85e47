/// Returns the word of `words` with the least edit distance to a mistyped `word`. The distance may be a third of the word's length at most, or two
/// letters for a short word, so that a wild guess is never offered.
package func nearestWord(to word: String, in words: [String]) -> String? {
    let limit = max(2, word.count / 3)
    let distances = words.map { (word: $0, distance: editDistance(Array(word.lowercased()), Array($0.lowercased()))) }
    guard let best = distances.min(by: { $0.distance < $1.distance }), best.distance <= limit else { return nil }
    return best.word
}

/// Returns the number of insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (the restricted Damerau–Levenshtein
/// distance).
private func editDistance(_ a: [Character], _ b: [Character]) -> Int {
    var table = Array(repeating: Array(repeating: 0, count: b.count + 1), count: a.count + 1)
    for i in 0...a.count { table[i][0] = i }
    for j in 0...b.count { table[0][j] = j }
    for i in a.indices {
        for j in b.indices {
            var best = min(table[i][j + 1], table[i + 1][j]) + 1
            best = min(best, table[i][j] + (a[i] == b[j] ? 0 : 1))
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, table[i - 1][j - 1] + 1) }
            table[i + 1][j + 1] = best
        }
    }
    return table[a.count][b.count]
}
