import Core
import LanguageModel

extension DataRecord {
    /// Fields that mark a record as a bad example, or as one that counts less, or without which it says something else. Names are compared as
    /// `plain` writes them.
    private enum Meaning {
        static let verdicts: Set = [
            "label", "accepted", "accept", "approved", "chosen", "ischosen", "preferred", "ispreferred", "desirable", "isdesirable", "correct",
            "iscorrect", "good", "isgood", "train",
        ]
        /// These say whether the record is to be used at all, so that they count for a classification too. That a text is `correct` or `accepted`
        /// may be another form of its label.
        static let uses: Set = ["keep", "include", "included"]
        static let omissions: Set = [
            "ignore", "ignored", "skip", "skipped", "exclude", "excluded", "discard", "discarded", "delete", "deleted", "isdeleted",
        ]
        static let opposites: Set = [
            "negative", "isnegative", "undesirable", "isundesirable", "wrong", "iswrong", "incorrect", "isincorrect", "bad", "isbad", "invalid",
            "isinvalid",
        ]
        /// Beginnings of names of fields that hold or mark the text that is not wanted.
        static let unwanted = ["rejected", "isrejected", "nonpreferred", "dispreferred", "unpreferred"]
        /// Names of the wanted text of a preference pair.
        static let wanted: Set = ["chosen", "chosenresponse", "preferredoutput", "preferredresponse"]
        /// Fields that hold a judgement in a word or a number.
        static let judgements: Set = ["feedback", "vote", "votes", "verdict", "judgement", "judgment", "rating", "reward", "status"]
        /// Of these, those whose numbers are below zero for what is bad. Scores of reward models have no such point.
        static let signed: Set = ["feedback", "vote", "rating"]
        static let badWords: Set = [
            "bad", "negative", "rejected", "reject", "undesirable", "wrong", "incorrect", "invalid", "dislike", "disliked", "thumbsdown", "downvote",
            "downvoted",
        ]
        static let weights: Set = ["weight", "sampleweight", "lossweight", "importanceweight", "exampleweight", "labelweight"]
        /// Fields of a single message that say whether it is learnt.
        static let turnVerdicts: Set = [
            "train", "trainable", "training", "trainonturn", "learn", "loss", "lossmask", "label", "accepted", "desirable", "correct",
        ]
        static let turnOpposites: Set = ["mask", "masked", "ignore", "ignored", "rejected", "undesirable"]
        static let turnWeights: Set = ["lossweight", "lossscale", "sampleweight"]
        /// What a conversation has beside its messages: `tools` is passed to the template, the rest would be left out.
        static let surroundings: Set = [
            "systemprompt", "functions", "context", "contexts", "document", "documents", "instruction", "instructions", "files", "attachments",
            "images", "image", "audios", "audio", "videos", "video", "chattemplatekwargs",
        ]
        /// What a prompt may have beside it, if no template says how the two are put together.
        static let promptSurroundings: Set = [
            "system", "systemprompt", "context", "contexts", "document", "documents", "passage", "instruction", "instructions", "input", "history",
            "tools", "functions", "images", "image", "audios", "audio", "videos", "video",
        ]
    }

    /// The name without case, spaces and signs: `is_correct`, `isCorrect` and `Is correct` are one.
    private static func plain(_ name: String) -> String {
        var plain = String.UnicodeScalarView()
        for scalar in name.unicodeScalars where scalar.properties.isAlphabetic || scalar.properties.numericType != nil { plain.append(scalar) }
        return String(plain).lowercased()
    }

    /// Whether a field holds nothing; a table's empty cell is an empty text.
    private static func isEmpty(_ value: JSON) -> Bool { value.isNull || value == "" || value == [] || value.members?.isEmpty == true }

    /// The value as a number; in a table, every value is a text.
    private static func number(_ value: JSON) -> Double? { value.double ?? value.string.flatMap { Double($0) } }

    /// Whether a value says no. For `label`, 0 and "no" may be classes, but `false` is a verdict.
    private static func isNo(_ value: JSON, _ name: String) -> Bool {
        if value.bool == false { return true }
        let word = value.string?.lowercased() ?? ""
        if ["false", "rejected", "undesirable"].contains(word) { return true }
        return name != "label" && (word == "no" || number(value) == 0)
    }

    /// Whether a value says yes. Any other text, such as "none" or "f", may say something else.
    private static func isYes(_ value: JSON) -> Bool {
        value.bool == true || number(value) == 1 || ["true", "yes", "y", "t"].contains(value.string?.lowercased() ?? "")
    }

    private static func shown(_ value: JSON) -> String { String(value.text(indent: 0).prefix(40)) }

    /// Refuses a record whose fields reverse or weaken what the task would learn from it, or without which it would say something else.
    ///
    /// - Parameters:
    ///   - used: fields that the task itself reads.
    ///   - hasTemplate: whether a template says which fields make the prompt.
    ///   - reading: what the record is read for. What says whether to learn it counts only if it is learnt.
    func checkMeaning(_ kind: TaskSpec.Kind, used: Set<String>, hasTemplate: Bool, _ reading: TaskEncoder.Reading) throws(DataError) {
        for member in fields(without: used) where !Self.isEmpty(member.value) {
            let (name, value) = (Self.plain(member.key), member.value)
            if reading != .predicting, Meaning.weights.contains(name), let weight = Self.number(value), weight != 1 {
                throw .at(
                    place, "\"\(member.key)\" is \(Self.shown(value)), but every example counts the same here\nleave the line out, or repeat it")
            }
            if reading == .learning {
                try checkUse(member, name)
                // A classification learns its label, whatever else the record says about the text.
                if kind != .classification { try checkVerdict(member, name) }
            }
            if kind == .chat { try checkSurroundings(member, name, reading) }
            // A scoring program is given all other fields.
            if kind == .completion, !hasTemplate, reading != .scoring { try checkPrompt(member, name) }
        }
    }

    private func markedBad(_ member: JSON.Member) -> DataError {
        .at(
            place,
            "\"\(member.key)\" is \(Self.shown(member.value)), which marks a bad example, and it would be learnt as a good one\nleave the line out")
    }

    /// Refuses a record that says that it should not be used.
    private func checkUse(_ member: JSON.Member, _ name: String) throws(DataError) {
        let isNo = Self.isNo(member.value, name)
        // An annotator's answer, as Prodigy writes it beside the label.
        let isRefused = name == "answer" && (member.value == "reject" || member.value == "ignore")
        guard Meaning.uses.contains(name) && isNo || Meaning.omissions.contains(name) && Self.isYes(member.value) || isRefused else { return }
        throw .at(
            place,
            "\"\(member.key)\" is \(Self.shown(member.value)), which says that the example should not be used, and it would be\nleave the line out")
    }

    private func checkVerdict(_ member: JSON.Member, _ name: String) throws(DataError) {
        let value = member.value
        let isUnwanted = (name == "reject" || Meaning.unwanted.contains(where: name.hasPrefix)) && (value.bool == true || Self.number(value) == nil)
        if Meaning.opposites.contains(name) || isUnwanted, !Self.isNo(value, name) {
            throw .at(
                place,
                "\"\(member.key)\" marks a text that should not be learnt, and learning from preferences is not supported\nkeep the wanted texts alone, and drop the field"
            )
        }
        if Meaning.judgements.contains(name) {
            let word = value.string.map(Self.plain) ?? ""
            let isBelowZero = Meaning.signed.contains(name) && Self.number(value) ?? 0 < 0
            if Meaning.badWords.contains(word) || value == "👎" || isBelowZero { throw markedBad(member) }
        }
        if Meaning.verdicts.contains(name), Self.isNo(value, name) { throw markedBad(member) }
        if Meaning.wanted.contains(name), value.bool == nil, Self.number(value) == nil, value.string?.lowercased() != "true" {
            throw .at(
                place,
                "\"\(member.key)\" belongs to a preference pair, and learning from preferences is not supported\nrename it to what the task reads, such as \"completion\""
            )
        }
    }

    private func checkSurroundings(_ member: JSON.Member, _ name: String, _ reading: TaskEncoder.Reading) throws(DataError) {
        if name == "system" {
            guard !isSaidAlready(member.value, .chat) else { return }
            throw .at(
                place,
                "\"\(member.key)\" stands beside \"messages\", where no template reads it; without it the conversation would say something else\nmake it the first message: {\"role\": \"system\", \"content\": \"…\"}"
            )
        }
        // A scoring program is given what may be its reference.
        guard Meaning.surroundings.contains(name), reading != .scoring || name == "systemprompt", !isKey(member.value, name),
            !isSaidAlready(member.value, .chat)
        else { return }
        throw .at(
            place,
            "\"\(member.key)\" is not passed to the chat template; without it the conversation would say something else\nwrite what it says into the messages and drop the field, or leave the line out"
        )
    }

    /// Refuses what stands beside a prompt and would be left out.
    private func checkPrompt(_ member: JSON.Member, _ name: String) throws(DataError) {
        guard Meaning.promptSurroundings.contains(name), !isKey(member.value, name), !isSaidAlready(member.value, .completion) else { return }
        let field = member.value.string == nil ? "" : "if every line has it, name it in a template, such as '{\(member.key)} {prompt}'; or "
        throw .at(
            place,
            "\"\(member.key)\" stands beside \"prompt\", which alone is read; without it the prompt would say something else\n\(field)write what it says into the prompt and drop the field"
        )
    }

    /// Whether a field that may hold a text holds the key of one, such as a document's number.
    private func isKey(_ value: JSON, _ name: String) -> Bool {
        guard ["context", "contexts", "document", "documents", "passage"].contains(name) else { return false }
        return Self.number(value) != nil || value.string?.unicodeScalars.allSatisfy { $0.isASCII && !$0.properties.isWhitespace } == true
    }

    /// Whether a text is a part of the prompt or of a message, as where a data set keeps the parts from which its prompts were made.
    private func isSaidAlready(_ value: JSON, _ kind: TaskSpec.Kind) -> Bool {
        guard let text = value.string.map(trimmed), !text.isEmpty else { return false }
        let contents =
            kind == .chat
            ? (fields["messages"]?.array ?? []).map { message in
                message["content"]?.string ?? (message["content"]?.array ?? []).compactMap { $0.string ?? $0["text"]?.string }.joined()
            } : [fields["prompt"]?.string].compactMap { $0 }
        return contents.contains { Array($0.utf8).firstRange(of: Array(text.utf8)) != nil }
    }

    private func trimmed(_ text: String) -> String {
        let scalars = Array(text.unicodeScalars)
        guard let first = scalars.firstIndex(where: { !$0.properties.isWhitespace }),
            let last = scalars.lastIndex(where: { !$0.properties.isWhitespace })
        else { return "" }
        return String(String.UnicodeScalarView(scalars[first...last]))
    }

    /// Refuses an assistant's message that is marked as one not to be learnt, or to be learnt less, in other words than `weight`.
    func checkTurn(_ fields: [JSON.Member], _ number: Int) throws(DataError) {
        for member in fields where !Self.isEmpty(member.value) {
            let name = Self.plain(member.key)
            if Meaning.turnWeights.contains(name), let weight = Self.number(member.value), weight != 1 {
                throw .at(
                    place,
                    "message \(number): \"\(member.key)\" is \(Self.shown(member.value)); a message can only be learnt or not\nwrite \"weight\": 1 or \"weight\": 0 in its place"
                )
            }
            let isNo = Self.isNo(member.value, name)
            guard Meaning.turnVerdicts.contains(name) && isNo || Meaning.turnOpposites.contains(name) && !isNo else { continue }
            throw .at(
                place,
                "message \(number): \"\(member.key)\" is \(Self.shown(member.value)), which says that it should not be learnt, and it would be\nwrite \"weight\": 0 in its place"
            )
        }
    }
}
