import Core
import Simulator
import TestSupport
import Testing

@Suite struct RoundFilterTests {
    private static func contribution(_ machine: UInt32, _ bytes: [Int8]) -> Contribution {
        Contribution(machine: MachineID(machine), firstSample: 0, bytes: bytes)
    }

    @Test("Clip limits every byte to a multiple of the median magnitude")
    func clip() {
        let round = [Self.contribution(1, [10, -12, 127]), Self.contribution(2, [-127, 8, .min])]
        // The magnitudes are 8 10 12 127 127; the median is 12.
        let clipped = RoundFilter(kind: .clip, factor: 3).filtered(round)
        #expect(clipped.map(\.bytes) == [[10, -12, 36], [-36, 8, .min]])
        #expect(RoundFilter(kind: .clip, factor: 127).filtered(round) == round)
    }

    @Test("Sign keeps the signs and sets all magnitudes to the median")
    func sign() {
        let round = [Self.contribution(1, [10, -12, 0]), Self.contribution(2, [-127, 8, .min])]
        #expect(RoundFilter(kind: .sign).filtered(round).map(\.bytes) == [[10, -10, 0], [-10, 10, .min]])
    }

    @Test("Drop leaves out a machine with far too large bytes, and never judges one of two")
    func drop() {
        let loud = Self.contribution(3, [100, -120])
        let round = [Self.contribution(1, [10, -12]), Self.contribution(2, [20, 8]), loud]
        #expect(RoundFilter(kind: .drop, factor: 3).filtered(round).map(\.bytes) == [[10, -12], [20, 8], [.min, .min]])
        #expect(RoundFilter(kind: .drop, factor: 3).filtered([round[0], loud]) == [round[0], loud])
    }

    @Test(
        "A filter keeps names, counts and 'no value', and never enlarges a median round's bytes",
        arguments: RoundFilter.Kind.allCases)
    func properties(_ kind: RoundFilter.Kind) {
        var random = SeededRandom(seed: 5)
        for _ in 0..<200 {
            let round = (0..<UInt32(1 + random.next() % 5)).map { machine in
                Self.contribution(machine, (0..<(1 + random.next() % 9)).map { _ in Int8(truncatingIfNeeded: random.next()) })
            }
            let after = RoundFilter(kind: kind, factor: 2).filtered(round)
            #expect(after.map(\.machine) == round.map(\.machine))
            #expect(after.map(\.bytes.count) == round.map(\.bytes.count))
            for (old, new) in zip(round.flatMap(\.bytes), after.flatMap(\.bytes)) {
                if old == .min { #expect(new == .min) }
                if new != .min, kind != .sign { #expect(abs(Int(new)) <= abs(Int(old))) }
                if new != .min { #expect(new.signum() == old.signum() || new == 0) }
            }
            #expect(RoundFilter(kind: kind, factor: 2).filtered(round.reversed()).reversed() == after, "the order does not matter")
        }
    }

    @Test("The ledger holds the filtered bytes, and its spec names the filter")
    func committed() throws {
        var spec = Samples.spec()
        spec.filter = RoundFilter(kind: .clip, factor: 2)
        #expect(try RunSpec(canonicalBytes: spec.canonicalBytes()) == spec)
        var harness = try CoordinatorHarness(spec)
        harness.join(1)
        try harness.answer(1, machine: 1, bytes: [1, 2, 3, -4, 100, .min])
        let rounds = try harness.records.compactMap { if case .round(let round) = $0 { round } else { nil } }
        #expect(rounds.first?.contributions.map(\.bytes) == [[1, 2, 3, -4, 6, .min]])
        spec.filter = RoundFilter(kind: .clip, factor: 0.5)
        #expect(throws: RunSpecError.self) { try spec.validate() }
    }

    @Test("A machine with useless bytes is reported once, and evicted if the spec says so", arguments: [false, true])
    func badMachine(isSetAside: Bool) throws {
        var spec = Samples.spec(minimumWorkers: 2)
        spec.evictsFaultyMachines = isSetAside
        spec.rounds = 1000
        var harness = try CoordinatorHarness(spec)
        harness.join(1)
        harness.join(2)
        for _ in 0..<200 {
            for peer: UInt8 in 1...2 {
                guard harness.machine.activeTrainers.contains(MachineID(UInt32(peer))) else { continue }
                let share = try #require(harness.lastOpening?.shares.first { $0.machine == MachineID(UInt32(peer)) })
                try harness.answer(
                    peer, machine: UInt32(peer), bytes: [Int8](repeating: peer == 1 ? .min : 9, count: Int(share.count)))
            }
            for peer: UInt8 in 1...2 { harness.tell(.received(harness.report(), from: PeerID([peer]))) }
        }
        let warnings = harness.notices.compactMap { if case .warning(let text) = $0, text.contains("saturated") { text } else { nil } }
        #expect(warnings.count == 1)
        #expect(warnings.first?.contains("w1") == true)
        #expect(harness.machine.activeTrainers == (isSetAside ? [MachineID(2)] : [MachineID(1), MachineID(2)]))
    }
}
