import Core
import Kernels

/// A model's tensor as a part of a tensor in a file: which of its rows, in which order.
package struct TensorView: Hashable, Sendable {
    package enum RowOrder: Hashable, Sendable {
        case asIs
        /// GGUF's `llama` files interleave the two halves of each attention head for their own RoPE: row `2j + t` of a head
        /// is row `t·headDimension/2 + j` of the Hugging Face matrix.
        case interleavedHeads(headDimension: Int)
        /// A head's rows stand between those of other parts of the head: row j of head h is row (parts·h + part)·headDimension + j.
        case partOfHeads(part: Int, parts: Int, headDimension: Int)
    }
    package var rowOrder = RowOrder.asIs
    /// Of the file's tensor: its rows before the first of these.
    package var firstRow = 0
    /// The file has a row for each input, and of it these are columns.
    package var isTransposed = false
    /// Added to what the file has.
    package var offset: Float = 0

    package init(rowOrder: RowOrder = .asIs, firstRow: Int = 0, isTransposed: Bool = false, offset: Float = 0) {
        self.rowOrder = rowOrder
        self.firstRow = firstRow
        self.isTransposed = isTransposed
        self.offset = offset
    }

    /// Of the file's tensor (its column where it is transposed), for a row of this one.
    package func storedRow(_ row: Int) -> Int {
        switch rowOrder {
        case .asIs: return firstRow + row
        case .interleavedHeads(let dimension):
            let (head, inHead) = row.quotientAndRemainder(dividingBy: dimension)
            let (half, j) = inHead.quotientAndRemainder(dividingBy: dimension / 2)
            return firstRow + head * dimension + 2 * j + half
        case .partOfHeads(let part, let parts, let dimension):
            let (head, inHead) = row.quotientAndRemainder(dividingBy: dimension)
            return firstRow + (parts * head + part) * dimension + inHead
        }
    }
}

/// A tensor where it lies in a mapped file.
package struct StoredTensor: Sendable {
    package let file: MappedFile
    /// Of the first byte of the file's tensor. `offset + byteCount` was checked against the file's length.
    package let offset: Int
    package let type: ElementType
    package let shape: TensorShape
    /// What the file's tensor has in a row; of a vector all of it.
    package let storedColumns: Int
    package let view: TensorView

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
            guard let base = file.bytes.baseAddress?.advanced(by: offset) else { return }
            if view.isTransposed {
                copyColumns(rows, of: base, into: out)
            } else if case .vector = shape, view != TensorView(offset: view.offset) {
                copyElements(of: base, into: out)
            } else {
                copyRows(rows, of: base, into: out)
            }
        }
        if view.offset != 0 { for i in 0..<rows.count * columns { out[i] += view.offset } }
    }

    private func copyRows(_ rows: some Collection<Int>, of base: UnsafeRawPointer, into out: UnsafeMutablePointer<Float>) {
        let rowBytes = columns / type.blockElements * type.blockBytes
        if case .asIs = view.rowOrder, let range = rows as? Range<Int> {
            ob_dequantise(type.rawValue, base + (view.firstRow + range.lowerBound) * rowBytes, out, range.count * columns)
            return
        }
        for (i, row) in rows.enumerated() {
            ob_dequantise(type.rawValue, base + view.storedRow(row) * rowBytes, out + i * columns, columns)
        }
    }

    /// Elements of a vector that is a part of one.
    private func copyElements(of base: UnsafeRawPointer, into out: UnsafeMutablePointer<Float>) {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: storedColumns) { all in
            guard let from = all.baseAddress else { return }
            ob_dequantise(type.rawValue, base, from, storedColumns)
            for i in 0..<columns { out[i] = from[view.storedRow(i)] }
        }
    }

    /// Rows of a matrix that the file has as columns.
    private func copyColumns(_ rows: some Collection<Int>, of base: UnsafeRawPointer, into out: UnsafeMutablePointer<Float>) {
        let rowBytes = storedColumns / type.blockElements * type.blockBytes
        let places = rows.map(view.storedRow)
        withUnsafeTemporaryAllocation(of: Float.self, capacity: storedColumns) { row in
            guard let from = row.baseAddress else { return }
            for input in 0..<columns {
                ob_dequantise(type.rawValue, base + input * rowBytes, from, storedColumns)
                for (i, place) in places.enumerated() { out[i * columns + input] = from[place] }
            }
        }
    }
}
