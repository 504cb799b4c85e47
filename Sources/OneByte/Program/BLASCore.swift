import Core
import Foundation
import Glibc
import LanguageModel
import Logging
import Training

/// Chooses OpenBLAS's kernels. Debian's OpenBLAS treats processors that are newer than itself as a Prescott and runs at a quarter of their
/// speed, which slows down making a basis and the gradient in closed form. It chooses in its constructor, before `main`, so the only cure
/// is to set the environment and start the program again.
package enum BLASCore {
    static let variable = "OPENBLAS_CORETYPE"
    /// Marks the second start.
    static let guardVariable = "ONEBYTE_BLAS_CHOSEN"
    /// Cores that OpenBLAS falls back to on an unknown x86 processor; none has AVX.
    static let oldCores: Set<String> = [
        "Prescott", "Core2", "Nehalem", "Penryn", "Dunnington", "Katmai", "Coppermine", "Northwood", "Banias", "Atom",
        "Athlon", "Opteron", "Opteron_SSE3", "Barcelona", "Bobcat", "Generic", "Nano",
    ]

    /// The core that OpenBLAS runs as, such as `SkylakeX`.
    package static var name: String { MatrixLibrary.coreName }

    /// Logs the speed of matrix products, and how to raise it if it is far from what the processor can do.
    static func logRate(to logger: Logger) {
        let rate = MatrixLibrary.measureRate()
        logger.info(
            "matrix products: \(rate), float kernels \(MatrixLibrary.floatKernels), integer kernels \(kernelVariant), OpenBLAS core \(name)")
        guard rate.isFarFromPeak else { return }
        logger.warning(
            """
            matrix products are slow here: \(rate), with \(MatrixLibrary.floatKernels) kernels. Other programs beside it may be why, or \
            ONEBYTE_KERNELS in the environment, which holds them to an older instruction set
            """)
    }

    /// Returns a better core than `current`; nil if `current` is not an old one or the processor can't do better.
    package static func better(than current: String, flags: Set<String>) -> String? {
        guard oldCores.contains(current) else { return nil }
        if flags.isSuperset(of: ["avx512f", "avx512bw", "avx512dq", "avx512vl"]) { return "SkylakeX" }
        if flags.isSuperset(of: ["avx2", "fma"]) { return "Haswell" }
        return nil
    }

    /// Starts the program again with a better core, if there is one and nobody has chosen one. Returns otherwise, and also if the second
    /// start fails: slow is better than not at all.
    static func restartWithBetterCore() {
        let environment = ProcessInfo.processInfo.environment
        guard environment[variable] == nil, environment[guardVariable] == nil,
            let core = better(than: name, flags: processorFlags())
        else { return }
        setenv(variable, core, 1)
        setenv(guardVariable, "1", 1)
        var arguments: [UnsafeMutablePointer<CChar>?] = CommandLine.arguments.map { strdup($0) }
        arguments.append(nil)
        execv("/proc/self/exe", arguments)
        for argument in arguments { free(argument) }
    }

    /// Returns the kernel's list of flags for the first processor.
    static func processorFlags() -> Set<String> {
        guard let text = try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("flags") })
        else { return [] }
        return Set(line.split(separator: " ").map(String.init))
    }
}
