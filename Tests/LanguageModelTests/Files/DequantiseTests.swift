import Foundation
import Kernels
import LanguageModel
import Testing
import Training

@Suite struct DequantiseTests {
    /// Every format's values, from the vector and the portable kernels, equal those of the Python package gguf, to the last bit.
    @Test func valuesAreGGUFs() throws {
        let data = try Data(contentsOf: fixture("dequantise.bin"))
        var position = 0
        func word() -> Int {
            defer { position += 4 }
            return data[position..<position + 4].enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        }
        var types: Set<ElementType> = []
        while position < data.count {
            let number = word()
            let count = word()
            let size = word()
            let type = try #require(ElementType(rawValue: Int32(number)))
            types.insert(type)
            // The offset of one byte tests misaligned blocks, because blocks in files are not aligned.
            let blocks = [0] + [UInt8](data[position..<position + size])
            position += size
            let expected = (0..<count).map { _ in UInt32(word()) }
            for dequantise in [ob_dequantise, ob_dequantise_portable] {
                var values = [Float](repeating: .nan, count: count)
                blocks.withUnsafeBytes { dequantise(type.rawValue, $0.baseAddress! + 1, &values, count) }
                #expect(values.map(\.bitPattern) == expected, "\(type)")
            }
        }
        #expect(types == Set(ElementType.allCases))
    }

    @Test func halvesRoundToNearestEven() {
        let values: [Float] = [0, -0.0, 1, 1.0004883, 1.0014648, 65504, 65519.996, 65520, 1e30, 6e-8, 2.9e-8, 3e-8, 6.097e-5, .infinity, 0.1, -0.1]
        var halves = [UInt16](repeating: 0, count: values.count)
        ob_floats_to_f16(values, &halves, values.count)
        #expect(
            halves == [
                0, 0x8000, 0x3c00, 0x3c00, 0x3c02, 0x7bff, 0x7bff, 0x7c00, 0x7c00, 1, 0, 1, 0x03ff, 0x7c00, 0x2e66, 0xae66,
            ])
        var brain = [UInt16](repeating: 0, count: 4)
        ob_floats_to_bf16([1, 1.00390625, 1.01171875, .nan], &brain, 4)
        #expect(brain[0...2] == [0x3f80, 0x3f80, 0x3f82])
        #expect(brain[3] & 0x7f80 == 0x7f80 && brain[3] & 0x7f != 0)
    }
}
