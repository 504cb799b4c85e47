import Core
import LanguageModel

extension DataRecord {
    /// Fields that mark a record as a bad example, or as one that counts less.
    private enum Meaning {
        static let verdicts = [
            "label", "accepted", "chosen", "is_chosen", "preferred", "desirable", "correct", "is_correct", "is_good", "train",
        ]
        static let opposites = ["rejected", "is_rejected", "negative", "is_negative", "undesirable"]
        static let weights = ["weight", "sample_weight", "loss_weight", "importance_weight"]
    }

    /// Whether a value says no. For `label`, 0 may be a class, but `false` is a verdict.
    private static func isNo(_ value: JSON, _ name: String) -> Bool {
        switch value {
        case .bool(let truth): !truth
        case .number: name != "label" && value.double == 0
        case .string(let text): text.lowercased() == "false"
        default: false
        }
    }

    /// Refuses a record whose fields reverse or weaken what the task would learn from it.
    ///
    /// - Parameter used: fields that the task itself reads.
    func checkMeaning(_ kind: TaskSpec.Kind, used: Set<String>) throws(DataError) {
        for member in fields(without: used) where !member.value.isNull {
            let (name, value) = (member.key, member.value)
            let shown = String(value.text(indent: 0).prefix(40))
            if Meaning.weights.contains(name), let weight = value.double, weight != 1 {
                throw .at(place, "\"\(name)\" is \(shown), but every example counts the same here\nleave the line out, or repeat it")
            }
            // A classification learns its label, whatever else the record says about the text.
            if kind == .classification { continue }
            if Meaning.opposites.contains(name), !Self.isNo(value, name) {
                throw .at(
                    place,
                    "\"\(name)\" marks a text that should not be learnt, and learning from preferences is not supported\nkeep the wanted texts alone, and drop the field"
                )
            }
            if Meaning.verdicts.contains(name) {
                if Self.isNo(value, name) {
                    throw .at(
                        place,
                        "\"\(name)\" is \(shown), which marks a bad example, and it would be learnt as a good one\nleave the line out")
                }
                if name == "chosen", value.bool == nil, value.double == nil {
                    throw .at(
                        place,
                        "\"chosen\" belongs to a preference pair, and learning from preferences is not supported\nrename it to what the task reads, such as \"completion\""
                    )
                }
            }
        }
    }
}
