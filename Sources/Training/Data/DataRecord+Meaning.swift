import Core
import LanguageModel

extension DataRecord {
    /// Fields that mark a record as a bad example, or as one that counts less. Names are compared without case and underscores.
    private enum Meaning {
        static let verdicts: Set = [
            "label", "accepted", "chosen", "ischosen", "preferred", "ispreferred", "desirable", "correct", "iscorrect", "isgood", "train",
        ]
        static let opposites: Set = ["rejected", "isrejected", "negative", "isnegative", "undesirable", "isundesirable"]
        static let weights: Set = ["weight", "sampleweight", "lossweight", "importanceweight"]
        /// Fields of a single message that say whether it is learnt.
        static let turnVerdicts: Set = ["train", "trainable", "training", "learn", "loss", "label", "accepted", "desirable", "correct"]
        static let turnOpposites: Set = ["mask", "masked", "ignore", "ignored", "rejected", "undesirable"]
        /// What a conversation has beside its messages: `tools` is passed to the template, the rest would be left out.
        static let surroundings: Set = [
            "systemprompt", "functions", "documents", "images", "image", "audios", "audio", "videos", "video", "chattemplatekwargs",
        ]
    }

    private static func plain(_ name: String) -> String { name.lowercased().replacing("_", with: "") }

    /// Whether a field holds nothing; a table's empty cell is an empty text.
    private static func isEmpty(_ value: JSON) -> Bool { value.isNull || value == "" || value == [] }

    /// The value as a number; in a table, every value is a text.
    private static func number(_ value: JSON) -> Double? { value.double ?? value.string.flatMap { Double($0) } }

    /// Whether a value says no. For `label`, 0 and "no" may be classes, but `false` is a verdict.
    private static func isNo(_ value: JSON, _ name: String) -> Bool {
        if value.bool == false { return true }
        let word = value.string?.lowercased() ?? ""
        if ["false", "rejected", "undesirable"].contains(word) { return true }
        return name != "label" && (word == "no" || number(value) == 0)
    }

    private static func shown(_ value: JSON) -> String { String(value.text(indent: 0).prefix(40)) }

    /// Refuses a record whose fields reverse or weaken what the task would learn from it.
    ///
    /// - Parameter used: fields that the task itself reads.
    func checkMeaning(_ kind: TaskSpec.Kind, used: Set<String>) throws(DataError) {
        for member in fields(without: used) where !Self.isEmpty(member.value) {
            let (name, value) = (Self.plain(member.key), member.value)
            if Meaning.weights.contains(name), let weight = Self.number(value), weight != 1 {
                throw .at(
                    place, "\"\(member.key)\" is \(Self.shown(value)), but every example counts the same here\nleave the line out, or repeat it")
            }
            // A classification learns its label, whatever else the record says about the text.
            if kind != .classification { try checkVerdict(member, name) }
            if kind == .chat { try checkSurroundings(member, name) }
        }
    }

    private func checkVerdict(_ member: JSON.Member, _ name: String) throws(DataError) {
        let value = member.value
        if Meaning.opposites.contains(name), !Self.isNo(value, name) {
            throw .at(
                place,
                "\"\(member.key)\" marks a text that should not be learnt, and learning from preferences is not supported\nkeep the wanted texts alone, and drop the field"
            )
        }
        guard Meaning.verdicts.contains(name) else { return }
        if Self.isNo(value, name) {
            throw .at(
                place,
                "\"\(member.key)\" is \(Self.shown(value)), which marks a bad example, and it would be learnt as a good one\nleave the line out")
        }
        if name == "chosen", value.bool == nil, Self.number(value) == nil, value.string?.lowercased() != "true" {
            throw .at(
                place,
                "\"\(member.key)\" belongs to a preference pair, and learning from preferences is not supported\nrename it to what the task reads, such as \"completion\""
            )
        }
    }

    private func checkSurroundings(_ member: JSON.Member, _ name: String) throws(DataError) {
        if name == "system" {
            throw .at(
                place,
                "\"\(member.key)\" stands beside \"messages\", where no template reads it; without it the conversation would say something else\nmake it the first message: {\"role\": \"system\", \"content\": \"…\"}"
            )
        }
        if Meaning.surroundings.contains(name) {
            throw .at(
                place,
                "\"\(member.key)\" is not passed to the chat template; without it the conversation would say something else\nwrite what it says into the messages and drop the field, or leave the line out"
            )
        }
    }

    /// Refuses an assistant's message that is marked as one not to be learnt in other words than `weight`.
    func checkTurn(_ fields: [JSON.Member], _ number: Int) throws(DataError) {
        for member in fields where !Self.isEmpty(member.value) {
            let name = Self.plain(member.key)
            let isNo = Self.isNo(member.value, name)
            guard Meaning.turnVerdicts.contains(name) && isNo || Meaning.turnOpposites.contains(name) && !isNo else { continue }
            throw .at(
                place,
                "message \(number): \"\(member.key)\" is \(Self.shown(member.value)), which says that it should not be learnt, and it would be\nwrite \"weight\": 0 in its place"
            )
        }
    }
}
