import Core

/// The releases that a run plans for any one example of a worker, if no round is repeated. The noise of a private run follows from them.
package struct PlannedReleases {
    /// All rounds, those of trials included.
    package var rounds: Int
    package var samplesPerRound: Int
    package var samplesPerBatch: Int
    /// Examples per sample; 0: all.
    package var batchSize: Int
    package var workers: Int
    /// Number of examples of the worker that has the fewest, at least 1: it reads each of them most often.
    package var examples: Int
    /// Whether a machine's shares must follow one another (`staleness`). Then the same machines get what does not divide evenly in every round.
    package var isAhead: Bool
    /// Whether a share may end early, so that the next one begins within it. All of a share is paid for.
    package var isTimeBoxed: Bool

    package init(
        rounds: Int, samplesPerRound: Int, samplesPerBatch: Int = 1, batchSize: Int, workers: Int, examples: Int, isAhead: Bool = false,
        isTimeBoxed: Bool = false
    ) {
        self.rounds = rounds
        self.samplesPerRound = samplesPerRound
        self.samplesPerBatch = samplesPerBatch
        self.batchSize = batchSize
        self.workers = workers
        self.examples = examples
        self.isAhead = isAhead
        self.isTimeBoxed = isTimeBoxed
    }

    /// The largest number of releases of one example, whatever the order of the examples: an upper bound, which is reached if shares are multiples of
    /// a batch's samples.
    ///
    /// A batch that two shares have parts of is released in as many pieces (`EstimatorOptions.batches(of:)`), and each piece reads the whole batch's
    /// examples. An epoch holds each example once, so an example is in at most one batch of an epoch.
    package var most: Double {
        guard batchSize > 0 else { return Double(rounds) }
        let (even, rest) = (samplesPerRound / workers, samplesPerRound % workers)
        // Rounds in which a machine gets one sample more than `even`. What does not divide evenly goes round among the machines.
        let isFixed = isAhead && even > 0
        let larger = rest == 0 ? 0 : isFixed ? rounds : rounds / workers * rest + min(rounds % workers, rest)
        let shares = even > 0 ? rounds : larger
        let (smallest, largest) = (max(even, 1), even + (rest > 0 ? 1 : 0))
        // Shares begin at multiples of this within a batch.
        let unit = rest == 0 ? Self.commonDivisor(even, samplesPerBatch) : 1
        func pieces(of length: Int, cutEvery other: Int, at unit: Int) -> Double { 1 + ((Double(length - unit) / Double(other)).rounded(.up)) }
        let inShare = pieces(of: largest, cutEvery: samplesPerBatch, at: isTimeBoxed ? 1 : unit)
        if isTimeBoxed {
            let epochs = (inShare * Double(batchSize) / Double(examples)).rounded(.up) + 1
            return Double(shares) * min(inShare, epochs)
        }
        let samples = Double(even) * Double(rounds) + Double(larger)
        let batches = (samples / Double(samplesPerBatch)).rounded(.up)
        let epochs = (batches * Double(batchSize) / Double(examples)).rounded(.up)
        let inBatch = pieces(of: samplesPerBatch, cutEvery: smallest, at: unit)
        // Each share's end within a batch makes one piece more.
        let all = min(Double(shares) * inShare, inBatch == 1 ? batches : batches + Double(shares))
        return min(epochs * inBatch, all)
    }

    private static func commonDivisor(_ a: Int, _ b: Int) -> Int {
        var (a, b) = (a, b)
        while b != 0 { (a, b) = (b, a % b) }
        return max(a, 1)
    }
}
