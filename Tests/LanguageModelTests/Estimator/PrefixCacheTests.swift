import Core
import Foundation
import LanguageModel
import Testing
import Training

struct PrefixCacheTests {
    private func withDirectory(_ body: (URL) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "onebyte-prefix-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try body(directory)
    }

    private func files(_ directory: URL) throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: directory.path) }

    /// Compares with a tolerance: other suites of this process may change the number of BLAS threads between two evaluations, and sums in
    /// another order differ in their last bits.
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
            var inBytes = options
            inBytes.precision = .int8
            #expect(try !PrefixCache(model: model, set: set, options: inBytes).isFilled, "another precision is another key")
            let shorter = try PrefixCache(model: model, set: ExampleSet(Array(set.examples.dropLast()), for: source.configuration), options: options)
            #expect(!shorter.isFilled, "other data are another key")

            // The same values under another configuration are another cache.
            let elsewhere = directory.appending(path: "model").path
            try FileManager.default.copyItem(atPath: source.path, toPath: elsewhere)
            let file = URL(filePath: elsewhere + "/config.json")
            var configuration = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
            configuration["rope_parameters"] = ["rope_theta": 50_000.0, "rope_type": "default"]
            try JSONSerialization.data(withJSONObject: configuration).write(to: file)
            let turned = try EstimatorTests.model(ModelSource.open(elsewhere), ["layers.2"])
            #expect(try !PrefixCache(model: turned, set: set, options: options).isFilled, "another θ is another key")
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

    /// Returns enough examples for several blocks.
    private func manyExamples(_ source: ModelSource) throws -> ExampleSet {
        let some = try EstimatorFixture.shared.get().trainingExamples()
        return try ExampleSet(Array(repeating: some, count: 40).flatMap { $0 }, for: source.configuration)
    }

    @Test func whatAStoppedProcessHasLeftCountsBlockByBlock() throws {
        try withDirectory { directory in
            let source = try EstimatorTests.tiny()
            let model = try EstimatorTests.model(source, ["layers.2"])
            let set = try manyExamples(source)
            let options = PrefixCache.Options(memoryLimit: 0, directory: directory.path)
            var cache: PrefixCache? = try PrefixCache(model: model, set: set, options: options)
            let error = try #require(throws: TrainingError.self) { try cache?.fill { _, _ in cache?.readyCount == 0 } }
            #expect(error.code == .cancelled)
            #expect(cache?.isFilled == false)
            let done = try #require(cache?.readyCount)
            #expect(done > 0)

            // Meanwhile another process does not use the locked file, and leaves nothing behind.
            var other: PrefixCache? = try PrefixCache(model: model, set: set, options: options)
            #expect(other?.readyCount == 0)
            #expect(try files(directory).count == 2, "the first one's, and nothing that a kill of the other could leave")
            try other?.fill()
            let inMemory = try PrefixCache(model: model, set: set)
            try inMemory.fill()
            #expect(try losses(model, #require(other)) == losses(model, inMemory))
            other = nil
            #expect(Set(try files(directory).map { String($0.split(separator: ".").last ?? "") }) == ["partial", "underway"])
            cache = nil
            // The blocks between two layers are another test's business.
            try FileManager.default.removeItem(at: directory.appending(path: #require(files(directory).first { $0.hasSuffix(".underway") })))

            // A flipped bit in the unfinished file costs its block and nothing else.
            let file = directory.appending(path: try #require(files(directory).first))
            var bytes = try Data(contentsOf: file)
            bytes[100] ^= 1
            try bytes.write(to: file)
            cache = try PrefixCache(model: model, set: set, options: options)
            let found = try #require(cache?.readyCount)
            #expect(found > 0 && found < done)
            #expect(cache?.warnings.first?.contains("was not finished") == true)
            var missing = 0
            try cache?.fill { _, total in
                missing = total
                return true
            }
            #expect(missing < set.positionCount, "it goes on where it stopped")
            let whole = try PrefixCache(model: model, set: set)
            try whole.fill()
            #expect(try losses(model, #require(cache)) == losses(model, whole))
            cache = nil
            #expect(try files(directory).map { $0.hasSuffix(".cache") } == [true])

            cache = try PrefixCache(model: model, set: set, options: .init(memoryLimit: 0, directory: directory.path, baseDigest: .sha256([2])))
            cache = nil
            #expect(try files(directory).count == 1, "a file with nothing in it is not left behind")
        }
    }

    private func losses(_ model: TrainableModel, _ cache: PrefixCache) throws -> [UInt32] {
        let losses = try Evaluator(model: model, cache: cache).evaluate().items.map(\.loss)
        return losses.map { Float($0).bitPattern }
    }

    /// States and the samples' bytes have the same bits, whichever way the states were computed.
    @Test(arguments: [["layers.2"], ["layers.1-2"], ["model.norm.weight"]], Precision.allCases)
    func filledBeforeOnDemandOrInSlicesGivesTheSameBits(_ patterns: [String], _ precision: Precision) throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, patterns)
        let set = try manyExamples(source)
        let order = ExampleOrder.firstEpoch(of: set.count, seed: 3)
        func gradients(threads: Int, prepare: (PrefixCache) throws -> Void, between: (PrefixCache) throws -> Void) throws -> [UInt32] {
            let cache = try PrefixCache(model: model, set: set, order: order, options: .init(threads: threads, precision: precision))
            try prepare(cache)
            let estimator = try Estimator(
                model: model, directions: Directions(seed: RunSeed(1), family: .rank1), cache: cache, options: .init(orderSeed: 3))
            return try (0..<12).flatMap { round in
                try between(cache)
                return try estimator.projectedGradients(machine: MachineID(5), samples: SampleNumber(round * 16)..<SampleNumber(round * 16 + 16))
                    .values.map(\.bitPattern)
            }
        }
        let before = try gradients(threads: 1, prepare: { try $0.fill() }, between: { _ in })
        for threads in [1, 3] {
            var filled: [Double] = []
            let onDemand = try gradients(threads: threads, prepare: { _ in }, between: { filled.append($0.filledPart) })
            #expect(onDemand == before)
            #expect(filled.first == 0 && filled[1] > 0 && filled[1] < 1, "only what is asked for: \(filled)")
            let inSlices = try gradients(
                threads: threads, prepare: { _ = try $0.fillSlice() }, between: { for _ in 0..<3 { _ = try $0.fillSlice() } })
            #expect(inSlices == before)
        }
    }

    /// An example's states in 8-bit integers do not depend on the examples beside it, nor on the order in which they are computed.
    @Test func statesInInt8DependOnTheExampleAlone() throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.2"])
        let examples = try EstimatorFixture.shared.get().trainingExamples()
        /// Returns the bits of each example's states.
        func states(_ examples: [Example], order: [Int]? = nil, precision: Precision = .int8) throws -> [[UInt32]] {
            let set = try ExampleSet(examples, for: source.configuration)
            let cache = try PrefixCache(model: model, set: set, order: order, options: .init(precision: precision))
            try cache.fill()
            return examples.indices.map { cache.states(ofExample: $0).map(\.bitPattern) }
        }
        let together = try states(examples)
        #expect(together.allSatisfy { !$0.isEmpty })
        #expect(try states(examples, order: examples.indices.reversed()) == together)
        #expect(try examples.flatMap { try states([$0]) } == together)
        #expect(try states(examples, precision: .float) != together)
    }

    /// A file's own 8-bit blocks are taken as they are, so a file of the same values in F32 gives other states, and must not find these.
    @Test func statesInInt8BelongToTheFileThatStoresTheWeights() throws {
        try withDirectory { directory in
            let packed = try ModelSource.open(fixture("tiny-llama.gguf").path)
            try ModelExporter(source: packed).write(to: directory.path + "/floats")
            let floats = try ModelSource.open(directory.path + "/floats")
            #expect(floats.baseManifest(threads: 1) == packed.baseManifest(threads: 1))
            let examples = try EstimatorFixture.shared.get().trainingExamples()
            let caches = directory.path + "/caches"
            try FileManager.default.createDirectory(atPath: caches, withIntermediateDirectories: true)
            func isFilled(_ source: ModelSource, _ precision: Precision) throws -> Bool {
                let model = try EstimatorTests.model(source, ["layers.2"])
                let cache = try PrefixCache(
                    model: model, set: ExampleSet(examples, for: source.configuration),
                    options: .init(memoryLimit: 0, directory: caches, baseDigest: .sha256([1]), precision: precision))
                defer { try? cache.fill() }
                return cache.isFilled
            }
            #expect(try !isFilled(packed, .float) && isFilled(floats, .float), "floats are the same from both")
            #expect(try !isFilled(packed, .int8) && !isFilled(floats, .int8))
            #expect(try isFilled(packed, .int8) && isFilled(floats, .int8))
        }
    }

    @Test func slicesAreALayerOfABlockAndComeToAnEnd() throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.2"])
        let set = try manyExamples(source)
        let cache = try PrefixCache(model: model, set: set)
        var slices = 1
        while try cache.fillSlice() {
            slices += 1
            try #require(slices < 10_000)
        }
        // Each block takes two layers.
        #expect(slices == 2 * cache.blockCount)
        #expect(cache.isFilled && cache.filledPart == 1)
        #expect(try !cache.fillSlice())
    }

    /// Everything goes through a layer before anything goes through the next, so that a layer's weights are read once.
    @Test func aFillCarriesAllBlocksThroughALayerBeforeTheNext() throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.2"])
        let cache = try PrefixCache(model: model, set: manyExamples(source))
        _ = try cache.fillSlice()
        var (calls, first) = (0, 0)
        try cache.fill { _, _ in
            calls += 1
            if cache.readyBlocks > 0, first == 0 { first = calls }
            return true
        }
        #expect(calls > 4, "there are several pieces")
        // A piece is four blocks. The first block has the first layer behind it.
        #expect(first == (cache.blockCount - 1 + 3) / 4 + 1)
    }

    @Test func theNextProcessGoesOnWithWhatAStopHasCaughtBetweenTwoLayers() throws {
        try withDirectory { directory in
            let source = try EstimatorTests.tiny()
            let model = try EstimatorTests.model(source, ["layers.2"])
            let set = try manyExamples(source)
            let options = PrefixCache.Options(memoryLimit: 0, directory: directory.path)
            func open() throws -> PrefixCache { try PrefixCache(model: model, set: set, options: options) }
            func kept() throws -> URL { directory.appending(path: try #require(files(directory).first { $0.hasSuffix(".underway") })) }

            var cache: PrefixCache? = try open()
            #expect(throws: TrainingError.self) { try cache?.fill { _, _ in false } }
            #expect(cache?.readyCount == 0)
            let part = try #require(cache?.filledPart)
            #expect(part > 0)
            cache = nil
            cache = try open()
            #expect(cache?.filledPart == part)
            cache = nil

            // A damaged file costs time and nothing else.
            let bytes = try Data(contentsOf: kept())
            for place in [3, 9, 13, 30, 50, 60, bytes.count - 1] {
                var damaged = bytes
                damaged[place] ^= 1
                try damaged.write(to: kept())
                #expect(try open().filledPart == 0, "byte \(place)")
            }
            for count in [0, 20, 49, bytes.count - 5] {
                try bytes.prefix(count).write(to: kept())
                #expect(try open().filledPart == 0, "\(count) bytes")
            }

            try bytes.write(to: kept())
            let again = try open()
            #expect(again.filledPart == part)
            // A sample asks for something else first; what is underway stays.
            var last = [set.count - 1]
            try again.fillOrReplaceMissing(&last)
            #expect(again.contains(set.count - 1) && again.filledPart > part)
            try again.fill()
            let inMemory = try PrefixCache(model: model, set: set)
            try inMemory.fill()
            #expect(try losses(model, again) == losses(model, inMemory))
            #expect(try files(directory).map { $0.hasSuffix(".cache") } == [true])
        }
    }

    @Test func whereNobodyIsToWaitOnlyExamplesThatAreThereAreRead() throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.2"])
        let set = try manyExamples(source)
        let cache = try PrefixCache(model: model, set: set, order: ExampleOrder.firstEpoch(of: set.count, seed: 0))
        cache.replacesMissing = true
        let estimator = try Estimator(
            model: model, directions: Directions(seed: RunSeed(1), family: .rank1), cache: cache, options: .init())
        _ = try estimator.projectedGradients(machine: MachineID(5), samples: 0..<1)
        let some = cache.readyCount
        #expect(some > 0 && some < set.count, "with nothing there the first block is computed")
        _ = try estimator.projectedGradients(machine: MachineID(5), samples: 0..<SampleNumber(set.count))
        #expect(cache.readyCount == some)
        var asked = Array(0..<set.count)
        try cache.fillOrReplaceMissing(&asked)
        #expect(asked.allSatisfy { cache.contains($0) })
        #expect(Set(asked).count == some, "all of them")
    }

    @Test func stoppedOnDemandKeepsWhatIsDone() throws {
        let source = try EstimatorTests.tiny()
        let model = try EstimatorTests.model(source, ["layers.2"])
        let set = try manyExamples(source)
        let cache = try PrefixCache(model: model, set: set)
        var all = Array(0..<set.count)
        // A stop is heard after a layer, before the first block is done.
        cache.onProgress = { _ in false }
        #expect(try #require(throws: TrainingError.self) { try cache.fillOrReplaceMissing(&all) }.code == .cancelled)
        #expect(cache.readyBlocks == 0)
        var parts: [Double] = []
        cache.onProgress = { [unowned cache] part in
            parts.append(part)
            return cache.readyBlocks == 0
        }
        #expect(try #require(throws: TrainingError.self) { try cache.fillOrReplaceMissing(&all) }.code == .cancelled)
        #expect(cache.readyBlocks == 1)
        #expect(parts.count == 1 && abs(parts[0] - cache.filledPart) < 1e-12, "the layer before the stop is not done again")
    }

    /// Bytes on the disk of the only file in a directory.
    private func bytesOnDisk(_ directory: URL) throws -> Int {
        var status = stat()
        try #require(stat(directory.appending(path: #require(files(directory).first)).path, &status) == 0)
        return Int(status.st_blocks) * 512
    }

    @Test("A cache takes disk space as it grows, so that a killed process leaves no more than it has computed")
    func spaceByBlocks() throws {
        try withDirectory { directory in
            let source = try EstimatorTests.tiny()
            let model = try EstimatorTests.model(source, ["layers.2"])
            let cache = try PrefixCache(
                model: model, set: manyExamples(source), options: .init(memoryLimit: 0, directory: directory.path))
            try #require(cache.byteCount > 1 << 17)
            #expect(try bytesOnDisk(directory) <= 1 << 14, "the head and the table")
            try cache.fill()
            #expect(try bytesOnDisk(directory) >= cache.byteCount)
        }
    }

    @Test("Unfinished files that nobody fills are removed after a week, and no others")
    func forsakenFiles() throws {
        try withDirectory { directory in
            let names = ["prefix-0.cache.partial", "prefix-1.cache.partial", "prefix-0.cache.underway", "prefix-2.cache", "notes.partial"]
            for name in names {
                try Data(count: 100).write(to: directory.appending(path: name))
                let age: Double = name.hasPrefix("prefix-1") ? 6 : 8
                try FileManager.default.setAttributes(
                    [.modificationDate: Date(timeIntervalSinceNow: -age * 86400)], ofItemAtPath: directory.appending(path: name).path)
            }
            let held = directory.appending(path: "prefix-3.cache.partial").path
            let descriptor = open(held, O_RDWR | O_CREAT, 0o600)
            defer { close(descriptor) }
            try #require(flock(descriptor, LOCK_EX | LOCK_NB) == 0)
            try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -9 * 86400)], ofItemAtPath: held)
            let source = try EstimatorTests.tiny()
            let cache = try PrefixCache(
                model: EstimatorTests.model(source, ["layers.2"]), set: manyExamples(source),
                options: .init(memoryLimit: 0, directory: directory.path))
            #expect(!cache.isFilled)
            let left = Set(try files(directory))
            #expect(left.isSuperset(of: ["prefix-1.cache.partial", "prefix-2.cache", "notes.partial", "prefix-3.cache.partial"]), "\(left)")
            #expect(!left.contains("prefix-0.cache.partial") && !left.contains("prefix-0.cache.underway"), "\(left)")
        }
    }

    @Test("A cache that needs more than half of what is free on its disk is refused and leaves nothing", .enabled(if: getuid() == 0))
    func tooLargeForTheDisk() throws {
        try withDirectory { directory in
            let source = try EstimatorTests.tiny()
            let model = try EstimatorTests.model(source, ["layers.2"])
            let set = try manyExamples(source)
            let size = try PrefixCache(model: model, set: set).byteCount * 3 / 2
            // A container may not let root mount anything.
            guard mount("tmpfs", directory.path, "tmpfs", 0, "size=\(size)") == 0 else { return }
            defer { umount(directory.path) }
            let error = try #require(throws: TrainingError.self) {
                try PrefixCache(model: model, set: set, options: .init(memoryLimit: 0, directory: directory.path))
            }
            #expect(error.code == .cacheFile && error.description.contains("it may take half"), "\(error.description)")
            #expect(try files(directory).isEmpty)
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
