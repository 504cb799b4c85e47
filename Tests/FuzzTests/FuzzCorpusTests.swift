import Foundation
import FuzzTargets
import TestSupport
import Testing

/// Runs every parser on the fuzzers' first inputs and findings, and on small changes of them. A trap ends the test process.
@Suite struct FuzzCorpusTests {
    private static let corpus = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fuzz/corpus")

    @Test("No input of the corpus, whole or damaged, traps a parser", arguments: FuzzTarget.allCases)
    func corpusIsRefusedOrRead(_ target: FuzzTarget) throws {
        let folder = Self.corpus.appendingPathComponent(target.rawValue)
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil).sorted { $0.path < $1.path }
        #expect(!files.isEmpty, "\(folder.path) has no input")
        let directory = FileManager.default.temporaryDirectory.path + "/onebyte-fuzz-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var random = SeededRandom(seed: 1)
        for file in files {
            let bytes = [UInt8](try Data(contentsOf: file))
            target.run(bytes, directory: directory)
            for _ in 0..<20 { target.run(Self.damaged(bytes, by: &random), directory: directory) }
        }
    }

    /// Makes one to four changes: a changed byte, a cut, a doubled part, or an extreme number in place of eight bytes.
    private static func damaged(_ bytes: [UInt8], by random: inout SeededRandom) -> [UInt8] {
        var bytes = bytes
        for _ in 0...Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
            let at = Int.random(in: bytes.indices, using: &random)
            switch Int.random(in: 0...3, using: &random) {
            case 0: bytes[at] = .random(in: .min ... .max, using: &random)
            case 1: bytes.removeSubrange(at..<min(at + Int.random(in: 1...64, using: &random), bytes.count))
            case 2: bytes.insert(contentsOf: bytes[at..<min(at + 16, bytes.count)], at: at)
            default:
                let extreme: UInt64 = [0, 1, .max, .max >> 1, 1 << 31, 1 << 32][Int.random(in: 0...5, using: &random)]
                let little = withUnsafeBytes(of: extreme.littleEndian, Array.init)
                for (i, byte) in little.enumerated() where at + i < bytes.count { bytes[at + i] = byte }
            }
        }
        return bytes
    }
}
