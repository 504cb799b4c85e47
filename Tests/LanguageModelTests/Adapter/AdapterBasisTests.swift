import Core
import Foundation
import LanguageModel
import Testing
import Training

struct AdapterBasisTests {
    private static let beginnings = ["the film is good", "a bad story of the sea", "no one here", "it was fine and the end", "what a day for them"]
    private static let texts: [String] = (0..<40).map { (i: Int) -> String in "\(beginnings[i % 5]) \(i)" }

    private static func task(_ words: [String]) -> TaskSpec {
        TaskSpec(
            kind: .classification, template: "{text} It was:", labels: words.map { LabelWord(label: $0, word: $0) }, maxLength: 48)
    }

    private static let text = TaskSpec(kind: .text, maxLength: 24)

    private func rows(_ tokens: [Int32]) throws -> [[Double]] {
        let source = try EstimatorTests.tiny()
        let head = try AdaptedTinyLlama.values(of: source.headName, source)
        let width = source.configuration.hiddenSize
        return tokens.map { token in head[Int(token) * width..<(Int(token) + 1) * width].map(Double.init) }
    }

    private func vectors(_ factor: FixedPointVectors) -> [[Double]] {
        let floats = factor.floats()
        return (0..<factor.count).map { floats[$0 * factor.length..<($0 + 1) * factor.length].map(Double.init) }
    }

    private func dot(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }

    /// Returns uᵀFu′ of two changes of a state. F is the covariance of all head rows plus 0.1 of its mean eigenvalue.
    private func metric() throws -> ([Double], [Double]) -> Double {
        let all = try rows((0..<288).map { $0 })
        let n = Double(all.count)
        let mean = meanRow(all)
        var trace = 0.0
        for row in all { for j in 0..<32 { trace += (row[j] - mean[j]) * (row[j] - mean[j]) / n } }
        let ridge = 0.1 * trace / 32
        return { a, b in
            let (ma, mb) = (dot(mean, a), dot(mean, b))
            var sum = 0.0
            for row in all { sum += (dot(row, a) - ma) * (dot(row, b) - mb) }
            return sum / n + ridge * dot(a, b)
        }
    }

    private func meanRow(_ rows: [[Double]]) -> [Double] {
        var mean = [Double](repeating: 0, count: 32)
        for row in rows { for j in 0..<32 { mean[j] += row[j] / Double(rows.count) } }
        return mean
    }

    /// The columns of E_c·U are orthonormal contrasts, whatever the head's size.
    @Test(arguments: [["a", "b"], ["a", "b", "c"], ["k", "e", "d", "x", "o"]])
    func outputsOfLabelWordsAreContrasts(_ words: [String]) throws {
        let source = try EstimatorTests.tiny()
        let basis = try AdapterBasisMaker.makeBasis(source: source, task: Self.task(words), texts: Self.texts, options: .init(inputs: 8))
        #expect(basis.place == "final")
        let u = vectors(basis.outputs)
        #expect(u.count == words.count - 1 && basis.outputs.length == 32)
        let tokens = try words.map { try source.tokenizer.encode($0)[0] }
        let e = try rows(tokens)
        let mean = meanRow(e)
        let scores = u.map { u in e.map { dot($0, u) - dot(mean, u) } }
        for (i, a) in scores.enumerated() {
            for (j, b) in scores.enumerated() { #expect(abs(dot(a, b) - (i == j ? 1 : 0)) < 2e-3) }
        }
        // With two classes, the score of the second rises.
        if words.count == 2 {
            #expect(abs(scores[0][1] - 0.5.squareRoot()) < 1e-3)
            // The pseudo-inverse of the contrasts without F moves the rest of the vocabulary more.
            let metric = try metric()
            let difference = (0..<32).map { e[1][$0] - e[0][$0] }
            let scale = 2.0.squareRoot() / dot(difference, difference)
            let plain = difference.map { $0 * scale }
            #expect(metric(u[0], u[0]) < 0.95 * metric(plain, plain))
        }
    }

    /// Words that begin alike are distinguished by the first token that differs; classes without such a token stay together.
    @Test func wordsThatBeginAlike() throws {
        let source = try EstimatorTests.tiny()
        for (words, tokens, rank) in [(["zq", "zx"], ["q", "x"], 1), (["zq", "zx", "q"], ["q", "x", "q"], 1), (["zq", "z"], ["q", "z"], 1)] {
            let lengths = try words.map { try source.tokenizer.encode($0).count }
            try #require(lengths == words.map(\.count), "letters are tokens")
            let basis = try AdapterBasisMaker.makeBasis(
                source: source, task: Self.task(words), texts: Self.texts, options: .init(inputs: 4))
            #expect(basis.outputs.count == rank)
            let heads = try rows(try tokens.map { try source.tokenizer.encode($0)[0] })
            let scores = heads.map { dot($0, vectors(basis.outputs)[0]) }
            let mean = scores.reduce(0, +) / Double(scores.count)
            let centred = scores.map { $0 - mean }
            #expect(abs(dot(centred, centred) - 1) < 2e-3)
        }
    }

    /// VᵀSV = diag(λ/(λ + τλ₂)). The final states are read through a head that is the identity.
    @Test(arguments: [0.05, 0.5])
    func inputsWhiten(_ tau: Double) throws {
        let source = try EstimatorTests.tiny()
        let task = Self.task(["a", "b"])
        let basis = try AdapterBasisMaker.makeBasis(
            source: source, task: task, texts: Self.texts, options: .init(inputs: 12, tau: tau, threads: 2))
        #expect(
            try AdapterBasisMaker.makeBasis(source: source, task: task, texts: Self.texts, options: .init(inputs: 12, tau: tau)) == basis,
            "threads change nothing")
        let v = vectors(basis.inputs)
        let prompts = try TaskEncoder(task: task, model: source).encodePublicText(Self.texts).map { $0.sequences[0].tokens }
        var identity = [Float](repeating: 0, count: 288 * 32)
        for i in 0..<32 { identity[i * 32 + i] = 1 }
        let states: [[Double]] = try AdaptedTinyLlama.withHead(identity) { source in
            let logits = try TrainableModel(source: source).lastLogits(of: prompts)
            return logits.map { $0.prefix(32).map(Double.init) }
        }
        func moment(_ a: [Double], _ b: [Double]) -> Double {
            var sum = 0.0
            for state in states { sum += dot(state, a) * dot(state, b) }
            return sum / Double(states.count)
        }
        for i in v.indices {
            for j in 0..<i { #expect(abs(moment(v[i], v[j])) < 2e-3, "\(i) \(j)") }
            let own = moment(v[i], v[i])
            #expect(own > 0 && own <= 1.001)
            if i > 0 { #expect(own <= moment(v[i - 1], v[i - 1]) + 1e-3) }
        }
        #expect(abs(moment(v[1], v[1]) - 1 / (1 + tau)) < 2e-3, "the second component is what τ is measured by")
    }

    /// UᵀGU = diag(λ/(λ + τλ₂)), where G is the second moment of the loss's gradients at the final states.
    @Test func outputsOfTokenLosses() throws {
        let source = try EstimatorTests.tiny()
        func outputs(_ kind: AdapterBasisMaker.OutputDirections?, seed: UInt64 = 1, texts: [String] = Self.texts) throws -> [[Double]] {
            vectors(
                try AdapterBasisMaker.makeBasis(
                    source: source, task: Self.text, texts: texts, options: .init(inputs: 8, outputs: 4, outputDirections: kind, seed: seed)
                ).outputs)
        }
        let metric = try metric()
        let (directed, random) = (try outputs(nil), try outputs(.seed))
        #expect(try outputs(.loss) == directed)
        #expect(try outputs(.seed, seed: 2) != random)
        #expect(try outputs(nil, texts: []) == random, "without public text")
        #expect(directed.count == 4 && random.count == 4)
        for i in 0..<4 { for j in 0...i { #expect(abs(metric(random[i], random[j]) - (i == j ? 1 : 0)) < 5e-3) } }

        let gradients = try gradients(source)
        func moment(_ a: [Double], _ b: [Double]) -> Double {
            gradients.reduce(0) { $0 + dot($1, a) * dot($1, b) } / Double(gradients.count)
        }
        for i in 0..<4 {
            for j in 0..<i { #expect(abs(moment(directed[i], directed[j])) < 5e-3, "\(i) \(j)") }
            if i > 0 { #expect(moment(directed[i], directed[i]) <= moment(directed[i - 1], directed[i - 1]) + 1e-3) }
        }
        #expect(abs(moment(directed[1], directed[1]) - 1 / 1.05) < 5e-3, "the second component is what τ is measured by")
    }

    /// Returns ∂(−log p(target))/∂n = (softmax − onehot)·E at each position of the public texts.
    private func gradients(_ source: ModelSource) throws -> [[Double]] {
        let model = try TrainableModel(source: source)
        let head = try rows((0..<288).map { $0 })
        return try TaskEncoder(task: Self.text, model: source).encodePublicText(Self.texts).flatMap { example in
            let (tokens, targets) = (example.sequences[0].tokens, example.sequences[0].targets)
            return zip(targets, try model.lastLogits(of: targets.map { Array(tokens[...$0.position]) })).map { target, logits in
                let largest = Double(logits.max() ?? 0)
                let weights = logits.map { exp(Double($0) - largest) }
                let sum = weights.reduce(0, +)
                var gradient = head[Int(target.token)].map { -$0 }
                for (row, weight) in zip(head, weights) { for j in 0..<32 { gradient[j] += weight / sum * row[j] } }
                return gradient
            }
        }
    }

    @Test func withoutPublicTextAndWithLittle() throws {
        let source = try EstimatorTests.tiny()
        let task = Self.task(["a", "b"])
        for texts in [[], ["one text"], ["one text", "and one more"]] {
            let basis = try AdapterBasisMaker.makeBasis(source: source, task: task, texts: texts, options: .init(inputs: 32, seed: 3))
            #expect(basis.shape == .matrix(rows: 1, columns: 32))
            #expect(vectors(basis.inputs).allSatisfy { $0.contains { $0 != 0 } })
            _ = try source.trainedTensors(matching: ["adapter:final"], basis: RunBasis(spaces: [], adapters: [basis]))
        }
    }

    @Test func whatCannotBeIsRefused() throws {
        let source = try EstimatorTests.tiny()
        func problem(_ task: TaskSpec, _ options: AdapterBasisMaker.Options, texts: [String] = Self.texts) throws -> String {
            try #require(throws: TrainingError.self) {
                try AdapterBasisMaker.makeBasis(source: source, task: task, texts: texts, options: options)
            }.description
        }
        let task = Self.task(["a", "b"])
        #expect(try problem(task, .init(inputs: 33)).contains("1 to 32 inputs"))
        #expect(try problem(task, .init(inputs: 0)).contains("1 to 32 inputs"))
        #expect(try problem(Self.text, .init(inputs: 4, outputs: 33)).contains("1 to 32 outputs"))
        #expect(try problem(task, .init(inputs: 4, tau: 0)).contains("τ"))
        #expect(try problem(Self.text, .init(inputs: 4, outputDirections: .labels)).contains("loss or seed"))
        #expect(try problem(task, .init(inputs: 4, outputDirections: .loss)).contains("labels or seed"))
        #expect(try problem(Self.text, .init(inputs: 4, outputDirections: .loss), texts: []).contains("public text"))
        let error = try #require(throws: TrainingError.self) {
            try AdapterBasisMaker.makeBasis(source: source, task: task, texts: Self.texts, options: .init(inputs: 4)) { _, _ in false }
        }
        #expect(error.code == .cancelled)
    }
}
