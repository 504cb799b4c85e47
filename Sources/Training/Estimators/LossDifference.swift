import Core
import LanguageModel

/// The losses that a sample compares.
struct LossPair {
    /// The loss at θ + εz.
    var plus: Double
    /// The loss at θ − εz (two-sided) or θ (one-sided).
    var other: Double
}

/// A batch of samples that went through the model up to the final norm's input.
///
/// `instances` holds the examples, sample by sample and sign by sign. `clean` holds the clean segment (at θ) of each sequence, by the
/// sequence's number in the set; it is empty if no clean pass was needed.
struct PerturbedBatch {
    let pass: ForwardPass
    let set: ExampleSet
    let instances: [ForwardPass.Instance]
    let clean: [Int: Int]
    let sampleCount: Int
    /// Examples per sample.
    let batchSize: Int

    /// Returns the positions of one sign's instances of a sample.
    func instances(of sample: Int, sign: Int, of signs: Int) -> Range<Int> {
        let first = (sample * signs + sign) * batchSize
        return first..<first + batchSize
    }
}

/// A way to compute the change of the loss along the directions of a batch: `TwoSidedDifference`, `OneSidedDifference`, or
/// `HeadGradientDifference` if the objective has a derivative at the head.
protocol LossDifference: Sendable {
    /// The signs of εz that each sample sends through the model.
    var signs: [Float] { get }
    /// Whether the batch also needs a clean pass (at θ) of every sequence.
    var needsCleanPass: Bool { get }

    /// - Parameter score: computes the loss of a sample from the results of its examples.
    /// - Returns: the losses of each sample of the batch, in order.
    func losses(of batch: PerturbedBatch, score: SampleLoss) -> [LossPair]
    /// - Returns: for each sample of the batch the losses of each of its examples, in order.
    func exampleLosses(of batch: PerturbedBatch, score: SampleLoss) -> [[LossPair]]
}

/// The loss of a sample: the mean of its examples' losses, or 1 − their score under an objective without a derivative.
struct SampleLoss: Sendable {
    let crossEntropy: GeneralizedCrossEntropy
    let objective: Objective?

    func loss(of found: some Collection<(loss: Double, outcome: Outcome)>) -> Double {
        let mean = found.reduce(0) { $0 + crossEntropy.loss($1.loss) } / Double(found.count)
        // A score of outputs that are not finite would hide the failure.
        guard let objective, mean.isFinite else { return mean }
        return objective.loss(of: found.map(\.outcome))
    }
}

/// L(θ + εz) against L(θ − εz), both through the head.
struct TwoSidedDifference: LossDifference {
    var signs: [Float] { [1, -1] }
    var needsCleanPass: Bool { false }

    func losses(of batch: PerturbedBatch, score: SampleLoss) -> [LossPair] {
        let found = batch.results(of: batch.instances)
        return (0..<batch.sampleCount).map { sample in
            LossPair(
                plus: score.loss(of: found[batch.instances(of: sample, sign: 0, of: 2)]),
                other: score.loss(of: found[batch.instances(of: sample, sign: 1, of: 2)]))
        }
    }

    func exampleLosses(of batch: PerturbedBatch, score: SampleLoss) -> [[LossPair]] {
        let found = batch.results(of: batch.instances).map { score.loss(of: CollectionOfOne($0)) }
        return (0..<batch.sampleCount).map { sample in
            zip(found[batch.instances(of: sample, sign: 0, of: 2)], found[batch.instances(of: sample, sign: 1, of: 2)])
                .map { LossPair(plus: $0, other: $1) }
        }
    }
}

/// L(θ + εz) against L(θ), both through the head. Half the passes, and an error of first order in ε.
struct OneSidedDifference: LossDifference {
    var signs: [Float] { [1] }
    var needsCleanPass: Bool { true }

    func losses(of batch: PerturbedBatch, score: SampleLoss) -> [LossPair] {
        let (found, place) = results(of: batch)
        return (0..<batch.sampleCount).map { sample in
            let own = batch.instances(of: sample, sign: 0, of: 1)
            let clean = batch.instances[own].compactMap { place[$0.example] }.map { found[$0] }
            return LossPair(plus: score.loss(of: found[own]), other: score.loss(of: clean))
        }
    }

    func exampleLosses(of batch: PerturbedBatch, score: SampleLoss) -> [[LossPair]] {
        let (found, place) = results(of: batch)
        return (0..<batch.sampleCount).map { sample in
            batch.instances(of: sample, sign: 0, of: 1).map { i in
                LossPair(
                    plus: score.loss(of: CollectionOfOne(found[i])),
                    other: place[batch.instances[i].example].map { score.loss(of: CollectionOfOne(found[$0])) } ?? .nan)
            }
        }
    }

    /// Returns the results of all instances at θ + εz and then of each example at θ, and the places of the latter by example.
    private func results(of batch: PerturbedBatch) -> (found: [(loss: Double, outcome: Outcome)], place: [Int: Int]) {
        var instances = batch.instances
        var place: [Int: Int] = [:]
        for instance in batch.instances where place[instance.example] == nil {
            guard let first = batch.clean[batch.set.ranges[instance.example].lowerBound] else { continue }
            place[instance.example] = instances.count
            instances.append(ForwardPass.Instance(example: instance.example, firstSegment: first))
        }
        return (batch.results(of: instances), place)
    }
}

/// Mean token losses by the gradient at the head: L₊ − L₋ = ⟨∂L/∂h, h₊ − h₋⟩, where h are the last hidden states. A direction then needs
/// no logits. The head is linear and its softmax smooth, so the error is of third order in ε. One-sided, h of the clean pass takes the
/// place of h₋, and the error is of second order.
struct HeadGradientDifference: LossDifference {
    let isOneSided: Bool

    var signs: [Float] { isOneSided ? [1] : [1, -1] }
    var needsCleanPass: Bool { true }

    func losses(of batch: PerturbedBatch, score: SampleLoss) -> [LossPair] {
        let each = Double(batch.batchSize)
        return exampleLosses(of: batch, score: score).map { examples in
            var losses = LossPair(plus: 0, other: 0)
            for pair in examples {
                losses.plus += pair.plus / each
                losses.other += pair.other / each
            }
            return losses
        }
    }

    func exampleLosses(of batch: PerturbedBatch, score: SampleLoss) -> [[LossPair]] {
        let pass = batch.pass
        let set = batch.set
        pass.finalNorm()
        var gradients: [Int: ForwardPass.HeadGradient] = [:]
        for instance in batch.instances where gradients[instance.example] == nil {
            let segments = set.ranges[instance.example].compactMap { batch.clean[$0] }
            let targets = set.ranges[instance.example].map { set.targets(of: set.sequences[$0]) }
            gradients[instance.example] = pass.headGradient(of: segments, targets: targets)
        }
        return (0..<batch.sampleCount).map { sample in
            batch.instances(of: sample, sign: 0, of: signs.count).map { i in
                let instance = batch.instances[i]
                guard let gradient = gradients[instance.example], let clean = batch.clean[set.ranges[instance.example].lowerBound] else {
                    return LossPair(plus: 0, other: 0)
                }
                if isOneSided {
                    let difference = pass.difference(from: clean, to: instance.firstSegment, along: gradient)
                    return LossPair(plus: gradient.loss + difference, other: gradient.loss)
                }
                let minus = batch.instances[i + batch.batchSize].firstSegment
                let difference = pass.difference(from: minus, to: instance.firstSegment, along: gradient)
                return LossPair(plus: gradient.loss + difference / 2, other: gradient.loss - difference / 2)
            }
        }
    }
}

extension PerturbedBatch {
    /// Returns loss and outcome of each instance, in order.
    fileprivate func results(of instances: [ForwardPass.Instance]) -> [(loss: Double, outcome: Outcome)] {
        var found: [(loss: Double, outcome: Outcome)] = []
        found.reserveCapacity(instances.count)
        pass.losses(of: instances, in: set) { _, loss, _, outcome in found.append((loss, outcome)) }
        return found
    }
}
