import Coordinator
import Core
import Foundation
import LanguageModel

/// A whole ledger, read from its file: its contents, and the rounds that determine the parameters.
struct LedgerArchive {
    let path: String
    /// Whether it was found through its run directory.
    let isInRunDirectory: Bool
    let summary: LedgerSummary
    let manifest: BaseManifest?
    let basis: RunBasis?
    /// History up to the requested round.
    let history: EffectiveHistory
    let entries: [LedgerEntry]
    /// The newest digest that machines reported, perhaps of an earlier round; nil if its parameters were changed afterwards.
    let lastDigest: DigestRecord?
    /// Machines whose bytes of earlier rounds were retracted after the requested round. The history does not include these bytes.
    let retractedLater: [MachineID]
    /// Number of bytes at the end that are not a whole record: after a crash, or while a coordinator is writing.
    let unreadBytes: Int

    /// - Parameters:
    ///   - path: a ledger, or the run directory that holds one.
    ///   - choice: if given, the history is that of the parameters before this round. It excludes the round's record, later records, and
    ///     the bytes of earlier rounds that were retracted later.
    /// - Throws: `ProcessFailure` if the file can't be read or has fewer rounds; for a damaged file it names the damage and its position.
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
        // Number of records up to the last retraction or rewind. Digests reported before it belong to other parameters.
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
            if let missing = MissingPath(path) { throw ProcessFailure(.missingInput, "\(path): \(missing.problem)\n\(missing.remedy)") }
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

    /// The digest that machines reported for exactly the parameters that `history` gives.
    var digest: DigestRecord? { lastDigest.flatMap { $0.position == summary.parameters.records ? $0 : nil } }

    /// The key of the last signature in the ledger.
    var signer: SignerKey? {
        entries.lazy.reversed().compactMap { if case .signature(let signature) = $0.record { signature.signer } else { nil } }.first
    }

    private static func file(_ path: String) -> String {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory), isDirectory.boolValue else { return path }
        return RunDirectory(path).ledger
    }
}
