/// The samples of one machine that are committed: ranges, ascending, merged where they touch. One range as a rule; a gap for
/// each share that was not used.
struct SampleSet: Hashable, Sendable {
    private(set) var ranges: [Range<UInt64>] = []

    /// The end of the last range.
    var end: UInt64 { ranges.last?.upperBound ?? 0 }

    /// False, and nothing changes, where one of `samples` is there already.
    mutating func insert(_ samples: Range<UInt64>) -> Bool {
        guard !samples.isEmpty else { return true }
        // New samples nearly always lie behind all others.
        var at = ranges.endIndex
        while at > 0, ranges[at - 1].lowerBound > samples.lowerBound { at -= 1 }
        if at > 0, ranges[at - 1].upperBound > samples.lowerBound { return false }
        if at < ranges.endIndex, ranges[at].lowerBound < samples.upperBound { return false }
        ranges.insert(samples, at: at)
        if at + 1 < ranges.count, ranges[at].upperBound == ranges[at + 1].lowerBound {
            ranges[at] = ranges[at].lowerBound..<ranges[at + 1].upperBound
            ranges.remove(at: at + 1)
        }
        if at > 0, ranges[at - 1].upperBound == ranges[at].lowerBound {
            ranges[at - 1] = ranges[at - 1].lowerBound..<ranges[at].upperBound
            ranges.remove(at: at)
        }
        return true
    }
}

extension Contribution {
    /// The numbers of its samples.
    var samples: Range<UInt64> { UInt64(firstSample)..<UInt64(firstSample) + UInt64(bytes.count) }
}
