/// The frozen factors of an adapter W + U·C·Vᵀ, as data of the run.
public struct AdapterBasis: Hashable, Sendable {
    /// p and r, at most.
    public static let rankMax = 1 << 14

    /// The name of its `AdapterPlace`.
    public let place: String
    /// U: p vectors of length m, the map's outputs.
    public let outputs: FixedPointVectors
    /// V: r vectors of length n, the map's inputs.
    public let inputs: FixedPointVectors

    /// The shape of C: p×r.
    public var shape: TensorShape { .matrix(rows: outputs.count, columns: inputs.count) }

    public init(place: String, outputs: FixedPointVectors, inputs: FixedPointVectors) {
        self.place = place
        self.outputs = outputs
        self.inputs = inputs
    }
}

/// Vectors of Int16 with 14 fraction bits and one exponent a vector: element j of vector i is values[i·length + j]·2^(exponents[i] − 14).
public struct FixedPointVectors: Hashable, Sendable {
    public static let fractionBits = 14
    /// With these exponents every element, and any sum of products that a forward pass makes of it, is far inside the range of F32.
    public static let exponentRange = -64...64

    /// Elements of a vector.
    public let length: Int
    /// One a vector.
    public let exponents: [Int8]
    /// Vector after vector.
    public let values: [Int16]

    /// The number of vectors.
    public var count: Int { exponents.count }

    /// - Throws: `RunBasisError.malformed` where the numbers of values do not fit together or an exponent is out of range.
    public init(length: Int, exponents: [Int8], values: [Int16]) throws(RunBasisError) {
        guard (1...RunBasis.widthMax).contains(length), (1...AdapterBasis.rankMax).contains(exponents.count),
            values.count == length * exponents.count
        else {
            throw .malformed("\(values.count) values and \(exponents.count) exponents for vectors of length \(length)")
        }
        guard exponents.allSatisfy({ Self.exponentRange.contains(Int($0)) }) else {
            throw .malformed("an exponent is outside \(Self.exponentRange.lowerBound)…\(Self.exponentRange.upperBound)")
        }
        self.length = length
        self.exponents = exponents
        self.values = values
    }

    /// Vectors of real numbers, each element rounded to nearest, ties to even. With the vector's largest magnitude = m·2^e,
    /// 0.5 ≤ m < 1, its exponent is e (at least −64; 0 for a vector of zeros), and its integers lie in −2^14…2^14.
    ///
    /// - Parameter vectors: all of the same length.
    /// - Throws: `RunBasisError` where lengths differ, an element is not finite, or one is 2^64 or more.
    public init(rounding vectors: [[Double]]) throws(RunBasisError) {
        let length = vectors.first?.count ?? 0
        guard vectors.allSatisfy({ $0.count == length }) else { throw .malformed("vectors of different lengths") }
        var (exponents, values) = ([Int8](), [Int16]())
        exponents.reserveCapacity(vectors.count)
        values.reserveCapacity(length * vectors.count)
        for vector in vectors {
            guard vector.allSatisfy(\.isFinite) else { throw .malformed("an element is not finite") }
            let largest = vector.reduce(0) { max($0, abs($1)) }
            // Swift's exponent belongs to 1 ≤ m < 2.
            let exponent = largest == 0 ? 0 : max(Int(largest.exponent) + 1, Self.exponentRange.lowerBound)
            guard Self.exponentRange.contains(exponent) else { throw .malformed("an element of \(largest)") }
            let scale = Double(sign: .plus, exponent: Self.fractionBits - exponent, significand: 1)
            exponents.append(Int8(exponent))
            for element in vector { values.append(Int16((element * scale).rounded(.toNearestOrEven))) }
        }
        try self.init(length: length, exponents: exponents, values: values)
    }

    /// All elements as F32, vector after vector; each is exact.
    public func floats() -> [Float] {
        var floats: [Float] = []
        floats.reserveCapacity(values.count)
        for (i, exponent) in exponents.enumerated() {
            let unit = Float(sign: .plus, exponent: Int(exponent) - Self.fractionBits, significand: 1)
            for value in values[i * length..<(i + 1) * length] { floats.append(Float(value) * unit) }
        }
        return floats
    }
}
