/// The samples of one machine that are committed: ranges, ascending, merged where they touch. One range as a rule; a gap for
/// each share that was not used.
package struct SampleSet: Hashable, Sendable {
    package private(set) var ranges: [Range<UInt64>] = []

    package init() {}

    /// The end of the last range.
    package var end: UInt64 { ranges.last?.upperBound ?? 0 }

    /// Whether one of `samples` is there.
    package func overlaps(_ samples: Range<UInt64>) -> Bool {
        guard !samples.isEmpty, samples.lowerBound < end else { return false }
        let at = place(of: samples)
        if at > 0, ranges[at - 1].upperBound > samples.lowerBound { return true }
        return at < ranges.endIndex && ranges[at].lowerBound < samples.upperBound
    }

    /// False, and nothing changes, where one of `samples` is there already.
    @discardableResult package mutating func insert(_ samples: Range<UInt64>) -> Bool {
        guard !samples.isEmpty else { return true }
        guard !overlaps(samples) else { return false }
        let at = place(of: samples)
        let follows = at > 0 && ranges[at - 1].upperBound == samples.lowerBound
        let precedes = at < ranges.endIndex && ranges[at].lowerBound == samples.upperBound
        switch (follows, precedes) {
        case (true, true):
            ranges[at - 1] = ranges[at - 1].lowerBound..<ranges[at].upperBound
            ranges.remove(at: at)
        case (true, false): ranges[at - 1] = ranges[at - 1].lowerBound..<samples.upperBound
        case (false, true): ranges[at] = samples.lowerBound..<ranges[at].upperBound
        case (false, false): ranges.insert(samples, at: at)
        }
        return true
    }

    /// Takes `samples` out, as far as they are there.
    package mutating func remove(_ samples: Range<UInt64>) {
        guard overlaps(samples) else { return }
        ranges = ranges.flatMap { range in
            [
                range.lowerBound..<min(range.upperBound, max(range.lowerBound, samples.lowerBound)),
                max(range.lowerBound, min(range.upperBound, samples.upperBound))..<range.upperBound,
            ].filter { !$0.isEmpty }
        }
    }

    /// Where `samples` would be inserted: new ones nearly always behind all others.
    private func place(of samples: Range<UInt64>) -> Int {
        var at = ranges.endIndex
        while at > 0, ranges[at - 1].lowerBound > samples.lowerBound { at -= 1 }
        return at
    }
}

extension Contribution {
    /// The numbers of its samples.
    var samples: Range<UInt64> { UInt64(firstSample)..<UInt64(firstSample) + UInt64(bytes.count) }
}
