/// Limits on everything that a peer or a file can ask of us. A frame or a record beyond a limit is refused, not truncated.
public enum ProtocolLimits {
    /// Size of one frame. The transport's own limit (ZMQ_MAXMSGSIZE) is the same.
    public static let frameBytes = 32 << 20
    /// Bytes that a frame to the coordinator may have in addition to a chunk or a share's bytes.
    public static let frameMarginBytes = 16 << 10
    /// Size of one ledger record's payload. A basis is the largest: 26 kB for each layer at hidden size 576, 1 MB at hidden size 8192.
    public static let recordPayloadBytes = 24 << 20
    /// Size of one ledger chunk.
    public static let chunkBytes = 256 << 10
    /// Size of a download's first chunk. The rate is not known yet: this takes under two seconds at 9,600 bit/s.
    public static let firstChunkBytes = 2 << 10
    /// Size of the smallest chunk that is asked for.
    public static let smallestChunkBytes = 512
    /// Bytes of all chunks together that are on their way to peers that are not admitted.
    public static let strangersBytes = 16 << 20
    /// The part of them that goes to peers behind one relay.
    public static let relayedStrangersBytes = strangersBytes / 4
    /// Rate of the slowest link on which no peer is given up for being slow: 2,400 bit/s.
    public static let slowestBytesPerSecond = 300.0
    /// Size of a hello's JSON.
    public static let helloBytes = 4 << 10
    /// Samples of all contributions of one round together.
    public static let samplesPerRound = 1 << 24
    /// Number of contributions of one round.
    public static let contributionsPerRound = 1 << 16
    /// Number of tensors in a base manifest.
    public static let manifestEntries = 1 << 16
    /// Bytes of UTF-8 of a machine's, a tensor's or a program's name.
    public static let nameBytes = 255
    /// Length of a reason or a message that a peer gives for people.
    public static let reasonBytes = 4096
    /// Length of a public key in hexadecimal digits.
    public static let publicKeyBytes = 64
    /// Number of machines in a digest record.
    public static let machinesPerDigest = 1 << 16
    /// Size of the canonical run spec, and of any control message's JSON.
    public static let jsonBytes = 1 << 20
    /// Number of tensor names that are told to a worker whose base differs. The rest is counted.
    public static let reportedDifferences = 16
    /// Number of orders to rebuild that one session can be given. A machine is refused long before.
    public static let rebuildOrders: UInt64 = 1 << 16
    /// Number of records of a ledger. With this limit, counting on from an index that a peer names can't overflow.
    public static let ledgerRecords: UInt64 = 1 << 48
    /// Number of peers at a coordinator, admitted or not.
    public static let peers = 1 << 14
    /// Number of workers of one relay: a quarter of all peers.
    public static let workersPerRelay = peers / 4
    /// Number of relays at a coordinator.
    public static let relays = 1 << 10
    /// Number of workers' frames in one envelope of a relay.
    public static let framesPerEnvelope = 1 << 12
    /// Size from which on an envelope takes no further frame.
    public static let envelopeBytes = chunkBytes
    /// Seconds between two `tick`s that a shell hands its state machine.
    public static let tickSeconds = 0.05
}
