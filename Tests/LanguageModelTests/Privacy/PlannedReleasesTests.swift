import Core
import LanguageModel
import Testing
import Training

struct PlannedReleasesTests {
    /// Counts the releases of each example as `PrivateBytes` does, for the shares that a coordinator gives the worker at this place.
    private func counted(_ plan: PlannedReleases, place: Int, seed: UInt64) -> Int {
        let options = EstimatorOptions(batchSize: plan.batchSize, samplesPerBatch: plan.samplesPerBatch, orderSeed: seed)
        let batches = SampleBatches(exampleCount: plan.examples, options: options)
        var releases: [Int: Int] = [:]
        var first: SampleNumber = 0
        for round in 0..<plan.rounds {
            let turn = plan.isAhead && plan.samplesPerRound >= plan.workers ? 0 : round % plan.workers
            let rotated = (place + plan.workers - turn) % plan.workers
            let count = plan.samplesPerRound / plan.workers + (rotated < plan.samplesPerRound % plan.workers ? 1 : 0)
            for batch in batches.of(MachineID(UInt32(place) + 1), first..<first + SampleNumber(count)) {
                for example in batch.counts.keys { releases[example, default: 0] += 1 }
            }
            first += SampleNumber(count)
        }
        return releases.values.max() ?? 0
    }

    @Test("No example is released more often than planned, however shares cut batches")
    func bound() {
        var random = SplitMix64(state: 7)
        for _ in 0..<600 {
            let plan = PlannedReleases(
                rounds: .random(in: 1...40, using: &random), samplesPerRound: .random(in: 1...40, using: &random),
                samplesPerBatch: .random(in: 1...12, using: &random), batchSize: .random(in: 0...9, using: &random),
                workers: .random(in: 1...5, using: &random), examples: .random(in: 1...30, using: &random), isAhead: .random(using: &random))
            for place in 0..<plan.workers {
                let found = counted(plan, place: place, seed: .random(in: 0...9, using: &random))
                #expect(Double(found) <= plan.most, "\(plan), place \(place): \(found) > \(plan.most)")
            }
        }
    }

    @Test("The plan is no higher than need be where shares are whole batches, and counts the pieces where they are not")
    func tight() {
        // 16 samples a share are two whole batches: 10 rounds have 20 batches of 8, four epochs of 40.
        let whole = PlannedReleases(rounds: 10, samplesPerRound: 48, samplesPerBatch: 8, batchSize: 8, workers: 3, examples: 40)
        #expect(whole.most == 4 && counted(whole, place: 1, seed: 0) == 4)
        // 4 samples a share are half a batch: each batch is released twice.
        let halves = PlannedReleases(rounds: 10, samplesPerRound: 12, samplesPerBatch: 8, batchSize: 8, workers: 3, examples: 40)
        #expect(halves.most == 2 && counted(halves, place: 2, seed: 0) == 2)
        // 12 samples a share cut every third batch.
        let thirds = PlannedReleases(rounds: 40, samplesPerRound: 12, samplesPerBatch: 8, batchSize: 8, workers: 1, examples: 8)
        #expect(counted(thirds, place: 0, seed: 0) == 80 && thirds.most == 80)
        // All examples in each sample: a share is one release.
        #expect(PlannedReleases(rounds: 64, samplesPerRound: 64, batchSize: 0, workers: 3, examples: 500).most == 64)
    }

    /// A time-boxed share may end after any batch. The next one begins there, and what it holds is paid for again.
    @Test("In time-boxed rounds all of a share counts, however little of it was done")
    func timeBoxed() {
        var random = SplitMix64(state: 9)
        for _ in 0..<200 {
            let plan = PlannedReleases(
                rounds: .random(in: 1...20, using: &random), samplesPerRound: .random(in: 1...60, using: &random),
                samplesPerBatch: .random(in: 1...6, using: &random), batchSize: .random(in: 1...6, using: &random), workers: 1,
                examples: .random(in: 1...30, using: &random), isTimeBoxed: true)
            let options = EstimatorOptions(batchSize: plan.batchSize, samplesPerBatch: plan.samplesPerBatch)
            let batches = SampleBatches(exampleCount: plan.examples, options: options)
            var releases: [Int: Int] = [:]
            var first: SampleNumber = 0
            for _ in 0..<plan.rounds {
                let share = batches.of(MachineID(1), first..<first + SampleNumber(plan.samplesPerRound))
                for batch in share { for example in batch.counts.keys { releases[example, default: 0] += 1 } }
                first = share[Int.random(in: 0..<share.count, using: &random)].samples.upperBound
            }
            #expect(Double(releases.values.max() ?? 0) <= plan.most, "\(plan)")
        }
    }

    @Test("The largest plan that settings allow overflows nothing")
    func largest() {
        let plan = PlannedReleases(
            rounds: RunSpecLimits.rounds.upperBound + RateSearch.most * RunSpecLimits.trialRounds.upperBound,
            samplesPerRound: RunSpecLimits.samplesPerRound.upperBound, samplesPerBatch: 1, batchSize: RunSpecLimits.batchSize.upperBound, workers: 1,
            examples: 1)
        #expect(plan.most.isFinite && plan.most > 1e15)
    }
}
