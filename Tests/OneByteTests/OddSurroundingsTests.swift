import Core
import Foundation
import Glibc
import OneByte
import Testing

/// Whether this host has an address of IPv6.
private let hasIPv6 = FileManager.default.contents(atPath: "/proc/net/if_inet6")?.isEmpty == false

/// The same request gives the same run, wherever and however it is made.
@Suite(.serialized, .timeLimit(.minutes(5))) struct OddSurroundingsTests {
    private static let labels = ["not good at all", "so so", "very good indeed", "a waste of time", "hard to say", "the best of them"]

    /// A run of six classes whose label words have several tokens.
    private static func arguments(_ run: String, _ data: String, _ more: [String] = []) -> [String] {
        let words = labels.enumerated().flatMap { ["--label", "\($0.offset)= \($0.element)"] }
        return [
            "cluster", "--model", Binary.tinyModel, "--directory", run, "--train-file", data, "--template", "{text} It was", "--train", "layers.2",
            "--damped-components", "none", "--workers", "2", "--rounds", "4", "--samples-per-round", "16", "--learning-rate",
            "0.0001",
        ] + words + more
    }

    private struct Judged: Decodable {
        struct Confusion: Decodable { let counts: [[Int]] }
        let confusion: Confusion?
    }

    private static func rows(_ end: String) -> String {
        (0..<24).map { #"{"text":"film number \#($0)","label":\#($0 % 6)}"# + end }.joined()
    }

    private static func digest(_ run: String) throws -> String {
        try #require(try JSONDecoder().decode(RunReport.self, from: Data(contentsOf: URL(filePath: "\(run)/report.json"))).digest)
    }

    @Test("Six classes with words of several tokens are trained, counted and predicted, and the same seed gives the same digest")
    func sixClasses() async throws {
        let scratch = try Scratch()
        let data = try scratch.file("six.jsonl", Self.rows("\n"))
        for (name, seed) in [("one", "5"), ("two", "5"), ("three", "6")] {
            let found = try await Binary.run(Self.arguments("\(scratch.path)/\(name)", data, ["--seed", seed, "--eval-file", data]))
            try #require(found.status == 0, "\(found.errors)")
        }
        let first = try Self.digest("\(scratch.path)/one")
        #expect(try Self.digest("\(scratch.path)/two") == first)
        #expect(try Self.digest("\(scratch.path)/three") != first)
        let judged = try await Binary.run(
            "evaluate", data, "--model", Binary.tinyModel, "--ledger", "\(scratch.path)/one", "--format", "json")
        let confusion = try #require(try JSONDecoder().decode(Judged.self, from: Data(judged.output.utf8)).confusion)
        #expect(confusion.counts.count == 6 && confusion.counts.allSatisfy { $0.count == 6 && $0.reduce(0, +) == 4 }, "\(confusion)")
        let predicted = try await Binary.run("predict", data, "--model", Binary.tinyModel, "--ledger", "\(scratch.path)/one")
        let labels = try predicted.output.split(separator: "\n").map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])["predicted"] as? String
        }
        #expect(labels.count == 24)
        for label in 0..<6 {
            #expect(labels.count { $0 == "\(label)" } == confusion.counts.map { $0[label] }.reduce(0, +), "\(labels) \(confusion)")
        }
    }

    @Test("Without HOME, in the C locale, from a path with spaces and letters of all kinds, with Windows' line ends: the same digest")
    func everywhere() async throws {
        let scratch = try Scratch()
        let plain = "\(scratch.path)/plain"
        let found = try await Binary.run(Self.arguments(plain, try scratch.file("six.jsonl", Self.rows("\n"))))
        try #require(found.status == 0, "\(found.errors)")
        let place = "\(scratch.path)/a b/Ünï 日本 'x'"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        let data = "\(place)/train data é.jsonl"
        try Data(Self.rows("\r\n").utf8).write(to: URL(filePath: data))
        for (name, more) in [("run 1", [String]()), ("run ü", ["LC_ALL=C", "LANG=C"])] {
            let odd = try await Binary.run(
                ["-u", "HOME", "-u", "HF_HOME", "-u", "XDG_CACHE_HOME"] + more + [Binary.path] + Self.arguments(name, "train data é.jsonl"),
                program: "/usr/bin/env", in: place)
            #expect(odd.status == 0, "\(odd.errors)")
            #expect(try Self.digest("\(place)/\(name)") == Self.digest(plain))
            let verified = try await Binary.run(["ledger", "verify", "\(name)/ledger", "--base", Binary.tinyModel], in: place)
            #expect(verified.status == 0, "\(verified.errors)")
        }
    }

    @Test("A worker finds a coordinator that has only an IPv6 address, by that address and by a name", .enabled(if: hasIPv6))
    func sixthVersion() async throws {
        let scratch = try Scratch()
        _ = try scratch.reviews()
        let found = try await Binary.runScript(
            Binary.smallRun(rounds: 2, samples: 4) + """
                NAME=$(getent ahostsv6 localhost | awk '$1 == "::1" { print "localhost"; exit }')
                for host in "[::1]" $NAME; do
                    onebyte coordinator --directory "run-$host" --config run.toml --listen "tcp://[::1]:*" --join-file "join-$host" > log 2>&1 &
                    coordinator=$!
                    until test -s "join-$host"; do sleep 0.1; done
                    place=$(sed "s/\\[::1\\]/$host/" "join-$host")
                    onebyte worker --coordinator "$place" --model $MODEL --train-file train.jsonl
                    wait $coordinator
                    onebyte ledger verify "run-$host" --base $MODEL
                done
                """, seconds: 60, in: scratch.path)
        #expect(found.status == 0 && found.output.contains("2 rounds, complete"), "\(found.output) \(found.errors)")
    }

    @Test("A cluster that was killed with signal 9 is resumed from another place, and its ledger can be replayed")
    func killedAndMoved() async throws {
        let scratch = try Scratch()
        let (run, moved) = ("\(scratch.path)/run", "\(scratch.path)/elsewhere/moved")
        let data = try scratch.file("six.jsonl", Self.rows("\n"))
        let process = Process()
        process.executableURL = URL(filePath: Binary.path)
        process.arguments = Self.arguments(run, data).overridden(by: ["--rounds", "1000"])
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        func rounds(_ run: String) async throws -> Int {
            let verified = try await Binary.run("ledger", "verify", run)
            return Int(verified.output.firstMatch(of: /(\d+) rounds/)?.output.1 ?? "") ?? 0
        }
        let patience = ContinuousClock.now + .seconds(60)
        while try await rounds(run) < 10, ContinuousClock.now < patience { try await Task.sleep(for: .milliseconds(20)) }
        kill(process.processIdentifier, SIGKILL)
        try FileManager.default.createDirectory(atPath: "\(scratch.path)/elsewhere", withIntermediateDirectories: true)
        try FileManager.default.moveItem(atPath: run, toPath: moved)
        let before = try await rounds(moved)
        try #require(before >= 10 && before < 1000, "\(before)")
        // The cluster's other processes notice that it is gone, and leave the directory.
        var resumed = try await Binary.run("cluster", "--resume", moved)
        while resumed.status == ExitStatus.temporary.rawValue, ContinuousClock.now < patience {
            try await Task.sleep(for: .milliseconds(500))
            resumed = try await Binary.run("cluster", "--resume", moved)
        }
        #expect(resumed.status == 0, "\(resumed.errors)")
        #expect(!FileManager.default.fileExists(atPath: run))
        #expect(try await rounds(moved) == 1000)
        let verified = try await Binary.run("ledger", "verify", moved, "--base", Binary.tinyModel)
        #expect(verified.status == 0 && verified.output.contains("complete"), "\(verified.output) \(verified.errors)")
        #expect(verified.errors.contains(try Self.digest(moved)), "\(verified.errors)")
    }
}
