/// The reason why a connection, a key or an address can't be used. The message contains the remedy.
public struct TransportError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// Another process listens at the address.
        case addressInUse
        /// The address is not one of this host, or not one that a socket can be bound to.
        case addressUnavailable
        /// The text is not an address.
        case invalidAddress
        /// The name has no address.
        case unknownHost
        /// The address is on the network, there is no encryption, and nobody has said that this is intended.
        case insecure
        /// Something is wrong with a key, a key file or an allow list.
        case key
        /// A key file does not exist.
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
