extension BaseManifest {
    /// The manifest as a ledger's record holds it.
    public var payload: [UInt8] { LedgerRecord.baseManifest(self).payload() }

    /// SHA-256 of the payload. Two workers whose manifests have the same digest have the same base.
    public var digest: Digest { .sha256(payload) }

    /// Returns nil if the bytes are not exactly one manifest.
    init?(payload: [UInt8]) {
        var reader = ByteReader(payload)
        guard let manifest = try? BaseManifest(from: &reader), reader.remaining == 0 else { return nil }
        self = manifest
    }
}
