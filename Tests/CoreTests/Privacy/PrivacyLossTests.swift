import Core
import Foundation
import Testing

struct PrivacyLossTests {
    /// What dp-accounting says (Fixtures/make_privacy.py).
    private struct Case: Decodable {
        let noise: Double
        let releases: Int
        let delta: Double
        /// By its Rényi accountant.
        let epsilon: Double
        /// By its privacy loss distributions.
        let tight: Double
    }

    private static func cases() throws -> [Case] {
        let file = try #require(Bundle.module.url(forResource: "Fixtures/privacy", withExtension: "json"))
        return try JSONDecoder().decode([Case].self, from: Data(contentsOf: file))
    }

    @Test("ε is that of a published accountant to three digits, and never below the tight one")
    func knownAnswers() throws {
        let cases = try Self.cases()
        #expect(cases.count > 10)
        for one in cases {
            let found = PrivacyLoss.epsilon(rho: Double(one.releases) * PrivacyLoss.rho(noiseMultiplier: one.noise), delta: one.delta)
            #expect(abs(found - one.epsilon) < 5e-4 * one.epsilon, "\(one): \(found)")
            #expect(found > one.tight - 1e-3, "\(one): \(found)")
        }
    }

    @Test("ρ of (ε, δ) is the inverse of ε of ρ")
    func inverse() {
        for epsilon in [0.01, 0.5, 2, 8, 50] {
            for delta in [1e-9, 1e-5, 0.002, 0.1] {
                let rho = PrivacyLoss.rho(epsilon: epsilon, delta: delta)
                #expect(rho > 0)
                #expect(abs(PrivacyLoss.epsilon(rho: rho, delta: delta) - epsilon) < 1e-8 * epsilon)
                #expect(PrivacyLoss.epsilon(rho: rho * 1.01, delta: delta) > epsilon)
            }
        }
        #expect(PrivacyLoss.epsilon(rho: 0, delta: 1e-5) == 0)
        #expect(PrivacyLoss.epsilon(rho: .infinity, delta: 1e-5) == .infinity)
    }

    @Test("The planned noise stays within the budget, and less noise would not")
    func noise() {
        for (epsilon, delta, releases) in [(8.0, 0.002, 64), (2, 0.002, 64), (1, 1e-6, 1000), (0.1, 1e-5, 1)] {
            let noise = PrivacyLoss.noiseMultiplier(epsilon: epsilon, delta: delta, releases: Double(releases))
            func spent(_ noise: Double) -> Double {
                Privacy(clip: 1, noiseMultiplier: noise, epsilon: epsilon, delta: delta).epsilon(releases: releases)
            }
            #expect(spent(noise) <= epsilon)
            #expect(spent(noise * 0.998) > epsilon)
        }
        #expect(PrivacyLoss.noiseMultiplier(epsilon: 1e-3, delta: 1e-12, releases: 1e300) > 1e100)
    }

    @Test("A private spec keeps its canonical form, and refuses a score that is no mean over examples")
    func spec() throws {
        func spec(_ objective: Objective?) -> RunSpec {
            RunSpec(
                seed: 1, train: ["adapter:final"], learningRate: 1, rounds: 1, samplesPerRound: 1,
                task: TaskSpec(
                    kind: .classification, template: "{text}", labels: ["a", "b"].map { LabelWord(label: $0, word: $0) }, maxLength: 8,
                    objective: objective), privacy: Privacy(clip: 2, noiseMultiplier: 4, epsilon: 8, delta: 0.002))
        }
        let bytes = try spec(.accuracy).canonicalBytes()
        #expect(try RunSpec(canonicalBytes: bytes) == spec(.accuracy))
        #expect(
            String(decoding: bytes, as: UTF8.self).contains(#""privacy":{"clip":2,"delta":0.002,"epsilon":8,"noiseMultiplier":4}"#))
        let error = #expect(throws: RunSpecError.self) { try spec(.f1).validate() }
        #expect(error == .field("task.objective", rule: "a mean over examples, such as accuracy, where bytes are private"))
    }
}
