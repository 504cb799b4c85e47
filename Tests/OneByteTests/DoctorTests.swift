import Core
import Foundation
import OneByte
import Testing
import Transport

/// For each planted fault the check names the step where it is, and the status with which the process itself would end.
@Suite struct DoctorTests {
    /// Runs `body` while a coordinator with a key runs on this host.
    private func withCoordinator(
        _ scratch: borrowing Scratch, _ more: [String] = [], _ body: (_ join: String) async throws -> Void
    ) async throws {
        let config = try scratch.file(
            "run.toml",
            "[task]\ntemplate = \"{text} It was\"\nlabels = { 0 = \" bad\", 1 = \" good\" }\n[training]\ntrain = \"layers.2\"\nrounds = 4\ndamped-components = \"none\"\n"
        )
        let (key, file, path) = ("\(scratch.path)/coordinator.key", "\(scratch.path)/join", scratch.path)
        try await Binary.run("keygen", key)
        let process = Process()
        process.executableURL = URL(filePath: Binary.path)
        process.arguments =
            ["coordinator", "--config", config, "--directory", "\(path)/run", "--listen", "tcp://127.0.0.1:0", "--key", key, "--join-file", file]
            + more
        process.standardError = FileHandle.nullDevice
        try process.run()
        defer {
            process.terminate()
            process.waitUntilExit()
        }
        var join: String?
        while join == nil {
            try #require(process.isRunning, "the coordinator has ended")
            join = try? String(contentsOfFile: file, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
            try await Task.sleep(for: .milliseconds(20))
        }
        try await body(try #require(join))
    }

    private struct Finding: Decodable {
        let step: String
        let verdict: String
        let text: String
        let remedy: String?
    }

    private func examine(_ arguments: [String]) async throws -> (found: [Finding], outcome: Binary.Outcome) {
        let outcome = try await Binary.run(["doctor", "--format", "json", "--wait", "3"] + arguments)
        return (try JSONDecoder().decode([Finding].self, from: Data(outcome.output.utf8)), outcome)
    }

    /// Expects the check to fail first at this step, with these words and this status.
    private func expect(_ arguments: [String], at step: String, _ words: String, _ status: Core.ExitStatus, line: Int = #line) async throws {
        let (found, outcome) = try await examine(arguments)
        let failed = found.first { $0.verdict == "failed" }
        #expect(failed?.step == step && failed?.text.contains(words) == true, "line \(line): \(outcome.output)")
        #expect(failed?.remedy?.isEmpty == false && outcome.status == status.rawValue, "line \(line): \(outcome.status), \(outcome.errors)")
        #expect(outcome.errors.contains(words), "line \(line): the last line on standard error says it: \(outcome.errors)")
    }

    @Test("A worker's host that has everything passes each step")
    func healthyWorker() async throws {
        let scratch = try Scratch()
        let data = try scratch.reviews()
        try await withCoordinator(scratch) { join in
            let (found, outcome) = try await examine(
                ["--coordinator", join, "--model", Binary.tinyModel, "--train-file", data, "--state-dir", "\(scratch.path)/state", "--threads", "1"])
            #expect(outcome.status == 0, "\(outcome.output)\n\(outcome.errors)")
            #expect(
                found.map(\.step).starts(with: ["join string", "name", "connection", "keys", "run", "link", "clock", "model", "train file", "state"]))
            #expect(found.dropLast().allSatisfy { $0.verdict == "ok" }, "\(outcome.output)")
        }
    }

    @Test("Faults on a worker's way to its coordinator are found")
    func wayThere() async throws {
        let scratch = try Scratch()
        let other = try KeyPair.generate().publicKey
        try await withCoordinator(scratch) { join in
            let address = String(join.prefix { $0 != "?" })
            try await expect(["--coordinator", "tcp://127.0.0.1:5151?key=12"], at: "join string", "64 hexadecimal digits", .refused)
            try await expect(["--coordinator", "tcp://0.0.0.0:5151"], at: "join string", "nobody can connect", .usage)
            try await expect(["--coordinator", "tcp://no-such-host.invalid:5151"], at: "name", "no-such-host.invalid", .unavailable)
            try await expect(["--coordinator", "tcp://127.0.0.1:1"], at: "connection", "refuses connections", .unavailable)
            try await expect(["--coordinator", "\(address)?key=\(other)"], at: "keys", "handshake", .refused)
            try await expect(["--coordinator", address], at: "keys", "handshake", .refused)
            let run = String(repeating: "ab", count: 32)
            let wrongRun = join.replacing(/run=.*/, with: "run=\(run)")
            try await expect(["--coordinator", wrongRun], at: "run", "expects the run", .configuration)
        }
        let listener = try Listener()
        try await expect(["--coordinator", "tcp://127.0.0.1:\(listener.port)"], at: "keys", "nobody there speaks as a coordinator", .unavailable)
        withExtendedLifetime(listener) {}
    }

    @Test("A worker's key that is not in the list, or that others can read, is found")
    func workersKey() async throws {
        let scratch = try Scratch()
        let (mine, readable) = ("\(scratch.path)/mine.key", "\(scratch.path)/readable.key")
        for key in [mine, readable] { try await Binary.run("keygen", key) }
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: readable)
        let allowed = "\(try KeyPair.generate().publicKey)\n"
        let list = try scratch.file("allowed", allowed)
        try await withCoordinator(scratch, ["--allow", list]) { join in
            try await expect(["--coordinator", join, "--key", mine], at: "keys", "allow list", .refused)
            try await expect(["--coordinator", join, "--key", readable], at: "key", "can be read by others", .refused)
        }
    }

    @Test("Faults of a worker's own files are found")
    func files() async throws {
        let scratch = try Scratch()
        let broken = try scratch.file("broken.jsonl", "{\"text\": \"a\", \"label\": \"0\"}\n{\"text\": \n")
        let file = try scratch.file("file", "x")
        try await expect(["--model", "\(scratch.path)/none.gguf"], at: "model", "none.gguf", .missingInput)
        try await expect(["--train-file", broken], at: "train file", "broken.jsonl:2", .badData)
        try await expect(["--train-file", "\(scratch.path)/none.jsonl"], at: "train file", "none.jsonl", .missingInput)
        try await expect(["--state-dir", "\(file)/state"], at: "state", "is no directory", .cannotCreate)
        try await expect(["--cache-directory", "/proc/1/nothing"], at: "cache", "can't be written", .cannotCreate)
    }

    @Test("A model other than the run's is found")
    func otherModel() async throws {
        let scratch = try Scratch()
        let data = try scratch.reviews()
        try await withCoordinator(scratch, ["--rounds", "1000000"]) { join in
            let worker = Process()
            worker.executableURL = URL(filePath: Binary.path)
            worker.arguments = ["worker", "--coordinator", join, "--model", Binary.tinyModel, "--train-file", data, "--threads", "1"]
            worker.standardError = FileHandle.nullDevice
            try worker.run()
            defer {
                worker.terminate()
                worker.waitUntilExit()
            }
            // The coordinator's base becomes this model.
            let metrics = URL(filePath: "\(scratch.path)/run/metrics.jsonl")
            while (try? String(contentsOf: metrics, encoding: .utf8))?.contains("\"event\":\"round\"") != true {
                try #require(worker.isRunning)
                try await Task.sleep(for: .milliseconds(20))
            }
            try await expect(
                ["--coordinator", join, "--model", Binary.tinyGGUF, "--threads", "1"], at: "model", "another model than the run's", .configuration)
        }
    }

    @Test("Faults of a coordinator's host are found")
    func coordinatorsHost() async throws {
        let scratch = try Scratch()
        let listener = try Listener()
        let key = "\(scratch.path)/c.key"
        try await Binary.run("keygen", key)
        let (found, outcome) = try await examine(["--listen", "tcp://127.0.0.1:0", "--directory", "\(scratch.path)/new", "--key", key])
        #expect(outcome.status == 0, "\(outcome.output)")
        #expect(found.contains { $0.step == "reach" && $0.verdict == "warning" && $0.text.contains("this host only") })
        try await expect(["--listen", "tcp://127.0.0.1:\(listener.port)"], at: "address", "in use", .temporary)
        try await expect(["--listen", "tcp://0.0.0.0:0"], at: "address", "without keys", .configuration)
        try await expect(["--listen", "tcp://192.0.2.77:5151", "--key", key], at: "address", "192.0.2.77", .configuration)
        try await expect(["--listen", "tcp://127.0.0.1:0", "--key", "\(scratch.path)/none.key"], at: "key", "none.key", .missingInput)
        let file = try scratch.file("plain", "x")
        try await expect(["--listen", "tcp://127.0.0.1:0", "--directory", "\(file)/run"], at: "disk", "is no directory", .cannotCreate)
        try FileManager.default.createDirectory(atPath: "\(scratch.path)/damaged", withIntermediateDirectories: true)
        _ = try scratch.file("damaged/ledger", "this is no ledger, it only has its name and some length to be read")
        try await expect(["--listen", "tcp://127.0.0.1:0", "--directory", "\(scratch.path)/damaged"], at: "ledger", "not a ledger", .badData)
        withExtendedLifetime(listener) {}
    }

    // MARK: Addresses

    @Test("Every address of a host is classified by who can reach it")
    func reaches() {
        func reach(_ number: String, _ interface: String = "eth0") -> HostAddress.Reach { HostAddress(number: number, interface: interface).reach }
        #expect([reach("127.0.1.1"), reach("::1")] == [.thisHost, .thisHost])
        #expect([reach("169.254.3.4"), reach("fe80::1")] == [.link, .link])
        #expect([reach("172.17.0.1", "docker0"), reach("10.88.0.1", "cni-podman0")] == [.containers, .containers])
        #expect(
            [reach("10.1.2.3"), reach("172.31.0.1"), reach("192.168.1.1"), reach("100.64.0.1"), reach("fd12::1")]
                == .init(repeating: .privateNetwork, count: 5))
        #expect([reach("172.32.0.1"), reach("100.128.0.1"), reach("93.184.216.34"), reach("2001:db8::1")] == .init(repeating: .everywhere, count: 4))
    }

    @Test("The join string has the host's name if that leads others here, else an address with the reason")
    func joinPlaces() throws {
        let addresses = [
            HostAddress(number: "127.0.0.1", interface: "lo"), HostAddress(number: "10.0.0.7", interface: "eth0"),
            HostAddress(number: "172.17.0.1", interface: "docker0"),
        ]
        func places(_ listen: String, name: NameResolution, advertised: String? = nil) throws -> JoinPlaces {
            JoinPlaces(listening: try Address(listen), addresses: addresses, hostName: "node", advertised: advertised) { _ in name }
        }
        let good = try places("tcp://0.0.0.0:5151", name: .found(["10.0.0.7"]))
        #expect(good.host == "node" && good.nameWarning == nil)
        #expect(good.lines.contains("tcp://172.17.0.1:5151  docker0: containers and virtual machines of this host only"))
        // Debian's /etc/hosts has this address for the host's name.
        let loop = try places("tcp://0.0.0.0:5151", name: .found(["127.0.1.1"]))
        #expect(loop.host == "10.0.0.7" && loop.nameWarning?.contains("127.0.1.1") == true)
        let unknown = try places("tcp://*:5151", name: .unknown("no"))
        #expect(unknown.host == "10.0.0.7" && unknown.nameWarning?.contains("not known") == true)
        let said = try places("tcp://0.0.0.0:5151", name: .unknown("no"), advertised: "c.example.org")
        #expect(said.host == "c.example.org" && said.nameWarning == nil)
        let local = try places("tcp://127.0.0.1:5151", name: .unknown("no"))
        #expect(local.host == nil && local.lines == ["tcp://127.0.0.1:5151: this host only"])
    }
}

@Suite struct InterfaceCounterTests {
    @Test("No bytes are counted for this host's own interface, or for an address without a route")
    func ownHost() {
        #expect(InterfaceCounter(toward: "127.0.0.1") == nil)
        #expect(InterfaceCounter(toward: "no address") == nil)
    }

    @Test("A counter of an interface that leads elsewhere begins when it is made")
    func elsewhere() {
        // A machine without a network has no such interface.
        guard let counter = InterfaceCounter(toward: "192.0.2.1") else { return }
        let before = (counter.sent, counter.received)
        #expect(!counter.interface.isEmpty && before.0 < 1 << 40 && before.1 < 1 << 40)
    }
}
