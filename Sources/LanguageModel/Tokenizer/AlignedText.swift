/// A text on its way to tokens, as UTF-8, with the place in the original text from which each byte came.
package struct AlignedText {
    package var bytes: [UInt8]
    /// For each byte the beginning and the end of the original bytes that it stands for.
    package var starts: [Int32]
    package var ends: [Int32]

    package init() { (bytes, starts, ends) = ([], [], []) }

    package init(_ text: Slice<UnsafeBufferPointer<UInt8>>) {
        bytes = Array(text)
        let first = Int32(clamping: text.startIndex)
        starts = (0..<Int32(clamping: bytes.count)).map { first + $0 }
        ends = starts.map { $0 + 1 }
    }

    package mutating func append(_ text: some Sequence<UInt8>, from start: Int32, to end: Int32) {
        for byte in text {
            bytes.append(byte)
            starts.append(start)
            ends.append(end)
        }
    }

    package mutating func append(_ other: AlignedText, _ range: Range<Int>) {
        bytes.append(contentsOf: other.bytes[range])
        starts.append(contentsOf: other.starts[range])
        ends.append(contentsOf: other.ends[range])
    }

    /// Returns the range of original bytes that some of these bytes stand for.
    package func origin(of range: Range<Int>) -> Range<Int> {
        guard !range.isEmpty, range.upperBound <= bytes.count else { return 0..<0 }
        let start = Int(starts[range.lowerBound])
        return start..<max(start, Int(ends[range.upperBound - 1]))
    }

    /// Returns the text with each match replaced. The replacement stands for the whole match.
    package func replacing(_ matches: (UnsafeBufferPointer<UInt8>, (Range<Int>) -> Void) -> Void, with content: [UInt8]) -> AlignedText {
        var out = AlignedText()
        var next = 0
        bytes.withUnsafeBufferPointer { buffer in
            matches(buffer) { match in
                out.append(self, next..<match.lowerBound)
                let origin = origin(of: match)
                out.append(content, from: Int32(origin.lowerBound), to: Int32(origin.upperBound))
                next = match.upperBound
            }
        }
        out.append(self, next..<bytes.count)
        return out
    }

    /// Returns the text with a prefix that stands for no original bytes.
    package func prefixed(by content: [UInt8]) -> AlignedText {
        var out = AlignedText()
        let start = starts.first ?? 0
        out.append(content, from: start, to: start)
        out.append(self, 0..<bytes.count)
        return out
    }
}
