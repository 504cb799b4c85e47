import Core
import Simulator
import TestSupport
import Testing

@Suite struct EffectiveHistoryTests {
    /// Returns small parameters, all of whose bits are compared.
    private func makeParameters() throws -> Parameters {
        let tensors = [
            TrainedTensor(name: "a.weight", index: 0, shape: .matrix(rows: 5, columns: 7)),
            TrainedTensor(name: "b.weight", index: 1, shape: .vector(9)),
        ]
        return try Parameters(tensors: tensors) { position, floats in
            for i in floats.indices { floats[i] = Float(i + position) * 0.01 - 0.1 }
        }
    }

    @Test("Following record by record gives the same as a replay of the effective rounds, bit for bit", arguments: 0..<60)
    func incremental(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let directions = Directions(seed: RunSeed(3), family: PerturbationFamily.allCases[seed % 3])
        let followed = try makeParameters()
        var history = EffectiveHistory()
        for _ in 0..<40 {
            let record: LedgerRecord
            switch Int.random(in: 0..<11, using: &random) {
            case 10:
                let lower = UInt32.random(in: 0...history.nextRound, using: &random)
                record = .restoration(
                    Restoration(machine: MachineID(UInt32.random(in: 1...4, using: &random) * 100), rounds: lower..<history.nextRound))
            case 0:
                let lower = UInt32.random(in: 0...history.nextRound, using: &random)
                let upper = UInt32.random(in: lower...history.nextRound, using: &random)
                record = .retraction(
                    Retraction(machine: MachineID(UInt32.random(in: 1...4, using: &random) * 100), rounds: lower..<upper))
            case 1:
                record = .rewind(
                    Rewind(round: UInt32.random(in: history.nextRound / 2...history.nextRound, using: &random), rateShift: -1))
            case 2: record = Samples.admission(5)
            default:
                let round = Samples.randomRound(history.nextRound, &random)
                record = .round(
                    RoundRecord(
                        round: round.round, scaleExponent: round.scaleExponent,
                        step: StepSize(multiplier: round.step.multiplier, exponent: -12), contributions: round.contributions))
            }
            for change in try history.fold(record) {
                switch change {
                case .apply(let round): followed.apply([round], directions: directions, threads: 1)
                case .revert(let round): followed.revert(round, directions: directions, threads: 1)
                case .replace(let old, let new): followed.replace(old, with: new, directions: directions, threads: 1)
                }
            }
        }
        let replayed = try makeParameters()
        replayed.apply(history.rounds, directions: directions, threads: 1)
        #expect(followed.digest() == replayed.digest())
    }

    @Test("A restoration puts back exactly what retractions took out, in the same rounds")
    func restoration() throws {
        var history = EffectiveHistory()
        for round: UInt32 in 0..<3 { _ = try history.fold(Samples.round(round, [(1, round, [1]), (2, round, [2])])) }
        let whole = history.rounds
        _ = try history.fold(.retraction(Retraction(machine: MachineID(1), rounds: 0..<3)))
        _ = try history.fold(.retraction(Retraction(machine: MachineID(2), rounds: 1..<2)))
        #expect(try history.fold(.restoration(Restoration(machine: MachineID(1), rounds: 1..<3))).count == 2)
        #expect(history.rounds.map(\.contributions.count) == [1, 1, 2])
        // The second time nothing is left to put back. A void round comes back in its place and changes nothing.
        #expect(try history.fold(.restoration(Restoration(machine: MachineID(1), rounds: 1..<3))).isEmpty)
        _ = try history.fold(.rewind(Rewind(round: 1, rateShift: 0)))
        #expect(try history.fold(.restoration(Restoration(machine: MachineID(2), rounds: 0..<3))).isEmpty)
        _ = try history.fold(.restoration(Restoration(machine: MachineID(1), rounds: 0..<3)))
        #expect(history.rounds == Array(whole.prefix(1)))
        #expect(throws: HistoryError.self) { try history.fold(.restoration(Restoration(machine: MachineID(1), rounds: 0..<4))) }
    }

    @Test("A rewind after the end takes the end back, even of a run that ended early")
    func reopened() throws {
        var history = EffectiveHistory()
        for round: UInt32 in 0..<3 { _ = try history.fold(Samples.round(round, [(1, round, [1])])) }
        _ = try history.fold(.rewind(Rewind(round: 2, rateShift: 0, isFinal: true)))
        _ = try history.fold(.rewind(Rewind(round: 2, rateShift: 0)))
        #expect(history.isFinal)
        _ = try history.fold(.end(RunEnd(unixSeconds: 1)))
        _ = try history.fold(.rewind(Rewind(round: 1, rateShift: 0)))
        #expect(!history.isFinal && history.rounds.map(\.round) == [0] && history.nextRound == 3)
    }

    @Test("Retractions and rewinds affect only earlier rounds") func retractionAndRewindTouchOnlyWhatWasThere() throws {
        var history = EffectiveHistory()
        _ = try history.fold(Samples.round(0, [(1, 0, [1]), (2, 0, [2])]))
        _ = try history.fold(Samples.round(1, [(1, 1, [1]), (2, 1, [2])]))
        let changes = try history.fold(.retraction(Retraction(machine: MachineID(1), rounds: 0..<2)))
        #expect(changes.count == 2)
        _ = try history.fold(Samples.round(2, [(1, 2, [1])]))
        #expect(history.rounds.map(\.contributions.count) == [1, 1, 1])
        let reverts = try history.fold(.rewind(Rewind(round: 1, rateShift: 0)))
        #expect(reverts.count == 2 && history.nextRound == 3)
        #expect(history.rounds.map(\.round) == [0])
        // A second rewind over void rounds changes nothing, and neither does a retraction of a void round.
        #expect(try history.fold(.rewind(Rewind(round: 1, rateShift: 0))).isEmpty)
        #expect(try history.fold(.retraction(Retraction(machine: MachineID(2), rounds: 1..<3))).isEmpty)
        #expect(throws: HistoryError.self) { try history.fold(Samples.round(1, [(1, 9, [1])])) }
        #expect(throws: HistoryError.self) { try history.fold(.rewind(Rewind(round: 4, rateShift: 0))) }
    }
}
