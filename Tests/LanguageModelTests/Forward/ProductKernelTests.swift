import Foundation
import Kernels
import Testing

/// Every variant of the matrix products that this machine has equals plain Double arithmetic. The sizes fit no tile, no panel and no block.
@Suite struct ProductKernelTests {
    /// The forms of weights that a product reads.
    enum Form: CaseIterable { case floats, fixed, perturbedFloats, perturbedFixed }

    /// A matrix with its storage, and its values as Doubles.
    final class Weights {
        let outputs, inputs: Int
        /// Values with the direction added, then with it subtracted.
        private var plus: [Double] = []
        private var minus: [Double] = []
        private let floats: UnsafeMutableBufferPointer<Float>
        private let fixed: UnsafeMutableBufferPointer<Int32>
        private let direction: UnsafeMutableBufferPointer<Int8>
        private let form: Form

        init(outputs: Int, inputs: Int, form: Form, random: inout SplitMix) {
            self.outputs = outputs
            self.inputs = inputs
            self.form = form
            let count = outputs * inputs
            floats = .allocate(capacity: count)
            fixed = .allocate(capacity: count)
            direction = .allocate(capacity: count)
            for i in 0..<count {
                let k = Int32(truncatingIfNeeded: Int64(bitPattern: random.next()) >> 40)
                fixed[i] = k
                floats[i] = Float(k) * 0x1p-24
                direction[i] = Int8(truncatingIfNeeded: random.next())
                let perturbation = form == .floats || form == .fixed ? 0 : 0.01 * Double(direction[i])
                plus.append(Double(k) * 0x1p-24 + perturbation)
                minus.append(Double(k) * 0x1p-24 - perturbation)
            }
        }

        deinit {
            floats.deallocate()
            fixed.deallocate()
            direction.deallocate()
        }

        var matrix: ob_matrix {
            let isFixed = form == .fixed || form == .perturbedFixed
            let isPerturbed = form == .perturbedFloats || form == .perturbedFixed
            return ob_matrix(
                outputs: outputs, inputs: inputs, stride: 0, floats: isFixed ? nil : UnsafePointer(floats.baseAddress),
                fixed: isFixed ? UnsafePointer(fixed.baseAddress) : nil, fixed_scale: 0x1p-24,
                direction: isPerturbed ? UnsafePointer(direction.baseAddress) : nil, direction_scale: 0.01)
        }

        /// Returns row `row` of x·wᵀ; the first `plus` rows see the direction added.
        func product(_ x: [Float], _ stride: Int, row: Int, plus count: Int) -> [Double] {
            let values = row < count ? plus : minus
            return (0..<outputs).map { o in
                (0..<inputs).reduce(0.0) { $0 + Double(x[row * stride + $1]) * values[o * inputs + $1] }
            }
        }
    }

    /// Rank-one terms of some rows of a product.
    final class Terms {
        let scales: [Float]
        let vectors: UnsafeMutableBufferPointer<Int8>
        private let pointers: UnsafeMutableBufferPointer<UnsafePointer<Int8>?>
        private let factors: UnsafeMutableBufferPointer<Float>
        private let outputs: Int

        init(rows: Int, outputs: Int, random: inout SplitMix) {
            self.outputs = outputs
            vectors = .allocate(capacity: rows * outputs)
            for i in vectors.indices { vectors[i] = Int8(truncatingIfNeeded: random.next()) }
            pointers = .allocate(capacity: rows)
            factors = .allocate(capacity: rows)
            var scales: [Float] = []
            for r in 0..<rows {
                // Every third row has no term.
                pointers[r] = r % 3 == 2 ? nil : vectors.baseAddress.map { UnsafePointer($0 + r * outputs) }
                factors[r] = Float(r % 5) * 0.01 - 0.02
                scales.append(r % 3 == 2 ? 0 : factors[r])
            }
            self.scales = scales
        }

        deinit {
            vectors.deallocate()
            pointers.deallocate()
            factors.deallocate()
        }

        var terms: ob_rank1_terms {
            ob_rank1_terms(a: UnsafePointer(pointers.baseAddress), scales: UnsafePointer(factors.baseAddress))
        }

        func value(_ row: Int, _ output: Int) -> Double { Double(scales[row]) * Double(vectors[row * outputs + output]) }
    }

    struct SplitMix: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
        mutating func floats(_ count: Int) -> [Float] { (0..<count).map { _ in Float.random(in: -1...1, using: &self) } }
    }

    func with(_ variant: String, _ body: () throws -> Void) rethrows {
        guard ob_kernels_select(variant) != 0 else { return }
        defer { ob_kernels_select(nil) }
        try body()
    }

    /// - Parameter terms: number of terms in the sum; rounding errors grow with it.
    func expectClose(_ got: Float, _ wanted: Double, terms: Int = 1, _ what: @autoclosure () -> String) {
        let tolerance = 2e-5 * max(1, abs(wanted)) + 2e-7 * Double(terms)
        if !(abs(Double(got) - wanted) <= tolerance) { Issue.record("\(what()): \(got) should be \(wanted)") }
    }

    /// Provides floats on a cache line boundary for the kernels, freed afterwards.
    func withScratch(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
        let raw = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1) * 4, alignment: 64)
        defer { raw.deallocate() }
        body(raw.bindMemory(to: Float.self, capacity: max(count, 1)))
    }

    @Test(arguments: FloatKernelTests.variants, Form.allCases)
    func products(_ variant: String, _ form: Form) {
        var random = SplitMix(state: 1)
        with(variant) {
            // The last size reads its weights in more than one part.
            for (rows, inputs, outputs) in [(1, 1, 1), (3, 16, 32), (15, 37, 45), (29, 130, 71), (2, 64, 300), (61, 48, 16), (5, 2100, 35)] {
                let x = random.floats(rows * (inputs + 3))
                let w = Weights(outputs: outputs, inputs: inputs, form: form, random: &random)
                let terms = Terms(rows: rows, outputs: outputs, random: &random)
                let before = random.floats(rows * (outputs + 2))
                let plus = rows * 2 / 3
                for (accumulate, hasTerms) in [(false, false), (true, false), (false, true), (true, true)] {
                    var y = before
                    var matrix = w.matrix
                    var own = terms.terms
                    withScratch(ob_product_scratch(inputs)) { scratch in
                        if hasTerms {
                            ob_product(x, inputs + 3, rows, plus, &matrix, &own, &y, outputs + 2, accumulate ? 1 : 0, scratch)
                        } else {
                            ob_product(x, inputs + 3, rows, plus, &matrix, nil, &y, outputs + 2, accumulate ? 1 : 0, scratch)
                        }
                    }
                    for r in 0..<rows {
                        let plain = w.product(x, inputs + 3, row: r, plus: plus)
                        for o in 0..<outputs {
                            let at = r * (outputs + 2) + o
                            expectClose(
                                y[at], plain[o] + (accumulate ? Double(before[at]) : 0) + (hasTerms ? terms.value(r, o) : 0),
                                "\(rows) × \(inputs) → \(outputs), row \(r), output \(o)")
                        }
                        #expect(y[r * (outputs + 2) + outputs] == before[r * (outputs + 2) + outputs], "nothing beside y is written")
                    }
                }
            }
        }
    }

    @Test(arguments: FloatKernelTests.variants, Form.allCases)
    func gatedProducts(_ variant: String, _ form: Form) {
        var random = SplitMix(state: 2)
        with(variant) {
            for (rows, inputs, outputs) in [(1, 3, 1), (15, 37, 45), (29, 64, 96), (4, 2100, 21)] {
                let x = random.floats(rows * inputs)
                let gate = Weights(outputs: outputs, inputs: inputs, form: form, random: &random)
                let up = Weights(outputs: outputs, inputs: inputs, form: form, random: &random)
                let gateTerms = Terms(rows: rows, outputs: outputs, random: &random)
                let upTerms = Terms(rows: rows, outputs: outputs, random: &random)
                let plus = rows / 3
                for hasTerms in [false, true] {
                    var y = [Float](repeating: 7, count: rows * (outputs + 1))
                    var (g, u) = (gate.matrix, up.matrix)
                    var (gTerms, uTerms) = (gateTerms.terms, upTerms.terms)
                    withScratch(ob_product_scratch(inputs)) { scratch in
                        if hasTerms {
                            ob_gated_product(Int32(OB_SILU), x, inputs, rows, plus, &g, &u, &gTerms, &uTerms, &y, outputs + 1, scratch)
                        } else {
                            ob_gated_product(Int32(OB_SILU), x, inputs, rows, plus, &g, &u, nil, nil, &y, outputs + 1, scratch)
                        }
                    }
                    for r in 0..<rows {
                        let (gates, ups) = (gate.product(x, inputs, row: r, plus: plus), up.product(x, inputs, row: r, plus: plus))
                        for o in 0..<outputs {
                            let a = gates[o] + (hasTerms ? gateTerms.value(r, o) : 0)
                            let b = ups[o] + (hasTerms ? upTerms.value(r, o) : 0)
                            expectClose(
                                y[r * (outputs + 1) + o], a / (1 + exp(-a)) * b, terms: inputs,
                                "\(rows) × \(inputs) → \(outputs), row \(r), output \(o)")
                        }
                        #expect(y[r * (outputs + 1) + outputs] == 7, "nothing beside y is written")
                    }
                }
            }
        }
    }

    /// Many queries at once give the same result as each query alone.
    @Test(arguments: FloatKernelTests.variants)
    func attentionOfManyQueries(_ variant: String) {
        var random = SplitMix(state: 3)
        with(variant) {
            for (rows, before, heads, kvHeads, size) in [(1, 0, 2, 1, 20), (33, 0, 9, 3, 64), (17, 12, 4, 2, 8), (40, 3, 2, 2, 80)] {
                let count = before + rows
                let (width, kvWidth) = (heads * size, kvHeads * size)
                let q = random.floats(rows * width)
                let kv = random.floats(count * 2 * kvWidth)
                let scale = 1 / Float(size).squareRoot()
                var form = ob_attention(heads: heads, kv_heads: kvHeads, head_size: size, scale: scale, softcap: 0, window: 0, slopes: nil)
                var out = [Float](repeating: 7, count: rows * width)
                var wanted = out
                var scores = [Float](repeating: 0, count: count)
                kv.withUnsafeBufferPointer { kv in
                    guard let k = kv.baseAddress else { return }
                    withScratch(ob_attention_scratch(rows, before, size)) { scratch in
                        // The previous contents must not matter.
                        for i in 0..<ob_attention_scratch(rows, before, size) { scratch[i] = .nan }
                        ob_attend_rows(
                            q, width, rows, k, k + kvWidth, 2 * kvWidth, before, &form, scratch, &out, width)
                    }
                    for r in 0..<rows {
                        q.withUnsafeBufferPointer { q in
                            wanted.withUnsafeMutableBufferPointer { wanted in
                                guard let from = q.baseAddress, let to = wanted.baseAddress else { return }
                                ob_attend(
                                    from + r * width, k, 2 * kvWidth, k + kvWidth, 2 * kvWidth, before + r + 1, &form,
                                    &scores, to + r * width)
                            }
                        }
                    }
                }
                for (i, value) in out.enumerated() { expectClose(value, Double(wanted[i]), "\(rows) queries after \(before), element \(i)") }
            }
        }
    }

    @Test(arguments: FloatKernelTests.variants)
    func dotsOfManyRows(_ variant: String) {
        var random = SplitMix(state: 4)
        with(variant) {
            for (rows, n) in [(1, 5), (4, 16), (7, 77), (9, 576)] {
                let x = random.floats(rows * (n + 1))
                let b = (0..<n).map { _ in Int8(truncatingIfNeeded: random.next()) }
                var out = [Float](repeating: 0, count: rows)
                ob_dots_i8(x, n + 1, rows, b, n, -0.25, &out)
                for r in 0..<rows {
                    let wanted = zip(x[(r * (n + 1))...], b).reduce(0.0) { (sum: Double, pair) in sum + Double(pair.0) * Double(pair.1) }
                    #expect(abs(Double(out[r]) + 0.25 * wanted) < 1e-4 * Double(n))
                }
            }
        }
    }
}
