import Core
import Testing

@Suite struct ParameterProbeTests {
    @Test("A probe sees which elements a step moves, and sees a step that is rounded to nothing")
    func probe() throws {
        let tensors = [TrainedTensor(name: "a", index: 0, shape: .matrix(rows: 100, columns: 200))]
        let parameters = try Parameters(tensors: tensors) { _, out in for i in out.indices { out[i] = Float(i % 7) - 3 } }
        let directions = Directions(seed: RunSeed(3), family: .rank1)
        let before = ParameterProbe(parameters)
        #expect(before.unchangedPart(in: parameters) == 1)
        func apply(exponent: Int8) {
            let round = RoundRecord(
                round: 0, scaleExponent: 0, step: StepSize(multiplier: 40000, exponent: exponent),
                contributions: [Contribution(machine: MachineID(1), firstSample: 0, bytes: [5])])
            parameters.apply([round], directions: directions, threads: 1)
        }
        apply(exponent: -80)
        #expect(before.unchangedPart(in: parameters) == 1)
        apply(exponent: -30)
        #expect(before.unchangedPart(in: parameters) == 0)
    }
}

@Suite struct ArithmeticStorageTests {
    private func snapshot(_ parameters: Parameters, _ position: SnapshotPosition) -> [UInt8] {
        var bytes: [UInt8] = []
        parameters.writeSnapshot(position) { bytes += $0 }
        return bytes
    }

    @Test("A snapshot reads back with its position") func snapshotsComeBack() throws {
        let run = RandomRun(seed: 8, family: .rank1, shaped: true)
        let parameters = try run.parameters()
        parameters.apply(run.rounds, directions: run.directions, threads: 1)
        let position = SnapshotPosition(
            run: .sha256([1]), nextRound: 5, ledger: LedgerPosition(records: 9, offset: 700, chain: .sha256([2])))
        let bytes = snapshot(parameters, position)
        try bytes.withUnsafeBytes { raw in
            #expect(try Parameters.positionOfSnapshot(raw) == position)
            let copy = try Parameters(tensors: run.tensors.shuffled(), snapshot: raw)
            #expect(copy.digest() == parameters.digest())
            copy.revert(run.rounds[0], directions: run.directions, threads: 1)
            #expect(copy.digest() != parameters.digest())
        }
    }

    @Test("Snapshots that are cut, damaged or of other tensors are refused") func badSnapshotsAreRefused() throws {
        let run = RandomRun(seed: 8, family: .gaussian, largest: 4)
        let parameters = try run.parameters()
        let bytes = snapshot(parameters, SnapshotPosition(run: .sha256([]), nextRound: 0, ledger: nil))
        func read(_ bytes: [UInt8], _ tensors: [TrainedTensor]) throws {
            _ = try bytes.withUnsafeBytes { try Parameters(tensors: tensors, snapshot: $0) }
        }
        for cut in 0..<bytes.count {
            #expect(throws: SnapshotError.self) { try read(Array(bytes[..<cut]), run.tensors) }
        }
        for byte in 0..<bytes.count {
            var changed = bytes
            changed[byte] ^= 4
            #expect(throws: SnapshotError.self) { try read(changed, run.tensors) }
        }
        #expect(throws: SnapshotError.self) { try read(bytes, Array(run.tensors.dropLast())) }
        let renamed = run.tensors.map { TrainedTensor(name: $0.name + "x", index: $0.index, shape: $0.shape) }
        #expect(throws: SnapshotError.self) { try read(bytes, renamed) }
        let turned = run.tensors.map { TrainedTensor(name: $0.name, index: $0.index, shape: .vector($0.shape.count)) }
        #expect(throws: SnapshotError.self) { try read(bytes, turned) }
    }

    @Test("A basis record reads back, and damaged ones are refused") func basisComesBack() throws {
        let spaces = try [
            InputBasis(space: "model.layers.29.mlp:in", width: 3, vectors: [[0.5, -0.25, 1], [1.0 / 32768, 3.0 / 32768, 0]]),
            InputBasis(space: "model.layers.29.attn:in", width: 2, values: []),
        ]
        #expect(spaces[0].values == [8192, -4096, 16384, 0, 2, 0])
        let basis = try RunBasis(spaces: spaces)
        #expect(basis.spaces.map(\.space) == ["model.layers.29.attn:in", "model.layers.29.mlp:in"])
        let bytes = basis.encoded()
        #expect(try RunBasis(decoding: bytes) == basis)
        #expect(try RunBasis(decoding: bytes).digest == basis.digest)
        #expect(basis["model.layers.29.mlp:in"] == spaces[0])
        for cut in 0..<bytes.count { #expect(throws: RunBasisError.self) { try RunBasis(decoding: Array(bytes[..<cut])) } }
        #expect(throws: RunBasisError.self) { try RunBasis(decoding: bytes + [0]) }
        #expect(throws: RunBasisError.self) { try RunBasis(spaces: [spaces[0], spaces[0]]) }
        for value in [Double.nan, .infinity, 2.5, -2.5] {
            #expect(throws: RunBasisError.self) { try InputBasis(space: "x", width: 1, vectors: [[value]]) }
        }
        // Hostile sizes must not be allocated.
        #expect(throws: RunBasisError.self) {
            try RunBasis(decoding: [1, 0, 1, 0, 1, 0, 120, 255, 255, 255, 255, 255, 255])
        }
    }

    @Test("Tensors that can't be trained are refused, with the tensor's name") func badTensorsAreRefused() throws {
        func refuses(_ tensors: [TrainedTensor], values: [Float] = []) -> ParameterError? {
            #expect(throws: ParameterError.self) {
                _ = try Parameters(tensors: tensors) { _, floats in
                    for (i, value) in values.enumerated() { floats[i] = value }
                }
            }
        }
        let vector = TrainedTensor(name: "norm", index: 1, shape: .vector(3))
        #expect(refuses([vector], values: [1, .nan, 2]) == .notFinite(tensor: "norm", element: 1))
        #expect(refuses([vector], values: [1, 2, -.infinity]) == .notFinite(tensor: "norm", element: 2))
        #expect(refuses([vector, vector]) == .sameIndex("norm", "norm", index: 1))
        let huge = TrainedTensor(name: "huge", index: 2, shape: .matrix(rows: 1 << 40, columns: 1 << 40))
        #expect(refuses([huge]) == .tooLarge(tensor: "huge", shape: "\(1 << 40)×\(1 << 40)"))
        let basis = InputBasis(space: "s", width: 4, values: [1, 2, 3, 4])
        let other = TrainedTensor(name: "q", index: 3, shape: .matrix(rows: 2, columns: 3), basis: basis)
        #expect(refuses([other]) == .otherBasis(tensor: "q", shape: "2×3", width: 4))
    }
}
