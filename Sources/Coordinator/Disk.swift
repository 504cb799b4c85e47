import Core
import Glibc
import Transport

/// The thread that owns the ledger and the metrics. It may wait for the disk; the reactor may not.
final class Disk: Sendable {
    private enum Order: Sendable {
        case append([UInt8], records: UInt64)
        case read(from: UInt64, to: PeerID)
        case metrics(CoordinatorProgress)
        case stop
    }

    private let orders: Mailbox<Order>
    private let answers: Mailbox<CoordinatorLetter>

    init(answers: Mailbox<CoordinatorLetter>) {
        orders = Mailbox()
        self.answers = answers
    }

    /// Appends a record, syncs, and says `ledgerDurable` or `ledgerFailed`.
    func append(_ record: [UInt8], records: UInt64) { orders.post(.append(record, records: records)) }
    /// Reads durable bytes for a peer, as many as a chunk takes.
    func read(from offset: UInt64, for peer: PeerID) { orders.post(.read(from: offset, to: peer)) }
    /// Writes it to `metrics.jsonl`. The text is made here too: at some thousand rounds a second it would hold up the commits.
    func note(_ progress: CoordinatorProgress) { orders.post(.metrics(progress)) }
    func stop() { orders.post(.stop) }

    /// The thread's body.
    func run(_ ledger: LedgerFile, metricsPath: String) {
        var metrics = MetricsFile(path: metricsPath)
        while true {
            for order in orders.waitAndTakeAll() {
                switch order {
                case .append(let record, let records):
                    do throws(LedgerFileError) {
                        try ledger.append(record)
                        answers.post(.event(.ledgerDurable(records: records)))
                    } catch {
                        answers.post(.event(.ledgerFailed("\(error)")))
                    }
                case .read(let offset, let peer):
                    do throws(LedgerFileError) {
                        let left = ledger.durableBytes - min(offset, ledger.durableBytes)
                        let bytes = try ledger.read(offset: offset, count: Int(min(left, UInt64(ProtocolLimits.chunkBytes))))
                        answers.post(.chunk(LedgerChunk(offset: offset, bytes: bytes), to: peer))
                    } catch {
                        answers.post(.warning("a worker's copy of the ledger waits: \(error)"))
                    }
                    // Behind the chunk in the same mailbox: the chunk is sent by then.
                    answers.post(.event(.ledgerRead(for: peer)))
                case .metrics(let progress):
                    if let line = progress.jsonLine, let warning = metrics.append(line) { answers.post(.warning(warning)) }
                case .stop: return
                }
            }
        }
    }
}
