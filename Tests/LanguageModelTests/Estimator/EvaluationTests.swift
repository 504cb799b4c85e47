import Core
import Foundation
import LanguageModel
import Testing
import Training

struct EvaluationTests {
    func evaluation(_ scores: [([Double], Int)]) -> Evaluation {
        Evaluation(items: scores.map { Evaluation.Item(loss: 1, scores: $0.0, correct: $0.1) }, tokenLosses: false)
    }

    @Test func wilsonInterval() {
        // From Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20.
        for (right, of, lower, upper) in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)] {
            let interval = Evaluation.wilson(successes: right, of: of)
            #expect(abs(interval.lower - lower) < 5e-5)
            #expect(abs(interval.upper - upper) < 5e-5)
        }
    }

    @Test func twoClasses() throws {
        // A bias for class 0 hides a perfect order.
        let e = evaluation([([3, 0], 0), ([2, 0], 0), ([1, 0.5], 1), ([1, 0.9], 1)])
        #expect(e.accuracy == 0.5)
        #expect(e.accuracyAtBestThreshold == 1)
        #expect(e.areaUnderCurve == 1)
        let ties = evaluation([([0, 1], 1), ([0, 1], 0), ([0, 0], 0), ([0, 2], 1)])
        #expect(ties.areaUnderCurve == 3.5 / 4)
        #expect(ties.accuracyAtBestThreshold == 0.75)
        #expect(evaluation([([0, 1], 1)]).areaUnderCurve == nil, "one class only")
        // Scores that are not numbers belong to no class, not to the first.
        let broken = evaluation([([.nan, .nan], 0), ([0, 1], 1), ([1, 0], 0)])
        #expect(broken.accuracy == 2.0 / 3 && broken.accuracyAtBestThreshold == nil)
    }

    /// The best threshold equals the result of trying every constant, on random scores.
    @Test func thresholdsAgainstBruteForce() throws {
        var state: UInt64 = 1
        func random() -> Double {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Double(state >> 40) / Double(1 << 24)
        }
        for _ in 0..<20 {
            let items = (0..<15).map { _ in ([(random() * 8).rounded() / 4, (random() * 8).rounded() / 4], random() < 0.5 ? 0 : 1) }
            let e = evaluation(items)
            let differences = items.map { $0.0[1] - $0.0[0] }
            let cuts = [-100] + differences.map { $0 + 1e-9 }
            let best = cuts.map { cut in zip(differences, items).count { ($0 > cut ? 1 : 0) == $1.1 } }.max()
            #expect(e.accuracyAtBestThreshold == Double(try #require(best)) / 15)

            let three = evaluation((0..<30).map { _ in ([random(), random(), random() + 0.8], Int(random() * 3)) })
            #expect(try #require(three.accuracyAtBestThreshold) >= #require(three.accuracy))
        }
        // Class 2 is favoured by 1 everywhere; without this bias every item is right.
        let biased = evaluation([([1, 0, 1.5], 0), ([0, 1, 1.5], 1), ([0, 0, 2], 2), ([0.9, 0.1, 1.4], 0)])
        #expect(biased.accuracy == 0.25)
        #expect(biased.accuracyAtBestThreshold == 1)
    }
}
