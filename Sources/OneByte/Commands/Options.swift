import ArgumentParser
import Core
import Foundation

/// Format of results on standard output.
enum OutputFormat: String, CaseIterable, ExpressibleByArgument {
    case text, json
}

/// The location of a fine-tuned model.
struct LedgerFlags: ParsableArguments {
    @Option(help: ArgumentHelp("The ledger or run directory whose rounds are applied to the base model.", valueName: "path"))
    var ledger: String?

    @Option(
        help: ArgumentHelp(
            "The parameters before this round; best: the one of the lowest validation loss. (default: after the last)", valueName: "round"))
    var atRound: RoundChoice?
}

/// A round by its number, or the best round according to the ledger's validations.
enum RoundChoice: ExpressibleByArgument {
    case number(RoundNumber)
    case best

    init?(argument: String) {
        if argument == "best" { self = .best } else if let number = RoundNumber(argument) { self = .number(number) } else { return nil }
    }
}

struct ThreadFlags: ParsableArguments {
    @Option(help: ArgumentHelp("Threads to compute with. (default: all cores)", valueName: "number"))
    var threads: Int?

    var count: Int { max(1, threads ?? Processors.count) }

    func validate() throws {
        guard let threads, !Setting.threads.contains(threads) else { return }
        throw ValidationError("\(SettingKey.threads.flag) must be within \(RunSpecLimits.text(Setting.threads))")
    }
}

/// Returns a value as pretty JSON with sorted keys.
func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}
