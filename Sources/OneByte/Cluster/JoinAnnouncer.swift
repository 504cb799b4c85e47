import Coordinator
import Core
import Foundation
import Logging
import Synchronization
import Transport

/// Tells workers where the coordinator or a relay is: on the screen, ready to paste, and in the join file while it listens.
final class JoinAnnouncer: Sendable {
    private let advertised: String?
    private let file: JoinFile?
    private let written = Mutex<String?>(nil)

    init(advertised: String?, file: JoinFile?) {
        self.advertised = advertised
        self.file = file
    }

    /// Returns the announcement for people, and writes the join file.
    func announce(_ listening: CoordinatorProgress.Listening) -> String {
        announce(listening.endpoint) { try? listening.joinString(host: $0) }
    }

    /// - Parameters:
    ///   - endpoint: address at which the process listens.
    ///   - joinString: returns what workers join with if they call this host; nil: the endpoint's own.
    func announce(_ endpoint: String, joinString: (String?) -> JoinString?) -> String {
        let places = (try? Address(endpoint)).map { address in
            JoinPlaces(
                listening: address, addresses: HostAddress.all(), hostName: ProcessInfo.processInfo.hostName, advertised: advertised,
                resolve: NameResolution.resolve)
        }
        let join = joinString(places?.host).map { "\($0)" } ?? endpoint
        var lines = [
            "listening at \(endpoint); workers join with",
            "  onebyte worker --coordinator '\(join)' --model … --train-file …",
        ]
        if let places, !places.lines.isEmpty {
            lines.append("this host's addresses:")
            lines += places.lines.map { "  \($0)" }
        }
        if let warning = places?.nameWarning { lines.append("warning: \(warning); --advertise HOST says what workers are to call") }
        if let file {
            do throws(ProcessFailure) {
                try file.write(join)
                written.withLock { $0 = join }
                lines.append("the join string is in \(file.path)")
            } catch {
                lines.append("warning: \(error.message)")
            }
        }
        return lines.joined(separator: "\n")
    }

    /// Removes the join file after the process has stopped listening.
    func end() {
        guard let file, let join = written.withLock({ $0 }) else { return }
        file.remove(join)
    }
}
