import Coordinator
import Core
import Foundation
import OneByte
import Testing

/// Events of a run as in `metrics.jsonl`, for tests of displays.
struct EventStory {
    private(set) var progress: RunProgress
    private(set) var history = RunHistory()

    init(rounds: Int = 400) { progress = RunProgress(rounds: rounds, measures: .heldOut) }

    mutating func take(_ json: String) throws {
        let news = try JSONDecoder().decode(CoordinatorProgress.self, from: Data(json.utf8))
        progress.take(news)
        history.take(news, progress)
    }

    mutating func listening(at time: Double) throws {
        let run = String(repeating: "ab", count: 32)
        try take(
            #"{"time":\#(time),"event":"listening","endpoint":"tcp://127.0.0.1:5151","run":"\#(run)","round":0,"rounds":\#(progress.rounds),"samples":0}"#
        )
    }

    mutating func round(_ number: Int, at time: Double, samples: Int = 8) throws {
        let counts = #"{"rounds":{"messages":1,"bytes":100},"control":{"messages":1,"bytes":50}}"#
        let traffic = #"{"received":\#(counts),"sent":\#(counts),"connections":1,"dropped":0,"malformed":0}"#
        try take(
            #"{"time":\#(time),"event":"round","round":\#(number),"machines":2,"samples":\#(samples),"noValue":0,"saturated":0,"meanMagnitude":30,"#
                + #""scaleExponent":0,"learningRate":0.0003,"seconds":0.1,"effectiveRounds":\#(number + 1),"samplesSoFar":\#(8 * (number + 1)),"traffic":\#(traffic)}"#
        )
    }

    mutating func worker(
        _ name: String, machine: Int?, loss: Double? = nil, phase: String = "training", progress: Double = 1, rate: Double = 100, bytes: Int = 8,
        at time: Double
    ) throws {
        let machine = machine.map { #""machine":\#($0),"# } ?? ""
        let loss = loss.map { #""trainingLoss":\#($0),"# } ?? ""
        try take(
            #"{"time":\#(time),"event":"worker",\#(machine)\#(loss)"name":"\#(name)","phase":"\#(phase)","progress":\#(progress),"#
                + #""samplesPerSecond":\#(rate),"applied":3,"bytes":\#(bytes),"trains":true,"evaluates":false,"session":\#(name.utf8.reduce(7) { $0 * 31 % 65_521 + Int($1) })}"#
        )
    }

    func status(at time: Double) -> RunStatus { RunStatus(progress, at: time) }
}

/// SplitMix64, and normal numbers made from it (Box and Muller).
private struct Dice {
    var state: UInt64
    mutating func uniform() -> Double {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return (Double((z ^ z >> 31) >> 11) + 0.5) / Double(1 << 53)
    }
    mutating func normal() -> Double { (-2 * log(uniform())).squareRoot() * cos(2 * .pi * uniform()) }
}

@Suite struct OutlierTests {
    /// Rounds after which a worker reports its loss: some of its first rounds, then once a second, with the given number of rounds per second.
    private static let words = [4, 8, 16, 24, 30]

    /// Simulates workers whose losses are functions of the round. Returns which ones were marked as bad, and when first.
    private func marked(
        _ losses: [(Int) -> Double], noise: Double, seed: UInt64, rounds: Int, every: Int = 12
    ) throws -> [Int: Int] {
        var story = EventStory()
        var dice = Dice(state: seed)
        var found: [Int: Int] = [:]
        try story.listening(at: 0)
        for round in 0..<rounds {
            let time = Double(round) * 0.1
            try story.round(round, at: time)
            guard Self.words.contains(round + 1) || (round > 30 && round % every == 0) else { continue }
            for (index, loss) in losses.enumerated() {
                try story.worker(
                    "worker-\(index + 1)", machine: index + 1, loss: max(0.001, loss(round) * (1 + noise * dice.normal())), at: time + 0.01)
            }
            for worker in story.status(at: time).workers where worker.marks.contains(.bad) {
                let machine = Int(worker.machine ?? 0)
                found[machine] = found[machine] ?? round + 1
            }
        }
        return found
    }

    @Test("A worker with wrong labels is marked within thirty rounds, and no other is", arguments: 1...40 as ClosedRange<UInt64>)
    func wrongLabels(_ seed: UInt64) throws {
        // The base model knows something about the task. The others' loss falls, while the loss of wrong labels grows.
        let knowing = try marked(
            [{ 0.95 - 0.008 * Double($0) }, { 0.90 - 0.008 * Double($0) }, { 1.70 + 0.01 * Double($0) }], noise: 0.04, seed: seed, rounds: 30)
        #expect(knowing.keys.sorted() == [3], "\(knowing)")
        // The base model knows nothing, so all begin alike.
        let ignorant = try marked(
            [{ 0.69 - 0.008 * Double($0) }, { 0.70 - 0.007 * Double($0) }, { 0.69 + 0.012 * Double($0) }], noise: 0.03, seed: seed, rounds: 30)
        #expect(ignorant.keys.sorted() == [3], "\(ignorant)")
    }

    @Test("Two of seven workers with wrong labels are both marked")
    func twoOfSeven() throws {
        let honest = (0..<5).map { offset in { (round: Int) in 0.9 + 0.03 * Double(offset) - 0.008 * Double(round) } }
        let found = try marked(honest + [{ 1.6 + 0.01 * Double($0) }, { 1.8 + 0.01 * Double($0) }], noise: 0.04, seed: 5, rounds: 30)
        #expect(found.keys.sorted() == [6, 7], "\(found)")
    }

    @Test("Honest workers whose shares are skewed are never marked", arguments: 1...60 as ClosedRange<UInt64>)
    func skewedShares(_ seed: UInt64) throws {
        var dice = Dice(state: seed &* 77)
        let count = 3 + Int(seed % 10)
        // Each share is easier or harder than the mean by some 30 %, and one by far more. The gaps shrink as the model learns.
        let losses = (0..<count).map { index in
            let skew = exp(0.3 * dice.normal()) * (index == 0 ? 1.7 : 1)
            return { (round: Int) -> Double in
                let learnt = 1 - exp(-Double(round) / 25)
                return 0.5 + 0.4 * (1 - learnt) + 0.6 * (skew - 1) * (1 - 0.7 * learnt)
            }
        }
        let found = try marked(losses, noise: 0.06, seed: seed, rounds: 400)
        #expect(found.isEmpty, "\(found) of \(count)")
    }

    @Test(
        "Words of real runs (movie reviews, an adapter at the final norm): the worker with swapped labels is marked by round 24, honest ones never",
        arguments: [
            ("wrong-labels", [3]), ("honest", []),
        ])
    func realRuns(_ name: String, _ bad: [UInt32]) throws {
        let path = Binary.packageRoot.appending(path: "Tests/OneByteTests/Fixtures/traces/\(name).jsonl")
        var story = EventStory(rounds: 64)
        var firstMark: Int?
        for line in try String(contentsOf: path, encoding: .utf8).split(separator: "\n") {
            try story.take(String(line))
            let status = story.status(at: 0)
            let marked = status.workers.filter { $0.marks.contains(.bad) }.compactMap(\.machine)
            #expect(Set(marked).isSubset(of: bad), "round \(status.round)")
            if !marked.isEmpty { firstMark = firstMark ?? status.round }
        }
        #expect(story.progress.roundsDone > 20)
        #expect(bad.isEmpty ? firstMark == nil : (firstMark ?? 99) <= 24, "\(firstMark ?? -1)")
    }

    @Test("With two workers, neither is marked, because nobody can tell which one is wrong")
    func two() throws {
        #expect(try marked([{ _ in 0.5 }, { 1.7 + 0.01 * Double($0) }], noise: 0.01, seed: 1, rounds: 100).isEmpty)
    }

    @Test("A sentence names the worker, its loss and the others' loss, and disappears when the worker recovers")
    func sentence() throws {
        var story = EventStory()
        try story.listening(at: 0)
        for round in 0..<40 {
            try story.round(round, at: Double(round))
            for (name, loss) in [("good-1", 0.95), ("good-2", 0.95), ("evil", 1.70)] {
                try story.worker(name, machine: name == "evil" ? 3 : name == "good-1" ? 1 : 2, loss: loss, at: Double(round))
            }
        }
        #expect(story.status(at: 39).notes == ["evil looks bad: loss 1.70 where the others have 0.95; look at its data and its labels"])
        for round in 40..<80 {
            try story.round(round, at: Double(round))
            for (name, machine) in [("good-1", 1), ("good-2", 2), ("evil", 3)] {
                try story.worker(name, machine: machine, loss: 0.9, at: Double(round))
            }
        }
        #expect(story.status(at: 79).notes.isEmpty)
    }

    @Test("A worker that is less than half as fast as the others is slow; one that sends nothing is silent")
    func slowAndSilent() throws {
        var story = EventStory()
        try story.listening(at: 0)
        for round in 0..<10 {
            try story.round(round, at: Double(round))
            for (index, rate) in [120.0, 110, 20].enumerated() {
                try story.worker("worker-\(index + 1)", machine: index + 1, loss: 0.5, rate: rate, at: Double(round))
            }
        }
        let status = story.status(at: 9.5)
        #expect(status.workers.map(\.marks) == [[], [], [.slow]])
        #expect(status.notes == ["worker-3 is slow: 20 samples/s where the others have 115; each round waits for it"])
        let later = story.status(at: 30)
        #expect(later.workers.allSatisfy { $0.marks.contains(.silent) && $0.state == "silent" })
        #expect(later.notes.contains("worker-1 has said nothing for 0:21"), "\(later.notes)")
    }
}
