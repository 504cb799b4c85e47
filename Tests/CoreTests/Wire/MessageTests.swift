import Core
import Simulator
import TestSupport
import Testing

@Suite struct MessageTests {
    static func random(_ random: inout SeededRandom) -> Message {
        func number(_ limit: UInt64) -> UInt64 { UInt64.random(in: 0...limit, using: &random) }
        func text() -> String { String((0..<Int(number(12))).map { _ in "aé𝄞 \"\\/\n".randomElement(using: &random)! }) }
        func digest() -> Digest { random.digest() }
        func real() -> Double { Double(bitPattern: random.next() & ~(1 << 62)) }
        func part() -> Double { Double.random(in: 0...1, using: &random) }
        let session = SessionToken(bytes: random.bytes(16))!
        switch Message.Kind.allCases.randomElement(using: &random)! {
        case .hello:
            return .hello(
                Hello(
                    session: session, name: text(), trains: number(1) == 0, evaluates: number(1) == 0, software: text(),
                    expectedSpec: number(1) == 0 ? nil : digest(), records: random.next(), publicKey: number(1) == 0 ? nil : text()))
        case .base: return .base(Samples.base)
        case .fetch:
            return .fetch(LedgerFetch(offset: random.next(), count: Int(number(1 << 18)), ticket: UInt32(number(1 << 31))))
        case .baseDigest: return .baseDigest(BaseDigest(digest: digest(), bytes: Int(number(1 << 20))))
        case .basePart: return .basePart(BasePart(offset: Int(number(1 << 20)), bytes: random.bytes(Int(number(60)))))
        case .baseFetch: return .baseFetch(BaseFetch(offset: Int(number(1 << 20)), count: Int(number(1 << 18))))
        case .contribution:
            return .contribution(
                WireContribution(
                    round: UInt32(number(1 << 20)), scaleExponent: Int8(truncatingIfNeeded: random.next()),
                    contribution: Contribution(
                        machine: MachineID(UInt32(number(400))), firstSample: UInt32(number(1 << 22)),
                        bytes: random.bytes(1 + Int(number(40))).map { Int8(bitPattern: $0) })))
        case .heartbeat:
            return .heartbeat(
                Heartbeat(
                    session: UInt32(number(9)), records: number(1 << 30), share: number(1) == 0 ? nil : .init(round: .max, firstSample: 9),
                    sequence: random.next(), roundTripMilliseconds: UInt32(number(9999))))
        case .digestReport:
            return .digestReport(
                DigestReport(
                    position: number(1 << 40), round: 7, digest: digest(), chain: random.next(), rebuilds: 3,
                    signature: number(1) == 0 ? nil : Signature(bytes: random.bytes(64)),
                    proof: number(1) == 0 ? nil : ProofNonce(bytes: random.bytes(16)).map { .init(nonce: $0, answer: digest()) },
                    data: number(1) == 0 ? nil : DataCommitment(root: digest(), count: UInt32(number(1 << 20)))))
        case .evaluation:
            return .evaluation(
                EvaluationReport(
                    round: UInt32(number(9999)), examples: UInt32(number(9999)), loss: real(), accuracy: part(),
                    bestThresholdAccuracy: part(), auc: part(), seconds: part() * 1e6, position: number(1 << 40),
                    validation: number(1) == 0 ? nil : .init(examples: UInt32(number(9999)), loss: real(), accuracy: part(), noise: part()),
                    moved: part(), gain: real(), gainError: part()))
        case .status:
            return .status(
                WorkerStatus(
                    phase: WorkerStatus.Phase.allCases.randomElement(using: &random)!, progress: part(), trainingLoss: real(),
                    samplesPerSecond: part() * 1e9, applied: random.next()))
        case .goodbye: return .goodbye(Goodbye(reason: text()))
        case .welcome:
            return .welcome(
                Welcome(
                    specDigest: digest(), session: session, ledgerRecords: random.next() >> 12, ledgerBytes: random.next() >> 12,
                    heartbeatSeconds: 0.25, heartbeatTimeoutSeconds: 10, baseDigest: number(1) == 0 ? nil : digest()))
        case .refuse:
            return .refuse(
                Refusal(
                    code: Refusal.Code.allCases.randomElement(using: &random)!, reason: text(),
                    details: (0..<Int(number(3))).map { _ in text() }))
        case .commit:
            let record = Samples.randomRecord(&random)
            return .commit(
                Commit(
                    index: number(1 << 30), kind: record.kind.rawValue, payload: record.payload(),
                    opening: number(1) == 0 ? nil : opening(&random)))
        case .open: return .open(opening(&random))
        case .chunk:
            return .chunk(LedgerChunk(offset: random.next(), ticket: UInt32(number(9)), total: random.next(), bytes: random.bytes(Int(number(60)))))
        case .pong:
            return .pong(
                Pong(
                    standing: Pong.Standing.allCases.randomElement(using: &random)!, records: random.next(),
                    awaited: number(1) == 0 ? nil : UInt32(number(1 << 31)), echo: random.next()))
        case .digestRequest:
            return .digestRequest(position: random.next(), nonce: number(1) == 0 ? nil : ProofNonce(bytes: random.bytes(16)))
        case .rebuild: return .rebuild(order: UInt32(number(1 << 16)))
        case .finished: return .finished(RunFinish(outcome: .stopped, message: text()))
        }
    }

    static func opening(_ random: inout SeededRandom) -> Opening {
        let shares = (0..<Int.random(in: 0...4, using: &random)).map { index in
            Opening.Share(
                machine: MachineID(UInt32(index) * 90), firstSample: UInt32.random(in: 0...1 << 20, using: &random),
                count: UInt32.random(in: 1...300, using: &random))
        }
        return Opening(
            round: UInt32.random(in: 0...1 << 20, using: &random), scaleExponent: Int8.random(in: -128...127, using: &random),
            shares: shares)
    }

    @Test("Every message decodes to what was encoded", arguments: 0..<30)
    func roundTrip(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        for _ in 0..<300 {
            let message = Self.random(&random)
            #expect(try Message(decoding: message.encoded()) == message)
        }
    }

    @Test("Garbage, flipped bits and cut frames give errors, never a crash", arguments: 0..<30)
    func fuzz(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        for _ in 0..<2000 {
            var frame = random.bytes(Int.random(in: 0...80, using: &random))
            switch Int.random(in: 0..<3, using: &random) {
            case 0:
                if frame.count > 2 {
                    frame[0] = MessageCoding.version
                    frame[1] = Message.Kind.allCases.randomElement(using: &random)!.rawValue
                }
            case 1:
                frame = Self.random(&random).encoded()
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    let bit = Int.random(in: 0..<8 * frame.count, using: &random)
                    frame[bit / 8] ^= 1 << (bit % 8)
                }
            default:
                frame = Self.random(&random).encoded()
                frame.removeLast(Int.random(in: 1...frame.count, using: &random))
            }
            if let message = try? Message(decoding: frame) {
                // A float that is NaN does not equal itself, so frames are compared.
                #expect(try Message(decoding: message.encoded()).encoded() == message.encoded())
            }
        }
    }

    @Test("Every number of a decoded message is in its range", arguments: [1e300, -1e16, 1.0001, -0.0001, .infinity, -.infinity])
    func doubles(value: Double) throws {
        // The doubles follow one another. The test sets each in turn by hand, as a peer may.
        let report = EvaluationReport(
            round: 1, examples: 2, loss: 0.5, accuracy: 0.5, bestThresholdAccuracy: 0.5, auc: 0.5, seconds: 0.5, position: 3,
            validation: .init(examples: 4, loss: 0.5, accuracy: 0.5, noise: 0.5), moved: 0.5, gain: 0.5, gainError: 0.5)
        let status = WorkerStatus(phase: .training, progress: 0.5, trainingLoss: 0.5, samplesPerSecond: 0.5, applied: 1)
        let half = withUnsafeBytes(of: (0.5).bitPattern.littleEndian) { Array($0) }
        for message in [Message.evaluation(report), .status(status)] {
            let frame = message.encoded()
            var place = 2
            while place + 8 <= frame.count {
                defer { place += 1 }
                guard Array(frame[place..<place + 8]) == half else { continue }
                var forged = frame
                forged.replaceSubrange(place..<place + 8, with: withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) })
                guard let read = try? Message(decoding: forged) else { continue }
                // What is accepted is a loss, seconds or a rate, and is kept unchanged.
                #expect(read.encoded() == forged)
                #expect(value.isInfinite || value == 1.0001 || value.magnitude <= WireNumber.largestLoss)
                let parts: [Double] =
                    switch read {
                    case .evaluation(let report):
                        [report.accuracy, report.bestThresholdAccuracy, report.auc, report.validation?.accuracy ?? .nan]
                    case .status(let status): [status.progress]
                    default: []
                    }
                #expect(parts.allSatisfy { (0...1).contains($0) })
            }
        }
        // This program's own measurements are brought into range before they are sent, and decode again.
        let own = EvaluationReport(
            round: 1, examples: 2, loss: value, accuracy: value, bestThresholdAccuracy: value, auc: value, seconds: value,
            validation: .init(examples: 4, loss: value, accuracy: value, noise: value), moved: value, gain: value, gainError: value)
        #expect(try Message(decoding: Message.evaluation(own).encoded()).encoded() == Message.evaluation(own).encoded())
        let busy = WorkerStatus(phase: .training, progress: value, trainingLoss: value, samplesPerSecond: value, applied: 1)
        #expect(try Message(decoding: Message.status(busy).encoded()).encoded() == Message.status(busy).encoded())
    }

    @Test("A long text of a peer for people is refused", arguments: [4096, 4097])
    func texts(bytes: Int) throws {
        let text = String(repeating: "a", count: bytes)
        for message in [
            Message.goodbye(Goodbye(reason: text)), .finished(RunFinish(outcome: .failed, message: text)),
            .refuse(Refusal(code: .invalid, reason: text)), .refuse(Refusal(code: .invalid, reason: "", details: [text])),
        ] {
            #expect((try? Message(decoding: message.encoded())) == (bytes == 4096 ? message : nil))
        }
    }

    @Test("Numbers from which a receiver continues counting are limited, so that none overflows")
    func limits() {
        let report = Message.digestReport(DigestReport(position: 1, round: 1, digest: .sha256([]), chain: 0, rebuilds: .max))
        let commit = Message.commit(Commit(index: .max, kind: 10, payload: [UInt8](repeating: 0, count: 8), opening: nil))
        for message in [report, commit, .rebuild(order: .max)] {
            #expect(throws: WireError.self, "\(message.kind)") { try Message(decoding: message.encoded()) }
        }
    }

    /// ZMTP's frame header has flags and length (8 bytes of length above 255).
    private func onTheWire(_ message: Message) -> Int {
        let count = message.encoded().count
        return count + (count <= 255 ? 2 : 9)
    }

    @Test("With 16 samples a round, each sample takes at most two bytes each way, frame headers included", arguments: [2, 3, 4, 8, 16])
    func bytesPerSample(machines: Int) throws {
        var random = SeededRandom(seed: 1)
        // Late in a long run the varints are longer.
        let (round, first) = (UInt32(9000), UInt32(144_000))
        let contributions = (1...machines).map { machine in
            Contribution(
                machine: MachineID(UInt32(machine)), firstSample: first, bytes: random.bytes(16).map { Int8(bitPattern: $0) })
        }
        let up = onTheWire(.contribution(WireContribution(round: round, scaleExponent: 2, contribution: contributions[0])))
        #expect(up <= 2 * 16)
        let record = LedgerRecord.round(
            RoundRecord(
                round: round, scaleExponent: 2, step: StepSize(multiplier: 40000, exponent: -9), contributions: contributions))
        let opening = Opening(
            round: round + 1, scaleExponent: 2,
            shares: contributions.map { .init(machine: $0.machine, firstSample: first + 16, count: 16) })
        let commit = Message.commit(
            Commit(index: 9100, kind: record.kind.rawValue, payload: record.payload(), opening: opening))
        let down = onTheWire(commit)
        #expect(down <= 2 * 16 * machines)
        #expect(try Message(decoding: commit.encoded()) == commit)
        print("\(machines) machines: \(Double(up) / 16) bytes a sample up, \(Double(down) / Double(16 * machines)) down")
    }

    @Test("An opening that continues the committed round takes two bytes; any other is spelt out")
    func openingForms() throws {
        let record = Samples.round(4, [(1, 0, [1, 2, 3]), (2, 9, [4])])
        func size(_ shares: [Opening.Share]) throws -> Int {
            let message = Message.commit(
                Commit(
                    index: 5, kind: 6, payload: record.payload(), opening: Opening(round: 5, scaleExponent: 1, shares: shares)))
            #expect(try Message(decoding: message.encoded()) == message)
            return message.encoded().count - record.payload().count
        }
        let going = [Opening.Share(machine: MachineID(1), firstSample: 3, count: 3), .init(machine: MachineID(2), firstSample: 10, count: 1)]
        #expect(try size(going) == 6)
        #expect(try size([going[0]]) > 6)
        #expect(try size([going[0], .init(machine: MachineID(2), firstSample: 11, count: 1)]) > 6)
    }
}
