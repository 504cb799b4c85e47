import Core
import Foundation
import LanguageModel
import Training

/// A cache of hidden states with a file of anybody's making.
///
/// The first byte of an input selects the file: a finished one, an unfinished one, or the blocks underway. The rest is the file without the
/// parts that a fuzzer can't guess: the key, and the checksum at the end.
enum FuzzedPrefix {
    private struct Fixture: Sendable {
        let model: TrainableModel
        let set: ExampleSet
        /// The finished file's name, and its key.
        let name: String
        let key: [UInt8]
    }

    /// Bytes in front of the key.
    private static let headBytes = 16
    private static let blockCount = 2
    private static let fixture = Result { try makeFixture() }

    /// Reads the file as a worker does that starts, and computes what it lacks.
    ///
    /// - Parameter directory: a directory that this replaces.
    static func read(_ input: [UInt8], directory: String) throws {
        let fixture = try fixture.get()
        try? FileManager.default.removeItem(atPath: directory)
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        var file = Array(input.dropFirst().prefix(headBytes)) + fixture.key + input.dropFirst(1 + headBytes)
        let kind = Int(input.first ?? 0) % 3
        let ending = ["", ".partial", ".underway"][kind]
        // A checksum of the head and the blocks' checksums, or of everything.
        let checked = kind < 2 ? Array(file.prefix(64) + file.suffix(4 * blockCount)) : file
        withUnsafeBytes(of: CRC32C.checksum(checked).littleEndian) { file += $0 }
        try Data(file).write(to: URL(filePath: "\(directory)/\(fixture.name)\(ending)"))
        let cache = try PrefixCache(model: fixture.model, set: fixture.set, options: options(directory))
        precondition((0...1).contains(cache.filledPart))
        try cache.fill()
        precondition(cache.isFilled && cache.filledPart == 1)
        for example in 0..<fixture.set.count { precondition(!cache.states(ofExample: example).isEmpty) }
    }

    private static func options(_ directory: String) -> PrefixCache.Options { .init(memoryLimit: 0, directory: directory) }

    private static func makeFixture() throws -> Fixture {
        let directory = FileManager.default.temporaryDirectory.path + "/onebyte-fuzz-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FuzzedModel.write(to: directory + "/model")
        let model = try TrainableModel(source: .open(directory + "/model"))
        // Enough for two blocks, of seven and of three examples.
        let examples = (0..<10).map { i in
            let tokens = (0..<40).map { Int32((i * 5 + $0 * 3) % 16) }
            return Example(sequences: [TokenSequence(tokens: tokens, targets: [.init(position: 37 + i % 3, token: 3)])], objective: .tokens)
        }
        let set = try ExampleSet(examples, for: model.configuration)
        let caches = directory + "/caches"
        try PrefixCache(model: model, set: set, options: options(caches)).fill()
        guard let name = try FileManager.default.contentsOfDirectory(atPath: caches).first else { throw CocoaError(.fileNoSuchFile) }
        let bytes = [UInt8](try Data(contentsOf: URL(filePath: "\(caches)/\(name)")))
        return Fixture(model: model, set: set, name: name, key: Array(bytes[headBytes..<headBytes + 32]))
    }
}
