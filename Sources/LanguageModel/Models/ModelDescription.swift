import Glibc

/// The computation of a model, as data. `ForwardPass` alone interprets it: it runs batches of directions and writes texts.
///
/// The defaults are llama's: RMSNorm before attention and before the feed-forward layer, rotary positions over the whole head, a gated
/// SiLU, a linear head. Each family states its differences in a file of its own beside this one.
public struct ModelDescription: Hashable, Sendable {
    /// The form of all the model's norms.
    package struct Norm: Hashable, Sendable {
        package enum Kind: String, Sendable {
            /// x/√(mean(x²) + ε), Zhang & Sennrich, arXiv 1910.07467.
            case rms
            /// (x − mean)/√(variance + ε), Ba et al., arXiv 1607.06450.
            case layer
        }
        package var kind = Kind.rms
        package var epsilon = 1e-6
        /// Value added to a norm's weights before they multiply: 1 if files hold w of (1 + w).
        package var weightOffset: Float = 0
        package var hasWeights = true
        package var hasBias = false
    }

    package struct Attention: Hashable, Sendable {
        package enum QueryKeyNorm: String, Sendable {
            case none
            /// Each head is normalised, with weights that all heads share.
            case perHead
            /// All heads are normalised together.
            case whole
        }
        package var queryKeyNorm = QueryKeyNorm.none
        /// Whether queries and keys are normalised after their rotation instead of before it.
        package var normalisesAfterRotation = false
        /// Scale of the scores q·k.
        package var scale: Float = 1
        /// Cap of the scores: cap·tanh(score/cap); 0 means no cap.
        package var softcap: Float = 0
        /// Whether scores get a bias that grows with a key's position, with a slope per head (ALiBi, Press et al., arXiv 2108.12409).
        package var hasLinearBiases = false
        package var queryGrowth: QueryGrowth?
    }

    /// Growth of queries with their position: they are multiplied by 1 + β·ln(1 + ⌊position/length⌋).
    package struct QueryGrowth: Hashable, Sendable {
        package var beta: Double
        package var length: Int
    }

    /// Settings of a single layer.
    package struct Layer: Hashable, Sendable {
        /// Position in `rotations`; nil if queries and keys are not rotated.
        package var rotation: Int? = 0
        /// Number of tokens that a query sees, its own included; nil means all before it.
        package var window: Int?
        /// The activation of this layer, if its files hold numbers for it; nil if it is the model's.
        package var xielu: XIELU?
    }

    /// An activation with numbers that training the original model has found, and which stay as they are here (xIELU: Huang & Schlag, arXiv
    /// 2411.13010).
    package struct XIELU: Hashable, Sendable {
        /// As files hold them: softplus(alphaPlus) is the factor of x², β + softplus(alphaMinus) that of eˣ − 1 − x.
        package var alphaPlus, alphaMinus: Float
        package var beta: Float = 0.5
        package var epsilon: Float = -1e-6

        /// Names of the numbers in files, below the feed-forward layer.
        package static let names = ["alpha_p", "alpha_n", "beta", "eps"]
        package var values: [Float] { [alphaPlus, alphaMinus, beta, epsilon] }
        package var plus: Float { Self.softplus(alphaPlus) }
        package var minus: Float { beta + Self.softplus(alphaMinus) }

        private static func softplus(_ x: Float) -> Float { Float(max(Double(x), 0) + log1p(exp(-abs(Double(x))))) }
    }

    package enum Activation: String, Sendable {
        case silu, gelu, geluTanh, relu, reluSquared
    }

    package struct Embedding: Hashable, Sendable {
        /// Multiplier of the embeddings.
        package var scale: Float = 1
        /// Rows of the table of learned positions; nil if there is none.
        package var positionCount: Int?
        /// Row of the first position.
        package var positionOffset = 0
        package var hasNorm = false
        /// Width of the embeddings if matrices carry them to the model's width and back; nil if they have the model's width.
        package var projectedWidth: Int?
    }

    package struct Head: Hashable, Sendable {
        package var hasNorm = true
        package var hasBias = false
        /// Multiplier of the logits.
        package var scale: Float = 1
        /// Cap of the logits: cap·tanh(logit/cap); 0 means no cap.
        package var softcap: Float = 0
    }

    package var norm = Norm()
    /// Places of norms in a layer.
    package var norms: Set<LayerModule> = [.inputNorm, .feedForwardNorm]
    /// Whether the feed-forward layer reads the layer's input instead of attention's result.
    package var isParallel = false
    /// Whether attention and feed-forward layer of a parallel layer read the same normalised input.
    package var sharesInputNorm = false
    package var attention = Attention()
    package var rotations: [Rotation] = []
    /// Settings of each layer.
    package var layers: [Layer] = []
    package var activation = Activation.silu
    /// Whether the feed-forward layer computes activation(gate)·up instead of activation(up).
    package var isGated = true
    /// Multiplier of what attention and feed-forward layer add to the residual stream.
    package var residualScale: Float = 1
    /// Matrices of a layer that have a bias.
    package var biased: Set<LayerModule> = []
    package var embedding = Embedding()
    package var head = Head()
    package var names = TensorNames.llama

    package init() {}
}

extension ModelDescription {
    /// Whether a text of `length` tokens is rotated otherwise than one of `other` tokens.
    package func rotates(_ length: Int, otherwiseThan other: Int) -> Bool {
        rotations.contains { rotation in rotation.longTexts.map { (length > $0.length) != (other > $0.length) } ?? false }
    }
}
