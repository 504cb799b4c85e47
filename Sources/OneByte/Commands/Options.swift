import ArgumentParser
import Core
import Foundation

/// How results look on standard output.
enum OutputFormat: String, CaseIterable, ExpressibleByArgument {
    case text, json
}

/// Where a fine-tuned model is.
struct LedgerFlags: ParsableArguments {
    @Option(help: ArgumentHelp("The ledger or run directory whose rounds are applied to the base model.", valueName: "path"))
    var ledger: String?

    @Option(help: ArgumentHelp("The parameters before this round. (default: after the last)", valueName: "round"))
    var atRound: RoundNumber?
}

struct ThreadFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Threads to compute with. (default: all cores)", valueName: "number"))
    var threads: Int?

    var count: Int { max(1, threads ?? ProcessInfo.processInfo.activeProcessorCount) }

    func validate() throws {
        if let threads, !(1...1024).contains(threads) { throw ValidationError("--threads must be within 1 … 1024") }
    }
}

/// Pretty JSON with sorted keys.
func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}
