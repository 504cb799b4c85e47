/// A sample of the elements of all tensors at one time. It tells later how many of them have changed.
public struct ParameterProbe: Sendable {
    /// Number of elements that are sampled from each tensor, evenly spread. Where they do not divide evenly it is up to twice as many.
    private static let elementsOfTensor = 4096
    private let values: [[Int32]]

    /// Samples the parameters as they are now.
    public init(_ parameters: Parameters) {
        values = parameters.tensors.indices.map { Self.values(parameters.integers(at: $0)) }
    }

    private static func values(_ integers: UnsafeBufferPointer<Int32>) -> [Int32] {
        let step = max(1, integers.count / elementsOfTensor)
        return stride(from: 0, to: integers.count, by: step).map { integers[$0] }
    }

    /// Returns the fraction of the elements, 0…1, that have not changed. Near 1 after rounds with a step it means that the steps vanish: their deltas
    /// are rounded to nothing (docs/reference/arithmetic.md).
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

extension ParameterProbe {
    /// Returns ‖θ − θ₀‖/‖θ₀‖ of each tensor, computed from the sampled elements; nil for a tensor that was 0.
    public func relativeChanges(in parameters: Parameters) -> [Double?] {
        zip(values, ParameterProbe(parameters).values).map { old, new in
            var (moved, size) = (0.0, 0.0)
            for (a, b) in zip(old, new) {
                moved += (Double(b) - Double(a)) * (Double(b) - Double(a))
                size += Double(a) * Double(a)
            }
            return size > 0 ? (moved / size).squareRoot() : nil
        }
    }
}

/// How far parameters have moved from their base.
public struct ParameterChange: Hashable, Sendable {
    /// ‖θ − θ₀‖₂ over all trained tensors.
    public let norm: Double
    /// `norm` / ‖θ₀‖₂.
    public let relative: Double
    /// The largest |θ − θ₀|.
    public let largest: Double
}

extension Parameters {
    /// Returns the distance from `base`, or nil if `base` holds other tensors, or the same tensors with other exponents.
    public func change(from base: Parameters) -> ParameterChange? {
        guard tensors.map(\.name) == base.tensors.map(\.name) else { return nil }
        var (moved, size, largest) = (0.0, 0.0, 0.0)
        for position in tensors.indices {
            let (now, before) = (integers(at: position), base.integers(at: position))
            guard exponent(at: position) == base.exponent(at: position), now.count == before.count else { return nil }
            let unit = Double(sign: .plus, exponent: -exponent(at: position), significand: 1)
            for (a, b) in zip(now, before) {
                let difference = Double(a) - Double(b)
                moved += difference * difference * unit * unit
                size += Double(b) * Double(b) * unit * unit
                largest = max(largest, abs(difference) * unit)
            }
        }
        return ParameterChange(norm: moved.squareRoot(), relative: size > 0 ? (moved / size).squareRoot() : 0, largest: largest)
    }
}
