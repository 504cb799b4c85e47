internal import Kernels
import Synchronization

/// The trained tensors in fixed point: value = k·2^−s, where k is an Int32 and each tensor has one exponent s (docs/reference/arithmetic.md).
///
/// Only one thread at a time may change the parameters, and no thread may read them meanwhile. The work inside is spread over threads. All results
/// are the same to the bit on any host, for any number of threads and any order of a round's contributions, and without momentum also for any order
/// of rounds.
public final class Parameters {
    /// Largest number of elements of a tensor: the directions' blocks are counted in 32 bits.
    public static let elementsMax = 1 << 31
    /// s of a tensor of zeros.
    static let exponentOfZeros = 29
    /// If |k| is above this at a digest, the run has diverged.
    public static let divergedMagnitude: UInt32 = 1 << 30
    /// Alignment in bytes that the loads of the widest vector units need.
    static let alignment = 64

    /// Sorted by index.
    public let tensors: [TrainedTensor]
    let exponents: [Int]
    /// k of all tensors. `catchUp` may have to bring it up to date.
    let memory: [UnsafeMutableBufferPointer<Int32>]
    /// k of all tensors, up to date.
    var storage: [UnsafeMutableBufferPointer<Int32>] {
        catchUp()
        return memory
    }
    /// The state that momentum needs. It is locked, since several threads may read at once, and the first of them catches up.
    let momentum = Mutex(MomentumState())
    /// Whether k contains only rounds that `momentum` keeps.
    var isReplayable: Bool
    let scratch = Rank1Update.Scratch()

    /// Converts floats to fixed point: k = w·2^s to nearest, ties to even, with s = 29 − e where max|w| = m·2^e, 0.5 ≤ m < 1. Adapters begin with
    /// zeros and s = 24.
    ///
    /// - Parameters:
    ///   - tensors: the trained tensors in any order. They are kept sorted by index.
    ///   - threads: number of threads that convert a tensor.
    ///   - load: writes the floats of the tensor at a position of the sorted list, row-major. It is not called for adapters.
    /// - Throws: `ParameterError` if a tensor can't be trained, or what `load` throws.
    public convenience init(
        tensors: [TrainedTensor], threads: Int = 1, load: (Int, UnsafeMutableBufferPointer<Float>) throws -> Void
    ) throws {
        let sorted = try Self.checked(tensors)
        var storage: [UnsafeMutableBufferPointer<Int32>] = []
        var exponents: [Int] = []
        do {
            for (position, tensor) in sorted.enumerated() {
                let integers = Self.allocate(tensor.shape.count)
                storage.append(integers)
                guard !tensor.isAdapter else {
                    integers.initialize(repeating: 0)
                    exponents.append(TrainedTensor.adapterExponent)
                    continue
                }
                exponents.append(try Self.load(tensor, into: integers, threads: threads) { try load(position, $0) })
            }
        } catch {
            for buffer in storage { buffer.deallocate() }
            throw error
        }
        self.init(sorted: sorted, exponents: exponents, memory: storage, isReplayable: true)
    }

    init(sorted: [TrainedTensor], exponents: [Int], memory: [UnsafeMutableBufferPointer<Int32>], isReplayable: Bool) {
        self.tensors = sorted
        self.exponents = exponents
        self.memory = memory
        self.isReplayable = isReplayable
    }

    deinit {
        for buffer in memory { buffer.deallocate() }
    }

    /// Returns s of the tensor at this position: value = k·2^−s.
    public func exponent(at position: Int) -> Int { exponents[position] }

    /// Returns k of the tensor at this position, row-major.
    public func integers(at position: Int) -> UnsafeBufferPointer<Int32> { UnsafeBufferPointer(storage[position]) }

    /// Writes k·2^−s of some elements, each rounded once.
    public func copyFloats(at position: Int, elements: Range<Int>, into output: UnsafeMutablePointer<Float>) {
        let integers = UnsafeBufferPointer(rebasing: storage[position][elements])
        ob_fixed_to_floats(integers.baseAddress, integers.count, Int32(exponents[position]), output)
    }

    /// Returns the largest |k| of all tensors. Above `divergedMagnitude` the run counts as diverged.
    public func largestMagnitude(threads: Int = 1) -> UInt32 {
        let chunk = 1 << 16
        return storage.map { integers in
            nonisolated(unsafe) let integers = integers
            let chunks = (integers.count + chunk - 1) / chunk
            var results = [UInt32](repeating: 0, count: chunks)
            results.withUnsafeMutableBufferPointer { results in
                nonisolated(unsafe) let results = results
                forEachChunk(of: integers.count, size: chunk, threads: threads) { range in
                    let part = UnsafeBufferPointer(rebasing: integers[range])
                    results[range.lowerBound / chunk] = ob_largest_magnitude(part.baseAddress, part.count)
                }
            }
            return results.max() ?? 0
        }.max() ?? 0
    }

    /// Returns the tensors sorted by index, after a check that each of them can be trained.
    static func checked(_ tensors: [TrainedTensor]) throws(ParameterError) -> [TrainedTensor] {
        let sorted = tensors.sorted { $0.index < $1.index }
        for (a, b) in zip(sorted, sorted.dropFirst()) where a.index == b.index {
            throw .sameIndex(a.name, b.name, index: a.index)
        }
        for tensor in sorted {
            var count = 1
            for dimension in tensor.shape.dimensions {
                let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
                guard dimension >= 0, !overflow, product <= elementsMax else {
                    throw .tooLarge(tensor: tensor.name, shape: tensor.shape.description)
                }
                count = product
            }
            if let basis = tensor.basis {
                guard case .matrix(_, let columns) = tensor.shape, columns == basis.width,
                    basis.components <= RunBasis.componentsMax
                else {
                    throw .otherBasis(tensor: tensor.name, shape: tensor.shape.description, width: basis.width)
                }
            }
        }
        return sorted
    }

    static func allocate(_ count: Int) -> UnsafeMutableBufferPointer<Int32> {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: max(count, 1) * MemoryLayout<Int32>.stride, alignment: alignment)
        return UnsafeMutableBufferPointer(start: memory.bindMemory(to: Int32.self, capacity: max(count, 1)), count: count)
    }

    /// Lets `fill` write the floats to the place where the integers will be, converts them there, and returns s.
    private static func load(
        _ tensor: TrainedTensor, into integers: UnsafeMutableBufferPointer<Int32>, threads: Int,
        fill: (UnsafeMutableBufferPointer<Float>) throws -> Void
    ) throws -> Int {
        guard let start = integers.baseAddress else { return exponentOfZeros }
        let raw = UnsafeMutableRawPointer(start)
        let floats = UnsafeMutableBufferPointer(
            start: raw.bindMemory(to: Float.self, capacity: integers.count), count: integers.count)
        floats.initialize(repeating: 0)
        try fill(floats)
        let largest = ob_largest_float(floats.baseAddress, floats.count)
        guard largest >= 0 else {
            let element = floats.firstIndex { !$0.isFinite } ?? 0
            throw ParameterError.notFinite(tensor: tensor.name, element: element)
        }
        // max|w| = m·2^e with 0.5 ≤ m < 1, while Swift's exponent is that of a significand in 1 ≤ m < 2.
        let s = largest == 0 ? exponentOfZeros : exponentOfZeros - (Int(largest.exponent) + 1)
        nonisolated(unsafe) let bytes = raw
        forEachChunk(of: integers.count, size: 1 << 16, threads: threads) { range in
            let offset = range.lowerBound * MemoryLayout<Int32>.stride
            let part = (bytes + offset).assumingMemoryBound(to: Float.self)
            ob_floats_to_fixed(part, range.count, Int32(s), UnsafeMutableRawPointer(part).assumingMemoryBound(to: Int32.self))
        }
        _ = raw.bindMemory(to: Int32.self, capacity: integers.count)
        return s
    }
}

/// The reason why a tensor can't be trained.
public enum ParameterError: Error, Hashable, CustomStringConvertible {
    /// The element is NaN or infinite.
    case notFinite(tensor: String, element: Int)
    /// The tensor has more than `Parameters.elementsMax` elements.
    case tooLarge(tensor: String, shape: String)
    /// Two tensors have the same index.
    case sameIndex(String, String, index: UInt32)
    /// The tensor's basis has vectors of another width than the tensor has inputs.
    case otherBasis(tensor: String, shape: String, width: Int)

    public var description: String {
        switch self {
        case .notFinite(let tensor, let element):
            "tensor \(tensor) holds a value that is not finite at element \(element); the model file is damaged or diverged: use another one"
        case .tooLarge(let tensor, let shape):
            "tensor \(tensor) of shape \(shape) has more than \(Parameters.elementsMax) elements; leave it out of `train`"
        case .sameIndex(let a, let b, let index):
            "tensors \(a) and \(b) both have index \(index) in the model's list of names"
        case .otherBasis(let tensor, let shape, let width):
            "the basis of tensor \(tensor) (\(shape)) is for \(width) inputs; make the basis again from this model"
        }
    }
}
