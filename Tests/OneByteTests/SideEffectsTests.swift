import Foundation
import OneByte
import Testing

@Suite struct SideEffectsTests {
    private func said(tensor: String, part: Double) throws -> String {
        let json = """
            {"update_norm": 3.7, "update_relative": 0, "update_largest": 1.9, "most_moved": {"tensor": "\(tensor)", "part": \(part)}}
            """
        return try JSONDecoder().decode(SideEffects.self, from: Data(json.utf8)).rows.map(\.text).joined(separator: "\n")
    }

    @Test("An adapter's movement is told beside the state that it adds to, a matrix's beside its own norm; too far is said")
    func movement() throws {
        #expect(try said(tensor: "final.adapter", part: 0.057).contains("final.adapter adds 5.7 % of a state's norm to it"))
        let matrix = try said(tensor: "model.layers.29.mlp.down_proj.weight", part: 0.6)
        #expect(matrix.contains("down_proj.weight has moved most, by 60.0 % of its norm, which is too far"), "\(matrix)")
    }
}
