import Coordinator
import Core
import Foundation
import Transport

/// Checks of what a coordinator needs on its host: an address that others can reach, its key, and a run directory that can take a ledger.
struct CoordinatorChecks {
    let listen: String
    let key: String?
    let directory: String
    let insecure: Bool

    func run() -> [Finding] {
        var findings = [address()]
        if let key { findings.append(HostChecks.key(key).0) }
        findings += reach()
        findings += [HostChecks.directory(directory, step: "disk"), ledger(), files(), HostChecks.clock(coordinator: nil)]
        return findings
    }

    /// Binds the address for a moment.
    private func address() -> Finding {
        do throws(TransportError) {
            let address = try Address(listen)
            let access: AccessControl = key == nil ? .open : .encrypted(try KeyPair.generate())
            let link = try ZeroMQServer(address: address, access: access, insecure: insecure).listen(
                classify: { _ in .control }, frameLimit: ProtocolLimits.frameBytes)
            return .ok("address", "\(link.endpoint) is free")
        } catch {
            let remedy =
                switch error.code {
                case .addressInUse: "is this run's coordinator running already? Else choose another port with --listen"
                case .addressUnavailable: "listen on an address that this host has, or on all: tcp://0.0.0.0:\(Address.defaultPort)"
                default: commandLineRemedy(for: error) ?? "write --listen tcp://HOST:PORT"
                }
            return .failed("address", error.message, error.status, remedy: remedy)
        }
    }

    private func reach() -> [Finding] {
        guard let address = try? Address(listen), address.host != nil else { return [] }
        if address.isLocal {
            return [
                .warning(
                    "reach", "\(address) can be reached from this host only",
                    remedy: "for workers elsewhere listen on --listen tcp://0.0.0.0:\(address.port ?? Address.defaultPort) with --key")
            ]
        }
        let places = JoinPlaces(listening: address, addresses: HostAddress.all(), hostName: ProcessInfo.processInfo.hostName) {
            NameResolution.resolve($0)
        }
        var findings: [Finding] = []
        if let warning = places.nameWarning {
            findings.append(.warning("name", warning, remedy: "give workers an address in digits, or --advertise NAME"))
        }
        guard !places.reachable.isEmpty else {
            return findings + [
                .warning(
                    "reach", "no address of this host can be reached from elsewhere", remedy: "connect it to a network; workers on this host can join"
                )
            ]
        }
        return findings + [.ok("reach", "others may reach " + places.reachable.map { "\($0.hostText) (\($0.interface))" }.joined(separator: ", "))]
    }

    private func ledger() -> Finding {
        let path = RunDirectory(directory).ledger
        guard FileManager.default.fileExists(atPath: path) else { return .ok("ledger", "none yet: a new run") }
        do {
            let archive = try LedgerArchive(path)
            let tail = archive.unreadBytes > 0 ? "; its last \(archive.unreadBytes) bytes are no whole record and will be cut off" : ""
            return .ok(
                "ledger", "run \(archive.summary.specDigest.short), round \(archive.summary.nextRound) of \(archive.summary.spec.rounds)\(tail)")
        } catch {
            return .failed(
                "ledger", describe(error), ExitStatus(error), remedy: "take the ledger from another copy; every worker's peers have the same bytes")
        }
    }

    /// Checks the limit on open files; a connection needs one or two.
    private func files() -> Finding {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return .ok("files", "no limit is known") }
        let text = "\(limit.rlim_max) open files at most"
        return limit.rlim_max < 1024
            ? .warning("files", text, remedy: "each worker takes one; raise it with `ulimit -Hn` or LimitNOFILE=") : .ok("files", text)
    }
}
