import Core
import Synchronization
import Transport

/// A relay's link to the coordinator, on a thread of its own: a thread can wait at one link only. It decides nothing.
package final class FarLink: Sendable {
    private enum Letter: Sendable {
        case send([UInt8])
        case move(JoinString)
        /// End, once everything is sent.
        case finish
    }

    /// Number of frames that the connection itself queues: the next envelope waits at the relay while the link is behind.
    private static let queuedFrames = 2

    private let transport: any ClientTransport
    private let letters = Mailbox<Letter>()
    private let owner: Mailbox<RelayLetter>
    private let gate = ByteGate(limit: LinkLimits.bytesPerTurn)
    private let counted = Mutex(Traffic())

    /// - Parameter owner: gets what comes from the coordinator.
    package init(_ transport: any ClientTransport, owner: Mailbox<RelayLetter>) {
        self.transport = transport
        self.owner = owner
    }

    /// The traffic with the coordinator, once `run` has ended.
    package var traffic: Traffic { counted.withLock { $0 } }

    package func send(_ frame: [UInt8]) { letters.post(.send(frame)) }
    package func reconnect(to join: JoinString) { letters.post(.move(join)) }

    /// Notes that the owner has taken a frame of so many bytes. If it takes none, the far link is not read either.
    package func take(_ bytes: Int) { gate.take(bytes) }

    package func finish() {
        // A thread that waits at the gate would never see the letter.
        gate.open()
        letters.post(.finish)
    }

    /// Runs until `finish`. If the link fails, its owner is told.
    package func run(clock: ProcessClock) {
        do {
            let link = try transport.connect(classify: trafficClass(ofFrame:), queuedFrames: Self.queuedFrames)
            defer {
                let traffic = link.traffic
                counted.withLock { $0 = traffic }
            }
            owner.post(.ready(endpoint: link.endpoint, isEncrypted: link.isEncrypted))
            var isSending = false
            try runReactor(link, mailbox: letters, clock: clock) { event in
                if case .letter(.send) = event { isSending = true }
                let control = try handle(event, link)
                if isSending, link.isFlushed {
                    isSending = false
                    owner.post(.event(.sent))
                }
                return control
            }
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
        case .link(.frame(let frame, _, _)):
            owner.post(.event(.coordinator(frame)))
            gate.pass(frame.count)
        case .link(.connection(let notice)): owner.post(.connection(notice))
        case .link(.malformed(let error, _)): owner.post(.malformed(error))
        case .tick: break
        }
        return .continue
    }
}
