internal import Kernels

/// The update of a matrix by outer products: Σ = A·B with A = q·a (rows × directions) and B = b (directions × columns), computed with 8-bit dot
/// products.
///
/// Directions are processed in batches of whole quads (groups of four). Within a batch every block of the matrix stays in the cache through all
/// rounds. A round that is longer than a batch keeps its sums in 64 bits.
struct Rank1Update {
    /// Number of rows whose factors are in memory at a time. It is a multiple of a tile, so that no random word is made twice.
    static let bandRows = 2 * OB_TILE_SIGNS
    /// Bytes of memory for the packed factors of a batch, at most.
    static let batchBytesMax = 32 << 20
    static let quad = OB_QUAD

    let tensor: TrainedTensor
    let directions: Directions
    let work: ChangeList
    /// s − F.
    let shift: Int
    let threads: Int
    let scratch: Scratch

    /// Quads of directions and the parts of rounds that they make up.
    private struct Batch {
        /// Four names for each quad. A quad that a round does not fill ends in names with q = 0.
        var names: [ob_direction] = []
        var segments: [ob_segment] = []
        var quads: Int { names.count / Rank1Update.quad }
        /// 1 if most of the batch's rounds are long (`OB_LONG_QUADS`): long and short rounds have different kernels.
        var longRounds: Int32 { quads >= OB_LONG_QUADS * segments.count ? 1 : 0 }

        /// Returns the segments with the bounds of their sums. `peaks` holds a bound of |b| for each quad.
        func segments(peaks: [Int32]) -> [ob_segment] {
            segments.map { segment in
                var segment = segment
                segment.bound = (segment.first_quad..<segment.first_quad + segment.quads).reduce(0) { bound, quad in
                    let magnitudes = names[quad * Rank1Update.quad..<(quad + 1) * Rank1Update.quad].reduce(0) { $0 + $1.q.magnitude }
                    return bound + UInt64(magnitudes) * UInt64(peaks[quad].magnitude)
                }
                return segment
            }
        }
    }

    func run(on integers: UnsafeMutableBufferPointer<Int32>) {
        guard case .matrix(let rows, let columns) = tensor.shape, let k = integers.baseAddress else { return }
        let depth = min(
            max(Self.batchBytesMax / (min(rows, Self.bandRows) + columns), 256), OB_SEGMENT_DIRECTIONS_MAX)
        let batches = batches(depth: depth / Self.quad * Self.quad)
        let carries = batches.contains { $0.segments.contains { $0.carried != 0 } }
        let carry = carries ? UnsafeMutablePointer<Int64>.allocate(capacity: rows * columns) : nil
        carry?.initialize(repeating: 0, count: rows * columns)
        defer { carry?.deallocate() }

        for batch in batches {
            let b = scratch.columns.reserve(ob_packed_bytes(batch.quads, columns, batch.longRounds))
            let peaks = pack(batch, into: b, width: columns, scaled: false) { [directions, tensor] name, output in
                directions.columnFactors(of: tensor, name, into: output)
            }
            let segments = batch.segments(peaks: peaks)
            for band in stride(from: 0, to: rows, by: Self.bandRows) {
                let bandRows = band..<min(band + Self.bandRows, rows)
                let a = scratch.rows.reserve(ob_packed_bytes(batch.quads, bandRows.count, batch.longRounds))
                _ = pack(batch, into: a, width: bandRows.count, scaled: true) { [directions, tensor] name, output in
                    directions.rowSigns(of: tensor, name, rows: bandRows, into: output)
                }
                let starts = makeStarts(of: segments, a: a, quads: batch.quads, rows: bandRows.count, longRounds: batch.longRounds)
                update(
                    segments, quads: batch.quads, longRounds: batch.longRounds, a: a, starts: starts, b: b, rows: bandRows.count,
                    columns: columns, k: k + band * columns, carry: carry.map { $0 + band * columns })
            }
        }
    }

    /// Cuts the rounds into batches of at most `depth` directions.
    private func batches(depth: Int) -> [Batch] {
        var batches = [Batch()]
        for change in work.changes {
            let carried: Int32 = change.directions.count > depth ? 1 : 0
            for start in stride(from: 0, to: change.directions.count, by: depth) {
                let part = change.directions[start..<min(start + depth, change.directions.count)]
                let quads = (part.count + Self.quad - 1) / Self.quad
                if batches[batches.count - 1].names.count + quads * Self.quad > depth { batches.append(Batch()) }
                let last = batches.count - 1
                batches[last].segments.append(
                    ob_segment(
                        first_quad: batches[last].quads, quads: quads, step: change.step(shift: shift), bound: 0, carried: carried,
                        ends: part.endIndex == change.directions.count ? 1 : 0))
                batches[last].names += part
                let padding = quads * Self.quad - part.count
                batches[last].names += repeatElement(ob_direction(machine: 0, sample: 0, q: 0), count: padding)
            }
        }
        return batches
    }

    /// Packs the a's, which are `scaled` by their bytes, or the b's.
    ///
    /// - Returns: for each quad a bound of its |values|, unscaled.
    private func pack(
        _ batch: Batch, into packed: UnsafeMutableRawPointer, width: Int, scaled: Bool,
        make: @Sendable (SampleName, UnsafeMutablePointer<Int8>) -> Void
    ) -> [Int32] {
        let stride = (width + 63) / 64 * 64
        let isDamped = !scaled && tensor.basis != nil
        nonisolated(unsafe) let bytes = packed
        let names = batch.names
        let quads = batch.quads
        let longRounds = batch.longRounds
        let peaks = UnsafeMutableBufferPointer<Int32>.allocate(capacity: quads)
        defer { peaks.deallocate() }
        nonisolated(unsafe) let out = peaks
        // Neighbouring quads share cache lines.
        forEachChunk(of: quads, size: min(max(quads / (4 * max(threads, 1)), 4), 16), threads: threads) { range in
            let vectors = UnsafeMutablePointer<Int8>.allocate(capacity: Self.quad * stride)
            defer { vectors.deallocate() }
            vectors.initialize(repeating: 0, count: Self.quad * stride)
            var q = [Int8](repeating: 0, count: Self.quad)
            for quad in range {
                for i in 0..<Self.quad {
                    let name = names[quad * Self.quad + i]
                    q[i] = Int8(name.q)
                    // A name that only fills the quad is multiplied by 0, so its vector does not matter.
                    if name.q == 0 { continue }
                    make(SampleName(machine: MachineID(name.machine), sample: name.sample), vectors + i * stride)
                }
                ob_pack_quad(vectors, stride, width, scaled ? q : nil, quad, quads, longRounds, bytes)
                // The sums of long rounds are too large for narrow steps anyway.
                out[quad] = !isDamped ? 1 : longRounds != 0 ? 127 : ob_largest_byte(vectors, Self.quad * stride)
            }
        }
        return Array(peaks)
    }

    /// Computes the values that the sums of the packed rows start from.
    private func makeStarts(of segments: [ob_segment], a: UnsafeMutableRawPointer, quads: Int, rows: Int, longRounds: Int32) -> UnsafePointer<Int32> {
        let panels = (rows + OB_PANEL - 1) / OB_PANEL
        let count = panels * ob_starts_of_panel(segments, segments.count, longRounds)
        nonisolated(unsafe) let starts = scratch.starts.reserve(count * MemoryLayout<Int32>.stride).assumingMemoryBound(to: Int32.self)
        nonisolated(unsafe) let a = a
        if count > 0 {
            forEachChunk(of: panels, size: 4, threads: threads) { range in
                for panel in range { ob_make_starts(a, quads, segments, segments.count, panel, longRounds, starts) }
            }
        }
        return UnsafePointer(starts)
    }

    private func update(
        _ segments: [ob_segment], quads: Int, longRounds: Int32, a: UnsafeMutableRawPointer, starts: UnsafePointer<Int32>,
        b: UnsafeMutableRawPointer, rows: Int, columns: Int, k: UnsafeMutablePointer<Int32>, carry: UnsafeMutablePointer<Int64>?
    ) {
        let blockRows = OB_BLOCK_ROWS
        let blockColumns = OB_BLOCK_COLUMNS
        let across = (columns + blockColumns - 1) / blockColumns
        let blocks = (rows + blockRows - 1) / blockRows * across
        nonisolated(unsafe) let (a, starts, b, k, carry) = (a, starts, b, k, carry)
        forEachChunk(of: blocks, size: 4, threads: threads) { range in
            for block in range {
                let row = block / across * blockRows
                let column = block % across * blockColumns
                ob_update_rank1(
                    a, starts, b, quads, segments, segments.count, row, min(blockRows, rows - row), column,
                    min(blockColumns, columns - column), columns, longRounds, k, carry)
            }
        }
    }

    /// Memory for packed factors. It is kept from one update to the next, because fresh pages would cost as much as filling them.
    final class Scratch {
        let rows = Buffer()
        let starts = Buffer()
        let columns = Buffer()

        final class Buffer {
            private var bytes: UnsafeMutableRawBufferPointer?

            /// Returns memory of at least `count` bytes. Its former content is lost.
            func reserve(_ count: Int) -> UnsafeMutableRawPointer {
                if let bytes, bytes.count >= count, let start = bytes.baseAddress { return start }
                bytes?.deallocate()
                let start = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: Parameters.alignment)
                bytes = UnsafeMutableRawBufferPointer(start: start, count: max(count, 1))
                return start
            }

            deinit { bytes?.deallocate() }
        }
    }
}
