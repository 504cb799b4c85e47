import Core
import Synchronization

extension ModelSource {
    /// Number of floats that are dequantised and hashed at a time: they fit into the second-level cache.
    private static let hashChunk = 64 * 1024

    /// Name of the manifest's entry that is not a tensor. All tensor names have a dot.
    private static let configurationEntry = "configuration"

    /// Returns the SHA-256 of each tensor's values as little-endian F32, row-major, in the order of `tensorNames`. A GGUF file and a
    /// Hugging Face directory with the same values have the same digests. A model other than plain llama has one more entry,
    /// `configuration`, with the digest of `ModelConfiguration.identity`.
    ///
    /// - Parameter progress: called from any thread each time a tensor is done.
    public func baseManifest(threads: Int, progress: (@Sendable () -> Void)? = nil) -> BaseManifest {
        let names = tensorNames
        let entries = Mutex([BaseManifest.Entry?](repeating: nil, count: names.count))
        forEachChunk(of: names.count, size: 1, threads: threads) { range in
            for i in range {
                guard let entry = manifestEntry(of: names[i]) else { continue }
                entries.withLock { $0[i] = entry }
                progress?()
            }
        }
        var all = entries.withLock { $0.compactMap { $0 } }
        if !configuration.isPlainLlama {
            let identity = Array(configuration.identity.utf8)
            all.append(BaseManifest.Entry(name: Self.configurationEntry, shape: .vector(identity.count), digest: Digest.sha256(identity)))
        }
        // A dictionary's keys are unique and no tensor has the configuration's name, so the manifest is valid.
        return BaseManifest(entries: all).unsafelyUnwrapped
    }

    /// Returns name, shape and digest of one tensor; nil if the name is not in `tensorNames`.
    public func manifestEntry(of name: String) -> BaseManifest.Entry? {
        guard let tensor = stored[name] else { return nil }
        var hash = SHA256()
        let step = max(1, Self.hashChunk / max(1, tensor.columns))
        withUnsafeTemporaryAllocation(of: Float.self, capacity: step * tensor.columns) { buffer in
            guard let base = buffer.baseAddress else { return }
            for row in stride(from: 0, to: tensor.rows, by: step) {
                let rows = row..<min(tensor.rows, row + step)
                tensor.copyFloats(rows: rows, into: base)
                // Processors differ in the bits of a NaN that they compute from a scale, and a base must have one digest everywhere.
                for i in 0..<rows.count * tensor.columns where base[i].isNaN { base[i] = .nan }
                hash.update(UnsafeRawBufferPointer(start: base, count: rows.count * tensor.columns * 4))
            }
        }
        return BaseManifest.Entry(name: name, shape: tensor.shape, digest: hash.finalize())
    }
}
