import Kernels
import Testing

/// Products of differences in 8-bit integers equal what differences.h specifies, number by number.
@Suite struct DifferenceKernelTests {
    static let variants = ["amx", "avx512vnni", "avx2", "portable"]

    struct Shape: Sendable, CustomTestStringConvertible {
        let rows, inputs, outputs: Int
        var testDescription: String { "\(rows) × \(inputs) → \(outputs)" }
    }

    /// Complete and partial blocks of rows, panels of outputs and steps of inputs.
    static let shapes = [
        Shape(rows: 1, inputs: 1, outputs: 1), Shape(rows: 9, inputs: 64, outputs: 48), Shape(rows: 7, inputs: 172, outputs: 37),
        Shape(rows: 230, inputs: 576, outputs: 17),
    ]

    private func values(_ count: Int, _ random: inout some RandomNumberGenerator) -> [Float] {
        (0..<count).map { _ in Float.random(in: -1...1, using: &random) }
    }

    private struct Packed {
        var bytes: [Int8]
        var scales: [Float]
        var offsets: [Int32]

        init(_ w: [Float], outputs: Int, inputs: Int) {
            let padded = (outputs + OB_DIFFERENCE_PANEL - 1) / OB_DIFFERENCE_PANEL * OB_DIFFERENCE_PANEL
            bytes = Array(repeating: 0, count: padded * ob_difference_bytes(inputs))
            scales = Array(repeating: 0, count: padded)
            offsets = Array(repeating: 0, count: padded)
            ob_difference_pack(w, outputs, inputs, &bytes, &scales, &offsets)
        }
    }

    /// Returns round(v·limit/max|v|), and the value of one unit.
    private func rounded(_ v: ArraySlice<Float>, limit: Int32) -> (integers: [Int32], scale: Float) {
        let largest = v.reduce(0) { max($0, abs($1)) }
        guard largest > 0 else { return (v.map { _ in 0 }, 0) }
        return (v.map { Int32(($0 * (Float(limit) / largest)).rounded(.toNearestOrEven)) }, largest / Float(limit))
    }

    private func product(_ x: [Float], from clean: [Float], _ packed: Packed, _ shape: Shape, base: [Float], into y: inout [Float], adds: Bool) {
        let bytes = ob_difference_bytes(shape.inputs)
        var quantised = [UInt8](repeating: 0, count: shape.rows * bytes)
        var scales = [Float](repeating: 0, count: shape.rows)
        quantised.withUnsafeMutableBufferPointer { out in
            x.withUnsafeBufferPointer { x in
                guard let x = x.baseAddress, let out = out.baseAddress else { return }
                for r in 0..<shape.rows { scales[r] = ob_difference_quantise(x + r * shape.inputs, clean, shape.inputs, out + r * bytes) }
            }
        }
        base.withUnsafeBufferPointer { base in
            let from = [UnsafePointer<Float>?](repeating: base.baseAddress, count: shape.rows)
            ob_difference_product(
                quantised, scales, shape.rows, packed.bytes, packed.scales, packed.offsets, shape.outputs, shape.inputs, from, &y,
                shape.outputs, adds ? 1 : 0)
        }
    }

    @Test(arguments: variants, shapes)
    func product_isThatOfTheRoundedNumbers(variant: String, shape: Shape) {
        guard ob_kernels_select(variant) != 0 else { return }
        defer { ob_kernels_select(nil) }
        var weightLimit: Int32 = 0
        var differenceLimit: Int32 = 0
        ob_difference_limits(&weightLimit, &differenceLimit)
        var random = SystemRandomNumberGenerator()
        let x = values(shape.rows * shape.inputs, &random)
        let clean = values(shape.inputs, &random)
        let w = values(shape.outputs * shape.inputs, &random)
        let base = values(shape.outputs, &random)
        let before = values(shape.rows * shape.outputs, &random)
        let packed = Packed(w, outputs: shape.outputs, inputs: shape.inputs)

        let weights = (0..<shape.outputs).map { rounded(w[$0 * shape.inputs..<($0 + 1) * shape.inputs], limit: weightLimit) }

        for adds in [false, true] {
            var y = before
            product(x, from: clean, packed, shape, base: base, into: &y, adds: adds)
            for r in 0..<shape.rows {
                let row = zip(x[r * shape.inputs..<(r + 1) * shape.inputs], clean).map { $0 - $1 }
                let q = rounded(row[...], limit: differenceLimit)
                for o in 0..<shape.outputs {
                    let sum = zip(q.integers, weights[o].integers).reduce(Int32(0)) { $0 + $1.0 * $1.1 }
                    let expected = (adds ? before[r * shape.outputs + o] : 0) + (base[o] + q.scale * weights[o].scale * Float(sum))
                    #expect(y[r * shape.outputs + o] == expected)
                }
            }
        }
    }

    /// The largest sums fit into 16 bits.
    @Test(arguments: variants)
    func product_doesNotOverflow(variant: String) {
        guard ob_kernels_select(variant) != 0 else { return }
        defer { ob_kernels_select(nil) }
        let shape = Shape(rows: 1, inputs: 1536, outputs: 16)
        for sign in [Float(1), -1] {
            let packed = Packed([Float](repeating: sign, count: 1536 * 16), outputs: 16, inputs: 1536)
            var y = [Float](repeating: 0, count: 16)
            product(
                [Float](repeating: 1, count: 1536), from: [Float](repeating: 0, count: 1536), packed, shape,
                base: [Float](repeating: 0, count: 16), into: &y, adds: false)
            for value in y { #expect(abs(value - sign * 1536) < 1e-3 * 1536) }
        }
    }

    @Test(arguments: variants, [Float.nan, .infinity])
    func product_ofWhatIsNotFinite_isNotFinite(variant: String, bad: Float) {
        guard ob_kernels_select(variant) != 0 else { return }
        defer { ob_kernels_select(nil) }
        let shape = Shape(rows: 1, inputs: 64, outputs: 16)
        let ones = [Float](repeating: 1, count: 64)
        let zeros = [Float](repeating: 0, count: 64)
        let packed = Packed([Float](repeating: 1, count: 64 * 16), outputs: 16, inputs: 64)
        var x = ones
        x[40] = bad
        var y = [Float](repeating: 0, count: 16)
        product(x, from: zeros, packed, shape, base: zeros, into: &y, adds: false)
        #expect(y.allSatisfy { !$0.isFinite })

        var w = [Float](repeating: 1, count: 64 * 16)
        w[5] = bad
        product(ones, from: zeros, Packed(w, outputs: 16, inputs: 64), shape, base: zeros, into: &y, adds: false)
        #expect(!y[0].isFinite)
        #expect(y[1].isFinite)
    }

    /// If the rows do not differ, nothing is added.
    @Test(arguments: variants)
    func product_ofEqualRows_isTheCleanOne(variant: String) {
        guard ob_kernels_select(variant) != 0 else { return }
        defer { ob_kernels_select(nil) }
        var random = SystemRandomNumberGenerator()
        let shape = Shape(rows: 1, inputs: 64, outputs: 16)
        let x = values(64, &random)
        let base = values(16, &random)
        let packed = Packed(values(64 * 16, &random), outputs: 16, inputs: 64)
        var y = [Float](repeating: 0, count: 16)
        product(x, from: x, packed, shape, base: base, into: &y, adds: false)
        #expect(y == base)
    }
}
