/// The place where an adapter sits. A frozen linear map W (m×n) becomes W + U·C·Vᵀ. U (m×p) and V (n×r) come from the run's basis; C (p×r) is
/// trained.
public enum AdapterPlace: Hashable, Sendable, CustomStringConvertible {
    /// A linear map of the model.
    ///
    /// - Parameters:
    ///   - name: the Hugging Face name of its weights, such as `model.layers.29.mlp.down_proj.weight`.
    ///   - index: the place of that name in the model's sorted list of tensor names; at most `AdapterPlace.indexMax`.
    case tensor(name: String, index: UInt32)
    /// The final norm's output x on its way to the head: it becomes x + U·C·Vᵀ·x.
    case final

    /// The name of `final` where places are named.
    public static let finalName = "final"
    /// The largest index of a tensor that an adapter can sit on.
    public static let indexMax: UInt32 = 1 << 28 - 1
    /// The index τ of a tensor's adapter is the tensor's own index plus this, which is far above the indices that any model has. The number of a
    /// stream of random bits is 4τ + role and has 32 bits, so τ must stay below 2^30.
    static let firstIndex: UInt32 = 1 << 29
    /// τ of the adapter at `final`: above those of all tensors.
    static let finalIndex: UInt32 = firstIndex + indexMax + 1

    /// The place's name in run specs, basis records and messages: the tensor's name, or `final`.
    public var name: String {
        switch self {
        case .tensor(let name, _): name
        case .final: Self.finalName
        }
    }

    /// The name of C among the trained tensors.
    public var adapterName: String { name + Self.nameSuffix }
    /// End of the names of all trained tensors that are adapters.
    public static let nameSuffix = ".adapter"

    /// τ of C.
    public var adapterIndex: UInt32 {
        switch self {
        case .tensor(_, let index):
            Self.firstIndex + min(index, Self.indexMax)
        case .final: Self.finalIndex
        }
    }

    public var description: String { name }
}

extension TrainedTensor {
    /// s of every adapter. The base value of an adapter is 0, so no value of the model tells how fine it should be. One unit is 2^−24, and the run
    /// counts as diverged when an element leaves −64…64.
    public static let adapterExponent = 24

    /// Creates the trained matrix C of an adapter.
    ///
    /// - Parameters:
    ///   - place: where the adapter sits.
    ///   - rows: p, the output coordinates.
    ///   - columns: r, the input coordinates.
    public init(adapterAt place: AdapterPlace, rows: Int, columns: Int) {
        self.init(
            name: place.adapterName, index: place.adapterIndex, shape: .matrix(rows: rows, columns: columns), basis: nil, place: place)
    }

    /// Whether the tensor is the matrix C of an adapter.
    public var isAdapter: Bool { place != nil }
}
