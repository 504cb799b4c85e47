import Core
import Simulator
import Testing

/// Whose validations steer a run, and how much.
@Suite struct EvaluatorTests {
    /// A run in which one machine trains and the others evaluate. Peers 2, 3, … are evaluators from the start.
    private struct Run {
        var harness: CoordinatorHarness

        init(evaluators: Int, steering: Steering = Steering(guardTolerance: 0.1), rounds: Int = 60) throws {
            harness = try CoordinatorHarness(
                Samples.spec(rounds: rounds, samplesPerRound: 2, digestEvery: 0, evaluateEvery: 3, steering: steering))
            for peer in 2...UInt8(1 + evaluators) { harness.join(peer, trains: false, evaluates: true) }
            harness.join(1)
        }

        mutating func round() throws {
            guard let machine = harness.lastOpening?.shares.first?.machine else { return }
            try harness.answer(1, machine: machine.rawValue)
        }

        mutating func say(_ peer: UInt8, _ loss: Double?, round: RoundNumber? = nil, position: UInt64? = nil) {
            let ledger = harness.machine.ledger
            harness.tell(
                .received(
                    .evaluation(
                        EvaluationReport(
                            round: round ?? ledger.nextRound, examples: 9, loss: 1, accuracy: .nan, bestThresholdAccuracy: .nan, auc: .nan,
                            seconds: 1, position: position ?? ledger.parameters.records,
                            validation: loss.map { .init(examples: 5, loss: $0, accuracy: .nan) })), from: PeerID([peer])))
        }

        var validations: [Double] {
            get throws { try harness.records.compactMap { if case .validation(let validation) = $0 { validation.loss } else { nil } } }
        }
        var rewinds: Int { get throws { try harness.records.count { $0.kind == .rewind } } }
    }

    @Test("The mean of two evaluators steers, or the middle one of three, so that one liar of three steers nothing")
    func medians() throws {
        var two = try Run(evaluators: 2)
        two.say(2, 0.5)
        #expect(try two.validations.isEmpty, "the other one is waited for")
        two.say(3, 0.7)
        #expect(try two.validations == [0.6])

        var three = try Run(evaluators: 3)
        for (high, low) in [(1e30, 0.5), (0.4, -1e30), (.infinity, 0.3), (.nan, 0.25)] as [(Double, Double)] {
            three.say(2, high)
            three.say(3, low == -1e30 ? 0.4 : low)
            three.say(4, low == -1e30 ? low : low + 0.001)
            for _ in 0..<3 { try three.round() }
        }
        #expect(try zip(three.validations, [0.501, 0.4, 0.301, 0.251]).allSatisfy { abs($0 - $1) < 1e-9 } && three.validations.count == 4)
        #expect(try three.rewinds == 0)
    }

    @Test("A later evaluator is shown but steers nothing while the first ones are there")
    func stranger() throws {
        var run = try Run(evaluators: 1)
        run.say(2, 0.5)
        for _ in 0..<3 { try run.round() }
        run.harness.join(9, trains: false, evaluates: true)
        run.say(9, 1e30)
        #expect(try run.validations == [0.5])
        #expect(run.harness.notices.contains { if case .evaluated(_, let name, _) = $0 { name == "w9" } else { false } })
        run.say(2, 0.45)
        #expect(try run.validations == [0.5, 0.45])
        #expect(try run.rewinds == 0)
        // When they have gone, the evaluator that joined next steers.
        run.harness.tell(.received(.goodbye(Goodbye(reason: "")), from: PeerID([2])))
        for _ in 0..<3 { try run.round() }
        run.say(9, 0.44)
        #expect(try run.validations == [0.5, 0.45, 0.44])
    }

    @Test("Only parameters that are due are measured, so no evaluator can make a run go back again and again without a round")
    func due() throws {
        var run = try Run(evaluators: 1)
        run.say(2, 0.5)
        for _ in 0..<3 { try run.round() }
        run.say(2, 9)
        #expect(try run.rewinds == 1)
        for _ in 0..<20 { run.say(2, 9) }
        try run.round()
        run.say(2, 9)
        #expect(try run.rewinds == 1 && run.validations.count == 2)
        // A report with a wrong round for its position is ignored too.
        run.say(2, 0.1, round: 2, position: 1)
        #expect(try run.validations.count == 2)
        for _ in 0..<2 { try run.round() }
        run.say(2, 9)
        #expect(try run.rewinds == 2)
    }

    @Test("An evaluator without validation examples ends no trial, and the operator is told")
    func withoutExamples() throws {
        var run = try Run(evaluators: 1, steering: Steering(trialRounds: 3))
        for _ in 0..<3 { try run.round() }
        run.say(2, nil)
        run.harness.wait(5, alive: [1, 2])
        #expect(run.harness.finished == nil)
        #expect(
            run.harness.notices.contains { if case .warning(let text) = $0 { text.contains("no evaluator has validation examples") } else { false } })
        // With a second evaluator that has examples the run goes on.
        run.harness.join(3, trains: false, evaluates: true)
    }

    @Test("An evaluator that comes back and reports again is counted once, with its newest report")
    func returned() throws {
        var harness = try CoordinatorHarness(
            Samples.spec(samplesPerRound: 4, minimumWorkers: 2, digestEvery: 0, evaluateEvery: 3, steering: Steering(guardTolerance: 0.1)))
        harness.join(3, trains: false, evaluates: true)
        harness.join(1)
        harness.join(2, evaluates: true)
        func say(_ peer: UInt8, _ loss: Double, moved: Double) {
            let ledger = harness.machine.ledger
            let report = EvaluationReport(
                round: ledger.nextRound, examples: 9, loss: 1, accuracy: .nan, bestThresholdAccuracy: .nan, auc: .nan, seconds: 1,
                position: ledger.parameters.records, validation: .init(examples: 5, loss: loss, accuracy: .nan), moved: moved)
            harness.tell(.received(.evaluation(report), from: PeerID([peer])))
        }
        say(2, 0.5, moved: 0.0625)
        // The open round holds its bytes, so its number is still its own when it comes back.
        try harness.answer(2, machine: 2)
        harness.tell(.received(.goodbye(Goodbye(reason: "")), from: PeerID([2])))
        harness.tell(.received(harness.hello(2, evaluates: true), from: PeerID([2])))
        say(2, 0.25, moved: 0.25)
        say(3, 0.75, moved: 0.125)
        let validations = try harness.records.compactMap { if case .validation(let validation) = $0 { validation } else { nil } }
        #expect(validations.map(\.loss) == [0.5])
        #expect(validations.map(\.moved) == [0.1875])
    }

    @Test("A second evaluator that stays silent is waited for only for a while")
    func silent() throws {
        var run = try Run(evaluators: 2)
        run.say(2, 0.5)
        run.harness.wait(10, alive: [1, 2, 3])
        #expect(try run.validations.isEmpty)
        run.harness.wait(6, alive: [1, 2, 3])
        #expect(try run.validations == [0.5])
    }
}
