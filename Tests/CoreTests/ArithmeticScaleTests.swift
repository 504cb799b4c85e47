import Core
import Foundation
import TestSupport
import Testing

/// Heavy-tailed projected gradients: Student's t with 3 degrees of freedom.
private struct HeavyTail {
    var random: SeededRandom

    private mutating func normal() -> Double {
        let u = Double.random(in: .leastNonzeroMagnitude..<1, using: &random)
        let v = Double.random(in: 0..<1, using: &random)
        return (-2 * log(u)).squareRoot() * cos(2 * .pi * v)
    }

    mutating func next(scale: Double) -> Double {
        let chiSquared = (0..<3).map { _ in normal() }.map { $0 * $0 }.reduce(0, +)
        return scale * normal() / (chiSquared / 3).squareRoot()
    }
}

@Suite struct ArithmeticScaleTests {
    private struct Stream {
        var adapter = ScaleAdapter(target: 32)
        var gradients: HeavyTail
        var exponents: [Int8] = []
        var means: [Double] = []

        init(seed: UInt64) { gradients = HeavyTail(random: SeededRandom(seed: seed)) }

        mutating func round(samples: Int, scale: Double) {
            let exponent = adapter.exponent
            let bytes = (0..<samples).map { _ in ByteCodec.encode(gradients.next(scale: scale), scaleExponent: exponent) }
            exponents.append(exponent)
            means.append(Double(bytes.map { abs(Int($0)) }.reduce(0, +)) / Double(samples))
            adapter.observe(
                RoundRecord(
                    round: 0, scaleExponent: exponent, step: .zero,
                    contributions: [Contribution(machine: MachineID(0), firstSample: 0, bytes: bytes)]))
        }

        var changes: Int { zip(exponents, exponents.dropFirst()).count { $0 != $1 } }
    }

    @Test("The scale reaches its target soon and stays there, for any magnitude and any number of bytes in a round", arguments: [1, 16, 256])
    func stationaryStreamDoesNotSwing(samples: Int) {
        for scale in [1e-9, 0.004, 0.3, 1, 7, 11, 15, 20, 30, 1e6] {
            let seed = scale.bitPattern
            var stream = Stream(seed: seed)
            let warmUp = max(4096 / samples, 32)
            for _ in 0..<warmUp { stream.round(samples: samples, scale: scale) }
            (stream.exponents, stream.means) = ([], [])
            for _ in 0..<max(65536 / samples, 300) { stream.round(samples: samples, scale: scale) }
            let mean = stream.means.reduce(0, +) / Double(stream.means.count)
            #expect(stream.changes <= 2, "scale \(scale), \(samples) a round, seed \(seed): \(stream.exponents)")
            #expect(mean > 17 && mean < 58, "scale \(scale), \(samples) a round, seed \(seed)")
        }
    }

    @Test("Ten rounds bring any magnitude near the target") func startsFast() {
        for scale in [1e-6, 1e-3, 10, 1e5] {
            let seed = scale.bitPattern
            var stream = Stream(seed: seed)
            for _ in 0..<10 { stream.round(samples: 64, scale: scale) }
            #expect((15...64).contains(stream.means[9]), "scale \(scale), seed \(seed): \(stream.means)")
        }
    }

    @Test("The scale follows a slow drift") func followsADrift() {
        for up in [true, false] {
            let seed: UInt64 = up ? 1 : 2
            var stream = Stream(seed: seed)
            // A hundredfold change over 800 rounds.
            for round in 0..<1000 {
                let progress = min(Double(round) / 800, 1)
                stream.round(samples: 256, scale: pow(100, up ? progress : -progress))
            }
            #expect(abs(Int(stream.adapter.exponent) - Int(stream.exponents[10])) >= 6, "seed \(seed)")
            #expect(stream.means.dropFirst(10).allSatisfy { (12...80).contains($0) }, "seed \(seed): \(stream.means)")
            #expect(stream.changes <= 10, "seed \(seed)")
        }
    }

    @Test("The scale follows a jump") func followsAJump() {
        let seed: UInt64 = 3
        var stream = Stream(seed: seed)
        for round in 0..<100 { stream.round(samples: 64, scale: round < 50 ? 10 : 1000) }
        #expect((15...64).contains(stream.means.suffix(30).reduce(0, +) / 30), "seed \(seed)")
        #expect(stream.changes <= 8, "seed \(seed): \(stream.exponents)")
    }

    @Test("Rounds without a value are ignored, and late bytes count at the scale with which they were made") func oddRounds() throws {
        var adapter = ScaleAdapter(target: 32)
        adapter.observe([Contribution.noValue, Contribution.noValue], scaleExponent: 0)
        adapter.observe([], scaleExponent: 0)
        #expect(adapter.exponent == ScaleAdapter.initialExponent)
        adapter.observe([Int8](repeating: 32, count: 5000), scaleExponent: 3)
        #expect(adapter.exponent == 3)
        var extreme = ScaleAdapter(target: 32, exponent: 126)
        for _ in 0..<10 { extreme.observe([Int8](repeating: 127, count: 100), scaleExponent: extreme.exponent) }
        #expect(extreme.exponent == 127)
        let copy = try JSONDecoder().decode(ScaleAdapter.self, from: JSONEncoder().encode(adapter))
        #expect(copy == adapter)
    }
}
