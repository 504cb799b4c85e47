import Core
import LanguageModel
import Testing
import Training

/// The movement of an adapter, against plain arithmetic.
struct MovementTests {
    /// Returns the movement of the adapter in a slot, from the whole matrix U·C·Vᵀ.
    private func part(_ slot: Int, _ parameters: Parameters, _ run: AdaptedModel) throws -> Double {
        let place = try #require(parameters.tensors[slot].place)
        let basis = try #require(run.basis.adapter(at: place.name))
        let (u, v, p, r) = (basis.outputs.floats(), basis.inputs.floats(), basis.outputs.count, basis.inputs.count)
        let (m, n) = (basis.outputs.length, basis.inputs.length)
        let c = ScratchBuffer<Float>(capacity: p * r)
        parameters.copyFloats(at: slot, elements: 0..<p * r, into: c.pointer)
        // U·C.
        var left = [Double](repeating: 0, count: m * r)
        for a in 0..<m { for j in 0..<r { for i in 0..<p { left[a * r + j] += Double(u[i * m + a]) * Double(c.pointer[i * r + j]) } } }
        guard place != .final else {
            let weights = try AdaptedTinyLlama.values(of: "model.norm.weight", run.source)
            return norm(left) / norm(weights.map(Double.init))
        }
        var added = [Double](repeating: 0, count: m * n)
        for a in 0..<m { for b in 0..<n { for j in 0..<r { added[a * n + b] += left[a * r + j] * Double(v[j * n + b]) } } }
        return norm(added) / norm(try AdaptedTinyLlama.values(of: place.name, run.source).map(Double.init))
    }

    private func norm(_ values: [Double]) -> Double { values.reduce(0) { $0 + $1 * $1 }.squareRoot() }

    @Test(arguments: LayerAdapterTests.patterns + [["adapter:final"]])
    func isThatOfTheMatrix(_ patterns: [String]) throws {
        let run = try AdaptedModel(EstimatorTests.tiny(), patterns)
        let parameters = try run.source.makeParameters(run.tensors)
        let model = try TrainableModel(source: run.source, parameters: parameters, basis: run.basis)
        let movement = try Movement(from: parameters, model: model)
        #expect(movement.largest(in: parameters)?.part == 0, "an adapter begins at 0")

        var before = 0.0
        for scale in [0x1p-8, 0x1p-5] {
            run.apply([60, -90, 127], from: 1000, scale: scale, to: parameters)
            model.parametersChanged(threads: 1)
            let found = try #require(movement.largest(in: parameters))
            let parts = try run.tensors.indices.map { try part($0, parameters, run) }
            let most = try #require(parts.indices.max { parts[$0] < parts[$1] })
            #expect(found.name == run.tensors[most].name)
            #expect(abs(found.part - parts[most]) < 1e-5 * parts[most], "\(found.part), not \(parts[most])")
            #expect(found.part > before)
            before = found.part
        }
        let shared = try Movement(from: parameters, model: model, threads: 3).largest(in: parameters)
        #expect(shared?.part == before, "neither threads nor the moment of its making change an adapter's movement")
    }

    /// A matrix that is trained itself is measured beside the adapters.
    @Test(arguments: [["adapter:layers.1.mlp.down_proj"], ["adapter:final"]])
    func comparesAdaptersWithMatrices(_ patterns: [String]) throws {
        let run = try AdaptedModel(EstimatorTests.tiny(), patterns)
        let tensors = try run.source.trainedTensors(matching: patterns + ["layers.2.mlp.up_proj", "model.norm.weight"], basis: run.basis)
        let directions = try Directions(seed: RunSeed(4), family: .rank1, sampling: nil, tensors: tensors)
        let adapter = try #require(tensors.firstIndex { $0.isAdapter })
        let up = try #require(tensors.firstIndex { $0.name == "model.layers.2.mlp.up_proj.weight" })
        let base = try AdaptedTinyLlama.values(of: tensors[up].name, run.source).map(Double.init)
        let parameters = try run.source.makeParameters(tensors)
        let model = try TrainableModel(source: run.source, parameters: parameters, basis: run.basis)
        let movement = try Movement(from: parameters, model: model)
        let record = RoundRecord(
            round: 0, scaleExponent: 0, step: .nearest(rate: 0x1p-12),
            contributions: [Contribution(machine: AdaptedModel.machine, firstSample: 0, bytes: [100, -80])])
        parameters.apply([record], directions: directions, threads: 1)
        model.parametersChanged(threads: 1)
        #expect(model.adapter(at: adapter)?.slot == adapter && model.adapter(at: up) == nil)

        let now = ScratchBuffer<Float>(capacity: base.count)
        parameters.copyFloats(at: up, elements: 0..<base.count, into: now.pointer)
        let moved = norm(base.indices.map { Double(now.pointer[$0]) - base[$0] }) / norm(base)
        guard patterns != ["adapter:final"] else {
            // The final norm, which is trained here, is the size of a state as it is now.
            #expect(moved > 0 && movement.largest(in: parameters)?.part ?? 0 >= moved * 0.999)
            return
        }
        let added = try part(adapter, parameters, run)
        let found = try #require(movement.largest(in: parameters))
        #expect(moved > 0 && added > 0)
        #expect(found.name == tensors[added > moved ? adapter : up].name)
        #expect(abs(found.part - max(added, moved)) < 1e-3 * max(added, moved), "\(found.part), not \(added) or \(moved)")
    }
}
