import Core
import Kernels

/// A model's tensor as a part of a tensor in a file: which rows, in which order.
package struct TensorView: Hashable, Sendable {
    package enum RowOrder: Hashable, Sendable {
        case asIs
        /// GGUF's `llama` files interleave the two halves of each attention head for their RoPE: row `2j + t` of a head is row
        /// `t·headDimension/2 + j` of the Hugging Face matrix.
        case interleavedHeads(headDimension: Int)
        /// A head's rows lie between those of other parts of the head: row j of head h is row (parts·h + part)·headDimension + j.
        case partOfHeads(part: Int, parts: Int, headDimension: Int)
    }
    package var rowOrder = RowOrder.asIs
    /// Number of rows in the file's tensor before the first row of this one.
    package var firstRow = 0
    /// Whether the file has a row for each input, so that this tensor's rows are columns there.
    package var isTransposed = false
    /// Value added to the file's elements.
    package var offset: Float = 0

    package init(rowOrder: RowOrder = .asIs, firstRow: Int = 0, isTransposed: Bool = false, offset: Float = 0) {
        self.rowOrder = rowOrder
        self.firstRow = firstRow
        self.isTransposed = isTransposed
        self.offset = offset
    }

    /// Returns the row of the file's tensor (the column if it is transposed) for a row of this one.
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

/// A tensor in a mapped file.
package struct StoredTensor: Sendable {
    package let file: MappedFile
    /// Offset of the first byte of the file's tensor. `offset + byteCount` was checked against the file's length.
    package let offset: Int
    package let type: ElementType
    package let shape: TensorShape
    /// Number of elements in a row of the file's tensor; for a vector, all of them.
    package let storedColumns: Int
    package let view: TensorView
    /// A factor of all values, or one for each row of the file's tensor; empty if there is none.
    package var scales: [Float] = []
    /// The change by an adapter among the model's files; nil if the file's values are the model's. Code that reads the file's bytes without
    /// `copyFloats` must look here.
    package var change: LowRankChange?

    /// Number of rows of a matrix; 1 for a vector.
    package var rows: Int {
        switch shape {
        case .vector: 1
        case .matrix(let rows, _): rows
        }
    }

    /// Number of elements in a row.
    package var columns: Int {
        switch shape {
        case .vector(let count): count
        case .matrix(_, let columns): columns
        }
    }

    /// Dequantises rows one after the other. Row numbers are Hugging Face's.
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
        if !scales.isEmpty {
            for (i, row) in rows.enumerated() {
                let scale = scales.count == 1 ? scales[0] : scales[view.storedRow(row)]
                for k in i * columns..<(i + 1) * columns { out[k] *= scale }
            }
        }
        if let change { for (i, row) in rows.enumerated() { change.apply(to: out + i * columns, row: row) } }
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

    /// Copies elements of a vector that is part of a longer one.
    private func copyElements(of base: UnsafeRawPointer, into out: UnsafeMutablePointer<Float>) {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: storedColumns) { all in
            guard let from = all.baseAddress else { return }
            ob_dequantise(type.rawValue, base, from, storedColumns)
            for i in 0..<columns { out[i] = from[view.storedRow(i)] }
        }
    }

    /// Copies rows of a matrix that are columns in the file. Of each row there, only the blocks between the first and the last of these columns
    /// are dequantised, since callers take a matrix in pieces of a few rows.
    private func copyColumns(_ rows: some Collection<Int>, of base: UnsafeRawPointer, into out: UnsafeMutablePointer<Float>) {
        let places = rows.map(view.storedRow)
        guard let least = places.min(), let greatest = places.max() else { return }
        let rowBytes = storedColumns / type.blockElements * type.blockBytes
        let blocks = least / type.blockElements...greatest / type.blockElements
        let first = blocks.lowerBound * type.blockElements
        let start = base + blocks.lowerBound * type.blockBytes
        withUnsafeTemporaryAllocation(of: Float.self, capacity: blocks.count * type.blockElements) { part in
            guard let from = part.baseAddress else { return }
            for input in 0..<columns {
                ob_dequantise(type.rawValue, start + input * rowBytes, from, blocks.count * type.blockElements)
                for (i, place) in places.enumerated() { out[i * columns + input] = from[place - first] }
            }
        }
    }
}
