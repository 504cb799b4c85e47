/// The reason why bytes from a peer or a file can't be decoded.
public enum WireError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The frame has no bytes.
    case empty
    /// The frame has another version of the protocol.
    case version(UInt8)
    /// The kind byte is unknown.
    case unknownKind(UInt8)
    /// The bytes are more than a limit allows.
    case tooLong(bytes: Int, limit: Int)
    /// The bytes end within `field`.
    case truncated(field: String)
    /// Bytes are left over at the end.
    case trailing(bytes: Int)
    /// The field has a value that is not allowed.
    case invalid(field: String, reason: String)

    public var description: String {
        switch self {
        case .empty: "an empty frame"
        case .version(let version): "protocol version \(version), this program speaks \(MessageCoding.version); update the older side"
        case .unknownKind(let kind): "an unknown kind \(kind)"
        case .tooLong(let bytes, let limit): "\(bytes) bytes, the limit is \(limit)"
        case .truncated(let field): "it ends within \(field)"
        case .trailing(let bytes): "\(bytes) bytes too many at the end"
        case .invalid(let field, let reason): "\(field): \(reason)"
        }
    }
}
