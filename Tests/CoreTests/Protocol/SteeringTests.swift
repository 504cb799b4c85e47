import Core
import Foundation
import Simulator
import TestSupport
import Testing

@Suite struct RateSearchTests {
    /// Returns the trials to which a loss over log2 of the rate leads.
    private func search(_ loss: (Int) -> Double) -> [Int: Double] {
        var losses: [Int: Double] = [:]
        while let shift = RateSearch.next(after: losses) { losses[shift] = loss(shift) }
        return losses
    }

    @Test("The bottom of a valley is found wherever it is within reach", arguments: -7...7)
    func valley(lowest: Int) {
        let losses = search { Double(($0 - lowest) * ($0 - lowest)) }
        #expect(RateSearch.best(of: losses) == lowest)
        #expect(losses.count <= RateSearch.most)
        #expect(losses[0] != nil)
    }

    @Test("Rates with infinite losses are no obstacle, and of equal losses the smaller rate is taken")
    func cliff() {
        #expect(RateSearch.best(of: search { $0 > 1 ? .infinity : -Double($0) }) == 1)
        #expect(RateSearch.best(of: [0: 1, -2: 1, 2: 1]) == -2)
        // Within noise the smaller rate is taken, beyond it the better one.
        #expect(RateSearch.best(of: [-1: 1.002, 0: 1.001, 1: 1], within: 0.0015) == 0)
        #expect(RateSearch.best(of: [-1: 1.002, 0: 1.001, 1: 1], within: 0.0005) == 1)
        // If all rates fail, the smallest that was tried is taken.
        let ruin = search { _ in .infinity }
        #expect(RateSearch.best(of: ruin) == ruin.keys.min())
    }
}

@Suite struct SteeringTests {
    /// A coordinator with one machine that trains and one that evaluates. Both finish everything at once.
    private struct Run {
        var harness: CoordinatorHarness

        init(_ steering: Steering, rounds: Int = 12, evaluateEvery: Int = 3) throws {
            harness = try CoordinatorHarness(
                Samples.spec(rounds: rounds, samplesPerRound: 2, digestEvery: 0, evaluateEvery: evaluateEvery, steering: steering))
            harness.join(1)
            harness.join(2, trains: false, evaluates: true)
            prove()
        }

        /// Answers a comparison that is under way.
        mutating func prove() {
            for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        }

        mutating func round() throws { try harness.answer(1, machine: 1) }

        /// Reports the evaluator's loss at the present parameters.
        mutating func validate(
            _ loss: Double, noise: Double = .nan, moved: Double = .nan, atRound: RoundNumber? = nil, position: UInt64? = nil
        ) {
            let ledger = harness.machine.ledger
            harness.tell(
                .received(
                    .evaluation(
                        EvaluationReport(
                            round: atRound ?? ledger.nextRound, examples: 9, loss: 1, accuracy: .nan, bestThresholdAccuracy: .nan, auc: .nan,
                            seconds: 1, position: position ?? ledger.parameters.records,
                            validation: .init(examples: 5, loss: loss, accuracy: .nan, noise: noise), moved: moved)),
                    from: PeerID([2])))
        }

        var ledger: LedgerSummary { harness.machine.ledger }
        var rewinds: [Rewind] {
            get throws { try harness.records.compactMap { if case .rewind(let rewind) = $0 { rewind } else { nil } } }
        }
    }

    @Test("A validation loss above the tolerance takes the run back to its best round with half the step")
    func `guard`() throws {
        var run = try Run(Steering(guardTolerance: 0.1), rounds: 20)
        for loss in [1.0, 0.9, 0.8, 0.7, 0.6] {
            run.validate(loss)
            for _ in 0..<3 { try run.round() }
        }
        // This is within the tolerance.
        run.validate(0.65)
        #expect(try run.rewinds.isEmpty)
        for _ in 0..<3 { try run.round() }
        run.validate(.nan)
        #expect(try run.rewinds == [Rewind(round: 12, rateShift: -1)])
        #expect(run.ledger.nextRound == 18 && run.ledger.effectiveRounds == 12 && run.ledger.rateShift == -1)
        #expect(run.ledger.steering.best?.round == 12)
        // The run still gets all its rounds.
        for _ in 0..<8 { try run.round() }
        #expect(run.ledger.effectiveRounds == 20 && run.ledger.nextRound == 26 && run.ledger.isTrained)
        // The rate is half of what the schedule gives after the same number of rounds in force.
        let rates = run.harness.notices.compactMap { if case .roundCommitted(let round) = $0 { round.learningRate } else { nil } }
        #expect(rates[18] == rates[12] / 2)
    }

    @Test("A rate that proves too large while it is young leaves nothing behind, not even the best that it reached")
    func youngRate() throws {
        var run = try Run(Steering(guardTolerance: 0.1), rounds: 40)
        run.validate(1.0)
        for loss in [0.6, 0.5, 0.8] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss)
        }
        #expect(try run.rewinds == [Rewind(round: 0, rateShift: -1)])
        // Half the rate is good for a long time, so its best stays.
        for loss in [0.7, 0.6, 0.5, 0.4, 0.35, 0.34, 0.33, 0.5] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss)
        }
        #expect(try run.rewinds.last == Rewind(round: 9 + 21, rateShift: -1))
        // A smaller rate that is young goes back to where it began, which is that best.
        for loss in [0.32, 0.5] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss)
        }
        #expect(try run.rewinds.map(\.round) == [0, 30, 30])
    }

    @Test("A rate that soon stops learning was too large from its beginning, however long the loss stays within the tolerance")
    func rateThatStalls() throws {
        var run = try Run(Steering(guardTolerance: 0.1), rounds: 40)
        for loss in [1.0, 0.6, 0.62, 0.64, 0.65, 0.63, 0.65, 0.64, 0.65, 0.7] {
            run.validate(loss)
            if loss < 0.7 { for _ in 0..<3 { try run.round() } }
        }
        #expect(try run.rewinds == [Rewind(round: 0, rateShift: -1)])
    }

    @Test("A rate becomes no younger when an operator goes back and keeps it")
    func sameRate() throws {
        var run = try Run(Steering(guardTolerance: 0.1), rounds: 40)
        for loss in [0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.42, 0.4] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss)
        }
        run.harness.tell(.rewind(to: 6, rateShift: 0))
        for loss in [0.3, 0.6] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss)
        }
        #expect(try run.rewinds == [Rewind(round: 6, rateShift: 0), Rewind(round: 27, rateShift: -1)])
    }

    /// A machine whose samples all have the g that the test sets. The first parameters are validated, and no others.
    private struct MagnitudeRun {
        var harness: CoordinatorHarness

        init(samplesPerBatch: Int? = nil) throws {
            var spec = Samples.spec(rounds: 1000, samplesPerRound: 512, digestEvery: 0, evaluateEvery: 500, steering: Steering(guardTolerance: 0.1))
            spec.samplesPerBatch = samplesPerBatch
            harness = try CoordinatorHarness(spec)
            harness.join(1)
            harness.join(2, trains: false, evaluates: true)
            for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
            harness.tell(
                .received(
                    .evaluation(
                        EvaluationReport(
                            round: 0, examples: 9, loss: 1, accuracy: .nan, bestThresholdAccuracy: .nan, auc: .nan, seconds: 1, position: 1,
                            validation: .init(examples: 5, loss: 1, accuracy: .nan))),
                    from: PeerID([2])))
        }

        mutating func rounds(_ count: Int, of g: Double) throws { try rounds(count, draw: 512) { g } }

        /// - Parameter draw: number of samples that have the same g (a batch).
        mutating func rounds(_ count: Int, draw: Int, of g: () -> Double) throws {
            for _ in 0..<count {
                let scale = try #require(harness.lastOpening).scaleExponent
                let bytes = (0..<512 / draw).flatMap { _ in
                    [Int8](repeating: ByteCodec.encode(Float(g()), scaleExponent: scale), count: draw)
                }
                try harness.answer(1, machine: 1, bytes: bytes)
            }
        }

        var rewinds: [Rewind] {
            get throws { try harness.records.compactMap { if case .rewind(let rewind) = $0 { rewind } else { nil } } }
        }
    }

    @Test("Bytes that have become large take the run back before the next validation, even if the scale follows them")
    func magnitude() throws {
        var run = try MagnitudeRun()
        try run.rounds(6, of: 4)
        try run.rounds(6, of: 5.5)
        #expect(try run.rewinds.isEmpty)
        try run.rounds(1, of: 7)
        #expect(try run.rewinds == [Rewind(round: 0, rateShift: -1)])
        #expect(run.harness.machine.ledger.effectiveRounds == 0)
        // After a rewind only new bytes count.
        try run.rounds(6, of: 4)
        #expect(try run.rewinds.count == 1)
    }

    @Test(
        "If samples share examples, a few steep examples together are no alarm, but twice the mean |g| is",
        arguments: 0..<3)
    func magnitudeOfSharedExamples(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        // The tail is as heavy as that of real gradients: most examples are learnt, some not at all.
        func steepness(_ mean: Double) -> Double { -mean * log(Double.random(in: 1e-12..<1, using: &random)) }
        var run = try MagnitudeRun(samplesPerBatch: 16)
        try run.rounds(400, draw: 16) { steepness(2) }
        #expect(try run.rewinds.isEmpty)
        try run.rounds(20, draw: 16) { steepness(4) }
        #expect(try !run.rewinds.isEmpty)
    }

    @Test("First rounds at a scale that makes their bytes 0, or saturates them, are no reference for later ones", arguments: [0.3, 1000.0])
    func magnitudeAtAWrongScale(_ g: Double) throws {
        var run = try MagnitudeRun()
        try run.rounds(12, of: g)
        #expect(try run.rewinds.isEmpty)
        try run.rounds(3, of: 2 * g)
        #expect(try run.rewinds.count == 1)
    }

    @Test("A report of parameters that are void by then is ignored")
    func late() throws {
        var run = try Run(Steering(guardTolerance: 0.1))
        run.validate(1.0)
        for _ in 0..<3 { try run.round() }
        let before = run.ledger.parameters.records
        run.validate(2.0)
        #expect(try run.rewinds.count == 1)
        run.validate(9.0, atRound: 3, position: before)
        #expect(try run.rewinds.count == 1)
    }

    @Test("A guard that goes back in vain does so a limited number of times and then lets the run go on")
    func guardEnds() throws {
        var run = try Run(Steering(guardTolerance: 0.1), rounds: 6)
        run.validate(0.1)
        var validations = 0
        while !run.ledger.isTrained, validations < 50 {
            for _ in 0..<3 { try run.round() }
            run.validate(5)
            validations += 1
        }
        #expect(try run.rewinds.count == 12)
        #expect(run.harness.notices.contains { if case .warning(let text) = $0 { text.contains("smaller and smaller steps") } else { false } })
    }

    @Test("After enough validations without a new best the run ends at its best round, and a restart knows that it has ended")
    func patience() throws {
        var run = try Run(Steering(patience: 2), rounds: 100)
        run.validate(1.0)
        for loss in [0.5, 0.6, 0.55] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss)
        }
        #expect(try run.rewinds == [Rewind(round: 3, rateShift: 0, isFinal: true)])
        #expect(run.ledger.isTrained && run.ledger.effectiveRounds == 3)
        #expect(try Samples.summary(of: run.harness.disk).isTrained)
        // The last comparison and evaluation are of the best round's parameters.
        run.prove()
        run.validate(0.5)
        run.prove()
        run.harness.wait(1)
        #expect(run.ledger.isEnded)
    }

    @Test("Patience does not end a run that has learnt nothing beyond noise")
    func nothingToEndFor() throws {
        var run = try Run(Steering(patience: 2), rounds: 100)
        run.validate(1.0)
        for loss in [0.97, 0.99, 0.98, 1.01, 0.98] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss, noise: 0.02)
        }
        #expect(try run.rewinds.isEmpty)
        // Later it learns, and then no more.
        for loss in [0.8, 0.85, 0.9] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss, noise: 0.02)
        }
        #expect(try run.rewinds == [Rewind(round: 18, rateShift: 0, isFinal: true)])
    }

    @Test("The guard goes back if the parameters have moved too far, even if the loss is the lowest so far")
    func movement() throws {
        var run = try Run(Steering(guardTolerance: 0.1), rounds: 40)
        run.validate(1.0, moved: 0)
        for (loss, moved) in [(0.9, 0.1), (0.8, 0.24), (0.7, 0.4), (0.6, 0.6)] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss, noise: 0.01, moved: moved)
        }
        #expect(try run.rewinds == [Rewind(round: 6, rateShift: -1)])
        let said = run.harness.notices.compactMap { if case .warning(let text) = $0 { text } else { nil } }
        #expect(said.contains { $0.contains("60 % of its norm") })
    }

    @Test("The largest movement that a ledger can hold is told to the operator")
    func farthest() throws {
        var run = try Run(Steering(guardTolerance: 0.1), rounds: 30)
        run.validate(1.0, moved: 0)
        for _ in 0..<3 { try run.round() }
        run.validate(0.9, moved: WireNumber.largestAmount)
        #expect(
            run.harness.notices.contains {
                if case .warning(let text) = $0 { text.contains("tensor has moved by 100000000 % of its norm, which is") } else { false }
            })
    }

    @Test("If trials' losses differ only by noise, the smaller rate is chosen, and never one that moves too far")
    func carefulTrials() throws {
        // 2^1 is the best by less than noise. From 2^2 on, a trial moves too far.
        let losses = [-2: 1.3, -1: 1.1, 0: 1.004, 1: 1.0, 2: 0.5, 3: 0.4, 4: 0.3]
        var run = try Run(Steering(trialRounds: 2), rounds: 12, evaluateEvery: 0)
        run.validate(3)
        var tried = 0
        while run.ledger.steering.isSearching, tried < 20 {
            for _ in 0..<2 { try run.round() }
            tried += 1
            let shift = run.ledger.rateShift
            run.validate(try #require(losses[shift]), noise: 0.01, moved: shift > 1 ? 0.6 : 0.1)
        }
        #expect(run.ledger.rateShift == 0 && run.ledger.steering.chosenRate == 0)
    }

    @Test("If trials can't tell rates apart, the given rate is taken; noise lowers the rate by one octave at most", arguments: [(0.3, 0), (0.1, -1)])
    func flatTrials(noise: Double, expected: Int) throws {
        var run = try Run(Steering(trialRounds: 2), rounds: 12, evaluateEvery: 0)
        run.validate(1.5)
        // Within noise, all rates below the best are as good as it. The whole gain is 0.5.
        var tried = 0
        while run.ledger.steering.isSearching, tried < 20 {
            for _ in 0..<2 { try run.round() }
            tried += 1
            let shift = run.ledger.rateShift
            run.validate(shift == 0 ? 0.999 : shift < 0 ? 1 : 5, noise: noise)
        }
        #expect(run.ledger.rateShift == expected)
    }

    @Test("Validations of a run that is not steered are recorded too, and show its best round")
    func unsteered() throws {
        var run = try Run(Steering(), rounds: 12)
        run.harness = try CoordinatorHarness(Samples.spec(rounds: 12, samplesPerRound: 2, digestEvery: 0, evaluateEvery: 3))
        run.harness.join(1)
        run.harness.join(2, trains: false, evaluates: true)
        run.prove()
        run.validate(1.0)
        for loss in [0.5, 0.7] {
            for _ in 0..<3 { try run.round() }
            run.validate(loss)
        }
        #expect(run.ledger.steering.best?.round == 3)
        #expect(try run.rewinds.isEmpty)
    }

    @Test("Trials choose the rate: each is taken back, none of their rounds counts, and the run continues at the best rate")
    func trials() throws {
        var run = try Run(Steering(trialRounds: 2), rounds: 12, evaluateEvery: 0)
        // The best rate is twice the given one.
        func loss(_ shift: Int) -> Double { 1 + 0.1 * Double((shift - 1) * (shift - 1)) }
        run.validate(3)
        var tried: [Int] = []
        while run.ledger.steering.isSearching, tried.count < 20 {
            for _ in 0..<2 { try run.round() }
            // No round is open until the trial is judged.
            let next = run.ledger.nextRound
            run.harness.wait(1, alive: [1, 2])
            #expect(run.ledger.nextRound == next && run.ledger.effectiveRounds == 2)
            tried.append(run.ledger.rateShift)
            run.validate(loss(run.ledger.rateShift))
        }
        #expect(Set(tried).count == tried.count && tried.contains(1))
        #expect(run.ledger.rateShift == 1)
        #expect(run.ledger.effectiveRounds == (tried.last == 1 ? 2 : 0))
        while !run.ledger.isTrained { try run.round() }
        #expect(run.ledger.effectiveRounds == 12 && Int(run.ledger.nextRound) > 12)
    }

    @Test("A trial that nobody can judge waits and reports what it waits for")
    func noValidation() throws {
        var run = try Run(Steering(trialRounds: 1), evaluateEvery: 0)
        try run.round()
        run.harness.tell(
            .received(
                .evaluation(
                    EvaluationReport(
                        round: 1, examples: 9, loss: 1, accuracy: .nan, bestThresholdAccuracy: .nan, auc: .nan, seconds: 1,
                        position: run.ledger.parameters.records)),
                from: PeerID([2])))
        run.harness.wait(4)
        #expect(run.harness.finished == nil)
        #expect(
            run.harness.notices.contains { if case .warning(let text) = $0 { text.contains("no evaluator has validation examples") } else { false } })
    }

    @Test("Summary and history count the rounds in force alike, whatever is rewound")
    func effectiveRounds() throws {
        var random = SeededRandom(seed: 5)
        for _ in 0..<50 {
            var records: [LedgerRecord] = [.baseManifest(Samples.base), Samples.admission(1)]
            var next: RoundNumber = 0
            for _ in 0..<40 {
                if Int.random(in: 0..<4, using: &random) == 0 {
                    records.append(.rewind(Rewind(round: RoundNumber.random(in: 0...next, using: &random), rateShift: 0)))
                } else {
                    records.append(Samples.round(next, [(1, next, [1])]))
                    next += 1
                }
            }
            let bytes = try Samples.ledger(Samples.spec(rounds: 1000), records)
            var history = EffectiveHistory()
            for entry in try Samples.entries(of: bytes) { _ = try history.fold(entry.record) }
            #expect(try Samples.summary(of: bytes).effectiveRounds == history.rounds.count)
            #expect(history.effectiveRounds == history.rounds.count)
        }
    }
}
