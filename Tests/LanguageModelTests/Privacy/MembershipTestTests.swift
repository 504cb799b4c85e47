import Foundation
import LanguageModel
import Testing
import Training

struct MembershipTestTests {
    private func normal(_ random: inout SplitMix64) -> Double {
        (-2 * log(Double.random(in: 1e-12..<1, using: &random))).squareRoot() * cos(2 * .pi * Double.random(in: 0..<1, using: &random))
    }

    /// Members' vectors are part of the observed mean: √(D/n) standard deviations, by theory.
    @Test("The attack finds members where it can, and finds none behind enough noise")
    func findsMembers() throws {
        var random = SplitMix64(state: 1)
        let (width, count) = (40, 50)
        // Coordinates of different sizes and a common mean.
        func vector(_ random: inout SplitMix64) -> [Float] { (0..<width).map { Float(3 + Double($0 + 1) * normal(&random)) } }
        let members = (0..<count).map { _ in vector(&random) }
        let others = (0..<400).map { _ in vector(&random) }
        let reference = (0..<600).flatMap { _ in vector(&random) }
        func attack(_ deviation: Double) throws -> MembershipResult {
            let observed = (0..<width).map { i in members.reduce(0) { $0 + Double($1[i]) } / Double(count) + deviation * normal(&random) }
            let test = try MembershipTest(
                observed: observed, noise: Array(repeating: max(deviation * deviation, 1e-6), count: width), reference: reference, count: count)
            return MembershipResult(members: members.map { test.score($0) }, others: others.map { test.score($0) })
        }
        let open = try attack(0)
        // Φ(√(D/n)/√2) = 0.74.
        #expect(open.auc > 0.65 && open.auc < 0.85 && open.advantage > 0.2, "\(open)")
        let hidden = try attack(1000)
        #expect(abs(hidden.auc - 0.5) < 4 * hidden.aucErrorByChance && hidden.advantage < 0.25, "\(hidden)")
    }

    /// Members' scores are N(d²/2, d²) and others' N(−d²/2, d²) with d = |v|/nσ, so the area is Φ(d/√2).
    @Test("An attacker who knows the others is as good as theory says")
    func informed() throws {
        var random = SplitMix64(state: 2)
        let (width, count) = (60, 300)
        // Vectors of length 1, and noise of σ = 1/nd.
        func vector(_ random: inout SplitMix64) -> [Float] {
            let raw = (0..<width).map { _ in normal(&random) }
            let length = raw.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return raw.map { Float($0 / length) }
        }
        for (d, area) in [(1.0, 0.760), (3, 0.983)] {
            var areas = 0.0
            let trials = 20
            for _ in 0..<trials {
                let members = (0..<count).map { _ in vector(&random) }
                let others = (0..<count).map { _ in vector(&random) }
                let sigma = 1 / (Double(count) * d)
                let observed = (0..<width).map { i in members.reduce(0) { $0 + Double($1[i]) } / Double(count) + sigma * normal(&random) }
                let test = InformedMembershipTest(
                    observed: observed, noise: Array(repeating: sigma * sigma, count: width), members: members, count: count)
                areas +=
                    MembershipResult(
                        members: members.map { test.score($0, isMember: true) }, others: others.map { test.score($0, isMember: false) }
                    ).auc / Double(trials)
            }
            #expect(abs(areas - area) < 0.03, "\(d): \(areas)")
        }
    }

    @Test("The figures of scores that can be counted by hand")
    func figures() {
        let perfect = MembershipResult(members: [3, 4], others: [1, 2])
        #expect(perfect.auc == 1 && perfect.advantage == 1 && perfect.foundAtOnePercent == 1)
        let mixed = MembershipResult(members: [4, 2], others: [3, 1])
        #expect(mixed.auc == 0.75 && mixed.advantage == 0.5 && mixed.foundAtOnePercent == 0.5)
        let same = MembershipResult(members: [1, 1], others: [1, 1, 1])
        #expect(same.auc == 0.5 && same.advantage == 0 && same.foundAtOnePercent == 0)
        // A score that is not a number tells nothing.
        let unknown = MembershipResult(members: [.nan, 1], others: [.nan, -1])
        #expect(unknown.auc == 0.875 && unknown.advantage == 0.5)
    }
}
