/// Byte-pair merging. A piece's bytes (or characters) become tokens. Then the adjacent pair with the lowest rank, or the leftmost of
/// several, is merged, until no pair has a rank.
package struct BytePairMerges: Sendable {
    /// Length up to which pieces are merged by scanning for the lowest rank. Longer ones (an attacker's, or base64) use a heap.
    package static let scanLengthMax = 48

    /// What a piece is split into at first.
    package enum Unit: Hashable, Sendable {
        /// Bytes; the vocabulary has a token for each.
        case bytes
        /// Characters, as in SentencePiece. A character that the vocabulary lacks becomes the byte tokens `<0x00>` … `<0xFF>` if all of
        /// these exist, else the unknown token.
        case characters(joinsUnknown: Bool)
    }

    package let unit: Unit
    /// The token of each single byte; −1 if the vocabulary has none.
    package let byteTokens: [Int32]
    /// The token for text that no token matches; if nil, such text is dropped.
    package let unknown: Int32?

    /// Open-addressing table from a pair of tokens to its merge; a free slot has `rank` −1.
    private var slots: [Slot]
    private let mask: Int

    private struct Slot {
        var pair: UInt64
        var rank: Int32
        var merged: Int32
    }

    package struct Merge {
        package let left: Int32
        package let right: Int32
        package let merged: Int32
        /// Lower ranks are merged first.
        package let rank: Int32

        package init(left: Int32, right: Int32, merged: Int32, rank: Int32) {
            self.left = left
            self.right = right
            self.merged = merged
            self.rank = rank
        }
    }

    /// - Parameter merges: if several have the same pair, the last counts, as in Hugging Face's tokenizers.
    package init(unit: Unit, byteTokens: [Int32], unknown: Int32?, merges: [Merge]) {
        self.unit = unit
        self.byteTokens = byteTokens
        self.unknown = unknown
        var size = 16
        while size < 2 * merges.count { size *= 2 }
        mask = size - 1
        slots = [Slot](repeating: Slot(pair: 0, rank: -1, merged: 0), count: size)
        for merge in merges {
            let pair = Self.pair(merge.left, merge.right)
            var slot = Self.hash(pair) & mask
            while slots[slot].rank >= 0, slots[slot].pair != pair { slot = (slot + 1) & mask }
            slots[slot] = Slot(pair: pair, rank: merge.rank, merged: merge.merged)
        }
    }

    /// Appends the tokens of `bytes`, a single piece.
    ///
    /// - Parameter vocabulary: provides the tokens of characters.
    package func encode(_ bytes: Slice<UnsafeBufferPointer<UInt8>>, _ vocabulary: Vocabulary, into out: inout [Int32]) {
        let first = out.count
        switch unit {
        case .bytes:
            for byte in bytes {
                let token = byteTokens[Int(byte)]
                if token >= 0 {
                    out.append(token)
                } else if let unknown {
                    out.append(unknown)
                }
            }
        case .characters(let joinsUnknown): appendCharacters(bytes, vocabulary, joinsUnknown, to: &out)
        }
        let count = out.count - first
        if count < 2 { return }
        if count <= Self.scanLengthMax { mergeByScanning(&out, from: first) } else { mergeByHeap(&out, from: first) }
    }

    private func appendCharacters(
        _ bytes: Slice<UnsafeBufferPointer<UInt8>>, _ vocabulary: Vocabulary, _ joinsUnknown: Bool, to out: inout [Int32]
    ) {
        var afterUnknown = false
        var i = bytes.startIndex
        while i < bytes.endIndex {
            let character = bytes[i..<min(bytes.endIndex, i + scalarLength(bytes[i]))]
            i = character.endIndex
            if let token = vocabulary.token(character) {
                out.append(token)
                afterUnknown = false
            } else if character.allSatisfy({ byteTokens[Int($0)] >= 0 }) {
                for byte in character { out.append(byteTokens[Int(byte)]) }
                afterUnknown = false
            } else if let unknown {
                if !afterUnknown || !joinsUnknown { out.append(unknown) }
                afterUnknown = true
            }
        }
    }

    private func mergeByScanning(_ out: inout [Int32], from first: Int) {
        let count = out.withUnsafeMutableBufferPointer { buffer in
            let tokens = UnsafeMutableBufferPointer(rebasing: buffer[first...])
            return withUnsafeTemporaryAllocation(of: Slot.self, capacity: tokens.count) { merges in
                var count = tokens.count
                // merges[i] is the merge of tokens i and i + 1.
                for i in 0..<count - 1 { merges[i] = merge(tokens[i], tokens[i + 1]) }
                while true {
                    var best = -1
                    var rank = Int32.max
                    for i in 0..<count - 1 where merges[i].rank >= 0 && merges[i].rank < rank {
                        best = i
                        rank = merges[i].rank
                    }
                    guard best >= 0 else { return count }
                    tokens[best] = merges[best].merged
                    count -= 1
                    for i in best + 1..<max(count, best + 1) {
                        tokens[i] = tokens[i + 1]
                        merges[i - 1] = merges[i]
                    }
                    if best > 0 { merges[best - 1] = merge(tokens[best - 1], tokens[best]) }
                    if best < count - 1 { merges[best] = merge(tokens[best], tokens[best + 1]) }
                }
            }
        }
        out.removeLast(out.count - first - count)
    }

    /// Merges in O(n log n). The heap holds (rank, position) of every pair that could merge; outdated entries are skipped.
    private func mergeByHeap(_ out: inout [Int32], from first: Int) {
        var tokens = Array(out[first...])
        let end = tokens.count
        var next = Array(1...end)
        var previous = Array(-1..<end - 1)
        var heap = MinHeap()
        func push(_ i: Int) {
            guard i >= 0, next[i] < end else { return }
            let merge = merge(tokens[i], tokens[next[i]])
            if merge.rank >= 0 { heap.push(UInt64(merge.rank) << 32 | UInt64(i)) }
        }
        for i in 0..<end { push(i) }
        while let entry = heap.pop() {
            let i = Int(entry & 0xffff_ffff)
            guard tokens[i] >= 0, next[i] < end else { continue }
            let merge = merge(tokens[i], tokens[next[i]])
            guard merge.rank == Int32(entry >> 32) else { continue }
            let right = next[i]
            tokens[i] = merge.merged
            tokens[right] = -1
            next[i] = next[right]
            if next[i] < end { previous[next[i]] = i }
            push(previous[i])
            push(i)
        }
        out.removeLast(end)
        out.append(contentsOf: tokens.lazy.filter { $0 >= 0 })
    }

    private func merge(_ left: Int32, _ right: Int32) -> Slot {
        let pair = Self.pair(left, right)
        var slot = Self.hash(pair) & mask
        return slots.withUnsafeBufferPointer { slots in
            while slots[slot].rank >= 0, slots[slot].pair != pair { slot = (slot + 1) & mask }
            return slots[slot]
        }
    }

    private static func pair(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    /// Hashes a pair by splitmix64's finaliser.
    private static func hash(_ pair: UInt64) -> Int {
        var x = pair
        x = (x ^ x >> 30) &* 0xbf58_476d_1ce4_e5b9
        x = (x ^ x >> 27) &* 0x94d0_49bb_1331_11eb
        return Int(truncatingIfNeeded: (x ^ x >> 31) & 0x7fff_ffff_ffff)
    }
}

/// A binary heap of integers with the smallest first.
private struct MinHeap {
    private var items: [UInt64] = []

    mutating func push(_ item: UInt64) {
        items.append(item)
        var i = items.count - 1
        while i > 0, items[(i - 1) / 2] > items[i] {
            items.swapAt(i, (i - 1) / 2)
            i = (i - 1) / 2
        }
    }

    mutating func pop() -> UInt64? {
        guard let least = items.first, let last = items.popLast() else { return nil }
        guard !items.isEmpty else { return least }
        items[0] = last
        var i = 0
        while true {
            var child = 2 * i + 1
            guard child < items.count else { return least }
            if child + 1 < items.count, items[child + 1] < items[child] { child += 1 }
            guard items[child] < items[i] else { return least }
            items.swapAt(i, child)
            i = child
        }
    }
}
