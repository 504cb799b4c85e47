import Core

/// What one step of a check-up found.
package struct Finding: Codable, Sendable {
    package enum Verdict: String, Codable, Sendable {
        case ok, warning, failed
        /// A step before it failed, on which it depends.
        case skipped
    }

    package let step: String
    package let verdict: Verdict
    /// What is so.
    package let text: String
    /// What to do about it.
    package let remedy: String?
    /// How the process ends because of it.
    package let status: ExitStatus?

    static func ok(_ step: String, _ text: String) -> Finding { Finding(step: step, verdict: .ok, text: text, remedy: nil, status: nil) }

    static func warning(_ step: String, _ text: String, remedy: String) -> Finding {
        Finding(step: step, verdict: .warning, text: text, remedy: remedy, status: nil)
    }

    static func failed(_ step: String, _ text: String, _ status: ExitStatus, remedy: String) -> Finding {
        Finding(step: step, verdict: .failed, text: text, remedy: remedy, status: status)
    }

    static func skipped(_ step: String, _ text: String) -> Finding {
        Finding(step: step, verdict: .skipped, text: text, remedy: nil, status: nil)
    }

    /// Two lines at most.
    var line: String {
        let word = verdict.rawValue.padding(to: 8)
        return "\(word) \(step.padding(to: 12)) \(text)" + (remedy.map { "\n" + "".padding(to: 22) + $0 } ?? "")
    }
}

extension String {
    fileprivate func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
