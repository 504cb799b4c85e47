import Core
import Foundation
import LanguageModel
import Testing
import Training

/// Exports of a trained model in every plain type and in shards.
@Suite(.enabled(if: Stories260K.files != nil, "stories260K is not on this machine"))
struct Stories260KTests {
    @Test(arguments: [(ElementType.f32, 5_000_000_000), (.f16, 5_000_000_000), (.bf16, 200_000), (.f32, 300_000)])
    func everyPlainTypeAndShards(type: ElementType, shardBytesMax: Int) throws {
        try withTemporaryDirectory { directory in
            _ = try Stories260K(writingTo: directory)
            let source = try ModelSource.open(directory)
            #expect(source.tensorNames.count == 47)
            var exporter = ModelExporter(source: source)
            exporter.dataType = type
            exporter.shardBytesMax = shardBytesMax
            try exporter.write(to: directory + "/copy")
            let copy = try ModelSource.open(directory + "/copy")
            #expect(copy.configuration == source.configuration)
            // Tolerance from the significands of 24, 11 and 8 bits, rounded to nearest.
            let tolerance: Float = type == .f32 ? 0 : type == .f16 ? 0x1p-11 : 0x1p-8
            for name in source.tensorNames {
                let count = try #require(source.shape(of: name)).count
                var original = [Float](repeating: 0, count: count)
                var values = original
                try source.copyFloats(name, into: &original)
                try copy.copyFloats(name, into: &values)
                #expect(copy.dataType(of: name) == type)
                #expect(zip(original, values).allSatisfy { abs($0 - $1) <= tolerance * abs($0) + (type == .f16 ? 0x1p-25 : 0) }, "\(name)")
            }
        }
    }

    @Test func aModelWithoutATokenizerSaysSo() throws {
        try withTemporaryDirectory { directory in
            _ = try Stories260K(writingTo: directory)
            let source = try ModelSource.open(directory)
            let error = #expect(throws: ModelError.self) { try source.tokenizer }
            #expect(error?.code == .notFound && error?.description.contains("tokenizer.json") == true)
        }
    }
}
