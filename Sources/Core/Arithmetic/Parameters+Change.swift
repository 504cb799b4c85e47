/// Some elements of all tensors as they were, to see later how many have moved.
public struct ParameterProbe: Sendable {
    /// Elements of a tensor that are looked at, at most: evenly spread.
    private static let elementsOfTensor = 4096
    private let values: [[Int32]]

    public init(_ parameters: Parameters) {
        values = parameters.tensors.indices.map { Self.values(parameters.integers(at: $0)) }
    }

    private static func values(_ integers: UnsafeBufferPointer<Int32>) -> [Int32] {
        let step = max(1, integers.count / elementsOfTensor)
        return stride(from: 0, to: integers.count, by: step).map { integers[$0] }
    }

    /// The part of the elements, 0…1, that are as they were. Near 1 after rounds with a step, the run's steps vanish: their deltas are
    /// rounded to nothing (DESIGN §3).
    public func unchangedPart(in parameters: Parameters) -> Double {
        let now = ParameterProbe(parameters)
        var (same, all) = (0, 0)
        for (old, new) in zip(values, now.values) {
            all += old.count
            for (a, b) in zip(old, new) where a == b { same += 1 }
        }
        return all > 0 ? Double(same) / Double(all) : 0
    }
}
