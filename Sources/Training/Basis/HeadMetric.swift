import LanguageModel

/// F, the covariance of all of the head's rows plus 0.1 of its mean eigenvalue times the identity. uᵀFu measures how much a change u of a state
/// moves the logits of the whole vocabulary. With the weights w of the final norm, each row is replaced by w ⊙ row, and u is a change of the
/// residual stream.
struct HeadMetric {
    private static let ridge = 0.1
    private static let rowsAtOnce = 4096

    private let source: ModelSource
    private let width: Int
    private let weights: [Float]
    private let matrix: SymmetricMatrix
    private let factor: CholeskyFactor

    /// - Parameter weights: one per column of the head; nil for ones.
    init(source: ModelSource, weights: [Float]? = nil) throws {
        self.source = source
        width = LayerSizes(source.configuration).embedding
        self.weights = weights ?? Array(repeating: 1, count: width)
        let moment = SecondMoment(width: width)
        let rows = ScratchBuffer<Float>(capacity: Self.rowsAtOnce * width)
        let vocabulary = source.configuration.vocabularySize
        for first in stride(from: 0, to: vocabulary, by: Self.rowsAtOnce) {
            let range = first..<min(first + Self.rowsAtOnce, vocabulary)
            try source.copyFloats(source.headName, rows: range, into: rows.pointer)
            if weights != nil { Self.scale(rows.pointer, range.count, by: self.weights) }
            moment.add(rows.pointer, stride: width, rows: range.count)
        }
        matrix = moment.covariance()
        let ridge = Self.ridge * matrix.trace / Double(width)
        for i in 0..<width { matrix[i, i] += ridge }
        factor = try CholeskyFactor(matrix, what: "the covariance of the head's rows")
    }

    /// Multiplies each element of some rows by its weight.
    private static func scale(_ rows: UnsafeMutablePointer<Float>, _ count: Int, by weights: [Float]) {
        for row in 0..<count { for (j, weight) in weights.enumerated() { rows[row * weights.count + j] *= weight } }
    }

    /// Returns U = F⁻¹E_cᵀ(E_c F⁻¹E_cᵀ)⁺B, where E_c are the classes' head rows minus their mean and B orthonormal contrasts between
    /// classes. Then E_c·U = B, so class scores move by B·C·x for any model. Of all such U this one has the smallest uᵀFu.
    ///
    /// - Parameter tokens: one token per class.
    func labelOutputs(_ tokens: [Int32]) throws -> [[Double]] {
        let classes = tokens.count
        let floats = ScratchBuffer<Float>(capacity: classes * width)
        try source.gatherFloats(source.headName, rows: tokens, into: floats.pointer)
        Self.scale(floats.pointer, classes, by: weights)
        var centred = (0..<classes).map { c in (0..<width).map { Double(floats.pointer[c * width + $0]) } }
        for j in 0..<width {
            let mean = centred.reduce(0) { $0 + $1[j] } / Double(classes)
            for c in 0..<classes { centred[c][j] -= mean }
        }
        let whitened = centred.map { factor.solveLower($0) }
        let gram = SymmetricMatrix(size: classes)
        for a in 0..<classes { for b in a..<classes { gram[a, b] = dot(whitened[a], whitened[b]) } }
        let eigen = try gram.eigen("the label words' head rows")
        // Classes with the same row cannot be told apart.
        let rank = eigen.values.count { $0 > 1e-9 * eigen.values[0] && $0 > 0 }
        guard rank > 0 else {
            throw TrainingError(.badTensors, "the label words all begin alike, so that the adapter can't tell them apart; choose other words")
        }
        let vectors = (0..<rank).map { eigen.vector($0) }
        let contrasts =
            rank > AdapterBasisMaker.labelOutputsMax
            ? Array(vectors.prefix(AdapterBasisMaker.labelOutputsMax)) : Self.contrasts(between: classes, within: vectors)
        return contrasts.map { contrast in
            // (E_c F⁻¹E_cᵀ)⁺·b.
            var weights = [Double](repeating: 0, count: classes)
            for (vector, value) in zip(vectors, eigen.values) {
                let share = dot(vector, contrast) / value
                for c in 0..<classes { weights[c] += share * vector[c] }
            }
            var sum = [Double](repeating: 0, count: width)
            for (weight, row) in zip(weights, whitened) { for j in 0..<width { sum[j] += weight * row[j] } }
            return factor.solveUpper(sum)
        }
    }

    /// Returns orthonormal contrasts: class 1 against class 0, class 2 against the mean of both, and so on, as far as they lie in the span
    /// of the given orthonormal vectors.
    private static func contrasts(between classes: Int, within span: [[Double]]) -> [[Double]] {
        var found: [[Double]] = []
        for k in 1..<classes where found.count < span.count {
            let raw = (0..<classes).map { $0 < k ? -1 : $0 == k ? Double(k) : 0 }
            var contrast = [Double](repeating: 0, count: classes)
            for vector in span {
                let share = dot(vector, raw)
                for c in 0..<classes { contrast[c] += share * vector[c] }
            }
            let length = dot(contrast, contrast).squareRoot()
            for other in found {
                let share = dot(other, contrast)
                for c in 0..<classes { contrast[c] -= share * other[c] }
            }
            let left = dot(contrast, contrast).squareRoot()
            // For classes with the same row, the rest of a contrast is rounding.
            guard left > 1e-6 * max(length, 1) else { continue }
            found.append(contrast.map { $0 / left })
        }
        return found
    }

    /// Returns vectors of random signs, made orthonormal in F.
    func randomOutputs(count: Int, seed: UInt64) -> [[Double]] {
        AdapterBasisMaker.randomVectors(count: count, width: width, seed: seed, trace: matrix.trace) { dot(times($0), $1) }
    }

    private func times(_ x: [Double]) -> [Double] { (0..<width).map { i in (0..<width).reduce(0) { $0 + matrix[i, $1] * x[$1] } } }
}

/// Returns the inner product of two vectors of the same length.
func dot(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }
