/// The bytes that ZMTP 3.1 (RFC 37) adds to a message of one frame.
public enum WireFraming {
    /// Returns the bytes of a frame's flags and size. The size has one byte for up to 255 bytes, otherwise eight.
    public static func headerBytes(payload: Int) -> Int { payload <= 255 ? 2 : 9 }

    /// CurveZMQ (RFC 26): "\x07MESSAGE", a nonce of 8 bytes, a flags byte and a 16-byte authenticator around the payload.
    public static let curveEnvelopeBytes = 33

    /// Returns the bytes on the wire for a message of `payload` bytes.
    public static func messageBytes(payload: Int, encrypted: Bool) -> Int {
        let body = encrypted ? payload + curveEnvelopeBytes : payload
        return body + headerBytes(payload: body)
    }

    /// Returns the bytes of a connection's greeting and READY command without encryption. A DEALER sends them with a routing id of `routingID` bytes,
    /// a ROUTER with 0 bytes.
    public static func handshakeBytes(routingID: Int) -> Int {
        let greeting = 64
        let property = { (name: Int, value: Int) in 1 + name + 4 + value }
        // The properties are "Socket-Type", with "DEALER" or "ROUTER", and "Identity".
        let ready = 6 + property(11, 6) + property(8, routingID)
        return greeting + headerBytes(payload: ready) + ready
    }
}
