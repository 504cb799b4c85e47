/// Where an adapter sits. A frozen linear map W (m×n) becomes W + U·C·Vᵀ with U (m×p) and V (n×r) from the run's basis; C (p×r) is
/// trained.
public enum AdapterPlace: Hashable, Sendable, CustomStringConvertible {
    /// A linear map of the model.
    ///
    /// - Parameters:
    ///   - name: the Hugging Face name of its weights, such as `model.layers.29.mlp.down_proj.weight`.
    ///   - index: the place of that name in the model's sorted list of tensor names; below `AdapterPlace.indexMax`.
    case tensor(name: String, index: UInt32)
    /// The final norm's output x on its way to the head: it becomes x + U·C·Vᵀ·x.
    case final

    /// What `final` is called where places are named.
    public static let finalName = "final"
    /// The largest index of a tensor that an adapter can sit on.
    public static let indexMax: UInt32 = 1 << 28 - 1
    /// The index τ of a tensor's adapter is this much above that of the tensor, so no model's own indices come near it. Streams of
    /// random bits are 4τ + role and have 32 bits, so τ must stay below 2^30.
    static let firstIndex: UInt32 = 1 << 29
    /// τ of the adapter at `final`: behind those of all tensors.
    static let finalIndex: UInt32 = firstIndex + indexMax + 1

    /// How run specs, basis records and messages name the place: the tensor's name, or `final`.
    public var name: String {
        switch self {
        case .tensor(let name, _): name
        case .final: Self.finalName
        }
    }

    /// The name of C among the trained tensors.
    public var adapterName: String { name + ".adapter" }

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
    /// s of every adapter: its base value is 0, so no value of the model says how fine it should be. One unit is 2^−24, and the run
    /// counts as diverged where an element leaves −64…64.
    public static let adapterExponent = 24

    /// The trained matrix C of an adapter.
    ///
    /// - Parameters:
    ///   - place: where the adapter sits.
    ///   - rows: p, the output coordinates.
    ///   - columns: r, the input coordinates.
    public init(adapterAt place: AdapterPlace, rows: Int, columns: Int) {
        self.init(
            name: place.adapterName, index: place.adapterIndex, shape: .matrix(rows: rows, columns: columns), basis: nil, place: place)
    }

    /// Whether it is the C of an adapter.
    public var isAdapter: Bool { place != nil }
}
