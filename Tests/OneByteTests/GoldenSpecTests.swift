import Core
import Testing

/// A run's name is the SHA-256 of its canonical spec. Renaming a Swift property must never change it.
@Suite struct GoldenSpecTests {
    @Test("The golden specs have every kind of task, objective, filter, estimator, schedule and family")
    func covered() throws {
        let specs =
            try Golden.all.specs.map { try RunSpec(canonicalBytes: $0.bytes()) } + Golden.all.ledgers.map { try RunSpec(canonicalBytes: $0.spec()) }
        #expect(Set(specs.map(\.task.kind)) == Set(TaskSpec.Kind.allCases))
        #expect(Set(specs.compactMap(\.task.objective)) == Set(Objective.allCases))
        #expect(Set(specs.compactMap(\.filter?.kind)) == Set(RoundFilter.Kind.allCases))
        #expect(Set(specs.map(\.perturbation)) == Set(PerturbationFamily.allCases))
        #expect(Set(specs.map(\.schedule)) == Set(LearningRateSchedule.allCases))
        // A spec without the key means two-sided.
        #expect(Set(specs.map(\.estimator)) == [nil, .oneSided])
        #expect(specs.contains { $0.steering == nil } && specs.contains { $0.steering != nil })
    }

    @Test("An earlier version's spec is read, and written again byte for byte", arguments: Golden.all.specs)
    func bytes(golden: Golden.Spec) throws {
        let bytes = try golden.bytes()
        let spec = try RunSpec(canonicalBytes: bytes)
        #expect(try spec.canonicalBytes() == bytes)
        #expect(try spec.digest().description == golden.sha256)
        #expect(Digest.sha256(bytes).description == golden.sha256)
    }

    @Test("Each property of a spec has the same key as ever")
    func keys() throws {
        var spec = RunSpec(
            seed: 12, train: ["layers.0-1", "*.norm.weight"], perturbation: .rank1, dampedComponents: 2, epsilon: 0.02, learningRate: 1e-7,
            schedule: .cosine, warmupRounds: 3, rounds: 2_147_483_647, samplesPerRound: 1_048_576, batchSize: 65536, targetMagnitude: 58,
            task: TaskSpec(
                kind: .classification, template: "\t„{text}“ \\ \"it\" / was\n",
                labels: [
                    LabelWord(label: "9", word: " good"), LabelWord(label: "10", word: " bad"), LabelWord(label: "11", word: " größer 🙂"),
                ], maxLength: 131_072, generalizedCrossEntropy: 0.3),
            digestEvery: 5, evaluateEvery: 7, minimumWorkers: 17, roundDeadlineFactor: 2.5, quorum: 0.333, staleness: 64, roundSeconds: 0.05,
            samplesPerBatch: 32768, estimator: .oneSided,
            steering: Steering(trialRounds: 11, guardTolerance: 0.1, patience: 13), filter: RoundFilter(kind: .clip, factor: 1.25),
            evictsFaultyMachines: true, heartbeatSeconds: 0.05, heartbeatTimeoutSeconds: 3600)
        let classification = try Golden.bytes("specs/all-of-a-classification.json")
        spec.retiredCandidatesPerExample = 1024
        spec.basisDigest = try RunSpec(canonicalBytes: classification).basisDigest
        #expect(spec.basisDigest != nil)
        #expect(try spec.canonicalBytes() == classification)

        spec.task = TaskSpec(
            kind: .chat, maxLength: 131_072, objective: .command, writing: Writing(maxTokens: 4096, stopsAtNewline: true))
        spec.perturbation = .gaussian
        spec.filter = RoundFilter(kind: .drop, factor: 1.25)
        (spec.dampedComponents, spec.basisDigest, spec.retiredCandidatesPerExample, spec.estimator) = (0, nil, nil, nil)
        #expect(try spec.canonicalBytes() == Golden.bytes("specs/all-of-a-command.json"))
    }
}
