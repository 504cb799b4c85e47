import Glibc

/// Cosines and sines of the rotary position embedding: a row of width/2 of each per position (Su et al., arXiv 2104.09864). If long texts
/// are rotated otherwise, the rows for these follow.
package final class RotaryTable: Sendable {
    package nonisolated(unsafe) let cosine: UnsafeMutablePointer<Float>  // written in init only
    package nonisolated(unsafe) let sine: UnsafeMutablePointer<Float>
    /// The sines of the inverse rotation, which is also the transpose.
    package nonisolated(unsafe) let negatedSine: UnsafeMutablePointer<Float>
    /// Number of tokens of the longest text for which there are rows.
    package let positions: Int
    /// Number of floats in a row.
    package let half: Int
    /// Number of tokens up to which a text is rotated by the first rows.
    private let usualLength: Int

    package init(_ rotation: Rotation, positions: Int) {
        half = rotation.width / 2
        self.positions = positions
        usualLength = rotation.longTexts?.length ?? .max
        let usual = min(positions, usualLength)
        let rows = usual + (positions > usual ? positions : 0)
        cosine = .allocate(capacity: max(rows * half, 1))
        sine = .allocate(capacity: max(rows * half, 1))
        negatedSine = .allocate(capacity: max(rows * half, 1))
        fill(0..<usual, rotation.frequencies, rotation.amplitude)
        fill(usual..<rows, rotation.longFrequencies, rotation.amplitude)
    }

    /// - Parameter rows: rows of the positions 0, 1, 2 and so on.
    private func fill(_ rows: Range<Int>, _ frequencies: [Double], _ amplitude: Double) {
        for (i, frequency) in frequencies.enumerated() {
            for row in rows {
                let angle = Double(row - rows.lowerBound) * frequency
                cosine[row * half + i] = Float(cos(angle) * amplitude)
                sine[row * half + i] = Float(sin(angle) * amplitude)
                negatedSine[row * half + i] = -sine[row * half + i]
            }
        }
    }

    /// Whether the length of a text makes a difference.
    package var hasLongTexts: Bool { usualLength < .max }

    /// Returns the row of the first position of a text of `length` tokens.
    package func firstRow(length: Int) -> Int { length > usualLength && positions > usualLength ? usualLength : 0 }

    deinit {
        cosine.deallocate()
        sine.deallocate()
        negatedSine.deallocate()
    }
}
