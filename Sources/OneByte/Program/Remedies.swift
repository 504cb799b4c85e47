import LanguageModel
import Training
import Transport

/// Returns an error's text: what is wrong, and from the second line on what to do. Libraries know no flags: they report the cause with a code,
/// and the remedy on the command line is added here.
package func describe(_ error: any Error) -> String {
    if let error = error as? ModelError {
        let remedies = [error.remedy, commandLineRemedy(for: error)].compactMap { $0 }
        return error.what + (remedies.isEmpty ? "" : "\n" + remedies.joined(separator: "; "))
    }
    guard let remedy = commandLineRemedy(for: error) else { return systemReason(of: error) }
    return "\(error); \(remedy)"
}

func commandLineRemedy(for error: any Error) -> String? {
    switch error {
    case let error as ScoringError where error.code == .tooSlow: "\(SettingKey.objectiveTimeout.flag) gives it longer"
    case let error as ScoringError where error.code == .missing: "give it with \(SettingKey.objectiveCommand.flag) '…'"
    case let error as ModelError where error.code == .occupied: "--overwrite replaces it"
    case let error as TransportError where error.code == .insecure:
        "make a key with `onebyte keygen` and give it with --key, or listen on 127.0.0.1, or say --insecure if you trust the network"
    case let error as PrivacyError where error.code == .noAccount: "name one with --privacy-account FILE (or give --state-dir)"
    case let error as PrivacyError where error.code == .notPrivate:
        "ask for a run with --privacy-epsilon, or leave out --privacy-budget, --privacy-account and a --state-dir that has an account (privacy.json)"
    default: nil
    }
}
