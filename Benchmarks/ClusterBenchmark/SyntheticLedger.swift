import Coordinator
import Core
import Foundation
import TestSupport

/// A ledger with very many rounds, written without a run.
enum SyntheticLedger {
    private static let blockBytes = 1 << 20

    /// Writes the ledger of a run that has as many rounds still to come, and whose machines have departed.
    ///
    /// - Returns: its length in bytes.
    static func write(to path: String, rounds: Int, machines: Int, samples: Int) throws -> UInt64 {
        let spec = BenchmarkRun.spec(rounds: 2 * rounds + 1_000_000, workers: machines, samples: samples)
        // The lock is released with the ledger file.
        var position = try LedgerFile.create(at: path, spec: spec, base: CannedAnswers.base).summary.position
        guard let file = FileHandle(forWritingAtPath: path) else { throw CocoaError(.fileNoSuchFile) }
        try file.seekToEnd()
        var block: [UInt8] = []
        func append(_ record: LedgerRecord) throws {
            let (bytes, next) = position.appending(record)
            position = next
            block += bytes
            if block.count >= blockBytes { try flush() }
        }
        func flush() throws {
            try file.write(contentsOf: block)
            block.removeAll(keepingCapacity: true)
        }
        let numbers = (1...machines).map { MachineID(UInt32($0)) }
        for machine in numbers {
            let session = Array(Digest.sha256([UInt8(truncatingIfNeeded: machine.rawValue)]).bytes.prefix(SessionFingerprint.byteCount))
            guard let fingerprint = SessionFingerprint(bytes: session) else { continue }
            try append(
                .admission(
                    Admission(
                        machine: machine, unixSeconds: 1_700_000_000, trains: true, evaluates: false, name: "canned-\(machine.rawValue)",
                        session: fingerprint)))
        }
        let bytes = CannedAnswers.bytes(samples)
        for round in 0..<rounds {
            let first = SampleNumber(round * samples)
            try append(
                .round(
                    RoundRecord(
                        round: RoundNumber(round), scaleExponent: 0, step: StepSize(multiplier: 40_000, exponent: -30),
                        contributions: numbers.map { Contribution(machine: $0, firstSample: first, bytes: bytes) })))
            if round % 200_000 == 199_999 { say("\(round + 1) rounds written") }
        }
        for machine in numbers { try append(.departure(Departure(machine: machine, unixSeconds: 1_700_000_001, reason: .left))) }
        try flush()
        try file.synchronize()
        return position.offset
    }
}
