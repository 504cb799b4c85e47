import Coordinator
import Core
import Foundation
import Testing

import OneByte

@Suite struct ForecastTests {
    private func forecast(
        train: [String] = ["adapter:final"], rounds: Int = 64, samples: Int = 64, steering: Steering? = nil, training: RunForecast.Share,
        speed: RunForecast.Speed?, fullVocabulary: Bool = false
    ) -> RunForecast {
        var spec = RunSpec(
            seed: 0, train: train, learningRate: 1, rounds: rounds, samplesPerRound: samples, task: TaskSpec(kind: .text, maxLength: 64))
        spec.steering = steering
        return RunForecast(spec: spec, workers: 2, training: training, needsFullVocabulary: fullVocabulary, speed: speed)
    }

    @Test func timeIsTheSumOfWhatTheRunDoes() throws {
        let speed = RunForecast.Speed(perPosition: 0.001, perSample: 0.01, perRead: 0, measured: 2)
        let run = forecast(train: ["layers.1"], rounds: 100, samples: 8, training: .init(examples: 10, positions: 500, reads: 10), speed: speed)
        #expect(abs(try #require(run.fillingSeconds) - 0.5) < 1e-9)
        let expected: Double = 0.5 + 100 * 0.084
        #expect(abs(try #require(run.totalSeconds) - expected) < 1e-6)
        #expect(run.contributionBytes == 800)
        #expect(run.remedy() == nil)
    }

    @Test("Held-out data cost what floats cost, whatever the training examples' hidden states cost")
    func heldOutData() throws {
        let spec = RunSpec(
            seed: 0, train: ["adapter:final"], learningRate: 1, rounds: 1, samplesPerRound: 1, task: TaskSpec(kind: .text, maxLength: 64))
        let run = RunForecast(
            spec: spec, workers: 1, training: .init(examples: 1, positions: 100, reads: 1), validation: .init(examples: 1, positions: 200, reads: 1),
            evaluation: .init(examples: 1, positions: 400, reads: 1), needsFullVocabulary: false,
            speed: .init(perPosition: 0.01, perHeldOutPosition: 0.02, perSample: 0, perRead: 0, measured: 2))
        #expect(abs(try #require(run.fillingSeconds) - 13) < 1e-9)
    }

    @Test("The basis costs its public text's way through the layers, and through the head and back where all tokens are read")
    func basis() throws {
        func run(_ fullVocabulary: Bool) -> RunForecast {
            let spec = RunSpec(
                seed: 0, train: ["adapter:final"], learningRate: 1, rounds: 1, samplesPerRound: 1, task: TaskSpec(kind: .text, maxLength: 64))
            return RunForecast(
                spec: spec, workers: 1, training: .init(), basis: .init(examples: 10, positions: 200, reads: 50), needsFullVocabulary: fullVocabulary,
                speed: .init(perPosition: 0.01, perHeldOutPosition: 0.02, perSample: 0, perRead: 0.1, measured: 2))
        }
        #expect(abs(try #require(run(false).basisSeconds) - 4) < 1e-9)
        #expect(abs(try #require(run(true).basisSeconds) - 14) < 1e-9)
        #expect(run(false).timeText.contains("0:04 for the basis"), "\(run(false).timeText)")
    }

    @Test func trialsCostRoundsOfTheirOwn() {
        let speed = RunForecast.Speed(perPosition: 0, perSample: 0, perRead: 0, measured: 2)
        let run = forecast(
            rounds: 100, steering: Steering(trialRounds: 10), training: .init(examples: 1, positions: 1, reads: 1), speed: speed)
        // Trials at a quarter, once and four times the rate, then at the neighbours of the best.
        #expect(run.rounds == 150)
    }

    @Test func aLongRunSaysWhatToChange() throws {
        let share = RunForecast.Share(examples: 1000, positions: 100_000, reads: 1000)
        let slowFilling = forecast(training: share, speed: .init(perPosition: 0.01, perSample: 0, perRead: 0, measured: 2))
        #expect(try #require(slowFilling.remedy()).contains("--max-length"))
        let slowSamples = forecast(
            train: ["all"], rounds: 400, samples: 256, training: share, speed: .init(perPosition: 0, perSample: 0.5, perRead: 0, measured: 2))
        #expect(try #require(slowSamples.remedy()).contains("--train adapter:final"))
        // A run with the advised number of rounds takes the stated time.
        #expect(try #require(slowSamples.remedy()).contains("(4 would take about 10:00"))
    }

    @Test(
        "The table counts the numbers of adapters wherever they are",
        arguments: [
            ("adapter:final", "numbers in front of the head of"), ("adapter:layers.2.mlp.down_proj", "numbers in 1 adapter of"),
            ("adapter:layers.1-2.self_attn.*", "numbers in 8 adapters of"),
        ])
    func adaptersAreCounted(_ train: String, _ expected: String) async throws {
        let scratch = try Scratch()
        let lines = (0..<12).map { #"{"text":"film \#($0)","label":"\#($0 % 2)"}"# }.joined(separator: "\n")
        let data = try scratch.file("train.jsonl", lines + "\n")
        let found = try await Binary.run(
            "cluster", "--model", Binary.tinyModel, "--train-file", data, "--template", "{text} It was", "--label", "0= bad", "--label", "1= good",
            "--train", train, "--workers", "1", "--dry-run")
        #expect(found.status == 0 && found.output.contains(expected) && !found.output.contains(" 0 numbers"), "\(found.output)\n\(found.errors)")
    }

    @Test func withoutAMeasurementNothingIsSaidOfTime() {
        let run = forecast(training: .init(examples: 1, positions: 1, reads: 1), speed: nil)
        #expect(run.totalSeconds == nil && run.remedy() == nil)
        #expect(run.timeText.contains("not known"))
    }

    @Test func theMaximumLengthIsWhatNearlyAllExamplesNeed() {
        #expect(MaximumLength.forLengths([]) == 128)
        #expect(MaximumLength.forLengths(Array(repeating: 60, count: 100)) == 128)
        #expect(MaximumLength.forLengths((1...100).map { $0 * 3 }) == 285)
        #expect(MaximumLength.forLengths(Array(repeating: 5000, count: 10)) == 1024)
    }

    @Test func aPresetStandsInForDefaultsOnly() throws {
        let plain = try Settings(file: nil, flags: [.preset: ["generate"]])
        #expect(try plain.integer(.samplesPerRound) == 256 && plain.integer(.batchSize) == 32)
        let given = try Settings(file: nil, flags: [.preset: ["generate"], .batchSize: ["4"]])
        #expect(try given.integer(.batchSize) == 4)
        #expect(plain.annotated.contains("# of the preset generate"))
        #expect(throws: SettingsError.self) { try Settings(file: nil, flags: [.preset: ["clasify"]]) }
    }
}

@Suite struct TimeLeftTests {
    /// Returns the estimates after each of the rounds with these lengths.
    private func told(_ plan: TimeLeft.Plan, _ paces: [Double], inForce: ((Int) -> Int)? = nil) -> [Double?] {
        var left = TimeLeft(plan)
        var time = 0.0
        return paces.enumerated().map { index, pace in
            time += pace
            left.takeRound(at: time, seconds: pace, roundsInForce: inForce?(index) ?? index + 1)
            return left.seconds
        }
    }

    @Test func evenRoundsAreToldExactly() throws {
        let told = told(.init(rounds: 100), Array(repeating: 0.5, count: 100))
        #expect(told[0] == nil)
        #expect(abs(try #require(told[9]) - 45) < 1e-9)
        #expect(try #require(told[99]) == 0)
    }

    @Test func oneStandstillIsNoPace() throws {
        var paces = Array(repeating: 0.1, count: 60)
        paces[20] = 25
        let told = told(.init(rounds: 100), paces)
        #expect(abs(try #require(told[30]) - 6.9) < 0.1)
    }

    @Test func evaluationsThatComeAgainAreOne() throws {
        // Every tenth round waits for an evaluation.
        let paces = (1...100).map { $0 % 10 == 0 ? 2.0 : 0.1 }
        let told = told(.init(rounds: 200), paces)
        let actual: Double = 20 + 9
        #expect(abs(try #require(told[99]) / actual - 1) < 0.1)
    }

    @Test func trialsThatAreTakenBackCountAsRounds() throws {
        var left = TimeLeft(.init(rounds: 100, trialRounds: 10, learningRate: 0.04))
        for round in 1...10 { left.takeRound(at: Double(round), seconds: 1, roundsInForce: round) }
        // Four more trials are left, then the run.
        #expect(left.roundsLeft == 140)
        left.takeTrial(learningRate: 0.04, loss: 1, isChosen: false)
        for round in 1...5 { left.takeRound(at: Double(10 + round), seconds: 1, roundsInForce: round) }
        #expect(left.roundsLeft == 135)
        left.takeTrial(learningRate: 0.01, loss: 2, isChosen: false)
        left.takeTrial(learningRate: 0.16, loss: 2, isChosen: false)
        left.takeTrial(learningRate: 0.02, loss: 2, isChosen: false)
        left.takeTrial(learningRate: 0.08, loss: 2, isChosen: true)
        left.takeRound(at: 60, seconds: 1, roundsInForce: 1)
        #expect(left.roundsLeft == 99)
    }

    @Test func roundsThatFillTheCacheAreSlowerThanThoseToCome() throws {
        var left = TimeLeft(.init(rounds: 400, secondsOfCachedRound: 0.1))
        left.takeCache(0.1, at: 0)
        for round in 1...10 {
            left.takeRound(at: Double(round) * 2, seconds: 2, roundsInForce: round)
            left.takeCache(0.1 + 0.03 * Double(round), at: Double(round) * 2)
        }
        // 20 more rounds fill the cache and take 2 seconds each; 370 take a tenth of a second.
        let expected: Double = 40 + 37
        #expect(abs(try #require(left.seconds) / expected - 1) < 0.15)
        // Once all hidden states are computed, the slow rounds before say nothing any more.
        left.takeCache(1, at: 20.5)
        for round in 11...14 { left.takeRound(at: 20 + Double(round) * 0.1, seconds: 0.1, roundsInForce: round) }
        #expect(try #require(left.seconds) < 60)
    }
}

@Suite struct TextScoresTests {
    @Test func rougeIsTheLongestCommonSubsequenceOfWords() {
        #expect(TextScores.rougeL("the cat sat", "The cat sat.") == 1)
        #expect(TextScores.rougeL("a b c d", "a c") == 2 * 2 / 6.0)
        // Order counts, and each word counts only once.
        #expect(TextScores.rougeL("b a", "a b") == 0.5)
        #expect(TextScores.rougeL("a a a", "a") == 0.5)
        #expect(TextScores.rougeL("", "a") == 0 && TextScores.rougeL("", "") == 1)
        let scores = TextScores([(" yes ", "yes"), ("no", "yes")])
        #expect(scores.exactMatch == 0.5 && scores.rougeL == 0.5 && scores.texts == 2)
    }

    @Test func percentilesAndSplits() {
        let lengths = LengthSummary(Array(1...200))
        #expect(lengths.percentile(50) == 100 && lengths.percentile(95) == 190 && lengths.percentile(100) == 200)
        #expect(LengthSummary([]).percentile(95) == 0 && LengthSummary([7]).percentile(50) == 7)
        let parts = SplitParts(argument: "80/10/10")
        #expect([0, 0.79, 0.81, 0.89, 0.91, 0.9999].map { parts?.part(of: $0) } == [0, 0, 1, 1, 2, 2])
        for wrong in ["80", "80/0", "a/b", "80/", "1/2/3/4", "-1/2"] { #expect(SplitParts(argument: wrong) == nil, "\(wrong)") }
    }
}

@Suite struct GainTests {
    private func score(gain: Double?, error: Double?, threshold: String = "0.6") throws -> HeldOutScore {
        let known = gain.map { ",\"gain\":\($0),\"gainError\":\(error ?? 0)" } ?? ""
        let json =
            "{\"machine\":1,\"name\":\"e\",\"round\":3,\"examples\":100,\"loss\":0.5,\"accuracy\":0.6,\"bestThresholdAccuracy\":\(threshold)\(known)}"
        return HeldOutScore(try JSONDecoder().decode(CoordinatorProgress.HeldOut.self, from: Data(json.utf8)))
    }

    @Test func aReportSaysWhereNothingWasLearntBeyondNoise() throws {
        #expect(try score(gain: nil, error: nil).learnt == nil)
        #expect(try #require(try score(gain: 0.02, error: 0.02).learnt).hasPrefix("nothing beyond noise: accuracy at the best threshold +2.0 points"))
        #expect(try #require(try score(gain: 0.1, error: 0.02).learnt).hasPrefix("yes"))
        #expect(try #require(try score(gain: -0.1, error: 0.02).learnt).hasPrefix("the opposite"))
        #expect(try #require(try score(gain: 0.1, error: 0.02, threshold: "null").learnt).contains("minus the loss +0.1000"))
    }
}
