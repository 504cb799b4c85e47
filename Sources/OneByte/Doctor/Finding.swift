import Core

/// The result of one step of a check.
package struct Finding: Codable, Sendable {
    package enum Verdict: String, Codable, Sendable {
        case ok, warning, failed
        /// The step depends on an earlier one that failed.
        case skipped
    }

    package let step: String
    package let verdict: Verdict
    /// What was found.
    package let text: String
    /// What to do about it.
    package let remedy: String?
    /// Exit status that follows from the finding.
    package let status: ExitStatus?

    static func ok(_ step: String, _ text: String) -> Finding { Finding(step: step, verdict: .ok, text: text, remedy: nil, status: nil) }

    static func warning(_ step: String, _ text: String, remedy: String) -> Finding {
        Finding(step: step, verdict: .warning, text: text, remedy: remedy, status: nil)
    }

    static func failed(_ step: String, _ text: String, _ status: ExitStatus, remedy: String) -> Finding {
        Finding(step: step, verdict: .failed, text: text, remedy: remedy, status: status)
    }

    /// - Parameter remedy: what to do if the error does not say it.
    static func failed(_ step: String, _ error: any Error, remedy: String) -> Finding {
        let lines = describe(error).split(separator: "\n", maxSplits: 1).map(String.init)
        return failed(step, lines[0], ExitStatus(error), remedy: lines.count > 1 ? lines[1].replacing("\n", with: "; ") : remedy)
    }

    static func skipped(_ step: String, _ text: String) -> Finding {
        Finding(step: step, verdict: .skipped, text: text, remedy: nil, status: nil)
    }

    /// The finding in at most two lines.
    var line: String {
        let word = verdict.rawValue.padding(to: 8)
        return "\(word) \(step.padding(to: 12)) \(text)" + (remedy.map { "\n" + "".padding(to: 22) + $0 } ?? "")
    }
}

extension String {
    fileprivate func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
