import Core
import Synchronization
import Transport

/// A relay's link to the coordinator, on a thread of its own: a thread can wait at one link only. It decides nothing.
final class FarLink: Sendable {
    private enum Letter: Sendable {
        case send([UInt8])
        case move(JoinString)
        /// End, once everything is sent.
        case finish
    }

    private let transport: any ClientTransport
    private let letters = Mailbox<Letter>()
    private let owner: Mailbox<RelayLetter>
    private let counted = Mutex(Traffic())

    /// - Parameter owner: gets what comes from the coordinator.
    init(_ transport: any ClientTransport, owner: Mailbox<RelayLetter>) {
        self.transport = transport
        self.owner = owner
    }

    /// The traffic with the coordinator, once `run` has ended.
    var traffic: Traffic { counted.withLock { $0 } }

    func send(_ frame: [UInt8]) { letters.post(.send(frame)) }
    func reconnect(to join: JoinString) { letters.post(.move(join)) }
    func finish() { letters.post(.finish) }

    /// Runs until `finish`. If the link fails, its owner is told.
    func run(clock: ProcessClock) {
        do {
            let link = try transport.connect(classify: trafficClass(ofFrame:))
            defer {
                let traffic = link.traffic
                counted.withLock { $0 = traffic }
            }
            owner.post(.ready(endpoint: link.endpoint, isEncrypted: link.isEncrypted))
            try runReactor(link, mailbox: letters, clock: clock) { try handle($0, link) }
        } catch {
            owner.post(.failed(error as? TransportError ?? TransportError(.system, "\(error)")))
        }
    }

    private func handle(_ event: ReactorEvent<Letter>, _ link: any ClientLink) throws -> LoopControl {
        switch event {
        case .letter(.send(let frame)): try link.send(frame)
        case .letter(.move(let join)):
            do throws(TransportError) {
                try link.reconnect(to: join)
            } catch {
                owner.post(.failed(error))
            }
        case .letter(.finish): return .finish
        case .link(.frame(let frame, _, _)): owner.post(.event(.coordinator(frame)))
        case .link(.connection(let notice)): owner.post(.connection(notice))
        case .link(.malformed(let error, _)): owner.post(.malformed(error))
        case .tick: break
        }
        return .continue
    }
}
