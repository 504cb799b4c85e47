import Foundation

/// A run's curves as a table with one value per line. Data frames call this form tidy. It suits curves whose points lie at different rounds.
package enum CurvesText {
    package static let columns = ["curve", "worker", "machine", "round", "unix_seconds", "samples", "wire_bytes", "value"]

    package static func csv(_ points: [RunHistory.Point]) -> String {
        var lines = [columns.joined(separator: ",")]
        for point in points {
            for (curve, value) in values(of: point) {
                let fields = [
                    curve, point.worker.map(quoted) ?? "", point.machine.map { "\($0)" } ?? "", "\(point.round)", "\(point.time)", "\(point.samples)",
                    "\(point.bytes)", "\(value)",
                ]
                lines.append(fields.joined(separator: ","))
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func values(of point: RunHistory.Point) -> [(String, Double)] {
        let all: [(String, Double?)] =
            switch point.kind {
            case .round:
                [("training_loss", point.loss), ("learning_rate", point.learningRate), ("mean_magnitude", point.meanMagnitude)]
            case .evaluation:
                [
                    ("evaluation_loss", point.loss), ("evaluation_accuracy", point.accuracy), ("validation_loss", point.validationLoss),
                    ("validation_accuracy", point.validationAccuracy),
                ]
            case .worker: [("worker_training_loss", point.loss)]
            case .event: []
            }
        return all.compactMap { name, value in value.map { (name, $0) } }
    }

    /// Quotes a name by RFC 4180. Peers choose the names, so an apostrophe keeps spreadsheets from reading one as a formula.
    private static func quoted(_ text: String) -> String {
        let shown = printable(text, onOneLine: true)
        let safe = shown.first.map { "=+-@".contains($0) } == true ? "'" + shown : shown
        guard safe.contains(where: { $0 == "," || $0 == "\"" }) else { return safe }
        return "\"" + safe.replacing("\"", with: "\"\"") + "\""
    }
}
