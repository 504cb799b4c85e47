import Core

/// The directions of a batch's samples in the form that the forward pass reads. For `rank1` they are the two factors of every trained
/// matrix. For every family they include the whole vector of every trained 1-D tensor and the signs of every adapter. Other matrices of the
/// dense families are generated where they are used.
package final class DirectionBatch {
    package let directions: Directions
    package let tensors: [TrainedTensor]
    /// ε·2^−F of each trained tensor: one unit of the direction's integers, as it appears in θ ± εz.
    package let scales: [Float]
    private(set) var samples: [SampleName] = []

    private let store = ScratchBuffer<Int8>()
    /// Where a tensor's a (or its whole vector) and its b begin within a direction's part of `store`.
    private let aOffset: [Int]
    private let bOffset: [Int]
    private let stride: Int

    package var isRank1: Bool { directions.family == .rank1 }

    package init(directions: Directions, tensors: [TrainedTensor], epsilon: Double) {
        self.directions = directions
        self.tensors = tensors
        scales = tensors.map { Float(epsilon * Double(sign: .plus, exponent: -directions.fractionBits(of: $0), significand: 1)) }
        var aOffset: [Int] = []
        var bOffset: [Int] = []
        var total = 0
        func place(_ count: Int) -> Int {
            let at = total
            total += (count + 63) / 64 * 64
            return at
        }
        for tensor in tensors {
            if case .matrix(let rows, let columns) = tensor.shape, directions.isRank1(tensor) {
                aOffset.append(place(rows))
                bOffset.append(place(columns))
            } else {
                aOffset.append(Self.isKeptWhole(tensor) ? place(tensor.shape.count) : 0)
                bOffset.append(0)
            }
        }
        self.aOffset = aOffset
        self.bOffset = bOffset
        stride = total
    }

    /// Whether all of z is generated in advance: vectors and adapters are small enough.
    private static func isKeptWhole(_ tensor: TrainedTensor) -> Bool {
        if case .vector = tensor.shape { true } else { tensor.isAdapter }
    }

    /// Generates the factors and vectors of these samples; direction d of the batch is `samples[d]`.
    package func prepare(_ samples: [SampleName]) {
        self.samples = samples
        let base = store.reserve(max(samples.count * stride, 1))
        for (d, sample) in samples.enumerated() {
            let own = base + d * stride
            for (slot, tensor) in tensors.enumerated() {
                if directions.isRank1(tensor) {
                    directions.rank1Factors(of: tensor, sample, a: own + aOffset[slot], b: own + bOffset[slot])
                } else if Self.isKeptWhole(tensor) {
                    directions.dense(of: tensor, sample, elements: 0..<tensor.shape.count, into: own + aOffset[slot])
                }
            }
        }
    }

    /// The factor a of direction d for a `rank1` matrix: one sign per output.
    @inline(__always)
    package func a(_ slot: Int, _ d: Int) -> UnsafePointer<Int8> { UnsafePointer(store.pointer + d * stride + aOffset[slot]) }
    /// The factor b of direction d for a `rank1` matrix: one sign per input.
    @inline(__always)
    package func b(_ slot: Int, _ d: Int) -> UnsafePointer<Int8> { UnsafePointer(store.pointer + d * stride + bOffset[slot]) }
    /// z of direction d for a 1-D tensor or an adapter.
    @inline(__always)
    package func vector(_ slot: Int, _ d: Int) -> UnsafePointer<Int8> { a(slot, d) }

    /// Elements of direction d for a matrix of a dense family.
    package func elements(_ slot: Int, _ d: Int, _ range: Range<Int>, into buffer: ScratchBuffer<Int8>) -> UnsafePointer<Int8> {
        let out = buffer.reserve(range.count)
        directions.dense(of: tensors[slot], samples[d], elements: range, into: out)
        return UnsafePointer(out)
    }
}
