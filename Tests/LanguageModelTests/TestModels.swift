import Foundation
import LanguageModel
import Testing
import Training

/// Paths of the models used in tests. A test of a model that is not on this machine is skipped.
enum TestModels {
    static let packageRoot = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// SmolLM2-135M-Instruct in Q4_1: `ONEBYTE_TEST_MODEL`, or the copy that `make demo` leaves in `.cache`.
    static let smollm2: String? = existing(
        ProcessInfo.processInfo.environment["ONEBYTE_TEST_MODEL"]
            ?? packageRoot.appending(path: ".cache/SmolLM2-135M-Instruct.Q4_1.gguf").path)

    /// Directory of data that the project may not distribute: `ONEBYTE_SHARED_DATA`, or `../shared/data`.
    static let sharedData: String? = existing(
        ProcessInfo.processInfo.environment["ONEBYTE_SHARED_DATA"] ?? packageRoot.appending(path: "../shared/data").standardized.path)

    private static func existing(_ path: String) -> String? {
        FileManager.default.fileExists(atPath: path) ? path : nil
    }
}

/// Returns a file of the Fixtures directory.
func fixture(_ name: String) throws -> URL {
    try #require(Bundle.module.resourceURL).appending(path: "Fixtures/\(name)")
}
