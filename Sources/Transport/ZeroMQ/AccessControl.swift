import CZeroMQ

/// The clients that may connect to a coordinator.
public enum AccessControl: Sendable {
    /// No encryption: only for this host, or if the network itself is trusted.
    case open
    /// CURVE: every client that knows the server's public key may connect.
    case encrypted(KeyPair)
    /// CURVE: only these clients may connect.
    case listed(KeyPair, Set<PublicKey>)

    /// The coordinator's own keys; nil if nothing is encrypted.
    public var keys: KeyPair? {
        switch self {
        case .open: nil
        case .encrypted(let keys), .listed(let keys, _): keys
        }
    }

    func admits(_ key: PublicKey) -> Bool {
        switch self {
        case .open, .encrypted: true
        case .listed(_, let allowed): allowed.contains(key)
        }
    }
}

/// Tells libzmq which CURVE clients may connect (ZAP, RFC 27), on the reactor's own thread.
struct AccessHandler: ~Copyable {
    let socket: ZMQSocket
    private let access: AccessControl

    init(_ access: AccessControl, in context: ZMQContext) throws(TransportError) {
        let socket = try ZMQSocket(.rep, in: context)
        try socket.set(ZMQ_LINGER, 0)
        try socket.bind("inproc://zeromq.zap.01")
        self.access = access
        self.socket = socket
    }

    /// Answers all waiting questions. Returns the keys that were refused.
    func service() throws(TransportError) -> [PublicKey] {
        var refused: [PublicKey] = []
        while let request = try socket.receiveParts() {
            // The parts of a question: version, request id, domain, address, identity, mechanism, credentials.
            var status = "400"
            var text = "malformed request"
            var user = ""
            if request.count == 7, request[5] == Array("CURVE".utf8), request[6].count == PublicKey.byteCount {
                let key = PublicKey(bytes: request[6])
                let admitted = access.admits(key)
                status = admitted ? "200" : "400"
                text = admitted ? "OK" : "key not in the allow list"
                user = admitted ? key.description : ""
                if !admitted { refused.append(key) }
            }
            let reply = [
                Array("1.0".utf8), request.count > 1 ? request[1] : [], Array(status.utf8), Array(text.utf8), Array(user.utf8), [],
            ]
            for (index, part) in reply.enumerated() { _ = try socket.send(part, more: index < reply.count - 1) }
        }
        return refused
    }
}
