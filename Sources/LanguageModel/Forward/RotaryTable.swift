import Glibc

/// Cosines and sines of the rotary position embedding: width/2 of each per position (Su et al., arXiv 2104.09864).
package final class RotaryTable: Sendable {
    package nonisolated(unsafe) let cosine: UnsafeMutablePointer<Float>  // written in init only
    package nonisolated(unsafe) let sine: UnsafeMutablePointer<Float>
    /// The sines of the inverse rotation, which is also the transpose.
    package nonisolated(unsafe) let negatedSine: UnsafeMutablePointer<Float>
    package let positions: Int

    package init(_ rotation: Rotation, positions: Int) {
        let frequencies = rotation.frequencies
        let half = frequencies.count
        self.positions = positions
        cosine = .allocate(capacity: max(positions * half, 1))
        sine = .allocate(capacity: max(positions * half, 1))
        negatedSine = .allocate(capacity: max(positions * half, 1))
        for (i, frequency) in frequencies.enumerated() {
            for p in 0..<positions {
                cosine[p * half + i] = Float(cos(Double(p) * frequency) * rotation.amplitude)
                sine[p * half + i] = Float(sin(Double(p) * frequency) * rotation.amplitude)
                negatedSine[p * half + i] = -sine[p * half + i]
            }
        }
    }

    deinit {
        cosine.deallocate()
        sine.deallocate()
        negatedSine.deallocate()
    }
}
