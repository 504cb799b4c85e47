import Training

/// Relation of the data that judge a run to the run. Only data that the run has not seen are called held out.
package enum MeasuredData: Hashable, Sendable {
    /// The files were not compared here, as in a coordinator whose workers have their data elsewhere.
    case unknown
    case heldOut
    /// Some of the data also train the run, or steer it.
    case partlyHeldOut
    /// All of the data also train the run, or steer it.
    case training, validation

    package init(_ use: DataUse) {
        let overlaps = use.overlaps.filter { $0.use == .evaluation }
        let whole = overlaps.filter(\.isWhole)
        if overlaps.isEmpty {
            self = .heldOut
        } else if whole.isEmpty {
            self = .partlyHeldOut
        } else {
            self = whole.contains { $0.with == .training } ? .training : .validation
        }
    }

    /// Name of the data in displays of scores.
    package var name: String {
        switch self {
        case .unknown: "evaluation"
        case .heldOut: "held out"
        case .partlyHeldOut: "partly held out"
        case .training: "training data"
        case .validation: "validation data"
        }
    }
}
