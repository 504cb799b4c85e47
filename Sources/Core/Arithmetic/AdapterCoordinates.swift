/// The coordinates of all adapters of a run in one row: the adapters in ascending order of index, each of them row-major.
public struct AdapterCoordinates: Hashable, Sendable {
    /// Upper bound of d. With it the sums over a whole block of bytes stay in 32 bits: 127·2^24 < 2^31.
    public static let countMax = 1 << 24

    /// The adapters in ascending order of index.
    public let adapters: [TrainedTensor]
    /// The position of each adapter's first coordinate.
    public let offsets: [Int]
    /// d: the number of all coordinates.
    public let count: Int

    /// The base-2 logarithm of `blockSize`.
    var blockBits: Int { count <= 1 ? 0 : Int.bitWidth - (count - 1).leadingZeroBitCount }

    /// N = 2^⌈log₂ d⌉: the number of samples in a block of orthogonal directions.
    public var blockSize: Int { 1 << blockBits }

    /// The coordinates of a run without adapters: none.
    static let none = AdapterCoordinates()

    private init() { (adapters, offsets, count) = ([], [], 0) }

    /// - Parameter tensors: a run's trained tensors in any order. Tensors that are not adapters are ignored.
    /// - Throws: `DirectionError.tooMany` if the adapters have more than `countMax` coordinates.
    public init(of tensors: [TrainedTensor]) throws(DirectionError) {
        adapters = tensors.filter(\.isAdapter).sorted { $0.index < $1.index }
        var (offsets, count) = ([Int](), 0)
        for adapter in adapters {
            offsets.append(count)
            var product = 1
            for dimension in adapter.shape.dimensions {
                guard dimension >= 0, dimension <= Self.countMax, product * dimension <= Self.countMax else { throw .tooMany(adapter.name) }
                product *= dimension
            }
            count += product
            guard count <= Self.countMax else { throw .tooMany(adapter.name) }
        }
        (self.offsets, self.count) = (offsets, count)
    }

    /// Returns the coordinates of one adapter, or nil if it is not one of `adapters`.
    public func range(of adapter: TrainedTensor) -> Range<Int>? {
        guard let position = adapters.firstIndex(of: adapter) else { return nil }
        return offsets[position]..<offsets[position] + adapter.shape.count
    }
}

/// An error in how a run's directions and its trained tensors fit together. Each case names the tensor.
public enum DirectionError: Error, Hashable, CustomStringConvertible {
    /// Orthogonal samples were asked for, and this tensor is not an adapter.
    case notAnAdapter(String)
    /// Momentum was asked for, and this tensor is not an adapter.
    case momentumOf(String)
    /// With this adapter there are more coordinates than `AdapterCoordinates.countMax`.
    case tooMany(String)

    public var description: String {
        switch self {
        case .notAnAdapter(let tensor):
            "orthogonal samples need that all trained tensors are adapters, and \(tensor) is none: train adapters alone, or sample at random"
        case .momentumOf(let tensor):
            "momentum needs that all trained tensors are adapters, and \(tensor) is none: train adapters alone, or leave momentum out"
        case .tooMany(let tensor):
            "with \(tensor) the adapters have more than \(AdapterCoordinates.countMax) coordinates; adapt fewer places or lower the ranks"
        }
    }
}
