import ArgumentParser
import Foundation
import Kernels
import LanguageModel
import Training

/// Measures one matrix product with the demo model's sizes: F32 against 8-bit differences, whose rows must first be quantised.
struct Products: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Rates of a matrix product in F32 and in bytes, as JSON lines.",
        discussion: "Processor time of one thread; the fastest of several runs.")

    @Option(help: "Numbers of rows.") var rows = "64,256,1024,4096"
    @Option(help: "Variants of the byte kernels: amx, avx512vnni, avx2, portable; those that the processor lacks are left out.") var variants =
        "amx,avx512vnni,avx2,portable"
    @Option(help: "Seconds for each figure.") var seconds = 0.5

    func run() throws {
        MatrixLibrary.setThreads(1)
        for (inputs, outputs) in [(576, 576), (576, 3072), (1536, 576)] {
            for rows in numbers(rows) { measure(rows: rows, inputs: inputs, outputs: outputs) }
        }
    }

    private func measure(rows: Int, inputs: Int, outputs: Int) {
        var random = SystemRandomNumberGenerator()
        func uniform(_ count: Int) -> [Float] { (0..<count).map { _ in Float.random(in: -1...1, using: &random) } }
        let x = uniform(rows * inputs)
        let clean = uniform(inputs)
        let w = uniform(outputs * inputs)
        let zero = [Float](repeating: 0, count: outputs)
        var y = [Float](repeating: 0, count: rows * outputs)
        var panels = [Float](repeating: 0, count: ob_product_scratch(inputs))
        let operations = 2 * Double(rows) * Double(inputs) * Double(outputs)
        let key = "product/\(rows) x \(inputs) -> \(outputs)"

        let float = fastest {
            multiply(x, xStride: inputs, rows: rows, by: w, outputs: outputs, inputs: inputs, into: &y, yStride: outputs, panels: &panels)
        }
        show("\(key)/float", operations / float * 1e-9, "GFLOP/s")
        for variant in variants.split(separator: ",").map(String.init) where ob_kernels_select(variant) != 0 {
            let bytes = ob_difference_bytes(inputs)
            let padded = (outputs + 15) / 16 * 16
            var packed = [Int8](repeating: 0, count: padded * bytes)
            var scales = [Float](repeating: 0, count: padded)
            var offsets = [Int32](repeating: 0, count: padded)
            let packing = fastest { ob_difference_pack(w, outputs, inputs, &packed, &scales, &offsets) }
            var quantised = [UInt8](repeating: 0, count: rows * bytes)
            var rowScales = [Float](repeating: 0, count: rows)
            let quantising = fastest {
                quantised.withUnsafeMutableBufferPointer { out in
                    x.withUnsafeBufferPointer { x in
                        guard let from = x.baseAddress, let out = out.baseAddress else { return }
                        for r in 0..<rows { rowScales[r] = ob_difference_quantise(from + r * inputs, clean, inputs, out + r * bytes) }
                    }
                }
            }
            let multiplying = zero.withUnsafeBufferPointer { zero in
                let from = [UnsafePointer<Float>?](repeating: zero.baseAddress, count: rows)
                return fastest { ob_difference_product(quantised, rowScales, rows, packed, scales, offsets, outputs, inputs, from, &y, outputs, 0) }
            }
            show("\(key)/\(variant)", operations / multiplying * 1e-9, "GOP/s")
            show("\(key)/\(variant) with quantising", operations / (multiplying + quantising) * 1e-9, "GOP/s")
            show("\(key)/\(variant) against float", float / (multiplying + quantising), "1")
            show("\(key)/\(variant) packing weights", Double(outputs * inputs) / packing * 1e-9, "G weights/s")
        }
        fflush(nil)
    }

    private func show(_ key: String, _ value: Double, _ unit: String) {
        print("{\"key\": \"\(key)\", \"value\": \(String(format: "%.2f", value)), \"unit\": \"\(unit)\"}")
    }

    private func fastest(_ body: () -> Void) -> Double {
        var best = Double.infinity
        let begin = clockSeconds(CLOCK_THREAD_CPUTIME_ID)
        repeat {
            let start = clockSeconds(CLOCK_THREAD_CPUTIME_ID)
            body()
            best = min(best, clockSeconds(CLOCK_THREAD_CPUTIME_ID) - start)
        } while clockSeconds(CLOCK_THREAD_CPUTIME_ID) - begin < seconds
        return best
    }
}
