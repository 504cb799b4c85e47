import Coordinator
import Core
import Foundation
import LanguageModel
import Synchronization
import Testing
import Training
import Transport
import Worker

/// The whole path with a real, if tiny, language model: files, prefix cache, forward passes, bytes, ledger.
@Suite(.timeLimit(.minutes(2))) struct LanguageModelClusterTests {
    private static let model = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "LanguageModelTests/Fixtures/tiny-llama").path

    /// Losses of equal parameters may differ in the last bit. BLAS threads belong to the process, and the workers of these tests, all in one process,
    /// set them to different numbers.
    private static let lossTolerance = 1e-5

    /// Returns sentences of eight tokens. The last word depends on the first.
    private static func examples(_ part: Int, count: Int) -> [Example] {
        (0..<count).map { i in
            let first = Int32(10 + (i * 7 + part * 3) % 40)
            let tokens = [first] + (1..<8).map { Int32(60 + (i * 13 + $0 * 5 + part) % 100) }
            let right = Int(first) % 2
            return Example(
                sequences: [TokenSequence(tokens: tokens, targets: [.init(position: 7, token: [20, 21][right])])],
                objective: .candidates([20, 21], correct: right))
        }
    }

    private static func trainer(_ part: Int?, heldOut: Bool = false, threads: Int = 1) -> LanguageModelTrainer.Configuration {
        LanguageModelTrainer.Configuration(
            model: model, trainingExamples: part.map { part in { @Sendable _, _ in examples(part, count: 50) } },
            heldOutExamples: heldOut ? { @Sendable _, _ in examples(9, count: 80) } : nil, threads: threads)
    }

    private static func spec(train: [String], rounds: Int) -> RunSpec {
        RunSpec(
            seed: 11, train: train, epsilon: 1e-3, learningRate: train == ["all"] ? 1e-3 : 3e-2, rounds: rounds, samplesPerRound: 48,
            task: TaskSpec(kind: .text, maxLength: 16), digestEvery: 10, minimumWorkers: 3, heartbeatSeconds: 0.2,
            heartbeatTimeoutSeconds: 5)
    }

    @Test(
        "Three workers and an evaluator train a language model and end equal, and a replay of the ledger alone gives the same",
        arguments: [["layers.1"], ["all"]])
    func trains(train: [String]) async throws {
        let directory = try TestDirectory()
        let spec = Self.spec(train: train, rounds: 40)
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: spec, over: network)
        let workers = (0..<3).map { part in
            let configuration = Self.trainer(part, threads: 1 + part % 2)
            return RunningWorker(network, name: "w\(part)", trainer: { try LanguageModelTrainer(configuration) })
        }
        let judge = RunningWorker(
            network, name: "judge", trains: false, evaluates: true,
            trainer: { try LanguageModelTrainer(Self.trainer(nil, heldOut: true)) })
        var losses: [RoundNumber: Double] = [:]
        for await event in coordinator.progress {
            if case .evaluation(let report) = event {
                losses[report.round] = report.loss
                #expect(report.examples == 80)
                #expect(report.accuracy != nil)
            }
        }
        #expect(try await coordinator.outcome.finish.outcome == .completed)

        var history = EffectiveHistory()
        var manifest: BaseManifest?
        var reader = try LedgerReader(path: directory.ledger)
        while let entry = try reader.next() {
            if case .baseManifest(let base) = entry.record { manifest = base }
            _ = try history.fold(entry.record)
        }
        let replay = try LanguageModelTrainer(Self.trainer(nil, heldOut: true))
        #expect(try replay.hashBase(TaskContext()) == manifest)
        try replay.prepare(spec, basis: nil, TaskContext())
        #expect(abs(try #require(losses[0]) - replay.evaluate(round: 0, TaskContext()).loss) < Self.lossTolerance)
        try replay.apply(history.rounds.map { .apply($0) })
        let digest = try replay.digest().0
        for worker in workers + [judge] { #expect(try await worker.finalDigest == digest) }
        #expect(abs(try #require(losses[40]) - replay.evaluate(round: 40, TaskContext()).loss) < Self.lossTolerance)
        #expect(try #require(losses[40]) < #require(losses[0]))

        // The other way: the parameters are made from the base again and followed round by round.
        try replay.reset()
        for round in history.rounds { try replay.apply([.apply(round)]) }
        #expect(try replay.digest().0 == digest)
        for round in history.rounds.reversed() { try replay.apply([.revert(round)]) }
        let empty = try LanguageModelTrainer(Self.trainer(nil, heldOut: true))
        try empty.prepare(spec, basis: nil, TaskContext())
        #expect(try replay.digest().0 == empty.digest().0)
    }

    /// A worker that was there from a run's beginning gives the same bytes however much of its prefix cache was filled, on any number of threads.
    @Test("Bytes do not depend on when the prefix cache was filled")
    func bytesAreThoseOfTheSampleNumber() throws {
        MatrixLibrary.setThreads(1)
        let spec = Self.spec(train: ["layers.1-2"], rounds: 40)
        func bytes(threads: Int, idleSlices: (Int) -> Int) throws -> [[Int8]] {
            var configuration = Self.trainer(1, threads: threads)
            configuration.trainingExamples = { _, _ in Self.examples(1, count: 400) }
            configuration.headStartSeconds = 0
            let trainer = try LanguageModelTrainer(configuration)
            try trainer.prepare(spec, basis: nil, TaskContext())
            return try (0..<12).map { round in
                for _ in 0..<idleSlices(round) { _ = try trainer.useIdleTime() }
                let order = ComputeOrder(
                    round: RoundNumber(round), machine: MachineID(2), firstSample: SampleNumber(16 * round), count: 16, scaleExponent: -4)
                return try trainer.compute(order, TaskContext()).bytes
            }
        }
        let all = try bytes(threads: 1) { _ in 1000 }
        #expect(Set(all).count == all.count)
        #expect(try bytes(threads: 1) { _ in 0 } == all)
        #expect(try bytes(threads: 2) { $0 % 3 } == all)
    }

    @Test("A worker that joins late answers from the examples that are cached; when its work is abandoned, it gives what it has")
    func lateAndAbandoned() throws {
        func prepared() throws -> LanguageModelTrainer {
            var configuration = Self.trainer(1)
            configuration.trainingExamples = { _, _ in Self.examples(1, count: 3000) }
            configuration.headStartSeconds = 0
            let trainer = try LanguageModelTrainer(configuration)
            try trainer.prepare(Self.spec(train: ["layers.2"], rounds: 40), basis: nil, TaskContext())
            return trainer
        }
        func order(_ round: RoundNumber) -> ComputeOrder {
            ComputeOrder(round: round, machine: MachineID(2), firstSample: 0, count: 3000, scaleExponent: -4)
        }
        let late = try prepared()
        let part = try #require(try late.useIdleTime())
        #expect(part > 0 && part < 0.1)
        #expect(try late.compute(order(5), TaskContext()).bytes.count == 3000)
        #expect(try #require(try late.useIdleTime()) < 0.1, "nothing was computed for it")

        let first = try prepared()
        let told = Mutex<[Double]>([])
        let context = TaskContext(progress: { part in told.withLock { $0.append(part) } }, isAbandoned: { told.withLock { $0.count >= 2 } })
        #expect(try first.compute(order(0), context).bytes.isEmpty)
        #expect(told.withLock { $0.count } == 2, "it stops at the next block")
        while let part = try first.useIdleTime() { told.withLock { $0.append(part) } }
        #expect(told.withLock { $0 == $0.sorted() && $0.allSatisfy { $0 < 1 } })
        #expect(try first.useIdleTime() == nil)
        #expect(try first.compute(order(0), TaskContext()).bytes.count == 3000)

        // However short a time box is, the first of its samples are finished. Otherwise the same share would begin again for ever.
        let hurried = try prepared().compute(order(5), TaskContext(isTimeUp: { true })).bytes
        #expect(!hurried.isEmpty && hurried.count < 3000)

        // A snapshot that can't be put in place leaves nothing behind.
        let directory = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(atPath: directory + "/taken/inside", withIntermediateDirectories: true)
        #expect(throws: ProcessFailure.self) { try first.writeSnapshot(to: directory + "/taken", at: nil) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["taken"])
    }

    @Test("A missing model, or tensors that the model does not have, end a worker with a message that names them")
    func badInput() async throws {
        let directory = try TestDirectory()
        let network = InProcessNetwork()
        let coordinator = RunningCoordinator(directory, spec: Self.spec(train: ["layers.77"], rounds: 10), over: network)
        var missing = Self.trainer(0)
        missing.model = directory.path + "/nothing.gguf"
        let configuration = missing
        let first = try await RunningWorker(network, trainer: { try LanguageModelTrainer(configuration) }).outcome
        #expect(first.message.contains("nothing.gguf"))
        let second = try await RunningWorker(network, trainer: { try LanguageModelTrainer(Self.trainer(0)) }).outcome
        #expect(second.message.contains("layers.77"))
        coordinator.process.requestStop()
        _ = try await coordinator.outcome
    }
}
