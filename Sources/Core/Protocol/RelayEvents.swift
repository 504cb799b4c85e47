/// An event that a relay's shell reports to its state machine.
public enum RelayEvent: Sendable {
    /// A frame of a worker.
    case worker([UInt8], from: PeerID)
    /// A frame of the coordinator.
    case coordinator([UInt8])
    /// Everything that was sent to the coordinator is in its connection's hands.
    case sent
    /// The connection to the coordinator was made or has ended.
    case connection(isUp: Bool)
    /// The clock has advanced, at least to `RelayStateMachine.dueAt`.
    case tick
    case stopRequested
}

/// An order to a relay's shell, to be carried out in the order in which it is returned.
public enum RelayEffect: Sendable {
    /// Send this frame, and report `sent` when nothing is left to be sent.
    case toCoordinator([UInt8])
    /// Begin to listen for workers. Frames of more than `frameBytes` bytes are not taken. It comes once.
    case listen(frameBytes: Int)
    case toWorkers([UInt8], [PeerID])
    /// Drop what waits for this worker.
    case forget(PeerID)
    case notice(RelayNotice)
    /// The relay is done; no effect follows. Send what is still queued.
    case finish(RelayExit)
}

/// Something that happened at a relay, for logs.
public enum RelayNotice: Hashable, Sendable, CustomStringConvertible {
    /// The coordinator has answered.
    case answered
    case silent(seconds: Double)
    case workerCame(workers: Int)
    case workerLeft(workers: Int)
    case warning(String)

    public var description: String {
        switch self {
        case .answered: "the coordinator has answered"
        case .silent(let seconds): "no word from the coordinator for \(Int(seconds)) s"
        case .workerCame(let workers): "a worker has come; there are \(workers)"
        case .workerLeft(let workers): "a worker has gone; there are \(workers)"
        case .warning(let text): text
        }
    }
}

/// The reason why a relay ends.
public enum RelayExit: Hashable, Sendable {
    /// The run is complete or has failed, and the workers have been told.
    case completed
    case stopped
    /// The coordinator was silent for too long.
    case coordinatorLost(seconds: Double)
    case failed(ProcessFailure)
}
