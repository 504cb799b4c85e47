import Core
import Foundation
import Glibc
import LanguageModel
import Logging
import Training

/// Debian's OpenBLAS takes processors that are newer than itself for a Prescott and runs at a quarter of their speed, which the making of a
/// basis and the closed form's gradient would feel. It chooses in its constructor, before `main`, so the only cure is the environment and a
/// second start of the program.
package enum BLASCore {
    static let variable = "OPENBLAS_CORETYPE"
    /// Tells the second start that it is one.
    static let guardVariable = "ONEBYTE_BLAS_CHOSEN"
    /// What OpenBLAS falls back to on an x86 processor that it doesn't know: all without AVX.
    static let oldCores: Set<String> = [
        "Prescott", "Core2", "Nehalem", "Penryn", "Dunnington", "Katmai", "Coppermine", "Northwood", "Banias", "Atom",
        "Athlon", "Opteron", "Opteron_SSE3", "Barcelona", "Bobcat", "Generic", "Nano",
    ]

    /// What OpenBLAS says that it runs as, such as `SkylakeX`.
    package static var name: String { MatrixLibrary.coreName }

    /// Says what the matrix products reach here, and how to do better where that is far from what the processor can do.
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

    /// The core to ask for instead of `current`; nil where that is no old one, or the processor can't do better.
    package static func better(than current: String, flags: Set<String>) -> String? {
        guard oldCores.contains(current) else { return nil }
        if flags.isSuperset(of: ["avx512f", "avx512bw", "avx512dq", "avx512vl"]) { return "SkylakeX" }
        if flags.isSuperset(of: ["avx2", "fma"]) { return "Haswell" }
        return nil
    }

    /// Starts the program again with a better core, if there is one and nobody chose before. Returns otherwise, also where
    /// the second start fails: slow is better than not at all.
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

    /// The kernel's list for the first processor.
    static func processorFlags() -> Set<String> {
        guard let text = try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("flags") })
        else { return [] }
        return Set(line.split(separator: " ").map(String.init))
    }
}
