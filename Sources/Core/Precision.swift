/// The kind of numbers of a worker's matrix products.
public enum Precision: String, Sendable, CaseIterable, Codable {
    /// F32.
    case float
    /// 8-bit integers.
    case int8
}

/// The precisions in which a worker computes its bytes. Each worker chooses for itself. Whoever computes the bytes again needs the same.
public struct ComputePrecision: Hashable, Sendable, Codable {
    /// Of samples. With `int8`, what a direction changes in an activation is multiplied in 8-bit integers.
    public var samples: Precision
    /// Of the training examples' hidden states below the trained tensors.
    public var hiddenStates: Precision

    public init(samples: Precision = .float, hiddenStates: Precision = .float) {
        self.samples = samples
        self.hiddenStates = hiddenStates
    }
}
