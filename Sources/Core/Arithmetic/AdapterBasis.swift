/// The frozen factors of an adapter W + U·C·Vᵀ. They are data of the run.
public struct AdapterBasis: Hashable, Sendable {
    /// Upper bound of p and r.
    public static let rankMax = 1 << 14

    /// The name of the adapter's `AdapterPlace`.
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

/// Vectors of Int16 with 14 fraction bits and one exponent for each vector: element j of vector i is values[i·length + j]·2^(exponents[i] − 14).
public struct FixedPointVectors: Hashable, Sendable {
    /// Fraction bits of an element before its vector's exponent is applied.
    public static let fractionBits = 14
    /// With these exponents every element is far inside the range of F32, and so is every sum of products that a forward pass makes of it.
    public static let exponentRange = -64...64

    /// Number of elements of each vector.
    public let length: Int
    /// One exponent for each vector.
    public let exponents: [Int8]
    /// Vector after vector: count × length values.
    public let values: [Int16]

    /// The number of vectors.
    public var count: Int { exponents.count }

    /// - Throws: `RunBasisError.malformed` if the numbers of values do not fit together, or if an exponent is out of range.
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

    /// Rounds vectors of real numbers: each element to the nearest value, ties to even. Let m·2^e with 0.5 ≤ m < 1 be a vector's largest magnitude.
    /// Then its exponent is e, but at least −64, and 0 for a vector of zeros. Its integers lie in −2^14…2^14.
    ///
    /// - Parameter vectors: vectors of equal length.
    /// - Throws: `RunBasisError` if the lengths differ, if an element is not finite, or if one is 2^64 or more.
    public init(rounding vectors: [[Double]]) throws(RunBasisError) {
        let length = vectors.first?.count ?? 0
        guard vectors.allSatisfy({ $0.count == length }) else { throw .malformed("vectors of different lengths") }
        var (exponents, values) = ([Int8](), [Int16]())
        exponents.reserveCapacity(vectors.count)
        values.reserveCapacity(length * vectors.count)
        for vector in vectors {
            guard vector.allSatisfy(\.isFinite) else { throw .malformed("an element is not finite") }
            let largest = vector.reduce(0) { max($0, abs($1)) }
            // Swift's exponent is that of a significand in 1 ≤ m < 2.
            let exponent = largest == 0 ? 0 : max(Int(largest.exponent) + 1, Self.exponentRange.lowerBound)
            guard Self.exponentRange.contains(exponent) else { throw .malformed("an element of \(largest)") }
            let scale = Double(sign: .plus, exponent: Self.fractionBits - exponent, significand: 1)
            exponents.append(Int8(exponent))
            for element in vector { values.append(Int16((element * scale).rounded(.toNearestOrEven))) }
        }
        try self.init(length: length, exponents: exponents, values: values)
    }

    /// Returns all elements as F32, vector after vector. Each is exact.
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
