import Core
import Foundation

/// A machine of a run, which is one admission of a worker, with its contributions.
struct LedgerMachine: Codable, Hashable {
    var machine: UInt32
    var name: String
    var trains: Bool
    var evaluates: Bool
    /// Unix time in seconds.
    var admitted: UInt64
    /// Unix time in seconds; nil if it has not left.
    var left: UInt64?
    /// How it left: left, lost, replaced, diverged, removed.
    var departure: String?
    /// Number of its samples in the ledger, one byte each, whether in force or not.
    var bytes: Int
    /// Number of rounds with its bytes.
    var rounds: Int
    /// Number of its bytes that were retracted.
    var retractedBytes: Int

    /// Text such as "2  worker-2: 512 bytes in 64 rounds; admitted 2026-11-24T03:15:00Z, left 2026-11-24T03:17:21Z".
    var text: String {
        func time(_ seconds: UInt64) -> String { Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601) }
        let given = trains ? "\(grouped(bytes)) bytes in \(grouped(rounds)) rounds" : "evaluates"
        let retracted = retractedBytes > 0 ? ", \(grouped(retractedBytes)) of them retracted" : ""
        let end = left.map { ", \(departure ?? "left") \(time($0))" } ?? ""
        return "\(machine)  \(printable(name, onOneLine: true)): \(given)\(retracted); admitted \(time(admitted))\(end)"
    }
}

extension LedgerArchive {
    /// All machines, ordered by number.
    var machines: [LedgerMachine] {
        var found: [UInt32: LedgerMachine] = [:]
        /// Round and bytes of each machine's contributions, in the order of rounds.
        var given: [UInt32: [(round: RoundNumber, bytes: Int)]] = [:]
        /// Retractions and restorations, in the ledger's order.
        var retracted: [UInt32: [(rounds: Range<RoundNumber>, isGone: Bool)]] = [:]
        for entry in entries {
            switch entry.record {
            case .admission(let admission):
                found[admission.machine.rawValue] = LedgerMachine(
                    machine: admission.machine.rawValue, name: admission.name, trains: admission.trains, evaluates: admission.evaluates,
                    admitted: admission.unixSeconds, bytes: 0, rounds: 0, retractedBytes: 0)
            case .departure(let departure):
                found[departure.machine.rawValue]?.left = departure.unixSeconds
                found[departure.machine.rawValue]?.departure = "\(departure.reason)"
            case .round(let round):
                for contribution in round.contributions {
                    given[contribution.machine.rawValue, default: []].append((round.round, contribution.bytes.count))
                }
            case .retraction(let retraction): retracted[retraction.machine.rawValue, default: []].append((retraction.rounds, true))
            case .restoration(let restoration): retracted[restoration.machine.rawValue, default: []].append((restoration.rounds, false))
            default: break
            }
        }
        for (machine, parts) in given {
            let changes = retracted[machine] ?? []
            found[machine]?.bytes = parts.reduce(0) { $0 + $1.bytes }
            found[machine]?.rounds = Set(parts.map(\.round)).count
            found[machine]?.retractedBytes = parts.filter { part in
                changes.last { $0.rounds.contains(part.round) }?.isGone ?? false
            }.reduce(0) { $0 + $1.bytes }
        }
        return found.values.sorted { $0.machine < $1.machine }
    }

    /// Number of contributions, and of workers by their names: a worker that is restarted is another machine.
    var contributions: (count: Int, workers: Int) {
        let count = entries.reduce(0) { sum, entry in
            if case .round(let round) = entry.record { sum + round.contributions.count } else { sum }
        }
        return (count, Set(machines.filter { $0.bytes > 0 }.map(\.name)).count)
    }
}
