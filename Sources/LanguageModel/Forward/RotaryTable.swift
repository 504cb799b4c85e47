import Glibc

/// Cosines and sines of the rotary position embedding: for each position headDimension/2 of each (Su et al., arXiv 2104.09864).
package final class RotaryTable: Sendable {
    package nonisolated(unsafe) let cosine: UnsafeMutablePointer<Float>  // written in init only
    package nonisolated(unsafe) let sine: UnsafeMutablePointer<Float>
    package let positions: Int

    package init(positions: Int, headDimension: Int, theta: Double) {
        let half = headDimension / 2
        self.positions = positions
        cosine = .allocate(capacity: max(positions * half, 1))
        sine = .allocate(capacity: max(positions * half, 1))
        for i in 0..<half {
            let frequency = pow(theta, -2 * Double(i) / Double(headDimension))
            for p in 0..<positions {
                cosine[p * half + i] = Float(cos(Double(p) * frequency))
                sine[p * half + i] = Float(sin(Double(p) * frequency))
            }
        }
    }

    deinit {
        cosine.deallocate()
        sine.deallocate()
    }
}
