/// A text's tokens, and the bytes of the text that each stands for.
public struct Encoding: Hashable, Sendable {
    public let tokens: [Int32]
    /// One span per token. A token that stands for nothing in the text, such as a space that the tokenizer prepends, has an empty span.
    public let spans: [Range<Int>]
}

/// Collects tokens while a text is encoded.
struct TokenSink {
    let wantsSpans: Bool
    var tokens: [Int32] = []
    var spans: [Range<Int>] = []

    mutating func append(_ token: Int32, _ span: Range<Int>) {
        tokens.append(token)
        if wantsSpans { spans.append(span) }
    }
}

extension Tokenizer {
    /// Returns a text's tokens with the span of each.
    ///
    /// - Parameters:
    ///   - allowsSpecial: whether a control token that the text spells at this range of its UTF-8 is recognised.
    public func encoding(of text: String, allowsSpecial: (_ token: Int32, _ range: Range<Int>) -> Bool) -> Encoding {
        var text = text
        return text.withUTF8 { bytes in
            var sink = TokenSink(wantsSpans: true)
            encode(bytes, into: &sink) { entry, range in allowsSpecial(entry.token, range) || !entry.isSpecial }
            return Encoding(tokens: sink.tokens, spans: sink.spans)
        }
    }

    func encode(_ bytes: UnsafeBufferPointer<UInt8>, into sink: inout TokenSink, allows: (AddedTokens.Entry, Range<Int>) -> Bool) {
        let keepsText = normalizer == nil && preTokenizer.keepsText
        added.raw.split(bytes, 0..<bytes.count, allows: allows) { range in
            let isPlain = keepsText || (preTokenizer.keepsText && normalizer?.keepsASCII == true && bytes[range].allSatisfy { $0 < 0x80 })
            if isPlain { encodePlain(bytes, range, into: &sink, allows) } else { encodeChanged(bytes[range], into: &sink, allows) }
        } token: { token, range in
            sink.append(token, range)
        }
    }

    /// Encodes a stretch that the normaliser and the pre-tokenizer do not change.
    private func encodePlain(
        _ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, into sink: inout TokenSink,
        _ allows: (AddedTokens.Entry, Range<Int>) -> Bool
    ) {
        added.normalized.split(bytes, range, allows: allows) { range in
            preTokenizer.forEachPiece(in: bytes, range) { piece in encode(piece: bytes[piece], into: &sink) { $0 } }
        } token: { token, range in
            sink.append(token, range)
        }
    }

    private func encodeChanged(
        _ bytes: Slice<UnsafeBufferPointer<UInt8>>, into sink: inout TokenSink, _ allows: (AddedTokens.Entry, Range<Int>) -> Bool
    ) {
        let text = AlignedText(bytes)
        let normalized = normalizer?.apply(text) ?? text
        normalized.bytes.withUnsafeBufferPointer { buffer in
            added.normalized.split(buffer, 0..<buffer.count, allows: { allows($0, normalized.origin(of: $1)) }) { range in
                if preTokenizer.keepsText {
                    preTokenizer.forEachPiece(in: buffer, range) { piece in
                        encode(piece: buffer[piece], into: &sink) { normalized.origin(of: $0) }
                    }
                    return
                }
                var part = AlignedText()
                part.append(normalized, range)
                let (changed, pieces) = preTokenizer.pieces(of: part)
                changed.bytes.withUnsafeBufferPointer { changedBytes in
                    for piece in pieces { encode(piece: changedBytes[piece], into: &sink) { changed.origin(of: $0) } }
                }
            } token: { token, range in
                sink.append(token, normalized.origin(of: range))
            }
        }
    }

    private func encode(piece: Slice<UnsafeBufferPointer<UInt8>>, into sink: inout TokenSink, origin: (Range<Int>) -> Range<Int>) {
        let first = sink.tokens.count
        if ignoresMerges, let token = vocabulary.token(piece) {
            sink.tokens.append(token)
        } else {
            merges.encode(piece, vocabulary, into: &sink.tokens)
        }
        guard sink.wantsSpans else { return }
        let lengths = sink.tokens[first...].map(matchedLength)
        let isWhole = lengths.reduce(0, +) == piece.count
        var next = piece.startIndex
        for length in lengths {
            // If bytes were dropped or are unknown, each token stands for the whole piece.
            let range = isWhole ? next..<next + length : piece.startIndex..<piece.endIndex
            sink.spans.append(origin(range))
            next += length
        }
    }

    /// Returns the number of the piece's bytes that a token has consumed.
    private func matchedLength(_ token: Int32) -> Int {
        let text = vocabulary.tokens[Int(token)]
        if case .characters = merges.unit, text.count == 6, let byte = TokenDecoder.byte(Array(text)), merges.byteTokens[Int(byte)] == token {
            return 1
        }
        return text.count
    }
}
