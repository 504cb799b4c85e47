import Foundation
import OneByte
import Testing

/// Tests of the dashboard with real requests to real processes.
@Suite struct DashboardTests {
    @Test(
        "A port alone is this host's; whoever wants more names the address",
        arguments: [
            ("8080", "http://127.0.0.1:8080/", true), ("localhost:1", "http://127.0.0.1:1/", true), ("[::1]:8080", "http://[::1]:8080/", true),
            ("0.0.0.0:8080", "http://0.0.0.0:8080/", false), ("[::]:80", "http://[::]:80/", false), ("10.1.2.3:80", "http://10.1.2.3:80/", false),
        ])
    func addresses(_ text: String, _ url: String, _ isLoopback: Bool) throws {
        let address = try #require(DashboardAddress(text))
        #expect(address.url(port: address.port) == url && address.isLoopback == isLoopback)
    }

    @Test("Text that is no address is refused", arguments: ["", "x", "70000", "-1", "host:80", "1.2.3:80", "::1:80", "127.0.0.1:", "[::1]"])
    func noAddress(_ text: String) { #expect(DashboardAddress(text) == nil) }

    @Test("Each path has its route; the dashboard is read-only, and a foreign host name is refused")
    func routes() {
        func route(_ method: String, _ path: String, _ host: String? = "localhost:80", _ isLoopback: Bool = true) -> DashboardRoute {
            DashboardRoute(method: method, path: path, host: host, isLoopback: isLoopback)
        }
        #expect(route("GET", "/") == .page && route("HEAD", "/metrics") == .metrics && route("GET", "/api/status") == .status)
        #expect(route("GET", "/healthz") == .health && route("GET", "/readyz") == .readiness && route("GET", "/events") == .events)
        #expect(route("GET", "/../etc/passwd") == .unknown && route("POST", "/") == .wrongMethod && route("DELETE", "/x") == .wrongMethod)
        for host in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil", "[::2]:80", "1127.0.0.1"] {
            #expect(route("GET", "/", host) == .wrongHost, "\(host)")
        }
        for host in ["127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "[::1]", "localhost"] { #expect(route("GET", "/", host) == .page, "\(host)") }
        #expect(route("GET", "/", "gpu-7:80", false) == .page)
    }

    private static let start = """
        port() { sed -n 's/.*dashboard at http:..127.0.0.1:\\([0-9]*\\).*/\\1/p' "$1"; }
        ask() { # port, path, further header
            exec 3<> "/dev/tcp/127.0.0.1/$1"
            printf '%s %s HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n' "${4:-GET}" "$2" "${3:-localhost}" >&3
            timeout 3 cat <&3 || true
            exec 3>&-
        }
        onebyte coordinator --config run.toml --directory run --listen 'tcp://127.0.0.1:*' --join-file shared --minimum-workers 3 \\
          --dashboard 127.0.0.1:0 --heartbeat 0.2 2> coordinator.log & coordinator=$!
        until [ -s shared ] && [ -n "$(port coordinator.log)" ]; do sleep 0.05; done
        C=$(port coordinator.log)
        """

    private func run(_ script: String, in scratch: borrowing Scratch) async throws -> Binary.Outcome {
        // Rounds that take long enough for questions to be asked in their midst.
        try await Binary.runScript(Binary.smallRun(rounds: 40, samples: 2048) + Self.start + "\n" + script, seconds: 110, in: scratch.path)
    }

    @Test("Both roles serve page, status, metrics, health and events; a run is watched by its directory and by its address")
    func bothRoles() async throws {
        let scratch = try Scratch()
        let found = try await run(
            """
            ask $C /healthz; ask $C /readyz; echo; ask $C / evil.example; ask $C / localhost POST; ask $C /nothing; echo "##### waiting"
            onebyte status 127.0.0.1:$C
            echo "##### status"
            for n in 1 2 3; do
              onebyte worker --join-file shared --model "$MODEL" --train-file train.jsonl --shard $n/3 --threads 1 --name "worker-$n" \\
                --dashboard 127.0.0.1:0 2> worker-$n.log & done
            until grep -q '"event":"round"' run/metrics.jsonl; do sleep 0.05; done
            W=$(port worker-1.log)
            # The status is written once a second.
            until onebyte status run > seen && grep -q worker-1 seen; do sleep 0.05; done
            cat seen
            echo "##### metrics"
            ask $C /metrics
            echo "##### worker"
            ask $W /metrics; ask $W /readyz; ask $W /api/status; ask $W /
            wait $coordinator
            echo "##### end"
            onebyte status run
            onebyte status run --json > status.json
            onebyte top run
            onebyte report run --html page.html --format csv --output curves.csv
            onebyte report run --format json --output run.json
            onebyte report run --format tensorboard --output board
            # The file of an earlier process is not believed while another holds the lock and has not listened yet.
            sed -i 's/"state":"completed"/"state":"failed"/' run/status.json; grep -q '"state":"failed"' run/status.json
            (flock -x 9; onebyte status run | sed 's/^/again: /') 9< run/lock
            ls board; head -c 15 page.html; head -n 1 curves.csv; onebyte ledger show run --format json > ledger.json
            """, in: scratch)
        #expect(found.status == 0, "\(found.errors)\n\(found.output)")
        let parts = found.output.components(separatedBy: "##### ")
        guard parts.count == 6 else {
            Issue.record("\(found.output)")
            return
        }
        #expect(parts[0].contains("HTTP/1.1 200 OK") && parts[0].contains("\r\n\r\nok\n") && parts[0].contains("\r\n\r\nready\n"), "\(parts[0])")
        #expect(parts[0].contains("403") && parts[0].contains("405") && parts[0].contains("404"), "\(parts[0])")
        #expect(
            parts[1].contains("run ") && parts[1].contains("preparing") && parts[1].contains("waiting for workers: 0 of 3 are ready"), "\(parts[1])")
        #expect(parts[2].contains("worker-1") && parts[2].contains("/40"), "\(parts[2])")
        #expect(parts[3].contains("onebyte_rounds_planned 40"), "\(parts[3])")
        #expect(parts[4].contains(#"role="worker""#) && parts[4].contains("worker-1") && parts[4].contains("\r\n\r\nready\n"), "\(parts[4])")
        #expect(parts[4].contains("<!doctype html>"), "\(parts[4])")
        #expect(parts[5].contains("completed") && parts[5].contains("worker-2") && parts[5].contains("<!doctype html>"), "\(parts[5])")
        #expect(parts[5].contains("again: ") && !parts[5].contains("failed"), "\(parts[5])")
        #expect(parts[5].contains("curve,worker,machine,round") && parts[5].contains("events.out.tfevents."), "\(parts[5])")
        try compare(scratch.path)
    }

    /// Checks that page and status agree with the ledger.
    private func compare(_ directory: String) throws {
        func object(_ file: String) throws -> [String: Any] {
            let data = try Data(contentsOf: URL(filePath: "\(directory)/\(file)"))
            return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        }
        let (status, ledger, run) = (try object("status.json"), try object("ledger.json"), try object("run.json"))
        #expect(status["round"] as? Int == 40 && ledger["roundsInForce"] as? Int == 40)
        #expect(status["samples"] as? Int == ledger["samples"] as? Int)
        let machines = try #require(ledger["machineList"] as? [[String: Any]])
        let workers = try #require(status["workers"] as? [[String: Any]])
        #expect(machines.count == 3)
        for machine in machines {
            let worker = try #require(workers.first { $0["machine"] as? Int == machine["machine"] as? Int })
            #expect(worker["name"] as? String == machine["name"] as? String && worker["bytes"] as? Int == machine["bytes"] as? Int)
            #expect((worker["training_loss"] as? Double ?? -1) > 0, "each worker's own loss is in metrics.jsonl: \(worker)")
        }
        let points = try #require(run["points"] as? [[String: Any]])
        #expect(points.filter { $0["kind"] as? String == "round" }.count == 40)
        let page = try String(contentsOfFile: "\(directory)/page.html", encoding: .utf8)
        #expect(!page.contains("/*DATA*/null") && page.contains(#""run":"#))
    }

    @Test("The page loads only from its own server, and text from peers can't end its data")
    func page() throws {
        var story = try StatusTests.story()
        try story.worker("</script><img src=x onerror=alert(1)>", machine: 9, loss: 0.5, at: 1032)
        let page = RunPage.whole(story.status(at: 1033), story.history)
        #expect(page.contains(#"\u003c/script>"#) && !page.contains("</script><img"))
        #expect(page.components(separatedBy: "</script>").count == 3)
        for match in page.matches(of: /https?:\/\/[^"'\s)]+/) { #expect(match.0 == "http://www.w3.org/2000/svg", "\(match.0)") }
    }

    @Test("It listens beyond this host only if told to, and then says who can read it; a port in use is reported")
    func beyondThisHost() async throws {
        let scratch = try Scratch()
        let found = try await run(
            """
            onebyte coordinator --config run.toml --directory other --listen 'tcp://127.0.0.1:*' --dashboard $C 2>&1 || echo "status $?"
            onebyte coordinator --config run.toml --directory other --listen 'tcp://127.0.0.1:*' --dashboard nowhere 2>&1 || echo "status $?"
            onebyte coordinator --config run.toml --directory third --listen 'tcp://127.0.0.1:*' --dashboard 0.0.0.0:0 2> third.log & third=$!
            until grep -q 'dashboard at' third.log; do sleep 0.05; done
            sleep 0.2; kill $third; wait $third || true
            cat third.log
            kill $coordinator; wait $coordinator || true
            """, in: scratch)
        #expect(found.output.contains("another process listens there") && found.output.contains("status 69"), "\(found.output)")
        #expect(found.output.contains("\"nowhere\" is no port and no address") && found.output.contains("status 64"), "\(found.output)")
        #expect(found.output.contains("whoever reaches 0.0.0.0 can read the dashboard"), "\(found.output)")
    }

    @Test("The documentation of metrics is made from the code")
    func metricsPage() throws {
        let path = Binary.packageRoot.appending(path: "docs/reference/metrics.md")
        let page = try String(contentsOf: path, encoding: .utf8)
        let begin = "<!-- metrics: made from the code -->\n"
        let end = "<!-- end of metrics -->\n"
        let rows = Metric.allCases.map { metric in
            "| `\(metric.name)` | \(metric.isCounter ? "counter" : "gauge") | \(metric.labels.map { "`\($0)`" }.joined(separator: ", ")) | \(metric.help) |\n"
        }
        let table = "| metric | type | labels | what it is |\n| --- | --- | --- | --- |\n" + rows.joined()
        let parts = page.components(separatedBy: begin)
        let rest = try #require(parts.last).components(separatedBy: end)
        try #require(parts.count == 2 && rest.count == 2)
        if ProcessInfo.processInfo.environment["ONEBYTE_WRITE_PAGES"] != nil {
            try (parts[0] + begin + table + end + rest[1]).write(to: path, atomically: true, encoding: .utf8)
        } else {
            #expect(rest[0] == table, "docs/reference/metrics.md is not of this code; ONEBYTE_WRITE_PAGES=1 writes it")
        }
    }

    @Test("Every metric and label that an alert rule or a Grafana panel asks for is one that a process has")
    func rulesAndPanels() throws {
        let known = Dictionary(uniqueKeysWithValues: Metric.allCases.map { ($0.name, Set($0.labels)) })
        var asked: Set<String> = []
        for file in ["alerts.yml", "alerts-test.yml", "grafana-dashboard.json"] {
            let text = try String(contentsOf: Binary.packageRoot.appending(path: "deploy/monitoring/\(file)"), encoding: .utf8)
            for match in text.replacing("\\\"", with: "\"").matches(of: /((?:onebyte|process)_[a-z_]+)(?:\{([^}]*)\})?/) {
                let name = String(match.1)
                let labels = try #require(known[name], "\(file) asks for \(name)").union(["instance", "job"])
                for label in (match.2 ?? "").matches(of: /([a-z_]+)\s*(?:=~|!=|!~|=)\s*"/) {
                    #expect(labels.contains(String(label.1)), "\(file): \(name) has no label \(label.1)")
                }
                asked.insert(name)
            }
        }
        #expect(asked.count > 10, "\(asked)")
    }
}
