import Core

extension Example {
    /// The example in the encoding of a commitment to data (docs/reference/ledger.md, "Commitments to data"): all numbers are u32,
    /// little-endian.
    package var encoded: [UInt8] {
        var bytes: [UInt8] = []
        func put(_ number: some BinaryInteger) {
            withUnsafeBytes(of: UInt32(truncatingIfNeeded: number).littleEndian) { bytes += $0 }
        }
        func put(_ text: String) {
            put(text.utf8.count)
            bytes += text.utf8
        }
        put(sequences.count)
        for sequence in sequences {
            put(sequence.tokens.count)
            for token in sequence.tokens { put(token) }
            put(sequence.targets.count)
            for target in sequence.targets {
                put(target.position)
                put(target.token)
            }
        }
        switch objective {
        case .candidates(let tokens, let correct):
            put(1)
            put(tokens.count)
            for token in tokens { put(token) }
            put(correct)
        case .options(let correct):
            put(2)
            put(correct)
        case .tokens: put(3)
        case .text(let prompt):
            put(4)
            put(prompt.prompt)
            put(prompt.fieldsText)
        }
        return bytes
    }
}
