import Core
import TestSupport

/// A relay in the simulation, and the bytes that have crossed its far link.
package struct SimulatedRelay {
    package let index: Int
    package var life = 0
    package var peer = PeerID([])
    package var machine: RelayStateMachine?
    /// Bytes to and from the coordinator, with the headers of ZMTP, CURVE, TCP and IP.
    package var up = 0
    package var down = 0

    package init(index: Int) { self.index = index }
}

extension Simulation {
    /// Returns the relay that a worker is behind.
    package func relay(of worker: Int) -> Int? {
        guard !relays.isEmpty else { return nil }
        let place = worker % (relays.count + (world.isPartlyDirect ? 1 : 0))
        return place < relays.count ? place : nil
    }

    package func startRelay(_ index: Int) throws {
        guard relays[index].machine == nil, outcome == nil else { return }
        relays[index].life += 1
        relays[index].peer = PeerID([2, UInt8(index), UInt8(truncatingIfNeeded: relays[index].life)])
        relays[index].machine = RelayStateMachine(secret: UInt64(relays[index].life), at: timestamp)
        say("relay \(index) starts, life \(relays[index].life)")
        schedule(.tickRelay(index, life: relays[index].life), after: 0.05)
        try tellRelay(index, .connection(isUp: true))
        for worker in workers.indices where relay(of: worker) == index && workers[worker].machine != nil {
            try tellWorker(worker, .connection(isUp: true))
        }
    }

    package func crashRelay(_ index: Int) throws {
        guard relays[index].machine != nil else { return }
        say("relay \(index) crashes")
        statistics.relayCrashes += 1
        relays[index].machine = nil
        schedule(.startRelay(index), after: Double.random(in: 0.05...15, using: &random))
        for worker in workers.indices where relay(of: worker) == index && workers[worker].machine != nil {
            try tellWorker(worker, .connection(isUp: false))
        }
    }

    package func tellRelay(_ index: Int, _ event: RelayEvent) throws {
        guard let effects = relays[index].machine?.handle(event, at: timestamp) else { return }
        if let due = relays[index].machine?.dueAt {
            schedule(.relayIsDue(index, life: relays[index].life), after: due.seconds(since: timestamp) + 1e-6)
        }
        var isSending = false
        for effect in effects {
            switch effect {
            case .toCoordinator(let frame):
                isSending = true
                relays[index].up += ThinLink.cost(of: frame.count).bytes
                transmit(.toCoordinator(frame, from: relays[index].peer))
            case .toWorkers(let frame, let peers):
                for peer in peers { transmit(frame, .toWorker(frame, peer), worker: workers.firstIndex { $0.peer == peer }) }
            case .forget, .listen: break
            case .notice(let notice): say("relay \(index): \(notice)")
            case .finish(let exit):
                say("relay \(index) ends: \(exit)")
                relays[index].machine = nil
                if case .failed(let failure) = exit { throw Failure(description: "relay \(index) failed: \(failure)") }
                schedule(.startRelay(index), after: 1)
                return
            }
        }
        if isSending { try tellRelay(index, .sent) }
    }

    /// Returns the messages in a frame that has come to the coordinator.
    package func unpacked(_ frame: [UInt8], from peer: PeerID) throws -> [([UInt8], PeerID)] {
        switch try edge.take(frame, from: peer) {
        case .direct: return [(frame, peer)]
        case .answered: return []
        case .envelope(var envelope):
            var messages: [([UInt8], PeerID)] = []
            while let item = try edge.next(&envelope) {
                guard case .frame(let frame, let from) = item else { throw Failure(description: "a relay passes on \(item)") }
                messages.append((frame, from))
            }
            return messages
        }
    }

    package func sendToRelays() {
        for (frame, peer) in edge.takeOutgoing() {
            if let index = relays.firstIndex(where: { $0.peer == peer }) { relays[index].down += ThinLink.cost(of: frame.count).bytes }
            transmit(.fromCoordinator(frame, toRelay: peer))
        }
    }
}
