import Core
import Kernels

/// A tensor to be written into a model file.
package struct OutputTensor {
    package let name: String
    package let shape: TensorShape
    /// Whether the only number has no dimension.
    package var isScalar = false
    /// Writes the values of some rows; a vector is one row.
    package let copyRows: (Range<Int>, UnsafeMutablePointer<Float>) -> Void
}

extension ElementType {
    /// Types in which a tensor can be written.
    package static let written: [ElementType] = [.f32, .f16, .bf16, .q8_0]

    /// Type in which values of this one are written without asking for another.
    fileprivate func written(asGGUF: Bool) -> ElementType {
        switch self {
        case .f16, .bf16: self
        case .f8E4M3, .f8E5M2: .bf16
        case .q8_0: asGGUF ? .q8_0 : .f32
        default: .f32
        }
    }

    /// Number of values in a block of Q8_0.
    private static let q8Count = 32

    /// Encodes values as elements of this type, one of `written`.
    ///
    /// - Parameters:
    ///   - count: a whole number of blocks.
    ///   - out: must have room for `byteCount(of: count)` bytes.
    func encode(_ floats: UnsafePointer<Float>, _ count: Int, into out: UnsafeMutableRawPointer) {
        switch self {
        case .f16: ob_floats_to_f16(floats, out.assumingMemoryBound(to: UInt16.self), count)
        case .bf16: ob_floats_to_bf16(floats, out.assumingMemoryBound(to: UInt16.self), count)
        case .q8_0:
            for block in 0..<count / Self.q8Count { Self.encodeQ8(floats + block * Self.q8Count, into: out + block * blockBytes) }
        default: out.copyMemory(from: floats, byteCount: count * 4)
        }
    }

    /// Encodes a block as ggml's reference does: a half-precision scale d = max|x|/127, then round(x/d) with the unrounded d.
    private static func encodeQ8(_ x: UnsafePointer<Float>, into out: UnsafeMutableRawPointer) {
        var largest: Float = 0
        for i in 0..<q8Count { largest = max(largest, abs(x[i])) }
        // A block whose scale is beyond a half's range becomes 0: an infinite scale would make NaN of its zeros.
        var scale = largest <= 127 * 65_504 ? largest / 127 : 0
        let inverse = scale == 0 ? 0 : 1 / scale
        ob_floats_to_f16(&scale, out.assumingMemoryBound(to: UInt16.self), 1)
        let values = (out + 2).assumingMemoryBound(to: Int8.self)
        for i in 0..<q8Count {
            // What is no number becomes 0 and does not trap.
            let value = (x[i] * inverse).rounded(.toNearestOrAwayFromZero)
            values[i] = abs(value) <= 127 ? Int8(value) : 0
        }
    }
}

extension OutputFile {
    /// Number of floats that are converted at a time, unless a row is longer.
    private static let chunk = 64 * 1024

    /// Writes a tensor's values, row by row.
    ///
    /// - Parameter type: one of `ElementType.written`; a row must be a whole number of its blocks.
    func write(_ tensor: OutputTensor, as type: ElementType) throws(ModelError) {
        let columns = max(tensor.shape.dimensions.last ?? 1, 1)
        let rows = tensor.shape.count / columns
        let step = max(1, Self.chunk / columns)
        let floats = ScratchBuffer<Float>(capacity: step * columns)
        let bytes = ScratchBuffer<UInt8>(capacity: step * columns * 4)
        for row in stride(from: 0, to: rows, by: step) {
            let range = row..<min(rows, row + step)
            let count = range.count * columns
            tensor.copyRows(range, floats.pointer)
            type.encode(floats.pointer, count, into: UnsafeMutableRawPointer(bytes.pointer))
            try write(UnsafeRawBufferPointer(start: bytes.pointer, count: type.byteCount(of: count) ?? 0))
        }
    }
}

extension ModelSource {
    /// Type in which most of the matrices' values are stored, if it can be written, and F32 otherwise.
    public func writtenType(asGGUF: Bool) -> ElementType {
        var counts: [ElementType: Int] = [:]
        for name in tensorNames {
            guard let type = dataType(of: name), let shape = shape(of: name), case .matrix = shape else { continue }
            counts[type, default: 0] += shape.count
        }
        let most = counts.max { ($0.value, $0.key.rawValue) < ($1.value, $1.key.rawValue) }
        return (most?.key ?? .f32).written(asGGUF: asGGUF)
    }
}
