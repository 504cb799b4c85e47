import Core
import Foundation
import LanguageModel
import Transport

/// Checks of a worker's way to its coordinator, step by step. The first step that fails says what to do; later steps that depend on it are
/// skipped.
struct WorkerChecks {
    let join: String
    let key: String?
    let model: String?
    let seconds: Double
    let threads: Int
    private(set) var findings: [Finding] = []

    init(join: String, key: String?, model: String?, seconds: Double, threads: Int) {
        self.join = join
        self.key = key
        self.model = model
        self.seconds = seconds
        self.threads = threads
    }

    mutating func run() throws {
        guard let join = checkJoinString() else { return skip(["name", "connection", "keys", "run", "link"]) }
        var keys: KeyPair?
        if let key {
            let (finding, pair) = HostChecks.key(key)
            findings.append(finding)
            keys = pair
            if pair == nil { return skip(["name", "connection", "keys", "run", "link"]) }
        }
        guard checkName(join.address), checkConnection(join.address) else { return }
        try checkCoordinator(join, keys: keys)
    }

    private mutating func skip(_ steps: [String]) {
        for step in steps { findings.append(.skipped(step, "not tried")) }
    }

    private mutating func checkJoinString() -> JoinString? {
        do throws(TransportError) {
            let parsed = try JoinString(join)
            if parsed.address.isWildcard {
                findings.append(
                    .failed(
                        "join string", "\(parsed.address) stands for all addresses of the coordinator's host; nobody can connect to it", .usage,
                        remedy: "put the coordinator's name or address in its place; the coordinator prints those that it has"))
                return nil
            }
            let run = parsed.run.map { ", run \($0.prefix(8))" } ?? ", any run"
            findings.append(.ok("join string", "\(parsed.address)\(run)\(parsed.serverKey == nil ? ", not encrypted" : ", encrypted")"))
            return parsed
        } catch {
            findings.append(
                .failed("join string", error.message, error.status, remedy: "paste the whole word that the coordinator prints, in quotes"))
            return nil
        }
    }

    private mutating func checkName(_ address: Address) -> Bool {
        guard let host = address.host else {
            findings.append(.ok("name", "a socket of this host"))
            return true
        }
        switch NameResolution.resolve(host) {
        case .found(let numbers):
            findings.append(.ok("name", numbers == [host] ? "\(host) is an address" : "\(host) is \(numbers.joined(separator: ", "))"))
            return true
        case .unknown(let reason):
            findings.append(
                .failed(
                    "name", "nobody knows the name \(host) here (\(reason))", .unavailable,
                    remedy: "write the coordinator's address in digits, or put the name into /etc/hosts"))
        case .unavailable(let reason):
            findings.append(
                .failed(
                    "name", "the name \(host) can't be looked up now (\(reason))", .unavailable,
                    remedy: "look at this host's name service (/etc/resolv.conf), or write the coordinator's address in digits"))
        }
        skip(["connection", "keys", "run", "link"])
        return false
    }

    private mutating func checkConnection(_ address: Address) -> Bool {
        guard let host = address.host else { return true }
        guard let port = address.port, port > 0 else {
            findings.append(.failed("connection", "\(address) has no port", .usage, remedy: "the coordinator prints the port that it has"))
            return false
        }
        guard case .found(let numbers) = NameResolution.resolve(host) else { return false }
        var worst: (number: String, probe: TCPProbe)?
        for number in numbers {
            let probe = TCPProbe.connect(to: number, port: port, seconds: seconds)
            if case .connected(let took) = probe {
                findings.append(.ok("connection", "\(number) port \(port) takes connections, in \(milliseconds(took))"))
                return true
            }
            if worst == nil { worst = (number, probe) }
        }
        guard let (number, probe) = worst else { return false }
        let place = "\(number) port \(port)"
        switch probe {
        case .refused:
            findings.append(
                .failed(
                    "connection", "\(place) refuses connections: the host is there, and nothing listens", .unavailable,
                    remedy: "is the coordinator running, at this port, and does it listen beyond its own host (--listen tcp://0.0.0.0:\(port))?"))
        case .silent(let seconds):
            findings.append(
                .failed(
                    "connection", "\(place) does not answer within \(Int(seconds)) s", .unavailable,
                    remedy: "is that host up, and do firewalls between here and there let TCP port \(port) through?"))
        case .noRoute(let reason):
            findings.append(
                .failed(
                    "connection", "there is no way from here to \(number) (\(reason))", .unavailable,
                    remedy:
                        "is this host on the network (ip route get \(number)), or is it another of the coordinator's addresses that can be reached?"))
        case .failed(let reason): findings.append(.failed("connection", "\(place): \(reason)", .unavailable, remedy: "look at this host's network"))
        case .connected: break
        }
        skip(["keys", "run", "link"])
        return false
    }

    private mutating func checkCoordinator(_ join: JoinString, keys: KeyPair?) throws {
        let probe = CoordinatorProbe(
            join, keys: keys, expectedRun: join.run.flatMap(Digest.init(hex:)), name: "doctor at \(ProcessInfo.processInfo.hostName)")
        switch try probe.run(seconds: seconds) {
        case .noConnection:
            failKeys(
                "the port takes connections, and nobody there speaks as a coordinator does within \(Int(seconds)) s", .unavailable,
                "is it a coordinator of onebyte that listens there? If it is, it is stopped or overloaded, or the link is very slow: --wait gives it longer"
            )
        case .handshakeFailed(let reason):
            let remedy =
                join.serverKey == nil
                ? "the coordinator may want keys: paste its whole join string, with key=…"
                : "is key=… this coordinator's public key, is it a coordinator that listens there, and does its --allow list hold this worker's key?"
            failKeys(reason, .refused, remedy)
        case .noAnswer:
            findings.append(.ok("keys", "the handshake is done"))
            findings.append(
                .failed(
                    "run", "nobody answers the hello", .unavailable, remedy: "is it a coordinator of onebyte that listens there, and not stopped?"))
            skip(["link"])
        case .noAnswerBehindRelay:
            findings.append(.ok("keys", "the handshake is done"))
            findings.append(
                .failed(
                    "run", "a relay is there, and no answer of its coordinator comes through it", .unavailable,
                    remedy: "is the coordinator running, and can the relay's host reach it? The relay's log says since when it is silent"))
            skip(["link"])
        case .notUnderstood(let error):
            findings.append(.ok("keys", "the handshake is done"))
            findings.append(
                .failed("run", "\(error)", .configuration, remedy: "give both hosts the same version of onebyte; this is \(Version.number)"))
            skip(["link"])
        case .refused(let refusal):
            findings.append(.ok("keys", "the handshake is done"))
            findings.append(
                .failed(
                    "run", refusal.reason, refusal.code == .full ? .temporary : .configuration,
                    remedy: "paste the join string that this coordinator prints now"))
            skip(["link"])
        case .finished(let finish):
            findings.append(.ok("keys", "the handshake is done"))
            findings.append(.warning("run", "the run is over: \(finish.message)", remedy: "start the coordinator of another run"))
            skip(["link"])
        case .welcome(let answer): take(answer, isEncrypted: join.serverKey != nil)
        }
    }

    private mutating func failKeys(_ text: String, _ status: ExitStatus, _ remedy: String) {
        findings.append(.failed("keys", text, status, remedy: remedy))
        skip(["run", "link"])
    }

    private mutating func take(_ answer: CoordinatorProbe.Answer, isEncrypted: Bool) {
        let welcome = answer.welcome
        findings.append(.ok("keys", isEncrypted ? "the handshake is done, and all is encrypted" : "the handshake is done, without keys"))
        findings.append(.ok("run", "\(welcome.specDigest.short), \(welcome.ledgerRecords) records, \(welcome.ledgerBytes) bytes"))
        checkLink(answer)
        findings.append(HostChecks.clock(coordinator: welcome.unixSeconds))
        if let model { checkModel(model, welcome.baseDigest) }
    }

    private mutating func checkLink(_ answer: CoordinatorProbe.Answer) {
        let rate = Double(answer.bytes) / max(answer.seconds, 1e-3)
        let text =
            "an answer takes \(milliseconds(answer.roundTripSeconds)); about \(Int(rate)) bytes/s, so the ledger takes \(Int((Double(answer.welcome.ledgerBytes) / max(rate, 1)).rounded(.up))) s"
        let isThin = answer.seconds > 1 && rate < ProtocolLimits.slowestBytesPerSecond
        findings.append(
            answer.bytes == 0
                ? .warning(
                    "link", "no byte of the ledger has come in a few seconds",
                    remedy: "the link is very slow or loses packets; --patience gives it longer")
                : isThin
                    ? .warning(
                        "link", text,
                        remedy:
                            "below \(Int(ProtocolLimits.slowestBytesPerSecond)) bytes/s machines may be given up; raise the run's --heartbeat-timeout"
                    )
                    : .ok("link", text))
    }

    private mutating func checkModel(_ path: String, _ base: Digest?) {
        do {
            let digest = try openModel(path).baseManifest(threads: threads).digest
            guard let base else {
                return findings.append(.ok("model", "\(path) is \(digest.short); the run has no base yet, the first worker's becomes it"))
            }
            guard digest == base else {
                return findings.append(
                    .failed(
                        "model", "\(path) is another model than the run's (\(digest.short), not \(base.short))", .configuration,
                        remedy: "give this worker the file that the others have, quantised in the same way"))
            }
            findings.append(.ok("model", "\(path) is the run's base, \(digest.short)"))
        } catch {
            findings.append(.failed("model", error, remedy: "--model is a file or a directory on this host, or a name on the model hub"))
        }
    }

    private func milliseconds(_ seconds: Double) -> String { "\(Int((seconds * 1000).rounded(.up))) ms" }
}
