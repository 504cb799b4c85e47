/// The coordinates of all adapters of a run in one row: adapters in rising index, each of them row-major.
public struct AdapterCoordinates: Hashable, Sendable {
    /// d, at most: the sums over a whole block of bytes stay in 32 bits, 127·2^24 < 2^31.
    public static let countMax = 1 << 24

    /// The adapters in rising index.
    public let adapters: [TrainedTensor]
    /// Where each adapter's coordinates begin.
    public let offsets: [Int]
    /// d: the number of all coordinates.
    public let count: Int

    /// The base-2 logarithm of `blockSize`.
    var blockBits: Int { count <= 1 ? 0 : Int.bitWidth - (count - 1).leadingZeroBitCount }

    /// N = 2^⌈log₂ d⌉: the samples of a block of orthogonal directions.
    public var blockSize: Int { 1 << blockBits }

    /// Those of a run without adapters.
    static let none = AdapterCoordinates()

    private init() { (adapters, offsets, count) = ([], [], 0) }

    /// - Parameter tensors: a run's trained tensors in any order; those that are no adapters are passed over.
    /// - Throws: `DirectionError` where the adapters have too many coordinates.
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

    /// The coordinates of one adapter; nil where it is none of these.
    public func range(of adapter: TrainedTensor) -> Range<Int>? {
        guard let position = adapters.firstIndex(of: adapter) else { return nil }
        return offsets[position]..<offsets[position] + adapter.shape.count
    }
}

public enum DirectionError: Error, Hashable, CustomStringConvertible {
    /// Orthogonal samples with a tensor that is no adapter.
    case notAnAdapter(String)
    /// Momentum with a tensor that is no adapter.
    case momentumOf(String)
    /// With this adapter the coordinates are more than `AdapterCoordinates.countMax`.
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
