import Foundation

/// Finds fields of a template that alone tell the answer, as a field `label_text` beside `label` does.
struct TellingFields {
    /// Fewer examples show nothing.
    private static let leastExamples = 8
    private static let leastExamplesOfAValue = 4

    /// The label of each value, by field. A field that does not tell the label is dropped as soon as that is known.
    private var labels: [String: [String: String]] = [:]
    /// Fields that were equal to the completion in all examples.
    private var echoes: Set<String> = []
    /// Up to two different answers.
    private var answers: Set<String> = []
    private var examples = 0

    /// Notes the values of a classification's fields.
    ///
    /// - Parameter classes: number of labels. A field with more values than that is an input, not a label.
    mutating func note(_ values: [String: String], label: String, classes: Int) {
        if examples == 0 { labels = values.mapValues { _ in [:] } }
        count(label)
        for (field, value) in values {
            guard var known = labels[field] else { continue }
            let other = known.updateValue(label, forKey: value)
            labels[field] = known.count > classes || (other != nil && other != label) ? nil : known
        }
    }

    /// Notes the values of a prompt's fields.
    mutating func note(_ values: [String: String], completion: String) {
        func trimmed(_ text: String?) -> String { (text ?? "").trimmingCharacters(in: .whitespacesAndNewlines) }
        if examples == 0 { echoes = Set(values.keys) }
        count(completion)
        if !echoes.isEmpty { echoes = echoes.filter { trimmed(values[$0]) == trimmed(completion) } }
    }

    private mutating func count(_ answer: String) {
        examples += 1
        if answers.count < 2 { answers.insert(answer) }
    }

    /// Names of the fields that tell the answer, in alphabetical order.
    var found: [String] {
        guard answers.count > 1, examples >= Self.leastExamples else { return [] }
        // A value for each label, each of them several times: a text that is classified would not repeat itself so.
        let labels = labels.filter { examples >= Self.leastExamplesOfAValue * $0.value.count }.keys
        return (Array(labels) + echoes).sorted()
    }
}
