import Core
import Testing

/// A run's name is the SHA-256 of its canonical spec. Renaming a Swift property must never change one.
@Suite struct GoldenSpecTests {
    @Test("The golden specs have every kind of task, objective, filter, estimator, schedule and family")
    func covered() throws {
        let specs = try Golden.all.specs.map { try RunSpec(canonicalBytes: $0.bytes()) } + Golden.all.ledgers.map { try RunSpec(canonicalBytes: $0.spec()) }
        #expect(Set(specs.map(\.task.kind)) == Set(TaskSpec.Kind.allCases))
        #expect(Set(specs.compactMap(\.task.objective)) == Set(Objective.allCases))
        #expect(Set(specs.compactMap(\.filter?.kind)) == Set(RoundFilter.Kind.allCases))
        #expect(Set(specs.map(\.perturbation)) == Set(PerturbationFamily.allCases))
        #expect(Set(specs.map(\.schedule)) == Set(LearningRateSchedule.allCases))
        // Two-sided is what a spec without the key means.
        #expect(Set(specs.map(\.estimator)) == [nil, .oneSided])
        #expect(specs.contains { $0.steering == nil } && specs.contains { $0.steering != nil })
    }

    @Test("An earlier version's spec is read, and written byte for byte as it was", arguments: Golden.all.specs)
    func bytes(golden: Golden.Spec) throws {
        let bytes = try golden.bytes()
        let spec = try RunSpec(canonicalBytes: bytes)
        #expect(try spec.canonicalBytes() == bytes)
        #expect(try spec.digest().description == golden.sha256)
        #expect(Digest.sha256(bytes).description == golden.sha256)
    }
}
