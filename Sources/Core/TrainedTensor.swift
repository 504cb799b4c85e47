/// A tensor that the run trains.
public struct TrainedTensor: Hashable, Sendable {
    /// Hugging Face name, such as `model.layers.29.mlp.down_proj.weight`; with the suffix `.adapter` for an adapter.
    public let name: String
    /// τ: the tensor's place in the model's list of all tensor names, sorted by their UTF-8 bytes; for an adapter, `AdapterPlace.adapterIndex`.
    public let index: UInt32
    public let shape: TensorShape
    /// The components that `rank1` directions of this matrix leave out of their input side. Nil where nothing is left out.
    public let basis: InputBasis?
    /// Where the adapter sits. Nil for a tensor of the model itself.
    public let place: AdapterPlace?

    public init(name: String, index: UInt32, shape: TensorShape, basis: InputBasis? = nil) {
        self.init(name: name, index: index, shape: shape, basis: basis, place: nil)
    }

    init(name: String, index: UInt32, shape: TensorShape, basis: InputBasis?, place: AdapterPlace?) {
        self.name = name
        self.index = index
        self.shape = shape
        self.basis = basis
        self.place = place
    }
}

/// A row-major matrix (outputs × inputs, as Hugging Face stores a linear layer) or a vector.
public enum TensorShape: Hashable, Sendable, CustomStringConvertible {
    case vector(Int)
    case matrix(rows: Int, columns: Int)

    /// Number of elements.
    public var count: Int {
        switch self {
        case .vector(let n): n
        case .matrix(let rows, let columns): rows * columns
        }
    }

    /// The dimensions: rows, then columns for a matrix.
    public var dimensions: [Int] {
        switch self {
        case .vector(let n): [n]
        case .matrix(let rows, let columns): [rows, columns]
        }
    }

    public var description: String { dimensions.map(String.init).joined(separator: "×") }
}

/// K vectors over a layer's inputs, as Int16 with 14 fraction bits: the damped leading components of `rank1`.
public struct InputBasis: Hashable, Sendable {
    /// Fraction bits of the values.
    public static let fractionBits = 14
    /// The input space that the vectors belong to, such as `model.layers.29.mlp.down_proj:in`. Matrices with the same input share one.
    public let space: String
    /// n, the number of inputs.
    public let width: Int
    /// K·n values, vector after vector.
    public let values: [Int16]
    /// K, the number of vectors.
    public var components: Int { width == 0 ? 0 : values.count / width }

    public init(space: String, width: Int, values: [Int16]) {
        precondition(width > 0 && values.count % width == 0)
        self.space = space
        self.width = width
        self.values = values
    }
}
