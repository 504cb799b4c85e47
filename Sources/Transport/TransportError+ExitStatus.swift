import Core

extension TransportError {
    /// The exit status of a process that this error ends.
    public var status: ExitStatus {
        switch code {
        case .addressInUse: .temporary
        case .addressUnavailable, .invalidAddress, .insecure: .configuration
        case .unknownHost: .unavailable
        case .key: .refused
        case .missing: .missingInput
        case .system: .inputOutput
        }
    }
}

extension ProcessFailure {
    public init(_ error: TransportError) { self.init(error.status, error.message) }
}
