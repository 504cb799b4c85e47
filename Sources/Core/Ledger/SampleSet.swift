/// The committed samples of one machine: ascending ranges, merged where they touch. Usually there is one range, with a gap for each share that was
/// not used.
package struct SampleSet: Hashable, Sendable {
    package private(set) var ranges: [Range<UInt64>] = []

    package init() {}

    /// The end of the last range.
    package var end: UInt64 { ranges.last?.upperBound ?? 0 }

    /// Number of samples in the set.
    package var count: UInt64 { ranges.reduce(0) { $0 + UInt64($1.count) } }

    /// Whether the set contains any of `samples`.
    package func overlaps(_ samples: Range<UInt64>) -> Bool {
        guard !samples.isEmpty, samples.lowerBound < end else { return false }
        let at = place(of: samples)
        if at > 0, ranges[at - 1].upperBound > samples.lowerBound { return true }
        return at < ranges.endIndex && ranges[at].lowerBound < samples.upperBound
    }

    /// Adds samples. Returns false and changes nothing if the set already contains any of them.
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

    /// Removes those of `samples` that are in the set.
    package mutating func remove(_ samples: Range<UInt64>) {
        guard overlaps(samples) else { return }
        ranges = ranges.flatMap { range in
            [
                range.lowerBound..<min(range.upperBound, max(range.lowerBound, samples.lowerBound)),
                max(range.lowerBound, min(range.upperBound, samples.upperBound))..<range.upperBound,
            ].filter { !$0.isEmpty }
        }
    }

    /// Returns the index at which `samples` belong. New samples are nearly always behind all others.
    private func place(of samples: Range<UInt64>) -> Int {
        var at = ranges.endIndex
        while at > 0, ranges[at - 1].lowerBound > samples.lowerBound { at -= 1 }
        return at
    }
}

extension Contribution {
    /// The numbers of the contribution's samples.
    var samples: Range<UInt64> { UInt64(firstSample)..<UInt64(firstSample) + UInt64(bytes.count) }
}
