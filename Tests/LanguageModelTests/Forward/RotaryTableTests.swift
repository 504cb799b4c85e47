import Kernels
import LanguageModel
import Testing

/// The table's sines of the inverse rotation.
struct RotaryTableTests {
    @Test func theInverseUndoesTheRotation() throws {
        let model = try TrainableModel(source: EstimatorTests.tiny())
        model.preparePositions(6)
        let rotation = try #require(model.description.rotations.first)
        let table = try #require(model.rotary.first)
        let half = rotation.frequencies.count
        #expect(table.positions == 6)
        for i in 0..<6 * half { #expect(table.negatedSine[i] == -table.sine[i]) }

        let (heads, size) = (model.sizes.heads, model.sizes.headDimension)
        let start = (0..<6 * heads * size).map { Float($0 % 17) - 8 }
        let x = ScratchBuffer(start)
        let positions = ScratchBuffer<Int32>([0, 1, 2, 3, 4, 5])
        func rotate(_ sine: UnsafeMutablePointer<Float>) {
            ob_rope(
                x.pointer, heads * size, positions.pointer, 6, heads, size, rotation.width, rotation.isInterleaved ? 1 : 0, table.cosine, sine)
        }
        rotate(table.sine)
        #expect(start.indices.contains { abs(x.pointer[$0] - start[$0]) > 0.1 })
        rotate(table.negatedSine)
        for i in start.indices { #expect(abs(x.pointer[i] - start[i]) < 1e-5) }
    }
}
