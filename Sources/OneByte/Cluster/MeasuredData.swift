import Training

/// What the data that judge a run are to it. Only what it has not seen is called held out.
package enum MeasuredData: Hashable, Sendable {
    /// Nobody who shows this has looked at the files, as of a coordinator whose workers have theirs elsewhere.
    case unknown
    case heldOut
    /// All of it trains the run, or steers it.
    case training, validation

    package init(_ use: DataUse) {
        let whole = use.overlaps.filter { $0.use == .evaluation && $0.isWhole }
        self = whole.isEmpty ? .heldOut : whole.contains { $0.with == .training } ? .training : .validation
    }

    /// As displays call scores on it.
    package var name: String {
        switch self {
        case .unknown: "evaluation"
        case .heldOut: "held out"
        case .training: "training data"
        case .validation: "validation data"
        }
    }
}
