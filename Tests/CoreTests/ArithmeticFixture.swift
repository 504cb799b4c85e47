import Core
import Foundation

/// The results that Fixtures/arithmetic.py computed with NumPy from the description alone.
struct ArithmeticFixture: Decodable, Sendable {
    struct Philox: Decodable, Sendable { let key, counter, words: [UInt32] }
    struct Vector: Decodable, Sendable {
        let seed: UInt64
        let index, machine, sample: UInt32
        let count: Int
        let first, sha256: String
    }
    struct Factors: Decodable, Sendable {
        let seed: UInt64
        let index, machine, sample: UInt32
        let rows, columns: Int
        let basis, a, b: String
    }
    struct Fixed: Decodable, Sendable {
        let floats: [UInt32]
        let s: Int
        let integers: [Int32]
        let back: [UInt32]
    }
    struct Codec: Decodable, Sendable {
        let g: Double
        let scaleExponent: Int8
        let q: Int8
        init(from decoder: any Decoder) throws {
            var values = try decoder.unkeyedContainer()
            g = Double(bitPattern: UInt64(try values.decode(String.self), radix: 16) ?? 0)
            scaleExponent = try values.decode(Int8.self)
            q = try values.decode(Int8.self)
        }
    }
    struct Rate: Decodable, Sendable {
        let rate: Double
        let step: StepSize
        init(from decoder: any Decoder) throws {
            var values = try decoder.unkeyedContainer()
            rate = Double(bitPattern: UInt64(try values.decode(String.self), radix: 16) ?? 0)
            step = StepSize(multiplier: try values.decode(UInt16.self), exponent: try values.decode(Int8.self))
        }
    }
    struct Step: Decodable, Sendable {
        let multiplier: UInt32
        let exponent: Int32
        let sums: [Int64]
        let before, after: [Int32]
    }
    struct Run: Decodable, Sendable {
        struct Tensor: Decodable, Sendable {
            let name: String
            let index: UInt32
            let shape: [Int]
            let basis: String
            /// The place, for adapters only. Without an index it is `final`.
            let place: String?
            let placeIndex: UInt32?
        }
        struct Round: Decodable, Sendable {
            struct Part: Decodable, Sendable {
                let machine, first: UInt32
                let bytes: String
            }
            let step: [Int]
            let contributions: [Part]
        }
        let family: PerturbationFamily
        let sampling: DirectionSampling
        let momentum: Double?
        let seed: UInt64
        let magnitude: Int
        let tensors: [Tensor]
        let rounds: [Round]
        let exponents: [Int]
        let before: String
        let after: [String]
        let integers: [[Int32]]
        let without: [String: String]
        /// The numbers of the rounds that a rewind makes void before the rest comes. `rewound` is the digest of what remains in the end.
        let void: [Int]
        let rewound: String
    }

    struct Orthogonal: Decodable, Sendable {
        let seed: UInt64
        let machine, sample, row: UInt32
        let count: Int
        let first, sha256: String
    }
    struct Rounded: Decodable, Sendable {
        /// Doubles, each as 16 hexadecimal digits.
        let values: [String]
        let exponent: Int8
        let integers: [Int16]
    }
    struct BasisRecord: Decodable, Sendable {
        struct Adapter: Decodable, Sendable {
            let place: String
            let shape: [Int]
            /// The exponents of U, then those of V.
            let exponents: [Int8]
            let integers: [Int16]
        }
        let spaces: [String]
        let adapters: [Adapter]
        let bytes: String
    }

    let table: [Int8]
    let philox: [Philox]
    let signs, gaussians: [Vector]
    let factors: [Factors]
    let fixed: [Fixed]
    let codec: [Codec]
    let rates: [Rate]
    let steps: [Step]
    let runs: [Run]
    let orthogonal: [Orthogonal]
    let vectors: [Rounded]
    let basisRecords: [BasisRecord]

    static func load() throws -> ArithmeticFixture {
        guard let url = Bundle.module.url(forResource: "Fixtures/arithmetic", withExtension: "json") else {
            throw CocoaError(.fileNoSuchFile)
        }
        return try JSONDecoder().decode(Self.self, from: Data(contentsOf: url))
    }
}

/// Reads bytes from two hexadecimal digits each, in two's complement.
func bytes(hex: String) -> [Int8] {
    let digits = Array(hex.utf8).map { Int($0) <= 57 ? Int($0) - 48 : Int($0) - 87 }
    return stride(from: 0, to: digits.count, by: 2).map { Int8(truncatingIfNeeded: digits[$0] << 4 | digits[$0 + 1]) }
}

/// Reads Int16 values, low byte first.
func words(hex: String) -> [Int16] {
    let raw = bytes(hex: hex).map { Int16(UInt8(bitPattern: $0)) }
    return stride(from: 0, to: raw.count, by: 2).map { raw[$0] | raw[$0 + 1] << 8 }
}

extension ArithmeticFixture.Run {
    func directions() throws -> Directions {
        try Directions(seed: RunSeed(seed), family: family, sampling: sampling, tensors: trainedTensors, momentum: momentum)
    }

    var trainedTensors: [TrainedTensor] {
        tensors.map { tensor in
            let isMatrix = tensor.shape.count == 2
            if let name = tensor.place {
                let place = tensor.placeIndex.map { AdapterPlace.tensor(name: name, index: $0) } ?? .final
                return TrainedTensor(adapterAt: place, rows: tensor.shape[0], columns: tensor.shape[1])
            }
            let basis = words(hex: tensor.basis)
            return TrainedTensor(
                name: tensor.name, index: tensor.index,
                shape: isMatrix ? .matrix(rows: tensor.shape[0], columns: tensor.shape[1]) : .vector(tensor.shape[0]),
                basis: basis.isEmpty ? nil : InputBasis(space: tensor.name, width: tensor.shape[1], values: basis))
        }
    }

    var records: [RoundRecord] {
        rounds.enumerated().map { number, round in
            RoundRecord(
                round: RoundNumber(number), scaleExponent: 0,
                step: StepSize(multiplier: UInt16(round.step[0]), exponent: Int8(round.step[1])),
                contributions: round.contributions.map {
                    Contribution(machine: MachineID($0.machine), firstSample: $0.first, bytes: bytes(hex: $0.bytes))
                })
        }
    }

    /// Returns the run's base: 24-bit integers, mixed from the elements' numbers, times a power of two.
    func parameters() throws -> Parameters {
        try syntheticParameters(trainedTensors, magnitude: magnitude)
    }
}

/// w_i = ((i·2654435761 + τ) mod 2^32 >> 8) − 2^23, times 2^magnitude.
func syntheticParameters(_ tensors: [TrainedTensor], magnitude: Int) throws -> Parameters {
    let sorted = tensors.sorted { $0.index < $1.index }
    return try Parameters(tensors: tensors) { position, floats in
        for i in floats.indices {
            let mixed = UInt32(truncatingIfNeeded: i &* 2_654_435_761 &+ Int(sorted[position].index))
            floats[i] = Float(Int(mixed >> 8) - (1 << 23)) * Float(sign: .plus, exponent: magnitude, significand: 1)
        }
    }
}
