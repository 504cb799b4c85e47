import Foundation
import Kernels
import LanguageModel
import Testing

/// Every variant of the float kernels that this machine has equals plain Double arithmetic. Odd lengths also test the tails.
@Suite struct FloatKernelTests {
    static let variants = ["avx512", "avx2", "neon", "portable"]

    /// Runs the body with a variant on this thread, if the machine has it.
    func with(_ variant: String, _ body: () throws -> Void) rethrows {
        guard ob_kernels_select(variant) != 0 else { return }
        defer { ob_kernels_select(nil) }
        try body()
    }

    func floats(_ count: Int, seed: UInt64, scale: Float = 1) -> [Float] {
        var state = seed
        return (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return scale * (Float(state >> 40) / Float(1 << 23) - 1)
        }
    }

    func bytes(_ count: Int, seed: UInt64) -> [Int8] { floats(count, seed: seed, scale: 127).map { Int8($0) } }

    func expectClose(_ got: [Float], _ wanted: [Double], tolerance: Double = 2e-6, _ what: Comment) {
        let scale = wanted.map(abs).max() ?? 1
        for (g, w) in zip(got, wanted) where !(abs(Double(g) - w) <= tolerance * max(scale, 1e-30)) {
            Issue.record("\(what): \(g) should be \(w)")
            return
        }
    }

    @Test(arguments: variants)
    func sumsAndProducts(_ variant: String) {
        with(variant) {
            for n in [1, 3, 16, 37, 64, 131, 576] {
                let x = floats(n, seed: 1)
                let y = floats(n, seed: 2)
                let b = bytes(n, seed: 3)
                let dot = zip(x, b).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
                #expect(abs(Double(ob_dot_i8(x, b, n)) - dot) < 1e-4 * Double(n))
                let plain = zip(x, y).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
                #expect(abs(Double(ob_dot(x, y, n)) - plain) < 1e-6 * Double(n))
                var out = y
                ob_add_scaled_i8(&out, b, 0.25, n)
                expectClose(out, zip(y, b).map { Double($0) + 0.25 * Double($1) }, "add_scaled_i8 \(n)")
                ob_sum_scaled_i8(x, b, -0.5, &out, n)
                expectClose(out, zip(x, b).map { Double($0) - 0.5 * Double($1) }, "sum_scaled_i8 \(n)")
            }
        }
    }

    @Test(arguments: variants)
    func normsAndActivations(_ variant: String) {
        with(variant) {
            for n in [5, 32, 77] {
                let x = floats(3 * n, seed: 4)
                let w = floats(n, seed: 5)
                var out = [Float](repeating: 0, count: 3 * n)
                ob_rms_norm(x, w, &out, 3, n, 1e-5)
                for r in 0..<3 {
                    let row = x[r * n..<(r + 1) * n]
                    let mean = row.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(n)
                    expectClose(
                        Array(out[r * n..<(r + 1) * n]), zip(row, w).map { Double($0) * Double($1) / (mean + 1e-5).squareRoot() }, "rms_norm \(n)")
                }
                let gate = floats(n, seed: 6, scale: 30)
                let up = floats(n, seed: 7)
                var activated = [Float](repeating: 0, count: n)
                ob_gated_rank1(Int32(OB_SILU), gate, nil, 0, up, nil, 0, &activated, n)
                for (i, value) in activated.enumerated() {
                    let wanted = Double(gate[i]) / (1 + exp(-Double(gate[i]))) * Double(up[i])
                    #expect(abs(Double(value) - wanted) <= 2e-6 * abs(wanted) + 1e-30)
                }
                let a = bytes(n, seed: 8)
                ob_gated_rank1(Int32(OB_SILU), gate, a, 0.01, up, nil, 0, &activated, n)
                for i in 0..<n {
                    let g = Double(gate[i]) + 0.01 * Double(a[i])
                    let wanted = g / (1 + exp(-g)) * Double(up[i])
                    #expect(abs(Double(activated[i]) - wanted) <= 4e-6 * abs(wanted) + 1e-5)
                }
            }
        }
    }

    @Test(arguments: variants)
    func exponentialSums(_ variant: String) {
        with(variant) {
            for n in [1, 7, 48, 1001] {
                let x = floats(n, seed: 9, scale: 40)
                var largest: Float = 0
                var sum: Float = 0
                ob_log_sum_exp_parts(x, n, &largest, &sum)
                let top = x.max().map(Double.init) ?? 0
                let wanted = x.reduce(0.0) { $0 + exp(Double($1) - top) }
                #expect(Double(largest) == top)
                #expect(abs(Double(sum) - wanted) < 2e-6 * wanted)
                var softmax = x
                ob_softmax(&softmax, n)
                expectClose(softmax, x.map { exp(Double($0) - top) / wanted }, "softmax \(n)")
            }
            var broken: [Float] = [1, .nan, 2]
            var largest: Float = 0
            var sum: Float = 0
            ob_log_sum_exp_parts(broken, 3, &largest, &sum)
            #expect(sum.isNaN, "a broken logit must not be averaged away")
            ob_softmax(&broken, 3)
            #expect(broken.allSatisfy { $0.isNaN })
        }
    }

    @Test(arguments: variants)
    func attention(_ variant: String) {
        with(variant) {
            for (heads, kvHeads, size) in [(4, 2, 8), (9, 3, 64), (2, 1, 20)] {
                let count = 13
                let q = floats(heads * size, seed: 10)
                let k = floats(count * kvHeads * size, seed: 11)
                let v = floats(count * kvHeads * size, seed: 12)
                var out = [Float](repeating: 0, count: heads * size)
                var scores = [Float](repeating: 0, count: count)
                let scale = 1 / Float(size).squareRoot()
                var form = ob_attention(heads: heads, kv_heads: kvHeads, head_size: size, scale: scale, softcap: 0, window: 0, slopes: nil)
                ob_attend(q, k, kvHeads * size, v, kvHeads * size, count, &form, &scores, &out)
                for h in 0..<heads {
                    let g = h / (heads / kvHeads)
                    let raw = (0..<count).map { t in
                        (0..<size).reduce(0.0) { $0 + Double(q[h * size + $1]) * Double(k[(t * kvHeads + g) * size + $1]) } * Double(scale)
                    }
                    let total = raw.reduce(0.0) { $0 + exp($1) }
                    let wanted = (0..<size).map { i in
                        (0..<count).reduce(0.0) { $0 + exp(raw[$1]) / total * Double(v[($1 * kvHeads + g) * size + i]) }
                    }
                    expectClose(Array(out[h * size..<(h + 1) * size]), wanted, "attention \(heads) \(size)")
                }
            }
        }
    }

    @Test(arguments: variants)
    func rotation(_ variant: String) {
        with(variant) {
            let size = 20
            let half = size / 2
            let x = floats(2 * 3 * size, seed: 13)
            let angles = floats(5 * half, seed: 14, scale: 3)
            var out = x
            let positions: [Int32] = [4, 1]
            ob_rope(&out, 3 * size, positions, 2, 3, size, size, 0, angles.map { cos($0) }, angles.map { sin($0) })
            for r in 0..<2 {
                for h in 0..<3 {
                    for i in 0..<half {
                        let angle = Double(angles[Int(positions[r]) * half + i])
                        let at = (r * 3 + h) * size + i
                        let (a, b) = (Double(x[at]), Double(x[at + half]))
                        #expect(abs(Double(out[at]) - (a * cos(angle) - b * sin(angle))) < 1e-6)
                        #expect(abs(Double(out[at + half]) - (b * cos(angle) + a * sin(angle))) < 1e-6)
                    }
                }
            }
        }
    }

    @Test(arguments: variants)
    func normsByMeanAndVariance(_ variant: String) {
        with(variant) {
            for n in [5, 32, 77] {
                let x = floats(3 * n, seed: 4).map { $0 + 3 }
                let (w, b) = (floats(n, seed: 5), floats(n, seed: 6))
                for (hasWeight, hasBias) in [(true, true), (true, false), (false, false)] {
                    var out = [Float](repeating: 0, count: 3 * n)
                    x.withUnsafeBufferPointer { x in
                        w.withUnsafeBufferPointer { w in
                            b.withUnsafeBufferPointer { b in
                                ob_layer_norm(x.baseAddress, hasWeight ? w.baseAddress : nil, hasBias ? b.baseAddress : nil, &out, 3, n, 1e-5)
                            }
                        }
                    }
                    for r in 0..<3 {
                        let row = x[r * n..<(r + 1) * n].map(Double.init)
                        let mean = row.reduce(0, +) / Double(n)
                        let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(n)
                        let wanted = row.enumerated().map { i, value in
                            (value - mean) / (variance + 1e-5).squareRoot() * (hasWeight ? Double(w[i]) : 1) + (hasBias ? Double(b[i]) : 0)
                        }
                        expectClose(Array(out[r * n..<(r + 1) * n]), wanted, tolerance: 4e-6, "layer_norm \(n)")
                    }
                }
            }
        }
    }

    @Test(arguments: variants)
    func activationsAndCaps(_ variant: String) {
        let activations: [(Int32, (Double) -> Double)] = [
            (Int32(OB_SILU), { $0 / (1 + exp(-$0)) }), (Int32(OB_GELU), { $0 * 0.5 * erfc(-$0 / 2.0.squareRoot()) }),
            (Int32(OB_GELU_TANH), { $0 * 0.5 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }),
            (Int32(OB_RELU), { max($0, 0) }),
            (Int32(OB_RELU_SQUARED), { max($0, 0) * max($0, 0) }),
        ]
        with(variant) {
            let x = floats(301, seed: 20, scale: 9) + floats(64, seed: 21, scale: 0.01)
            for (kind, function) in activations {
                var out = x
                ob_activate(&out, out.count, kind)
                for (got, from) in zip(out, x) {
                    #expect(abs(Double(got) - function(Double(from))) <= 1e-6 * max(abs(Double(from)), 1e-3), "\(kind) of \(from)")
                }
                let up = floats(x.count, seed: 22)
                var gated = [Float](repeating: 0, count: x.count)
                ob_gated_rank1(kind, x, nil, 0, up, nil, 0, &gated, x.count)
                for i in x.indices { #expect(abs(gated[i] - out[i] * up[i]) <= 1e-6 * max(abs(out[i]), 1e-3)) }
                var broken: [Float] = [.nan, 1]
                ob_activate(&broken, 2, kind)
                #expect(broken[0].isNaN)
            }
            var bent = x + [.nan]
            ob_xielu(&bent, bent.count, 0.8, 0.9, 0.5, -1e-6)
            for (got, from) in zip(bent, x.map(Double.init)) {
                let wanted = from > 0 ? 0.8 * from * from + 0.5 * from : 0.9 * (expm1(min(from, -1e-6)) - from) + 0.5 * from
                #expect(abs(Double(got) - wanted) <= 1e-6 * max(abs(wanted), 0.1), "\(from)")
            }
            #expect(bent.last?.isNaN == true)
            for cap in [0.5, 3, 50] as [Float] {
                var out = x
                ob_softcap(&out, out.count, cap)
                for (got, from) in zip(out, x) {
                    let wanted = Double(cap) * tanh(Double(from) / Double(cap))
                    #expect(abs(Double(got) - wanted) <= 1e-6 * abs(wanted) + 1e-12, "\(from) capped at \(cap)")
                }
            }
        }
    }

    /// Attention with a window, a softcap and slopes, for one query and for many.
    @Test(arguments: variants)
    func otherForms(_ variant: String) {
        with(variant) {
            let (heads, kvHeads, size, rows, before) = (4, 2, 12, 90, 3)
            let count = before + rows
            let q = floats(rows * heads * size, seed: 30)
            let kv = floats(count * 2 * kvHeads * size, seed: 31)
            let width = 2 * kvHeads * size
            let slopes = ScratchBuffer<Float>([0.5, 0.25, 0.1, 0.01])
            for (window, softcap, hasSlopes) in [
                (0, 0, false), (5, 0, false), (70, 0, false), (1, 0, false), (0, 0.7, false), (0, 0, true), (7, 2, true),
            ] as [(Int, Float, Bool)] {
                var form = ob_attention(
                    heads: heads, kv_heads: kvHeads, head_size: size, scale: 0.3, softcap: softcap, window: window,
                    slopes: hasSlopes ? UnsafePointer(slopes.pointer) : nil)
                let scratch = ScratchBuffer<Float>(capacity: ob_attention_scratch(rows, before, size))
                var many = [Float](repeating: 7, count: rows * heads * size)
                var scores = [Float](repeating: 0, count: count)
                kv.withUnsafeBufferPointer { kv in
                    guard let k = kv.baseAddress else { return }
                    ob_attend_rows(q, heads * size, rows, k, k + kvHeads * size, width, before, &form, scratch.pointer, &many, heads * size)
                    for r in [0, 1, 40, 89] {
                        var one = [Float](repeating: 0, count: heads * size)
                        let query = Array(q[r * heads * size..<(r + 1) * heads * size])
                        ob_attend(query, k, width, k + kvHeads * size, width, before + r + 1, &form, &scores, &one)
                        let last = before + r
                        let first = window == 0 ? 0 : max(0, last + 1 - window)
                        for h in 0..<heads {
                            let g = h / (heads / kvHeads)
                            let raw = (first...last).map { t -> Double in
                                var score = 0.0
                                for i in 0..<size { score += Double(query[h * size + i]) * Double(kv[t * width + g * size + i]) }
                                score *= 0.3
                                if softcap > 0 { score = Double(softcap) * tanh(score / Double(softcap)) }
                                return score + (hasSlopes ? Double(slopes.pointer[h]) * Double(t) : 0)
                            }
                            let top = raw.max() ?? 0
                            let total = raw.reduce(0) { $0 + exp($1 - top) }
                            let wanted = (0..<size).map { i in
                                (first...last).reduce(0.0) {
                                    $0 + exp(raw[$1 - first] - top) / total * Double(kv[$1 * width + kvHeads * size + g * size + i])
                                }
                            }
                            let what: Comment = "row \(r), window \(window), cap \(softcap), slopes \(hasSlopes)"
                            expectClose(Array(one[h * size..<(h + 1) * size]), wanted, tolerance: 4e-6, what)
                            expectClose(Array(many[(r * heads + h) * size..<(r * heads + h + 1) * size]), wanted, tolerance: 4e-6, what)
                        }
                    }
                }
            }
        }
    }

    /// Rotation of a part of each head, by halves and interleaved.
    @Test(arguments: variants)
    func rotationOfAPart(_ variant: String) {
        with(variant) {
            let (size, width) = (20, 12)
            let half = width / 2
            let x = floats(2 * 3 * size, seed: 13)
            let angles = floats(5 * half, seed: 14, scale: 3)
            let positions: [Int32] = [4, 1]
            for pairs in [false, true] {
                var out = x
                ob_rope(&out, 3 * size, positions, 2, 3, size, width, pairs ? 1 : 0, angles.map { cos($0) }, angles.map { sin($0) })
                for r in 0..<2 {
                    for h in 0..<3 {
                        let head = (r * 3 + h) * size
                        for i in 0..<half {
                            let angle = Double(angles[Int(positions[r]) * half + i])
                            let (first, second) = pairs ? (head + 2 * i, head + 2 * i + 1) : (head + i, head + i + half)
                            let (a, b) = (Double(x[first]), Double(x[second]))
                            #expect(abs(Double(out[first]) - (a * cos(angle) - b * sin(angle))) < 1e-6)
                            #expect(abs(Double(out[second]) - (b * cos(angle) + a * sin(angle))) < 1e-6)
                        }
                        #expect(out[head + width..<head + size] == x[head + width..<head + size])
                    }
                }
            }
        }
    }
}
