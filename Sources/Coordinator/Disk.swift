import Core
import Glibc
import Transport

/// The thread that owns the ledger and the metrics. It may wait for the disk; the reactor must not.
package final class Disk: Sendable {
    private enum Order: Sendable {
        case append([UInt8], records: UInt64)
        case read(LedgerRead)
        case metrics(CoordinatorProgress)
        case stop
    }

    private let orders: Mailbox<Order>
    private let answers: Mailbox<CoordinatorLetter>

    package init(answers: Mailbox<CoordinatorLetter>) {
        orders = Mailbox()
        self.answers = answers
    }

    /// Appends a record, syncs, and reports `ledgerDurable` or `ledgerFailed`.
    package func append(_ record: [UInt8], records: UInt64) { orders.post(.append(record, records: records)) }
    /// Reads durable bytes for a peer.
    package func read(_ read: LedgerRead) { orders.post(.read(read)) }
    /// Writes the event to `metrics.jsonl`. Its text is made on this thread too: at some thousand rounds a second it would delay the commits.
    package func note(_ progress: CoordinatorProgress) { orders.post(.metrics(progress)) }
    package func stop() { orders.post(.stop) }

    /// The thread's body. Rounds wait for appends, and newcomers for reads, but nobody waits for metrics: these come last of what is in hand.
    package func run(_ ledger: LedgerFile, metricsPath: String) {
        var metrics = MetricsFile(path: metricsPath)
        var isStopped = false
        while !isStopped {
            let taken = orders.waitAndTakeAll()
            for order in taken {
                switch order {
                case .append(let record, let records): append(record, records: records, to: ledger)
                case .read(let read): carryOut(read, from: ledger)
                case .metrics: break
                case .stop: isStopped = true
                }
            }
            for case .metrics(let progress) in taken {
                if let line = progress.jsonLine, let warning = metrics.append(line) { answers.post(.warning(warning)) }
            }
        }
    }

    private func append(_ record: [UInt8], records: UInt64, to ledger: LedgerFile) {
        do throws(LedgerFileError) {
            try ledger.append(record)
            answers.post(.event(.ledgerDurable(records: records)))
        } catch {
            answers.post(.event(.ledgerFailed("\(error)")))
        }
    }

    private func carryOut(_ read: LedgerRead, from ledger: LedgerFile) {
        do throws(LedgerFileError) {
            let left = ledger.durableBytes - min(read.offset, ledger.durableBytes)
            let bytes = try ledger.read(offset: read.offset, count: Int(min(left, UInt64(read.count))))
            answers.post(.chunk(read.chunk(of: bytes, total: ledger.durableBytes), to: read.peer))
        } catch {
            answers.post(.warning("a worker's copy of the ledger waits: \(error)"))
        }
        // It follows the chunk in the same mailbox, so the chunk is sent by then.
        answers.post(.event(.ledgerRead(for: read.peer)))
    }
}
