import Core
import TestSupport
import Testing

@Suite struct SampleSetTests {
    @Test("Ranges in any order act like a set of single samples", arguments: 0..<50)
    func likeASet(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var set = SampleSet()
        var singles: Set<UInt64> = []
        for _ in 0..<60 {
            let first = UInt64.random(in: 0..<120, using: &random)
            let samples = first..<first + UInt64.random(in: 0..<8, using: &random)
            let isFree = singles.isDisjoint(with: samples)
            #expect(set.overlaps(samples) != isFree)
            #expect(set.insert(samples) == isFree)
            if isFree { singles.formUnion(samples) }
            #expect(set.ranges.flatMap { Array($0) } == singles.sorted())
            // Ranges that touch are merged, so a machine without gaps is one range however long the run is.
            #expect(zip(set.ranges, set.ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
            #expect(set.end == (singles.max().map { $0 + 1 } ?? 0))
        }
    }
}
