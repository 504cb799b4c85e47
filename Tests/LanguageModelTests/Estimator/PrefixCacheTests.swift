import Core
import Foundation
import LanguageModel
import Testing

struct PrefixCacheTests {
    private func withDirectory(_ body: (URL) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "onebyte-prefix-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try body(directory)
    }

    private func files(_ directory: URL) throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: directory.path) }

    /// Not `==`: other suites of this process may change the number of BLAS threads between two evaluations, and sums
    /// in another order differ in their last bits.
    private func isClose<Loss: BinaryFloatingPoint>(_ a: [Loss], _ b: [Loss]) -> Bool {
        a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) < 1e-5 }
    }

    @Test func memoryAndFileGiveTheSameLosses() throws {
        try withDirectory { directory in
            let source = try EstimatorTests.tiny()
            let model = try EstimatorTests.model(source, ["layers.2"])
            let set = try ExampleSet(EstimatorFixture.shared.get().trainingExamples(), for: source.configuration)
            let inMemory = try PrefixCache(model: model, set: set)
            let wanted = try Evaluator(model: model, cache: inMemory).evaluate().items.map(\.loss)
            let options = PrefixCache.Options(memoryLimit: 0, directory: directory.path)

            var spilled: PrefixCache? = try PrefixCache(model: model, set: set, options: options)
            #expect(spilled?.isFilled == false)
            var calls = 0
            try spilled?.fill { done, total in
                calls += 1
                return done <= total
            }
            #expect(calls > 0)
            #expect(try files(directory).count == 1)
            #expect(try files(directory)[0].hasSuffix(".cache"), "renamed once it is whole")
            #expect(isClose(try Evaluator(model: model, cache: #require(spilled)).evaluate().items.map(\.loss), wanted))
            spilled = nil

            let again = try PrefixCache(model: model, set: set, options: options)
            #expect(again.isFilled, "a restart reuses the file")
            #expect(again.warnings.isEmpty)
            #expect(isClose(try Evaluator(model: model, cache: again).evaluate().items.map(\.loss), wanted))

            let other = try PrefixCache(
                model: model, set: set, options: .init(memoryLimit: 0, directory: directory.path, baseDigest: .sha256([1])))
            #expect(!other.isFilled, "another base model is another key")
            let shorter = try PrefixCache(model: model, set: ExampleSet(Array(set.examples.dropLast()), for: source.configuration), options: options)
            #expect(!shorter.isFilled, "other data are another key")
        }
    }

    @Test(arguments: [0, 20, 64, 1000, -1])
    func aDamagedFileIsComputedAgain(_ at: Int) throws {
        try withDirectory { directory in
            let source = try EstimatorTests.tiny()
            let model = try EstimatorTests.model(source, ["layers.2"])
            let set = try ExampleSet(EstimatorFixture.shared.get().trainingExamples(), for: source.configuration)
            let options = PrefixCache.Options(memoryLimit: 0, directory: directory.path)
            try PrefixCache(model: model, set: set, options: options).fill()
            let file = directory.appending(path: try #require(files(directory).first))
            var bytes = try Data(contentsOf: file)
            bytes[at < 0 ? bytes.count + at : at] ^= 0x10
            try bytes.write(to: file)
            let cache = try PrefixCache(model: model, set: set, options: options)
            #expect(!cache.isFilled)
            #expect(cache.warnings.count == 1)
            try cache.fill()
            #expect(try PrefixCache(model: model, set: set, options: options).isFilled, "the good file took its place")
            try Data(bytes.dropLast(7)).write(to: file)
            #expect(try PrefixCache(model: model, set: set, options: options).warnings.count == 1)
        }
    }

    @Test func stoppingKeepsWhatIsDoneAndLeavesNoFile() throws {
        try withDirectory { directory in
            let source = try EstimatorTests.tiny()
            let model = try EstimatorTests.model(source, ["layers.2"])
            let some = try EstimatorFixture.shared.get().trainingExamples()
            let many = Array(repeating: some, count: 30).flatMap { $0 }
            let set = try ExampleSet(many, for: source.configuration)
            var cache: PrefixCache? = try PrefixCache(model: model, set: set, options: .init(memoryLimit: 0, directory: directory.path))
            let error = try #require(throws: TrainingError.self) { try cache?.fill { _, _ in false } }
            #expect(error.code == .cancelled)
            #expect(cache?.isFilled == false)
            var firstDone = 0
            try cache?.fill { done, total in
                if firstDone == 0 { firstDone = total }
                return true
            }
            #expect(firstDone < set.positionCount, "it goes on where it stopped")
            cache = try PrefixCache(model: model, set: set, options: .init(memoryLimit: 0, directory: directory.path, baseDigest: .sha256([2])))
            cache = nil
            #expect(try files(directory).allSatisfy { $0.hasSuffix(".cache") })
        }
    }

    @Test func aDirectoryThatIsNotThereIsAClearError() throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.2"])
        let set = try ExampleSet(EstimatorFixture.shared.get().trainingExamples(), for: source.configuration)
        let error = try #require(throws: TrainingError.self) {
            try PrefixCache(model: model, set: set, options: .init(memoryLimit: 0, directory: "/nowhere/at/all"))
        }
        #expect(error.code == .cacheFile)
        #expect(error.description.contains("/nowhere/at/all"))
    }
}
