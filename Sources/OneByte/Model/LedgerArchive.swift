import Coordinator
import Core
import Foundation

/// A whole ledger, read from its file: what it says, and which rounds decide the parameters.
struct LedgerArchive {
    let path: String
    /// It was found by its run directory.
    let isInRunDirectory: Bool
    let summary: LedgerSummary
    let manifest: BaseManifest?
    let basis: RunBasis?
    /// Up to the round that was asked for.
    let history: EffectiveHistory
    let entries: [LedgerEntry]
    /// The newest digest that machines reported, perhaps of an earlier round; nil where what it is of was changed afterwards.
    let lastDigest: DigestRecord?
    /// Machines whose bytes of earlier rounds were retracted behind the round that was asked for: the history is without them.
    let retractedLater: [MachineID]
    /// Bytes at the end that are no whole record: a crash, or a coordinator that is writing just now.
    let unreadBytes: Int

    /// - Parameters:
    ///   - path: a ledger, or the run directory that holds one.
    ///   - round: the history is that of the parameters before this round: without its record and those behind it, but also without the
    ///     bytes of earlier rounds that were retracted later.
    /// - Throws: `ProcessFailure` where the file can't be read or has fewer rounds; with what is wrong and where for a damaged one.
    init(_ path: String, at choice: RoundChoice?) throws {
        switch choice {
        case nil: try self.init(path)
        case .number(let round): try self.init(path, atRound: round)
        case .best:
            guard let best = try LedgerArchive(path).summary.steering.best else {
                throw ProcessFailure(
                    .usage, "\(path): no round is known to be the best, since nothing was validated; run with --validation-file, or name a round")
            }
            try self.init(path, atRound: best.round)
        }
    }

    init(_ path: String, atRound round: RoundNumber? = nil) throws {
        self.path = Self.file(path)
        isInRunDirectory = self.path != path
        var summary: LedgerSummary?
        var history = EffectiveHistory()
        var entries: [LedgerEntry] = []
        var manifest: BaseManifest?
        var basis: RunBasis?
        var isThere = false
        var retractedLater: [MachineID] = []
        var lastDigest: DigestRecord?
        // Records up to the last retraction or rewind: what was reported of parameters before it is of others.
        var undone: UInt64 = 0
        let tail: Int
        do {
            var reader = try LedgerReader(path: self.path)
            while let entry = try reader.next() {
                if let round, case .round(let record) = entry.record, record.round >= round { isThere = true }
                guard !isThere else {
                    guard let round else { continue }
                    switch entry.record {
                    case .retraction(let retraction):
                        let rounds = retraction.rounds.clamped(to: 0..<round)
                        let changes = try history.fold(.retraction(Retraction(machine: retraction.machine, rounds: rounds)))
                        if !changes.isEmpty {
                            lastDigest = nil
                            retractedLater.append(retraction.machine)
                        }
                    case .restoration(let restoration):
                        let rounds = restoration.rounds.clamped(to: 0..<round)
                        if try !history.fold(.restoration(Restoration(machine: restoration.machine, rounds: rounds))).isEmpty {
                            retractedLater.removeAll { $0 == restoration.machine }
                        }
                    default: break
                    }
                    continue
                }
                if summary == nil { summary = try LedgerSummary(first: entry) } else { try summary?.fold(entry) }
                _ = try history.fold(entry.record)
                switch entry.record {
                case .baseManifest(let found): manifest = found
                case .basis(let bytes): basis = try RunBasis(decoding: bytes)
                case .digest(let found) where found.position >= undone: lastDigest = found
                case .retraction, .restoration, .rewind: (undone, lastDigest) = (entry.position.records, nil)
                default: break
                }
                entries.append(entry)
            }
            tail = reader.tail.count
        } catch LedgerFileError.missing {
            throw ProcessFailure(.missingInput, "\(path): there is no ledger to read; name a ledger file or a run directory")
        } catch let error as LedgerFileError {
            throw ProcessFailure(error.status, "\(error)")
        } catch {
            throw ProcessFailure(.badData, "\(self.path): \(error)")
        }
        guard let summary else { throw ProcessFailure(.badData, "\(self.path): not a ledger, or cut off within its first record") }
        if let round, history.nextRound < round {
            throw ProcessFailure(.usage, "\(self.path): has \(history.nextRound) rounds, so that there is no round \(round)")
        }
        self.summary = summary
        self.history = history
        self.entries = entries
        self.manifest = manifest
        self.basis = basis
        self.lastDigest = lastDigest
        self.retractedLater = retractedLater
        unreadBytes = tail
    }

    /// What machines reported of the very parameters that `history` gives.
    var digest: DigestRecord? { lastDigest.flatMap { $0.position == summary.parameters.records ? $0 : nil } }

    /// Whose signature stands last in the ledger.
    var signer: SignerKey? {
        entries.lazy.reversed().compactMap { if case .signature(let signature) = $0.record { signature.signer } else { nil } }.first
    }

    private static func file(_ path: String) -> String {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory), isDirectory.boolValue else { return path }
        return RunDirectory(path).ledger
    }
}
