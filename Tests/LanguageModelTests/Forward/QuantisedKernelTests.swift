import Foundation
import Kernels
import LanguageModel
import Testing

/// Products of blocks in 8-bit integers equal what quantised.h specifies, number by number and on every variant.
@Suite struct QuantisedKernelTests {
    private static let blockInputs = Int(OB_QUANTISED_INPUTS)
    private static let panelOutputs = Int(OB_QUANTISED_PANEL)

    struct Shape: Sendable, CustomTestStringConvertible {
        let rows, inputs, outputs: Int
        var testDescription: String { "\(rows) × \(inputs) → \(outputs)" }
    }

    /// Complete and partial tiles of rows, panels of outputs and blocks of inputs.
    static let shapes = [
        Shape(rows: 1, inputs: 1, outputs: 1), Shape(rows: 9, inputs: 64, outputs: 48), Shape(rows: 7, inputs: 172, outputs: 37),
        Shape(rows: 65, inputs: 576, outputs: 19),
    ]

    private func values(_ count: Int, _ random: inout some RandomNumberGenerator) -> [Float] {
        (0..<count).map { _ in Float.random(in: -1...1, using: &random) }
    }

    private func eachVariant(_ body: (String) throws -> Void) rethrows {
        defer { ob_kernels_select(nil) }
        var index = 0
        while let name = ob_kernels_available(index).map({ String(cString: $0) }) {
            ob_kernels_select(name)
            try body(name)
            index += 1
        }
    }

    /// Packs rows of the given type; `stored` has `rowBytes` for each output.
    private func pack(_ stored: [UInt8], _ type: ElementType, outputs: Int, inputs: Int, rowBytes: Int) -> [UInt8] {
        let bytes = ob_quantised_panel_bytes(inputs)
        var panels = [UInt8](repeating: 0, count: (outputs + Self.panelOutputs - 1) / Self.panelOutputs * bytes)
        stored.withUnsafeBytes { stored in
            panels.withUnsafeMutableBytes { panels in
                guard let from = stored.baseAddress, let to = panels.baseAddress else { return }
                for start in stride(from: 0, to: outputs, by: Self.panelOutputs) {
                    var rows: [UnsafeRawPointer?] = (start..<min(start + Self.panelOutputs, outputs)).map { from + $0 * rowBytes }
                    ob_quantise_panel(type.rawValue, &rows, rows.count, inputs, to + start / Self.panelOutputs * bytes)
                }
            }
        }
        return panels
    }

    private func pack(_ w: [Float], _ shape: Shape) -> [UInt8] {
        pack(w.withUnsafeBytes { Array($0) }, .f32, outputs: shape.outputs, inputs: shape.inputs, rowBytes: 4 * shape.inputs)
    }

    private func quantise(_ x: [Float], _ shape: Shape) -> [UInt8] {
        var rows = [UInt8](repeating: 0, count: shape.rows * ob_quantised_row_bytes(shape.inputs))
        ob_quantise_rows(x, shape.inputs, shape.rows, shape.inputs, &rows)
        return rows
    }

    private func product(_ x: [UInt8], _ panels: [UInt8], _ shape: Shape, isNarrow: Bool = false, onto y: [Float]? = nil) -> [Float] {
        var result = y ?? [Float](repeating: .nan, count: shape.rows * shape.outputs)
        panels.withUnsafeBytes { panels in
            var matrix = ob_quantised_matrix(
                outputs: shape.outputs, inputs: shape.inputs, panels: panels.baseAddress, is_narrow: isNarrow ? 1 : 0)
            ob_quantised_product(x, shape.rows, &matrix, &result, shape.outputs, y == nil ? 0 : 1)
        }
        return result
    }

    /// The product by the definition: integers within a block, fused multiply-adds over blocks.
    private func expected(_ x: [Float], _ w: [Float], _ shape: Shape) -> [Float] {
        func blocks(_ row: ArraySlice<Float>) -> [[Float]] {
            let padded = Array(row) + Array(repeating: 0, count: (Self.blockInputs - row.count % Self.blockInputs) % Self.blockInputs)
            return stride(from: 0, to: padded.count, by: Self.blockInputs).map { Array(padded[$0..<$0 + Self.blockInputs]) }
        }
        let rows = (0..<shape.rows).map { r in
            blocks(x[r * shape.inputs..<(r + 1) * shape.inputs]).map { block in
                let largest = block.reduce(0) { max($0, abs($1)) }
                let q = block.map { largest == 0 ? 0 : Int(($0 * (127 / largest)).rounded(.toNearestOrEven)) }
                return (q: q, scale: largest / 127)
            }
        }
        let outputs = (0..<shape.outputs).map { o in
            blocks(w[o * shape.inputs..<(o + 1) * shape.inputs]).map { block in
                let (low, range) = (block.min() ?? 0, (block.max() ?? 0) - (block.min() ?? 0))
                let q = block.map { range == 0 ? 0 : Int(($0 - low) * (255 / range) + 0.5) }
                return (q: q, scale: range / 255, minimum: low)
            }
        }
        return rows.flatMap { row in
            outputs.map { output in
                zip(row, output).reduce(Float(0)) { total, pair in
                    let sum = zip(pair.0.q, pair.1.q).reduce(0) { $0 + $1.0 * $1.1 }
                    let scaled = total.addingProduct(pair.0.scale, pair.1.scale * Float(sum))
                    return scaled.addingProduct(pair.0.scale * Float(pair.0.q.reduce(0, +)), pair.1.minimum)
                }
            }
        }
    }

    @Test(arguments: shapes)
    func product_isThatOfTheRoundedNumbers(shape: Shape) {
        var random = SystemRandomNumberGenerator()
        let x = values(shape.rows * shape.inputs, &random)
        let w = values(shape.outputs * shape.inputs, &random)
        let before = values(shape.rows * shape.outputs, &random)
        let wanted = expected(x, w, shape)
        eachVariant { variant in
            let panels = pack(w, shape)
            let rows = quantise(x, shape)
            #expect(product(rows, panels, shape) == wanted, "\(variant)")
            #expect(product(rows, panels, shape, onto: before) == zip(before, wanted).map { $0 + $1 }, "\(variant)")
        }
    }

    /// The formats that lie in 8 bits lose nothing: with rows of integers, the product is exact.
    @Test(arguments: [ElementType.q4_0, .q4_1, .q8_0])
    func storedBlocks_areTakenAsTheyLie(type: ElementType) {
        let shape = Shape(rows: 5, inputs: 96, outputs: 35)
        let rowBytes = shape.inputs / type.blockElements * type.blockBytes
        var random = SystemRandomNumberGenerator()
        var stored = (0..<shape.outputs * rowBytes).map { _ in UInt8.random(in: 0...255, using: &random) }
        // Halves 2⁻⁴ as scales and −½ as minima, so that sums of floats are exact too.
        for block in stride(from: 0, to: stored.count, by: type.blockBytes) {
            (stored[block], stored[block + 1]) = (0, 0x2c)
            if type == .q4_1 { (stored[block + 2], stored[block + 3]) = (0, 0xb8) }
        }
        var w = [Float](repeating: 0, count: shape.outputs * shape.inputs)
        ob_dequantise(type.rawValue, stored, &w, w.count)
        var x = (0..<shape.rows * shape.inputs).map { _ in Float(Int.random(in: -127...127, using: &random)) }
        for block in stride(from: 0, to: x.count, by: Self.blockInputs) { x[block] = 127 }
        let wanted = (0..<shape.rows).flatMap { r in
            (0..<shape.outputs).map { o in (0..<shape.inputs).reduce(Float(0)) { $0 + x[r * shape.inputs + $1] * w[o * shape.inputs + $1] } }
        }
        eachVariant { variant in
            let panels = pack(stored, type, outputs: shape.outputs, inputs: shape.inputs, rowBytes: rowBytes)
            let rows = quantise(x, shape)
            #expect(product(rows, panels, shape) == wanted, "\(variant)")
            if type != .q8_0 { #expect(product(rows, panels, shape, isNarrow: true) == wanted, "\(variant), narrow") }
        }
    }

    /// The largest sums of a block fit, in the widths in which each variant adds.
    @Test(arguments: [Float(1), -1])
    func product_doesNotOverflow(sign: Float) {
        let shape = Shape(rows: 1, inputs: 64, outputs: 16)
        // The first weight of a block is its minimum, and all others are 255 steps above it.
        let w = (0..<shape.outputs * shape.inputs).map { $0 % Self.blockInputs == 0 ? Float(0) : 1 }
        let x = [Float](repeating: sign, count: shape.inputs)
        eachVariant { variant in
            for value in product(quantise(x, shape), pack(w, shape), shape) { #expect(abs(value - sign * 62) < 1e-4, "\(variant)") }
        }
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity])
    func whatIsNotFinite_staysSo(bad: Float) {
        let shape = Shape(rows: 2, inputs: 70, outputs: 18)
        let ones = [Float](repeating: 1, count: shape.rows * shape.inputs)
        var w = [Float](repeating: 1, count: shape.outputs * shape.inputs)
        eachVariant { variant in
            var x = ones
            x[66] = bad
            let y = product(quantise(x, shape), pack(w, shape), shape)
            #expect(y.prefix(shape.outputs).allSatisfy { !$0.isFinite } && y.dropFirst(shape.outputs).allSatisfy(\.isFinite), "\(variant)")
        }
        w[5] = bad
        eachVariant { variant in
            let y = product(quantise(ones, shape), pack(w, shape), shape)
            #expect(!y[0].isFinite && y[1].isFinite, "\(variant)")
        }
    }

    /// A row's result does not depend on the rows beside it.
    @Test func rows_areIndependent() {
        let shape = Shape(rows: 13, inputs: 100, outputs: 40)
        var random = SystemRandomNumberGenerator()
        let x = values(shape.rows * shape.inputs, &random)
        let w = values(shape.outputs * shape.inputs, &random)
        eachVariant { variant in
            let panels = pack(w, shape)
            let together = product(quantise(x, shape), panels, shape)
            for r in 0..<shape.rows {
                let alone = Shape(rows: 1, inputs: shape.inputs, outputs: shape.outputs)
                let y = product(quantise(Array(x[r * shape.inputs..<(r + 1) * shape.inputs]), alone), panels, alone)
                #expect(y[...] == together[r * shape.outputs..<(r + 1) * shape.outputs], "\(variant)")
            }
        }
    }

    @Test func gatedProduct_isTheActivatedProduct() {
        let shape = Shape(rows: 8, inputs: 96, outputs: 37)
        var random = SystemRandomNumberGenerator()
        let x = values(shape.rows * shape.inputs, &random)
        let (gates, ups) = (values(shape.outputs * shape.inputs, &random), values(shape.outputs * shape.inputs, &random))
        eachVariant { variant in
            let rows = quantise(x, shape)
            let (gatePanels, upPanels) = (pack(gates, shape), pack(ups, shape))
            let wanted = zip(product(rows, gatePanels, shape), product(rows, upPanels, shape)).map { gate, up in gate / (1 + exp(-gate)) * up }
            var y = [Float](repeating: 0, count: shape.rows * shape.outputs)
            gatePanels.withUnsafeBytes { gatePanels in
                upPanels.withUnsafeBytes { upPanels in
                    var gate = ob_quantised_matrix(outputs: shape.outputs, inputs: shape.inputs, panels: gatePanels.baseAddress, is_narrow: 0)
                    var up = ob_quantised_matrix(outputs: shape.outputs, inputs: shape.inputs, panels: upPanels.baseAddress, is_narrow: 0)
                    ob_quantised_gated_product(Int32(OB_SILU), rows, shape.rows, &gate, &up, &y, shape.outputs)
                }
            }
            #expect(zip(y, wanted).allSatisfy { abs($0 - $1) < 1e-5 }, "\(variant)")
        }
    }
}
