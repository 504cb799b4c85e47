import Core
import LanguageModel
import Training

enum Version {
    static let number = "0.1.0"

    /// The version in one line; with `--verbose`, also the facts that determine this machine's speed, one per line.
    static var description: String {
        guard CommandLine.arguments.contains("--verbose") else {
            return "onebyte \(number) (kernels: \(kernelVariant); OpenBLAS core: \(BLASCore.name))"
        }
        return """
            onebyte \(number)
            integer kernels: \(kernelVariant) (here: \(kernelVariants.joined(separator: ", ")); ONEBYTE_KERNELS chooses)
            float kernels: \(MatrixLibrary.floatKernels)
            byte products (--precision int8): \(MatrixLibrary.int8Kernels)
            matrix library: \(MatrixLibrary.configuration)
            OpenBLAS core: \(BLASCore.name) (\(BLASCore.variable) chooses)
            matrix products: \(MatrixLibrary.measureRate())
            processors: \(Processors.count)
            """
    }
}
