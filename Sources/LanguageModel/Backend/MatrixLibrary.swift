import COpenBLAS
import Glibc
import Kernels

/// Facts and settings of the matrix library (OpenBLAS), which makes a basis and the gradient in closed form, and of the kernels that a pass
/// uses for products.
public enum MatrixLibrary {
    /// The processor that OpenBLAS takes this one for. It picks its kernels by this name, and misjudges some processors.
    public static var coreName: String { String(cString: openblas_get_corename()) }
    /// OpenBLAS's build options and present core.
    public static var configuration: String { String(cString: openblas_get_config()) }
    /// Instruction set of the float kernels other than matrix products.
    public static var floatKernels: String { String(cString: ob_float_variant()) }
    /// Variant of the products of `Precision.int8`.
    public static var int8Kernels: String { String(cString: ob_difference_variant()) }

    /// Sets the number of the library's threads in a single product. The program runs many products side by side instead, so every caller
    /// passes 1.
    public static func setThreads(_ count: Int) { openblas_set_num_threads(Int32(clamping: max(count, 1))) }

    /// Speed of a core in 10⁹ floating-point operations per second.
    public struct Rate: Sendable, CustomStringConvertible {
        /// Speed of matrix products as a forward pass makes them.
        public let products: Double
        /// Speed of multiply-adds in registers: no product can be faster.
        public let peak: Double

        /// Part of the peak that products reach, 0…1.
        public var share: Double { products / peak }
        /// Whether products run below half of the peak. On a core of their own they reach 90 % and more.
        public var isFarFromPeak: Bool { share < 0.5 }

        public var description: String {
            "\(Int(products.rounded())) of \(Int(peak.rounded())) GFLOP/s (\(Int((100 * share).rounded())) %) on one core"
        }
    }

    /// Measures both for about 50 ms of the calling thread's own time, so that other work on the machine counts little.
    public static func measureRate() -> Rate {
        // The size of a gate or up projection of a small model for some hundred tokens.
        let (rows, inputs, outputs) = (256, 576, 1536)
        let x = [Float](repeating: 0.5, count: rows * inputs)
        let w = [Float](repeating: 0.25, count: outputs * inputs)
        var y = [Float](repeating: 0, count: rows * outputs)
        let panels = ScratchBuffer<Float>(capacity: ob_product_scratch(inputs))
        let products = fastest {
            y.withUnsafeMutableBufferPointer { y in
                guard let y = y.baseAddress else { return }
                multiply(x, xStride: inputs, rows: rows, by: w, outputs: outputs, inputs: inputs, into: y, yStride: outputs, panels: panels.pointer)
            }
            return 2 * rows * inputs * outputs
        }
        var sink: Float = 1
        let peak = fastest { ob_multiply_adds(1 << 16, &sink) }
        return Rate(products: products * 1e-9, peak: peak * 1e-9)
    }

    /// Operations per second in the fastest of a few runs.
    private static func fastest(_ body: () -> Int) -> Double {
        _ = body()
        var best = 0.0
        for _ in 0..<4 {
            let start = threadSeconds()
            let operations = body()
            best = max(best, Double(operations) / max(threadSeconds() - start, 1e-9))
        }
        return best
    }

    private static func threadSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}
