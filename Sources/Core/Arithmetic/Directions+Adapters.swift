internal import Kernels

extension Directions {
    /// τ of the streams of random bits that orthogonal samples are made of. No tensor has this index.
    private static let blockIndex: UInt32 = 1 << 30 - 1

    /// The purposes of a block's random bits.
    private enum BlockRole: UInt32 {
        case signs = 0
        case order = 1
    }

    /// The parameters that all blocks of orthogonal samples share.
    var blocks: ob_blocks {
        func stream(_ role: BlockRole) -> UInt32 { 4 * Self.blockIndex + role.rawValue }
        return ob_blocks(
            key: (seed.low, seed.high), sign_stream: stream(.signs), order_stream: stream(.order),
            log_size: UInt32(coordinates.blockBits), dimensions: coordinates.count)
    }

    /// Writes a sample's signs ±1 at some elements of one adapter.
    func orthogonalSigns(of adapter: TrainedTensor, _ name: SampleName, elements: Range<Int>, into output: UnsafeMutablePointer<Int8>) {
        guard let range = coordinates.range(of: adapter) else {
            preconditionFailure("\(adapter.name) is none of the run's adapters")
        }
        var blocks = blocks
        ob_block_direction(
            &blocks, name.machine.rawValue, name.sample, UInt64(range.lowerBound + elements.lowerBound), elements.count, output)
    }

    /// Returns the projected gradients ⟨z, G⟩ of neighbouring samples of one machine, in the units of G.
    ///
    /// Orthogonal samples cost one transform for each block: N·log₂N additions for up to N samples. Random samples cost d additions each.
    /// - Parameters:
    ///   - gradient: G = ∂L/∂C of all adapters, in the order of `coordinates`: d numbers.
    ///   - first: the name of the first sample.
    ///   - count: number of samples. Their numbers count on modulo 2^32.
    public func projections(of gradient: [Double], from first: SampleName, count: Int) -> [Double] {
        precondition(gradient.count == coordinates.count, "\(gradient.count) numbers for \(coordinates.count) coordinates")
        return sampling == .orthogonal
            ? orthogonalProjections(of: gradient, from: first, count: count) : randomProjections(of: gradient, from: first, count: count)
    }

    private func orthogonalProjections(of gradient: [Double], from first: SampleName, count: Int) -> [Double] {
        var blocks = blocks
        let size = coordinates.blockSize
        var block = [Double](repeating: 0, count: size)
        var projections = [Double](repeating: 0, count: count)
        projections.withUnsafeMutableBufferPointer { projections in
            guard let output = projections.baseAddress else { return }
            var done = 0
            while done < count {
                let sample = first.sample &+ UInt32(truncatingIfNeeded: done)
                // At most to the end of the block.
                let part = min(count - done, size - Int(sample) % size)
                ob_block_projections(&blocks, first.machine.rawValue, sample, part, gradient, &block, output + done)
                done += part
            }
        }
        return projections
    }

    private func randomProjections(of gradient: [Double], from first: SampleName, count: Int) -> [Double] {
        var z = [Int8](repeating: 0, count: coordinates.count)
        return (0..<count).map { i in
            let name = SampleName(machine: first.machine, sample: first.sample &+ UInt32(truncatingIfNeeded: i))
            z.withUnsafeMutableBufferPointer { z in
                guard let start = z.baseAddress else { return }
                for (adapter, offset) in zip(coordinates.adapters, coordinates.offsets) {
                    dense(of: adapter, name, elements: 0..<adapter.shape.count, into: start + offset)
                }
            }
            return ob_signed_sum(z, gradient, z.count)
        }
    }
}
