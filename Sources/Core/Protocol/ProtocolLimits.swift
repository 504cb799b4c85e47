/// Limits on everything that a peer or a file can ask of us. A frame or a record beyond one is refused, not truncated.
public enum ProtocolLimits {
    /// Of one frame; the transport's own limit (ZMQ_MAXMSGSIZE) is the same.
    public static let frameBytes = 32 << 20
    /// What a frame to the coordinator may have beside a chunk or a share's bytes.
    public static let frameMarginBytes = 16 << 10
    /// Of one ledger record's payload. A basis is the largest: 26 kB a layer at hidden 576, 1 MB a layer at hidden 8192.
    public static let recordPayloadBytes = 24 << 20
    /// Of one ledger chunk sent to a joiner.
    public static let chunkBytes = 256 << 10
    /// The first chunk of a download, whose rate is not known yet: under two seconds at 9,600 bit/s.
    public static let firstChunkBytes = 2 << 10
    /// The smallest chunk that is asked for.
    public static let smallestChunkBytes = 512
    /// Chunks under way to all peers that are not admitted, together.
    public static let strangersBytes = 16 << 20
    /// The slowest link on which nobody is given up for being slow: 2,400 bit/s.
    public static let slowestBytesPerSecond = 300.0
    /// Of a hello's JSON.
    public static let helloBytes = 4 << 10
    /// Of all contributions of one round together.
    public static let samplesPerRound = 1 << 24
    public static let contributionsPerRound = 1 << 16
    public static let manifestEntries = 1 << 16
    public static let nameBytes = 255
    /// Of a reason or a message that a peer gives for people.
    public static let reasonBytes = 4096
    public static let publicKeyBytes = 64
    public static let machinesPerDigest = 1 << 16
    /// Of the canonical run spec, and of any control message's JSON.
    public static let jsonBytes = 1 << 20
    /// Tensor names told to a worker whose base differs; the rest is counted.
    public static let reportedDifferences = 16
    /// Orders to rebuild that one session can have been given; a machine is refused long before.
    public static let rebuildOrders: UInt64 = 1 << 16
    /// Records of a ledger, so that counting on from an index that a peer names can't overflow.
    public static let ledgerRecords: UInt64 = 1 << 48
    /// Peers at a coordinator, admitted or not.
    public static let peers = 1 << 14
    /// How often a shell hands its state machine a `tick`.
    public static let tickSeconds = 0.05
}
