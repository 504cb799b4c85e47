import Core
import Kernels

/// A tensor where it lies in a mapped file.
package struct StoredTensor: Sendable {
    /// How the file orders the rows of a matrix.
    package enum RowOrder: Hashable, Sendable {
        case asIs
        /// GGUF's `llama` files interleave the two halves of each attention head for their own RoPE: row `2j + t` of a head
        /// is row `t·headDimension/2 + j` of the Hugging Face matrix.
        case interleavedHeads(headDimension: Int)
    }

    package let file: MappedFile
    /// Of the first byte in the file. `offset + byteCount` was checked against the file's length.
    package let offset: Int
    package let type: ElementType
    package let shape: TensorShape
    package let rowOrder: RowOrder

    /// Rows of a matrix; a vector counts as one row.
    package var rows: Int {
        switch shape {
        case .vector: 1
        case .matrix(let rows, _): rows
        }
    }

    /// Elements of a row.
    package var columns: Int {
        switch shape {
        case .vector(let count): count
        case .matrix(_, let columns): columns
        }
    }

    /// Dequantises rows, numbered as Hugging Face does, one after the other.
    ///
    /// - Precondition: `rows` lies in `0 ..< self.rows`, and `out` has room for `rows.count * columns` values.
    package func copyFloats(rows: some Collection<Int>, into out: UnsafeMutablePointer<Float>) {
        withExtendedLifetime(file) {
            let rowBytes = columns / type.blockElements * type.blockBytes
            guard let base = file.bytes.baseAddress?.advanced(by: offset) else { return }
            if case .asIs = rowOrder, let range = rows as? Range<Int> {
                ob_dequantise(type.rawValue, base + range.lowerBound * rowBytes, out, range.count * columns)
                return
            }
            for (i, row) in rows.enumerated() {
                ob_dequantise(type.rawValue, base + storedRow(row) * rowBytes, out + i * columns, columns)
            }
        }
    }

    private func storedRow(_ row: Int) -> Int {
        switch rowOrder {
        case .asIs: return row
        case .interleavedHeads(let dimension):
            let (head, inHead) = row.quotientAndRemainder(dividingBy: dimension)
            let (half, j) = inHead.quotientAndRemainder(dividingBy: dimension / 2)
            return head * dimension + 2 * j + half
        }
    }
}
