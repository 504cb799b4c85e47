import Coordinator
import Core
import Foundation
import OneByte
import Testing

/// Tests of a run's status, and of the displays that are made from it.
@Suite struct StatusTests {
    /// Three workers in the middle of a run, one of them bad, and an evaluator's report.
    static func story() throws -> EventStory {
        var story = EventStory(rounds: 64)
        try story.listening(at: 1000)
        for round in 0..<32 {
            let time = 1000 + Double(round)
            try story.round(round, at: time)
            for (index, loss) in [0.95, 0.92, 1.70].enumerated() {
                try story.worker("worker-\(index + 1)", machine: index + 1, loss: loss, bytes: 100 * (index + 1), at: time)
            }
        }
        try story.take(
            #"{"time":1032,"event":"evaluation","machine":4,"name":"evaluator","round":32,"examples":200,"loss":0.45,"accuracy":0.8125,"seconds":0.5}"#
        )
        return story
    }

    @Test("No line is wider than the terminal, whatever the names are", arguments: [20, 24, 40, 60, 79, 80, 100, 120, 200])
    func fitsAnyWidth(_ columns: Int) throws {
        var story = try Self.story()
        try story.worker("機械学習の労働者一号機は東京にある", machine: 5, loss: 0.9, phase: "caching", progress: 0.3, at: 1032)
        try story.worker(String(repeating: "very-long-host-name.", count: 9), machine: nil, phase: "hashing", progress: 0.42, at: 1032)
        try story.worker("bad\\u001b[31mname\\n", machine: 6, loss: 0.9, at: 1032)
        let lines = LiveView.picture(of: story.status(at: 1033), columns: columns, colour: false)
        #expect(lines.count > 8)
        for line in lines {
            #expect(TextTable.cells(line) < columns || columns == 20 && TextTable.cells(line) <= 20, "\(TextTable.cells(line)): \(line)")
            #expect(!line.contains("\u{1b}") && !line.contains("\n"))
        }
    }

    @Test("Numbers from another host, however odd, are drawn", arguments: [(-5, 10), (5, 0), (.max, 1), (.max, .max), (.min, .max)])
    func oddNumbers(_ round: Int, _ rounds: Int) throws {
        var status = try Self.story().status(at: 1032)
        (status.round, status.rounds) = (round, rounds)
        #expect(StatusText.header(status, width: 100).first?.isEmpty == false)
    }

    @Test("A wide terminal shows all columns, a narrow one the important ones")
    func columns() throws {
        let status = try Self.story().status(at: 1032.5)
        func heading(_ columns: Int) throws -> [String] {
            let lines = LiveView.picture(of: status, columns: columns, colour: false)
            return try #require(lines.first { $0.hasPrefix("  worker ") }).split(separator: " ").map(String.init)
        }
        #expect(try heading(200) == ["worker", "#", "state", "samples/s", "loss", "heard", "cache", "bytes", "share"])
        #expect(try heading(80) == ["worker", "#", "state", "samples/s", "loss", "heard", "cache", "bytes", "share"])
        #expect(try heading(40) == ["worker", "state", "loss"])
        let lines = LiveView.picture(of: status, columns: 100, colour: false)
        #expect(lines.contains("  worker-3  3  training, bad        100  1.700    2 s   full    300   50 %"), "\(lines.joined(separator: "\n"))")
        #expect(lines.last == "  ! worker-3 looks bad: loss 1.70 where the others have 0.94; look at its data and its labels", "\(lines)")
    }

    @Test("If many workers do not fit the height, those with marks are shown and the others counted")
    func manyWorkers() throws {
        var story = EventStory()
        try story.listening(at: 0)
        for round in 0..<30 {
            try story.round(round, at: Double(round))
            for index in 1...100 { try story.worker("w\(index)", machine: index, loss: index == 77 ? 1.7 : 0.9, at: Double(round)) }
        }
        let lines = LiveView.picture(of: story.status(at: 30), columns: 80, rows: 24, colour: false)
        #expect(lines.count < 24)
        #expect(lines.contains { $0.hasPrefix("  w77 ") })
        #expect(lines.contains { $0.hasPrefix("  … and ") && $0.hasSuffix(" more") })
    }

    @Test(
        "What is waited for is said in words",
        arguments: [
            (#""reason":"workers","workers":[],"machines":2,"of":3"#, "waiting for workers: 2 of 3 are ready, for 0:12 now"),
            (#""reason":"evaluators","workers":["evaluator"]"#, "waiting for evaluator to measure the evaluation data, for 0:12 now"),
            (#""reason":"returning","workers":["a","b"]"#, "waiting for a and b to come back, for 0:12 now"),
            (#""reason":"shares","workers":["a"],"round":7"#, "waiting for a to answer round 7, for 0:12 now"),
            (
                #""reason":"shares","workers":["a","b"],"round":7,"undoing":"retraction""#,
                "a and b rebuild the parameters after the retraction, for 0:12 now"
            ),
            (
                #""reason":"shares","workers":["a","b","c","d"],"round":7,"undoing":"rewind""#,
                "a, b and 2 others rebuild the parameters after going back, for 0:12 now"
            ),
            (#""reason":"ledger","workers":[]"#, "rounds wait for the disk, which does not take the ledger, for 0:12 now"),
            (#""reason":"closing","workers":["a"]"#, "all rounds are done; waiting for the last word of a, for 0:12 now"),
        ])
    func holds(_ json: String, _ words: String) throws {
        var story = try Self.story()
        try story.take(#"{"time":1040,"event":"hold",\#(json)}"#)
        let status = story.status(at: 1052)
        #expect(status.waitingFor == words)
        #expect(status.state == .waiting)
        try story.round(32, at: 1053)
        #expect(story.status(at: 1053).waitingFor == nil)
    }

    @Test("JSON is read back as it was written, and holds only numbers that JSON has")
    func json() throws {
        let status = try Self.story().status(at: 1032)
        let bytes = try JSONEncoder().encode(status)
        #expect(try JSONDecoder().decode(RunStatus.self, from: bytes) == status)
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.contains(#""state":"training""#) && text.contains(#""marks":["bad"]"#) && text.contains(#""training_loss":"#))
        let workers = status.workers
        #expect(workers.map(\.bytes) == [100, 200, 300] && workers[2].share == 0.5)
    }

    @Test("Two workers of one name are told apart, and \"before\" means before round 0 even after a restart of the coordinator")
    func namesAndBefore() throws {
        var story = EventStory()
        try story.listening(at: 0)
        try story.take(#"{"time":1,"event":"greeted","name":"host","trains":true,"evaluates":false,"session":1}"#)
        try story.take(#"{"time":1,"event":"greeted","name":"host","trains":true,"evaluates":false,"session":2}"#)
        try story.take(#"{"time":2,"event":"joined","machine":1,"name":"host","trains":true,"evaluates":false,"round":0,"session":1}"#)
        try story.take(#"{"time":2,"event":"joined","machine":2,"name":"host","trains":true,"evaluates":false,"round":0,"session":2}"#)
        #expect(story.status(at: 2).workers.map(\.machine) == [1, 2])
        try story.take(#"{"time":3,"event":"evaluation","machine":3,"name":"e","round":0,"examples":10,"loss":0.9}"#)
        try story.take(#"{"time":9,"event":"left","machine":1,"name":"host","reason":"lost","round":5}"#)
        #expect(story.status(at: 9).workers.map(\.state) == ["lost", "silent"])
        try story.listening(at: 20)
        try story.take(#"{"time":21,"event":"evaluation","machine":3,"name":"e","round":6,"examples":10,"loss":0.5}"#)
        #expect(story.status(at: 21).before?.loss == 0.9 && story.status(at: 21).latest?.loss == 0.5)
        #expect(story.status(at: 21).workers.isEmpty)
    }

    // MARK: Metrics

    @Test("The metrics have Prometheus' text format: a heading for each, escaped labels, one sample per line")
    func metrics() throws {
        var story = try Self.story()
        try story.worker("quo\\\"te\\\\", machine: 9, loss: 0.9, at: 1032)
        let text = MetricsText(story.status(at: 1032), process: nil).text
        #expect(
            text.contains(
                "# HELP onebyte_rounds_in_force Rounds that count. The number falls when rounds are taken back.\n# TYPE onebyte_rounds_in_force gauge\nonebyte_rounds_in_force 32\n"
            ))
        #expect(text.contains("# TYPE onebyte_samples_total counter\nonebyte_samples_total 256\n"))
        #expect(text.contains(#"onebyte_worker_mark{worker="worker-3",machine="3",mark="bad"} 1"#))
        #expect(text.contains(#"onebyte_worker_mark{worker="worker-1",machine="1",mark="bad"} 0"#))
        #expect(text.contains(#"onebyte_worker_training_loss{worker="quo\"te\\",machine="9"} 0.9"#), "\(text)")
        #expect(text.contains(#"onebyte_wire_bytes_total{direction="in",kind="rounds"} 100"#))
        #expect(text.contains("onebyte_evaluation_accuracy_ratio 0.8125\n"))
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            #expect(line.wholeMatch(of: /[a-z_]+(\{([a-z]+="([^"\\]|\\.)*",?)+\})? [-+0-9.eInfNa]+/) != nil, "\(line)")
        }
    }

    @Test("A lost worker is missed until one of its name comes back; nobody misses one that left or was removed")
    func missedWorkers() throws {
        var story = try Self.story()
        for (machine, reason) in [(1, "lost"), (2, "left"), (3, "removed")] {
            try story.take(#"{"time":1033,"event":"left","machine":\#(machine),"name":"worker-\#(machine)","reason":"\#(reason)","round":32}"#)
        }
        func up(at time: Double) -> [Substring] {
            MetricsText(story.status(at: time), process: nil).text.split(separator: "\n").filter { $0.hasPrefix("onebyte_worker_up{") }
        }
        #expect(up(at: 1034) == [#"onebyte_worker_up{worker="worker-1",machine="1"} 0"#])
        try story.worker("worker-1", machine: 9, loss: 0.9, at: 1035)
        #expect(up(at: 1035).contains(#"onebyte_worker_up{worker="worker-1",machine="9"} 1"#), "\(up(at: 1035))")
    }

    @Test("A mark of a worker that left stays on the page of a run that is over, and goes while the run continues")
    func marksAtTheEnd() throws {
        var story = try Self.story()
        func marked(at time: Double) -> [String] { story.status(at: time).workers.filter { $0.marks.contains(.bad) }.map(\.name) }
        #expect(marked(at: 1032) == ["worker-3"])
        for machine in 1...3 {
            try story.take(#"{"time":1033,"event":"left","machine":\#(machine),"name":"worker-\#(machine)","reason":"left","round":32}"#)
        }
        #expect(marked(at: 1033).isEmpty)
        try story.take(
            #"{"time":1034,"event":"finished","finish":{"outcome":"stopped","message":"stopped by its operator"},"samples":256,"#
                + #""traffic":{"received":{"rounds":{"messages":1,"bytes":1},"control":{"messages":1,"bytes":1}},"sent":{"rounds":{"messages":1,"bytes":1},"control":{"messages":1,"bytes":1}},"connections":1,"dropped":0,"malformed":0}}"#
        )
        #expect(marked(at: 1035) == ["worker-3"])
        #expect(story.status(at: 1035).notes.contains { $0.contains("loss 1.70 where the others have 0.9") }, "\(story.status(at: 1035).notes)")
    }

    // MARK: Curves

    @Test("A long run's history stays small, keeps its first and last points, and its numbers rise")
    func longHistory() throws {
        var story = EventStory(rounds: 20_000)
        try story.listening(at: 0)
        for round in 0..<9_000 {
            try story.round(round, at: Double(round))
            if round % 3 == 0 { try story.worker("w", machine: 1, loss: 0.5, at: Double(round)) }
        }
        let points = story.history.points
        #expect(points.count < 2_600 && points.count > 1_000)
        #expect(zip(points, points.dropFirst()).allSatisfy { $0.number < $1.number })
        #expect(points.contains { $0.kind == .round && $0.round == 1 } && (points.last?.round ?? 0) > 8_990)
        #expect(story.history.points(from: story.history.end).isEmpty)
    }

    @Test("The table of curves quotes names, and has one value per line")
    func csv() throws {
        var story = try Self.story()
        try story.worker("a,b", machine: 7, loss: 0.9, at: 1032)
        try story.worker("=cmd()", machine: 8, loss: 0.8, at: 1032)
        let lines = CurvesText.csv(story.history.points).split(separator: "\n")
        #expect(lines[0] == "curve,worker,machine,round,unix_seconds,samples,wire_bytes,value")
        #expect(lines.filter { $0.hasPrefix("training_loss,,,") }.count == 31, "round 1 has no loss yet")
        #expect(lines.contains("worker_training_loss,\"a,b\",7,32,1032.0,256,300,0.9"), "\(lines.suffix(4))")
        #expect(lines.contains("worker_training_loss,'=cmd(),8,32,1032.0,256,300,0.8"))
        #expect(lines.contains("evaluation_accuracy,evaluator,,32,1032.0,256,300,0.8125"), "\(lines.suffix(8))")
    }

    @Test("An event file holds TFRecords of Event messages, by their specification")
    func eventFile() throws {
        // Written by TensorFlow: an Event with wall time 1 and the version.
        let payload: [UInt8] = [9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x1a, 13] + Array("brain.Event:2".utf8)
        let record = TensorBoard.record(payload)
        #expect(record.count == 8 + 4 + payload.count + 4)
        #expect(Array(record[0..<8]) == [24, 0, 0, 0, 0, 0, 0, 0])
        #expect(Array(record[8..<12]) == Self.lengthChecksum && Array(record.suffix(4)) == Self.payloadChecksum, "\(record)")
        let story = try Self.story()
        let file = TensorBoard.file(story.history.points)
        let values = try Self.scalars(in: file)
        let loss = story.history.points.flatMap { TensorBoard.scalars(of: $0) }
        #expect(values.count == loss.count && values.map(\.tag) == loss.map(\.tag))
        #expect(values.contains { $0.tag == "evaluation/accuracy" && $0.step == 32 && $0.value == 0.8125 })
        #expect(values.contains { $0.tag == "workers/worker-3 3 loss" && $0.value == 1.7 })
    }

    private static let lengthChecksum: [UInt8] = [163, 127, 75, 34]
    private static let payloadChecksum: [UInt8] = [134, 191, 87, 122]

    /// An independent reader, written from the format's specification alone.
    private static func scalars(in file: [UInt8]) throws -> [(step: UInt64, tag: String, value: Float)] {
        var found: [(UInt64, String, Float)] = []
        var at = 0
        while at < file.count {
            let length = Int(file[at..<at + 8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
            let payload = Array(file[at + 12..<at + 12 + length])
            at += 16 + length
            var step: UInt64 = 0
            for (number, bytes, varint) in fields(payload) {
                if number == 2 { step = varint }
                for (_, value, _) in number == 5 ? fields(bytes) : [] {
                    let parts = fields(value)
                    let tag = String(decoding: try #require(parts.first { $0.number == 1 }).bytes, as: UTF8.self)
                    let float = try #require(parts.first { $0.number == 2 }).bytes.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                    found.append((step, tag, Float(bitPattern: float)))
                }
            }
        }
        return found
    }

    private static func fields(_ bytes: [UInt8]) -> [(number: Int, bytes: [UInt8], varint: UInt64)] {
        var found: [(Int, [UInt8], UInt64)] = []
        var at = 0
        func varint() -> UInt64 {
            var (value, shift) = (UInt64(0), UInt64(0))
            while true {
                let byte = bytes[at]
                at += 1
                value |= UInt64(byte & 0x7f) << shift
                shift += 7
                if byte < 0x80 { return value }
            }
        }
        while at < bytes.count {
            let key = varint()
            switch key & 7 {
            case 0: found.append((Int(key >> 3), [], varint()))
            case 1:
                found.append((Int(key >> 3), Array(bytes[at..<at + 8]), 0))
                at += 8
            case 5:
                found.append((Int(key >> 3), Array(bytes[at..<at + 4]), 0))
                at += 4
            default:
                let count = Int(varint())
                found.append((Int(key >> 3), Array(bytes[at..<at + count]), 0))
                at += count
            }
        }
        return found
    }
}
