import ArgumentParser
import Foundation
import TestSupport
import Transport

/// The workers as a separate process.
struct SwarmNode: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "swarm", shouldDisplay: false)

    @Option var join: String
    @Option var workers: Int
    @Option var shareSeconds = 0.0
    @Option var relays = 0

    func run() throws {
        stopWithParent { Foundation.exit(0) }
        try Swarm.run(.init(join: try JoinString(join), count: workers, shareSeconds: shareSeconds, relays: relays))
    }
}
