/// The bytes that each token of a vocabulary matches, and the way back from bytes to a token.
package struct Vocabulary: Sendable {
    /// Bytes of each token; empty for a number without a token.
    package let tokens: StringTable
    /// Open-addressing table with a power of two of slots; −1 is free. Tokens are compared by bytes and never as Strings, which treat
    /// canonically equivalent texts as equal.
    private var slots: [Int32]

    package var count: Int { tokens.count }

    /// - Parameter indexed: whether a token can be found by its bytes; added tokens can't. Of two tokens with the same bytes the first is
    ///   found.
    package init(tokens: StringTable, indexed: (Int) -> Bool) {
        self.tokens = tokens
        var size = 16
        while size < 2 * tokens.count { size *= 2 }
        slots = [Int32](repeating: -1, count: size)
        for token in 0..<tokens.count where indexed(token) && !tokens[token].isEmpty {
            var slot = Self.hash(tokens[token]) & (size - 1)
            while slots[slot] >= 0, tokens[Int(slots[slot])] != tokens[token] { slot = (slot + 1) & (size - 1) }
            if slots[slot] < 0 { slots[slot] = Int32(token) }
        }
    }

    package func token(_ bytes: some RandomAccessCollection<UInt8>) -> Int32? {
        var slot = Self.hash(bytes) & (slots.count - 1)
        while slots[slot] >= 0 {
            if tokens[Int(slots[slot])].elementsEqual(bytes) { return slots[slot] }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    /// FNV-1a with 64 bits, its upper half folded in.
    private static func hash(_ bytes: some Sequence<UInt8>) -> Int {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return Int(truncatingIfNeeded: (hash ^ hash >> 32) & 0x7fff_ffff)
    }
}
