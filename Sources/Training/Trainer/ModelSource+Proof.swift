import Core
import LanguageModel

extension ModelSource {
    /// Number of the base's rows that a proof reads. A machine that lacks a hundredth of the weights passes with a probability of one half;
    /// a machine with another model never passes.
    private static let proofRows: UInt32 = 64

    /// Adds the rows that the nonce selects to the hash, as little-endian F32. Each is the row of an element drawn from all tensors
    /// together, in the order of their names' bytes. A vector counts as one row.
    func addRows(of nonce: ProofNonce, to hash: inout SHA256) throws(ModelError) {
        let names = tensorNames.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        let shapes = names.map { shape(of: $0) ?? .vector(0) }
        let total = shapes.reduce(UInt64(0)) { $0 + UInt64($1.count) }
        guard total > 0 else { return }
        for number in 0..<Self.proofRows {
            var element = nonce.element(number, of: total)
            var place = 0
            while element >= UInt64(shapes[place].count) {
                element -= UInt64(shapes[place].count)
                place += 1
            }
            let columns =
                switch shapes[place] {
                case .vector(let count): count
                case .matrix(_, let columns): columns
                }
            let row = Int(element) / columns
            var values = [Float](repeating: 0, count: columns)
            try copyFloats(names[place], rows: row..<row + 1, into: &values)
            hash.update(values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } })
        }
    }
}
