import Coordinator
import Core
import Foundation
import Testing

@Suite struct LedgerFileTests {
    fileprivate func withDirectory(_ body: (String) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "onebyte-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try body(directory.appending(path: "ledger.onebyte").path())
    }

    fileprivate let spec = RunSpec(
        seed: 1, train: ["all"], learningRate: 0.1, rounds: 9, samplesPerRound: 4, task: TaskSpec(kind: .text, maxLength: 8))
    private let base = BaseManifest(entries: [.init(name: "a", shape: .vector(3), digest: .sha256([1]))])!

    fileprivate func admission(_ machine: UInt32) -> LedgerRecord {
        let token = SessionToken(bytes: [UInt8](repeating: UInt8(machine), count: 16))!
        return .admission(
            Admission(
                machine: MachineID(machine), unixSeconds: 1, trains: true, evaluates: false, name: "w", session: token.fingerprint))
    }

    fileprivate func append(_ records: [LedgerRecord], to file: LedgerFile) throws {
        var position = file.summary.position
        for record in records {
            let (bytes, next) = position.appending(record)
            try file.append(bytes)
            position = next
        }
    }

    private func edit(_ path: String, _ body: (inout Data) -> Void) throws {
        var data = try Data(contentsOf: URL(filePath: path))
        body(&data)
        try data.write(to: URL(filePath: path))
    }

    @Test("A ledger opens again with the records that were appended, and is never overwritten")
    func createAppendReopen() throws {
        try withDirectory { path in
            do {
                let file = try LedgerFile.create(at: path, spec: spec, base: base)
                #expect(file.summary.spec == spec && file.summary.base == base && file.tornTail == nil)
                try append([admission(1), admission(2)], to: file)
                #expect(file.durableRecords == 4)
                let all = try file.read(offset: 0, count: Int(file.durableBytes))
                #expect(all == [UInt8](try Data(contentsOf: URL(filePath: path))))
                #expect(throws: LedgerFileError.self) { try file.read(offset: file.durableBytes, count: 1) }
                #expect(throws: LedgerFileError.self) { try file.read(offset: .max, count: 1) }
            }
            let file = try LedgerFile.open(at: path)
            #expect(file.summary.position.records == 4 && file.summary.nextMachine == MachineID(3))
            #expect(throws: LedgerFileError.exists(path: path)) { try LedgerFile.create(at: path, spec: spec) }
            #expect(try FileManager.default.contentsOfDirectory(atPath: (path as NSString).deletingLastPathComponent) == ["ledger.onebyte"])
        }
    }

    @Test("A second coordinator is told that another process has the ledger")
    func lock() throws {
        try withDirectory { path in
            let first = try LedgerFile.create(at: path, spec: spec)
            #expect(throws: LedgerFileError.locked(path: path, by: getpid())) { try LedgerFile.open(at: path) }
            #expect("\(LedgerFileError.locked(path: path, by: getpid()))".contains("process \(getpid())"))
            withExtendedLifetime(first) {}
        }
    }

    @Test("Wherever a crash cuts the last record off, the rest is kept and appending goes on")
    func tornTail() throws {
        try withDirectory { path in
            try append([admission(1), admission(2)], to: try LedgerFile.create(at: path, spec: spec))
            let whole = try Data(contentsOf: URL(filePath: path))
            var reader = try LedgerReader(path: path)
            var ends: [Int] = []
            while let entry = try reader.next() { ends.append(Int(entry.position.offset)) }
            for cut in ends[1] + 1..<whole.count {
                try whole.prefix(cut).write(to: URL(filePath: path))
                let file = try LedgerFile.open(at: path)
                #expect(file.tornTail?.offset == UInt64(ends[1]) && file.tornTail?.bytes == UInt64(cut - ends[1]))
                #expect(file.summary.position.records == 2)
                try append([admission(2)], to: file)
            }
            let file = try LedgerFile.open(at: path)
            #expect(file.tornTail == nil && file.summary.position.records == 3)
        }
    }

    @Test("Zeros and garbage after the last record are a torn tail too")
    func tailGarbage() throws {
        for garbage in [Data(count: 4096), Data([6, 0, 0, 0, 6, 1, 2]), Data(repeating: 0xFF, count: 100)] {
            try withDirectory { path in
                try append([admission(1)], to: try LedgerFile.create(at: path, spec: spec))
                try edit(path) { $0.append(garbage) }
                let file = try LedgerFile.open(at: path)
                #expect(file.tornTail?.bytes == UInt64(garbage.count) && file.summary.position.records == 2)
            }
        }
    }

    @Test("A damaged record before whole ones is an error that names its offset, and nothing is cut")
    func damage() throws {
        try withDirectory { path in
            try append((1...5).map(admission), to: try LedgerFile.create(at: path, spec: spec))
            let whole = try Data(contentsOf: URL(filePath: path))
            var reader = try LedgerReader(path: path)
            var offsets: [Int] = []
            while let entry = try reader.next() { offsets.append(Int(entry.offset)) }
            for place in [offsets[2], offsets[2] + 3, offsets[2] + 4, offsets[2] + 9, offsets[3] - 1] {
                try edit(path) {
                    $0 = whole
                    $0[place] ^= 0x40
                }
                do {
                    _ = try LedgerFile.open(at: path)
                    Issue.record("byte \(place) was not noticed")
                } catch let error as LedgerFileError {
                    #expect("\(error)".contains("record 2 at byte \(offsets[2])"))
                }
                #expect(try Data(contentsOf: URL(filePath: path)).count == whole.count)
            }
        }
    }

    @Test("A run that nobody could resume leaves no ledger behind")
    func unusable() throws {
        try withDirectory { path in
            var shaped = spec
            shaped.dampedComponents = 1
            #expect(throws: LedgerFileError.self) { try LedgerFile.create(at: path, spec: shaped) }
            let basis: [UInt8] = [1, 2, 3]
            shaped.basisDigest = .sha256(basis)
            #expect(throws: LedgerFileError.self) { try LedgerFile.create(at: path, spec: shaped) }
            #expect(throws: LedgerFileError.self) { try LedgerFile.create(at: path, spec: spec, basis: basis) }
            let large = [UInt8](repeating: 0, count: ProtocolLimits.recordPayloadBytes + 1)
            var largest = shaped
            largest.basisDigest = .sha256(large)
            #expect(throws: LedgerFileError.self) { try LedgerFile.create(at: path, spec: largest, basis: large) }
            let directory = (path as NSString).deletingLastPathComponent
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
            _ = try LedgerFile.create(at: path, spec: shaped, basis: basis)
        }
    }

    @Test("A long ledger is read record by record")
    func longLedger() throws {
        try withDirectory { path in
            let rounds = 40_000
            do {
                let file = try LedgerFile.create(at: path, spec: spec, base: base)
                var (bytes, position) = file.summary.position.appending(admission(1))
                for number in 0..<rounds {
                    let record = LedgerRecord.round(
                        RoundRecord(
                            round: UInt32(number), scaleExponent: 0, step: .zero,
                            contributions: [
                                Contribution(
                                    machine: MachineID(1), firstSample: UInt32(number * 64), bytes: [Int8](repeating: 1, count: 64))
                            ]))
                    let (more, next) = position.appending(record)
                    bytes += more
                    position = next
                }
                try edit(path) { $0.append(contentsOf: bytes) }
            }
            let start = ContinuousClock.now
            let file = try LedgerFile.open(at: path)
            print("\(rounds) rounds, \(file.durableBytes) bytes, opened in \(ContinuousClock.now - start)")
            #expect(file.summary.nextRound == UInt32(rounds) && file.summary.samples == UInt64(64 * rounds))
            withExtendedLifetime(file) {}
        }
    }

    @Test("Reading a ledger reports its progress as often as was asked for, and the report reads back from JSON")
    func reading() throws {
        try withDirectory { path in
            do {
                let file = try LedgerFile.create(at: path, spec: spec, base: base)
                var (bytes, position) = ([UInt8](), file.summary.position)
                for number in 0..<5000 {
                    let validation = Validation(round: 0, position: UInt64(number), examples: 1, loss: 1, accuracy: .nan)
                    let (more, next) = position.appending(.validation(validation))
                    bytes += more
                    position = next
                }
                try edit(path) { $0.append(contentsOf: bytes) }
            }
            var words: [LedgerFile.Reading] = []
            var file: LedgerFile? = try LedgerFile.open(at: path, readingSeconds: 0) { words.append($0) }
            #expect(words.count == 4 && zip(words, words.dropFirst()).allSatisfy { $0.bytes < $1.bytes })
            #expect(words.allSatisfy { $0.of == file?.durableBytes && $0.bytes < $0.of })
            file = nil
            words = []
            _ = try LedgerFile.open(at: path) { words.append($0) }
            #expect(words.isEmpty)
            let progress = CoordinatorProgress(time: 1, event: .reading(.init(bytes: 5, of: 10)))
            let line = try #require(progress.jsonLine)
            #expect(try JSONDecoder().decode(CoordinatorProgress.self, from: Data(line)) == progress)
        }
    }

    @Test("A ledger that is missing, is no ledger, or can't be created is an error that says so")
    func errorsSayWhatToDo() throws {
        try withDirectory { path in
            #expect(throws: LedgerFileError.missing(path: path)) { try LedgerFile.open(at: path) }
            try Data("not a ledger at all, but some text".utf8).write(to: URL(filePath: path))
            #expect(throws: LedgerFileError.damaged(path: path, .notALedger)) { try LedgerFile.open(at: path) }
            #expect(throws: LedgerFileError.damaged(path: path, .notALedger)) {
                var reader = try LedgerReader(path: path)
                _ = try reader.next()
            }
            let nowhere = (path as NSString).deletingLastPathComponent + "/none/ledger.onebyte"
            #expect(throws: LedgerFileError.system(.create, path: nowhere, errno: ENOENT)) {
                try LedgerFile.create(at: nowhere, spec: spec)
            }
        }
    }

    @Test("A record that does not fit on the disk leaves nothing behind, and appending goes on when there is room")
    func failedAppend() async {
        // This needs a process of its own: the limit on the size of files, which stands for a full disk, is the process's.
        await #expect(processExitsWith: .success) {
            let tests = LedgerFileTests()
            try tests.withDirectory { path in
                let file = try LedgerFile.create(at: path, spec: tests.spec)
                var limit = rlimit()
                getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
                signal(SIGXFSZ, SIG_IGN)
                // There is room for a part of the record, so that the write fails in the middle.
                let most = limit.rlim_max
                limit.rlim_cur = rlim_t(file.durableBytes + 20)
                setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
                #expect(throws: LedgerFileError.system(.write, path: path, errno: EFBIG)) {
                    try tests.append([tests.admission(1)], to: file)
                }
                #expect(try Data(contentsOf: URL(filePath: path)).count == Int(file.durableBytes))
                limit.rlim_cur = most
                setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
                try tests.append([tests.admission(1)], to: file)
                #expect(file.durableRecords == 2)
            }
        }
    }
}
