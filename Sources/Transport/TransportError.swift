/// Why a connection, a key or an address can't be used, with the remedy in the message.
public struct TransportError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// Another process listens there.
        case addressInUse
        /// Not an address of this host, or not one that may be bound.
        case addressUnavailable
        /// The text is no address.
        case invalidAddress
        /// A name that has no address.
        case unknownHost
        /// A network address without encryption, and nobody said that this is meant.
        case insecure
        /// A key, a key file or an allow list.
        case key
        /// A key file that is not there.
        case missing
        /// The system or the transport's library refused something that should work.
        case system
    }

    public let code: Code
    public let message: String
    public var description: String { message }

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}
