import Core
import Simulator
import TestSupport
import Testing

extension Lie: CustomTestStringConvertible {
    public var testDescription: String { rawValue }
}

@Suite struct LiarTests {
    private static let robust = RoundFilter(kind: .robust)

    @Test("One liar in three costs less than two points of accuracy", arguments: Lie.allCases, [UInt64(1), 2, 3])
    func oneInThree(lie: Lie, seed: UInt64) throws {
        let honest = try LiarRun(machines: 3, liars: [], lie: nil, filter: Self.robust, seed: seed)
        let found = try LiarRun(machines: 3, liars: [2], lie: lie, filter: Self.robust, seed: seed)
        #expect(honest.accuracy > 0.85, "the task is learnt: \(honest.accuracy)")
        #expect(found.accuracy > honest.accuracy - 0.02, "\(found.accuracy), honest \(honest.accuracy)")
        #expect(found.warnings.contains { $0.contains("machine 2") }, "\(found.warnings)")
        #expect(found.counted.liars < found.counted.honest / 10, "\(found.counted)")
        // Without the filter the lie does harm.
        let open = try LiarRun(machines: 3, liars: [2], lie: lie, filter: nil, seed: seed)
        #expect(open.loss > found.loss, "\(open.loss), with the filter \(found.loss)")
    }

    @Test("Two colluding liars in eight cost less than three points", arguments: Lie.allCases, [UInt64(4), 5, 6])
    func twoInEight(lie: Lie, seed: UInt64) throws {
        let honest = try LiarRun(machines: 8, liars: [], lie: nil, filter: Self.robust, seed: seed)
        let found = try LiarRun(machines: 8, liars: [3, 7], lie: lie, filter: Self.robust, seed: seed)
        #expect(found.accuracy > honest.accuracy - 0.03, "\(found.accuracy), honest \(honest.accuracy)")
        #expect(found.counted.liars < found.counted.honest / 30, "\(found.counted)")
    }

    @Test("Among honest machines nothing is left out, even when the run has reached its optimum", arguments: [UInt64(1), 2, 3])
    func honest(seed: UInt64) throws {
        let found = try LiarRun(machines: 3, liars: [], lie: nil, filter: Self.robust, seed: seed, rounds: 80)
        let open = try LiarRun(machines: 3, liars: [], lie: nil, filter: nil, seed: seed, rounds: 80)
        #expect(found.warnings.isEmpty, "\(found.warnings)")
        #expect(found.accuracy > open.accuracy - 0.005, "\(found.accuracy), without a filter \(open.accuracy)")
    }

    @Test(
        "One liar can't steer a first round whose scale is far too coarse, in which honest bytes are 0",
        arguments: Lie.allCases)
    func firstRound(lie: Lie) throws {
        let honest = try LiarRun(machines: 3, liars: [], lie: nil, filter: Self.robust, seed: 7, startsAt: 1.0 / 24)
        let found = try LiarRun(machines: 3, liars: [1], lie: lie, filter: Self.robust, seed: 7, startsAt: 1.0 / 24)
        #expect(honest.accuracy > 0.85, "\(honest.accuracy)")
        #expect(found.accuracy > honest.accuracy - 0.03, "\(found.accuracy), honest \(honest.accuracy)")
    }

    // MARK: Bounds

    private static func contribution(_ machine: UInt32, _ bytes: [Int8]) -> Contribution {
        Contribution(machine: MachineID(machine), firstSample: 0, bytes: bytes)
    }

    private static func share(of machine: UInt32, in round: [Contribution]) -> Double {
        func sum(_ contributions: [Contribution]) -> Int {
            contributions.reduce(0) { $0 + $1.bytes.reduce(0) { $0 + ($1 == .min ? 0 : abs(Int($1))) } }
        }
        return Double(sum(round.filter { $0.machine == MachineID(machine) })) / Double(max(sum(round), 1))
    }

    @Test("One of n machines moves at most factor/(factor + n − 1) of a round, whatever it sends and however much", arguments: [3, 5, 8])
    func influence(machines: Int) {
        var random = SeededRandom(seed: UInt64(machines))
        let most = 3.0 / Double(3 + machines - 1)
        for liarBytes in [20, 20 * 300] {
            for trial in 0..<20 {
                let round = (1...UInt32(machines)).map { machine in
                    Self.contribution(
                        machine,
                        (0..<(machine == 1 ? liarBytes : 20)).map { _ in
                            machine == 1 ? Int8(clamping: 127 - 12 * (trial % 10)) : Int8.random(in: -64...64, using: &random)
                        })
                }
                let filtered = Self.robust.filtered(round)
                #expect(Self.share(of: 1, in: filtered) <= most + 0.12, "\(Self.share(of: 1, in: filtered)) of \(machines)")
                #expect(filtered.dropFirst() == round.dropFirst(), "the others' bytes stay")
            }
        }
    }

    @Test("The coordinator tells how many bytes the filter left out")
    func leftOut() throws {
        let found = try LiarRun(machines: 3, liars: [2], lie: .flippedSign, filter: Self.robust, seed: 1)
        #expect(found.told.leftOut > 0)
        #expect(found.told.leftOut == found.told.samples - found.counted.liars - found.counted.honest, "all bytes had a value when they were sent")
        let open = try LiarRun(machines: 3, liars: [2], lie: .flippedSign, filter: nil, seed: 1)
        #expect(open.told.samples > 0 && open.told.leftOut == 0)
    }

    @Test("With fewer than three machines the robust filter does nothing")
    func two() {
        let round = [Self.contribution(1, [1, -2]), Self.contribution(2, [127, 127])]
        #expect(Self.robust.filtered(round) == round)
    }

    @Test("From three machines on, one machine's bytes can't move the run's scale")
    func scale() {
        func exponent(_ loud: Int8) -> Int8 {
            var scale = ScaleAdapter(target: 32)
            for round in 0..<40 as Range<UInt32> {
                let quiet = [Int8](repeating: 30, count: 32)
                scale.observe(
                    RoundRecord(
                        round: round, scaleExponent: scale.exponent, step: .zero,
                        contributions: [
                            Self.contribution(1, quiet), Self.contribution(2, quiet), Self.contribution(3, [Int8](repeating: loud, count: 32)),
                        ]))
            }
            return scale.exponent
        }
        #expect(exponent(127) == 0 && exponent(0) == 0)
    }

    @Test("Bytes that stay a little below the largest value count as saturated")
    func saturation() throws {
        var run = try CoordinatorHarness(Samples.spec(rounds: 200, samplesPerRound: 60, digestEvery: 0))
        run.join(1)
        for _ in 0..<20 { try run.answer(1, machine: 1, bytes: [Int8](repeating: 126, count: 60)) }
        #expect(run.notices.contains { if case .warning(let text) = $0 { text.contains("saturated") } else { false } })
    }

    @Test("A run has failed when most of its machines have left as diverged, even if one machine goes on")
    func ruined() throws {
        var run = try CoordinatorHarness(Samples.spec(rounds: 400, samplesPerRound: 6, minimumWorkers: 3, digestEvery: 1))
        for peer: UInt8 in 1...3 { run.join(peer) }
        for _ in 0..<2 {
            for peer: UInt8 in 1...3 { try run.answer(peer, machine: UInt32(peer)) }
            for peer: UInt8 in 1...3 { run.tell(.received(run.report(), from: PeerID([peer]))) }
        }
        func leave(_ peer: UInt8) { run.tell(.received(.goodbye(Goodbye(reason: "diverged", cause: .diverged)), from: PeerID([peer]))) }
        leave(1)
        #expect(run.finished == nil && run.machine.activeTrainers.count == 2, "one word is not believed")
        leave(2)
        run.wait(10)
        #expect(run.finished?.outcome == .failed)
    }
}
