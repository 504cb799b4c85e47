import Coordinator
import Core
import Foundation
import OneByte
import Testing

@Suite struct LiveViewTests {
    /// Decodes a coordinator's event as it stands in `metrics.jsonl`.
    private func event(_ json: String) throws -> CoordinatorProgress {
        try JSONDecoder().decode(CoordinatorProgress.self, from: Data(json.utf8))
    }

    private func worker(_ name: String, _ phase: String, _ progress: Double, at time: Double) throws -> CoordinatorProgress {
        try event(#"{"time":\#(time),"event":"worker","name":"\#(name)","phase":"\#(phase)","progress":\#(progress),"applied":0}"#)
    }

    @Test func cachesShowHowFarTheyAreAndHowLongTheyWillTake() throws {
        var progress = RunProgress(rounds: 10)
        progress.take(try worker("evaluator", "caching", 0.5, at: 100))
        progress.take(try worker("worker-1", "hashing", 0.5, at: 100))
        #expect(LiveView.line(of: progress) == "preparing: evaluator caching 50 %; worker-1 hashing 50 %", "no speed yet, no time")
        progress.take(try worker("evaluator", "caching", 0.7, at: 108))
        progress.take(try worker("worker-1", "caching", 0.1, at: 101))
        progress.take(try worker("worker-1", "waiting", 0.3, at: 103))
        #expect(LiveView.line(of: progress) == "preparing: evaluator caching 70 %, 0:12 left; worker-1 waiting, cache 30 %, 0:07 left")
    }

    @Test func theRunGoesOnWhileACacheIsFilled() throws {
        var progress = RunProgress(rounds: 10)
        let traffic = #"{"received":\#(Self.counts),"sent":\#(Self.counts),"connections":1,"dropped":0,"malformed":0}"#
        progress.take(
            try event(
                #"{"time":5,"event":"round","round":0,"machines":2,"samples":8,"noValue":0,"saturated":0,"meanMagnitude":1,"scaleExponent":0,"learningRate":1,"seconds":1,"effectiveRounds":1,"samplesSoFar":8,"traffic":\#(traffic)}"#
            ))
        for i in 1...5 { progress.take(try worker("worker-\(i)", "training", 0.1 * Double(i), at: 5)) }
        progress.take(try worker("worker-6", "training", 1, at: 5))
        let line = LiveView.line(of: progress)
        #expect(line.hasPrefix("round 1/10, "))
        #expect(line.hasSuffix("(worker-1 cache 10 %; worker-2 cache 20 %; worker-3 cache 30 %; 2 more)"), "\(line)")
        #expect(LiveView.picture(of: progress, columns: 120, colour: false).contains { $0.contains("worker-1 cache 10 %") })
        for i in 1...5 { progress.take(try worker("worker-\(i)", "training", 1, at: 9)) }
        #expect(!LiveView.line(of: progress).contains("cache"))
    }

    private static let counts = #"{"rounds":{"messages":0,"bytes":0},"control":{"messages":0,"bytes":0}}"#
}
