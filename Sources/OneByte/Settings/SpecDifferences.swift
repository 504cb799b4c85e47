import Core
import LanguageModel

/// Differences between two specs in terms of settings: what was asked for, and what a ledger holds.
struct SpecDifferences: CustomStringConvertible {
    struct Difference: Hashable {
        /// The setting's place in a run file, or the canonical spec's own name if no setting has it.
        let name: String
        let asked: String
        let held: String
    }

    private(set) var all: [Difference] = []

    /// - Throws: `RunSpecError` for a spec that can't be written; `ModelError` for one that can't be read again.
    init(asked: RunSpec, held: RunSpec) throws {
        let (ours, theirs) = (try Self.fields(asked), try Self.fields(held))
        for place in Set(ours.keys).union(theirs.keys).sorted() where ours[place] != theirs[place] {
            let name = SettingKey.allCases.first { $0.setting.owner == .run(place) }?.rawValue ?? place
            all.append(Difference(name: name, asked: ours[place] ?? "not set", held: theirs[place] ?? "not set"))
        }
    }

    var isEmpty: Bool { all.isEmpty }

    /// Text such as "training.seed is 2, the ledger's 1; …".
    var description: String { all.map { "\($0.name) is \($0.asked), the ledger's \($0.held)" }.joined(separator: "; ") }

    /// Returns each value of the canonical form by its place, such as `task.maxLength`. Labels count as one value, in their order.
    private static func fields(_ spec: RunSpec) throws -> [String: String] {
        var fields: [String: String] = [:]
        func take(_ value: JSON, _ place: String) {
            if let members = value.members, place != "task.labels" {
                for member in members { take(member.value, place.isEmpty ? member.key : "\(place).\(member.key)") }
            } else {
                fields[place] = value.text(indent: 0)
            }
        }
        let bytes = try spec.canonicalBytes()
        take(try bytes.withUnsafeBytes { try JSON($0, file: "the spec") }, "")
        return fields
    }
}

extension RunSpec {
    /// Checks whether a ledger belongs to the requested run. It is called before anything is trained, and again before a result is
    /// reported.
    ///
    /// - Throws: `ProcessFailure` `.configuration` with each setting that differs.
    func check(isThatOf ledger: LedgerSummary, at path: String, remedy: String) throws {
        guard try digest() != ledger.specDigest else { return }
        let differences = try SpecDifferences(asked: self, held: ledger.spec)
        throw ProcessFailure(.configuration, "\(path) holds another run than the one asked for: \(differences)\n\(remedy)")
    }
}
