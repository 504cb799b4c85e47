/// How a text is split into pieces before byte-pair merging: the steps of tokenizer.json's `pre_tokenizer`. Each step splits the pieces of
/// the step before it.
package struct PreTokenizer: Sendable {
    package indirect enum Step: Sendable {
        case split(Splitter, SplitBehavior, isInverted: Bool)
        /// Replaces spaces by `replacement`. It may also prepend `replacement`, and may split the text before each occurrence.
        case metaspace(replacement: String, PrependScheme, splits: Bool)
        /// Turns the text into bytes. `usesPattern`: first splits it by GPT-2's pattern.
        case byteLevel(addsPrefixSpace: Bool, usesPattern: Bool)
    }

    /// What a `Split` step searches for.
    package enum Splitter: Sendable {
        case literal(String)
        case pattern(source: String, Pattern)
        case scanner(source: String, PieceScanner)
        /// Each scalar of the set separately.
        case scalars(SplitScalars)
    }

    package enum SplitScalars: String, Hashable, Sendable {
        case digits, punctuation, whitespace

        package var set: ScalarSet {
            switch self {
            case .digits: .numeric
            case .punctuation: .punctuation
            case .whitespace: .spaces
            }
        }
    }

    package enum SplitBehavior: String, Hashable, Sendable, CaseIterable {
        case removed = "Removed"
        case isolated = "Isolated"
        case mergedWithPrevious = "MergedWithPrevious"
        case mergedWithNext = "MergedWithNext"
        case
            contiguous = "Contiguous"
    }

    package enum PrependScheme: String, Hashable, Sendable { case always, first, never }

    package let steps: [Step]
    /// A scanner that does what the steps do, in one pass.
    private let scanner: PieceScanner?

    package init(_ steps: [Step]) {
        self.steps = steps
        scanner = Self.scanner(for: steps)
    }

    private static func scanner(for steps: [Step]) -> PieceScanner? {
        switch (steps.count, steps.first, steps.last) {
        case (1, .byteLevel(false, true), _): return .gpt2
        case (2, .split(.scalars(.digits), .isolated, false), .byteLevel(false, true)): return .smollm
        case (2, .split(.scanner(_, let scanner), .isolated, false), .byteLevel(false, false)): return scanner
        // cl100k's patterns leave nothing between their matches, so removing the rest changes nothing.
        case (2, .split(.scanner(_, let scanner), .removed, true), .byteLevel(false, false)): return scanner
        default: return nil
        }
    }

    /// Whether both cut all texts into the same pieces, as far as their forms show it.
    package func cutsLike(_ other: PreTokenizer) -> Bool {
        if let scanner { return scanner == other.scanner }
        return file() == other.file()
    }

    /// Whether pieces are always bytes of the text itself, so that the text need not be copied.
    package var keepsText: Bool {
        steps.allSatisfy { step in
            switch step {
            case .split: true
            case .metaspace: false
            case .byteLevel(let addsPrefixSpace, _): !addsPrefixSpace
            }
        }
    }

    /// Calls `body` with each piece of a text that the steps do not change.
    package func forEachPiece(in text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ body: (Range<Int>) -> Void) {
        if let scanner { return scanner.forEachPiece(in: text, range, body) }
        if steps.isEmpty {
            if !range.isEmpty { body(range) }
            return
        }
        var pieces = range.isEmpty ? [] : [range]
        for i in steps.indices { pieces = cut(text, pieces, step: i) }
        pieces.forEach(body)
    }

    /// Returns the pieces that a step makes of pieces, without the changes that it makes to the text.
    private func cut(_ text: UnsafeBufferPointer<UInt8>, _ pieces: [Range<Int>], step i: Int) -> [Range<Int>] {
        switch steps[i] {
        case .split(let splitter, let behavior, let isInverted):
            let afterBytes = steps[..<i].contains { if case .byteLevel = $0 { true } else { false } }
            return pieces.flatMap { piece in
                afterBytes ? Self.cutAlphabet(text, piece, splitter, behavior, isInverted) : Self.cut(text, piece, splitter, behavior, isInverted)
            }
        case .byteLevel(_, true): return pieces.flatMap { piece in Self.collect { PieceScanner.gpt2.forEachPiece(in: text, piece, $0) } }
        case .byteLevel, .metaspace: return pieces
        }
    }

    /// Returns the pieces of a text that the steps may change, with the changed text.
    package func pieces(of text: AlignedText) -> (text: AlignedText, pieces: [Range<Int>]) {
        var text = text
        var pieces = text.bytes.isEmpty ? [] : [0..<text.bytes.count]
        for (i, step) in steps.enumerated() {
            switch step {
            case .metaspace(let replacement, let scheme, let splits):
                (text, pieces) = Self.metaspace(text, pieces, Array(replacement.utf8), scheme, splits)
            case .byteLevel(true, _): (text, pieces) = Self.prefixSpaces(text, pieces)
            default: break
            }
            text.bytes.withUnsafeBufferPointer { pieces = cut($0, pieces, step: i) }
        }
        return (text, pieces)
    }

    private static func collect(_ body: ((Range<Int>) -> Void) -> Void) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        body { ranges.append($0) }
        return ranges
    }

    private static func metaspace(
        _ text: AlignedText, _ pieces: [Range<Int>], _ replacement: [UInt8], _ scheme: PrependScheme, _ splits: Bool
    ) -> (AlignedText, [Range<Int>]) {
        var out = AlignedText()
        var cuts: [Range<Int>] = []
        for piece in pieces {
            var part = AlignedText()
            part.append(text, piece)
            part = part.replacing({ Normalizer.forEachOccurrence(of: [0x20], in: $0, $1) }, with: replacement)
            let isWanted = scheme == .always || scheme == .first && part.starts.first == 0
            if isWanted, !part.bytes.starts(with: replacement) { part = part.prefixed(by: replacement) }
            let start = out.bytes.count
            out.append(part, 0..<part.bytes.count)
            let ranges = part.bytes.withUnsafeBufferPointer { buffer in
                splits
                    ? cut(buffer, 0..<buffer.count, .literal(String(decoding: replacement, as: UTF8.self)), .mergedWithNext, false)
                    : [0..<buffer.count]
            }
            cuts += ranges.map { start + $0.lowerBound..<start + $0.upperBound }
        }
        return (out, cuts)
    }

    private static func prefixSpaces(_ text: AlignedText, _ pieces: [Range<Int>]) -> (AlignedText, [Range<Int>]) {
        var out = AlignedText()
        var cuts: [Range<Int>] = []
        for piece in pieces {
            let start = out.bytes.count
            if text.bytes[piece.lowerBound] != 0x20 { out.append([0x20], from: text.starts[piece.lowerBound], to: text.starts[piece.lowerBound]) }
            out.append(text, piece)
            cuts.append(start..<out.bytes.count)
        }
        return (out, cuts)
    }

    // MARK: Splitting

    /// Returns the pieces that a `Split` step makes of one piece.
    private static func cut(
        _ text: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, _ splitter: Splitter, _ behavior: SplitBehavior, _ isInverted: Bool
    ) -> [Range<Int>] {
        var parts: [(range: Range<Int>, isMatch: Bool)] = []
        var next = piece.lowerBound
        func match(_ range: Range<Int>) {
            if next < range.lowerBound { parts.append((next..<range.lowerBound, isInverted)) }
            parts.append((range, !isInverted))
            next = range.upperBound
        }
        switch splitter {
        case .literal(let literal):
            Normalizer.forEachOccurrence(of: Array(literal.utf8), in: UnsafeBufferPointer(rebasing: text[piece])) {
                match(piece.lowerBound + $0.lowerBound..<piece.lowerBound + $0.upperBound)
            }
        case .pattern(_, let pattern): pattern.forEachMatch(in: text, piece, match)
        case .scanner(_, let scanner): scanner.forEachPiece(in: text, piece, match)
        case .scalars(let scalars):
            let set = scalars.set
            var i = piece.lowerBound
            while i < piece.upperBound {
                let length = scalarLength(text[i])
                if set.contains(PieceScanner.scalar(text, i)) { match(i..<i + length) }
                i += length
            }
        }
        if next < piece.upperBound { parts.append((next..<piece.upperBound, isInverted)) }
        return merged(parts, behavior)
    }

    private static func merged(_ parts: [(range: Range<Int>, isMatch: Bool)], _ behavior: SplitBehavior) -> [Range<Int>] {
        var out: [Range<Int>] = []
        func extend(_ range: Range<Int>) { out[out.count - 1] = out[out.count - 1].lowerBound..<range.upperBound }
        var wasMatch = false
        switch behavior {
        case .isolated: return parts.map(\.range)
        case .removed: return parts.filter { !$0.isMatch }.map(\.range)
        case .contiguous:
            for part in parts {
                if part.isMatch == wasMatch, !out.isEmpty { extend(part.range) } else { out.append(part.range) }
                wasMatch = part.isMatch
            }
        case .mergedWithPrevious:
            for part in parts {
                if part.isMatch, !wasMatch, !out.isEmpty { extend(part.range) } else { out.append(part.range) }
                wasMatch = part.isMatch
            }
        case .mergedWithNext:
            for part in parts.reversed() {
                if part.isMatch, !wasMatch, let last = out.last {
                    out[out.count - 1] = part.range.lowerBound..<last.upperBound
                } else {
                    out.append(part.range)
                }
                wasMatch = part.isMatch
            }
            out.reverse()
        }
        return out
    }

    /// Splits a piece after `ByteLevel`, where a step sees the stand-ins for bytes, as Falcon's digits do.
    private static func cutAlphabet(
        _ text: UnsafeBufferPointer<UInt8>, _ piece: Range<Int>, _ splitter: Splitter, _ behavior: SplitBehavior, _ isInverted: Bool
    ) -> [Range<Int>] {
        var mapped: [UInt8] = []
        var origin: [Int] = []
        for i in piece {
            for unit in ByteAlphabet.text(of: CollectionOfOne(text[i])).utf8 {
                mapped.append(unit)
                origin.append(i)
            }
        }
        origin.append(piece.upperBound)
        return mapped.withUnsafeBufferPointer { buffer in
            cut(buffer, 0..<buffer.count, splitter, behavior, isInverted).map { origin[$0.lowerBound]..<origin[$0.upperBound] }
        }
    }
}
