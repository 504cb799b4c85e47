import Core
import Synchronization

/// What a worker's examples have revealed so far, and how much they may. It belongs to the data and outlives a process and a run: the host keeps its
/// number in a file, which is written before any byte leaves.
public final class PrivacyAccount: Sendable {
    /// A limit that this host sets itself, whatever the run's is.
    public struct Budget: Hashable, Sendable {
        public var epsilon: Double
        /// Nil: the run's δ.
        public var delta: Double?
        public init(epsilon: Double, delta: Double? = nil) {
            self.epsilon = epsilon
            self.delta = delta
        }
    }

    /// The host's own limit; nil: only the run's counts.
    public let budget: Budget?
    /// Whether the host asks for private runs alone, as it does with a budget.
    public let isForPrivateRunsAlone: Bool
    private let keep: @Sendable (Double) throws -> Void
    private struct State {
        /// ρ of earlier processes and runs, counted for every example.
        var before: Double
        /// ρ of this process by example.
        var spent: [Int: Double] = [:]
        /// The largest ρ of an example.
        var most: Double
        /// Whether a release was refused.
        var isSpent = false
    }
    private let state: Mutex<State>

    /// - Parameters:
    ///   - budget: the host's own limit.
    ///   - rho: what was spent before, as ρ of zCDP.
    ///   - isForPrivateRunsAlone: whether the host's user asked for an account, and so for private runs.
    ///   - keep: stores the largest ρ of an example durably. It is called before the bytes that it pays for are made.
    public init(
        budget: Budget? = nil, rho: Double = 0, isForPrivateRunsAlone: Bool = false, keep: @escaping @Sendable (Double) throws -> Void = { _ in }
    ) {
        self.budget = budget
        self.isForPrivateRunsAlone = isForPrivateRunsAlone || budget != nil
        self.keep = keep
        state = Mutex(State(before: rho, most: rho))
    }

    /// The largest ρ of an example so far.
    public var rho: Double { state.withLock { $0.most } }

    /// Whether the budget has refused bytes. Nothing is released any more then.
    public var isSpent: Bool { state.withLock { $0.isSpent } }

    /// The largest ρ that both the run and this host allow.
    package func limit(_ privacy: Privacy) -> Double {
        let run = PrivacyLoss.rho(epsilon: privacy.epsilon, delta: privacy.delta)
        guard let budget else { return run }
        return min(run, PrivacyLoss.rho(epsilon: budget.epsilon, delta: budget.delta ?? privacy.delta))
    }

    /// ε so far, at the host's δ if it has one, else at the run's.
    package func epsilon(_ privacy: Privacy) -> Double { PrivacyLoss.epsilon(rho: rho, delta: budget?.delta ?? privacy.delta) }

    /// Pays for releases, or refuses them all.
    ///
    /// - Parameters:
    ///   - releases: number of releases that read each example.
    ///   - each: ρ of one release.
    ///   - limit: the largest ρ of an example (`limit(_:)`, which takes long).
    /// - Returns: false if one of the examples would have revealed more than the limit. Nothing is paid then.
    /// - Throws: what `keep` throws; nothing may be released then.
    package func pay(for releases: [Int: Int], each: Double, limit: Double) throws -> Bool {
        try state.withLock { state in
            guard !state.isSpent else { return false }
            var most = state.most
            for (example, count) in releases { most = max(most, state.before + (state.spent[example] ?? 0) + Double(count) * each) }
            // Sums of many small numbers may end a few units of the last digit above their limit.
            guard most <= limit * (1 + 1e-9) else {
                state.isSpent = true
                return false
            }
            try keep(most)
            for (example, count) in releases { state.spent[example, default: 0] += Double(count) * each }
            state.most = most
            return true
        }
    }
}

/// Why a worker does not take part in a run because of privacy.
public struct PrivacyError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// The run is private, and there is no account.
        case noAccount
        /// This host gives only private bytes, and the run is not private.
        case notPrivate
    }
    public let code: Code
    public let description: String

    package init(code: Code, description: String) {
        self.code = code
        self.description = description
    }
}
