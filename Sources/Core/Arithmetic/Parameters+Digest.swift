extension Parameters {
    /// Returns the SHA-256 over all tensors in order of index; docs/reference/arithmetic.md lists the bytes. Equal digests mean equal parameters.
    public func digest(threads: Int = 1) -> Digest {
        var hash = SHA256()
        var writer = LittleEndianWriter()
        writer.append(bytes: "onebyte parameters 1".utf8)
        writer.append(UInt32(tensors.count))
        hash.update(writer.bytes)
        for (position, inner) in tensorDigests(threads: threads).enumerated() {
            var writer = LittleEndianWriter()
            appendDescription(of: position, to: &writer)
            writer.append(bytes: inner.bytes)
            hash.update(writer.bytes)
        }
        return hash.finalize()
    }

    /// Appends the description that begins a tensor's part of a digest or of a snapshot: index, name, shape and s.
    func appendDescription(of position: Int, to writer: inout LittleEndianWriter) {
        let tensor = tensors[position]
        writer.append(tensor.index)
        writer.append(UInt32(tensor.name.utf8.count))
        writer.append(bytes: tensor.name.utf8)
        writer.append(UInt32(tensor.shape.dimensions.count))
        for dimension in tensor.shape.dimensions { writer.append(UInt64(dimension)) }
        writer.append(Int32(exponents[position]))
    }

    /// Returns the SHA-256 of each tensor's k, little-endian, row-major.
    private func tensorDigests(threads: Int) -> [Digest] {
        var digests = [Digest?](repeating: nil, count: tensors.count)
        digests.withUnsafeMutableBufferPointer { digests in
            nonisolated(unsafe) let digests = digests
            nonisolated(unsafe) let storage = storage
            forEachChunk(of: tensors.count, size: 1, threads: threads) { range in
                for position in range { digests[position] = .sha256(UnsafeRawBufferPointer(storage[position])) }
            }
        }
        return digests.compactMap { $0 }
    }
}
