/// What a model computes, as data. `ForwardPass` is the one interpreter of it: it runs batches of directions and writes texts.
///
/// What stands here by default is llama's: RMSNorm before attention and before the feed-forward layer, rotary positions over the whole head, a gated SiLU,
/// a linear head. A family says what it does otherwise, in a file of its own beside this one.
public struct ModelDescription: Hashable, Sendable {
    /// All norms of a model are of one kind.
    package struct Norm: Hashable, Sendable {
        package enum Kind: String, Sendable {
            /// x/√(mean(x²) + ε), Zhang & Sennrich, arXiv 1910.07467.
            case rms
            /// (x − mean)/√(variance + ε), Ba et al., arXiv 1607.06450.
            case layer
        }
        package var kind = Kind.rms
        package var epsilon = 1e-6
        /// Added to a norm's weights before they multiply: 1 where files hold w of (1 + w).
        package var weightOffset: Float = 0
        package var hasWeights = true
        package var hasBias = false
    }

    package struct Attention: Hashable, Sendable {
        package enum QueryKeyNorm: String, Sendable {
            case none
            /// Of each head, with weights that all heads share.
            case perHead
            /// Of all heads together.
            case whole
        }
        package var queryKeyNorm = QueryKeyNorm.none
        /// Queries and keys are normalised after their rotation, not before it.
        package var normalisesAfterRotation = false
        /// Of the scores q·k.
        package var scale: Float = 1
        /// Scores become cap·tanh(score/cap); 0: they stay.
        package var softcap: Float = 0
        /// Scores get a bias that grows with a key's position, by a slope of each head (ALiBi, Press et al., arXiv 2108.12409).
        package var hasLinearBiases = false
        package var queryGrowth: QueryGrowth?
    }

    /// Queries are multiplied by 1 + β·ln(1 + ⌊position/length⌋).
    package struct QueryGrowth: Hashable, Sendable {
        package var beta: Double
        package var length: Int
    }

    /// What one layer has of its own.
    package struct Layer: Hashable, Sendable {
        /// In `rotations`; nil: its queries and keys are not rotated.
        package var rotation: Int? = 0
        /// Tokens that a query sees, its own included; nil: all before it.
        package var window: Int?
    }

    package enum Activation: String, Sendable {
        case silu, gelu, geluTanh, relu, reluSquared
    }

    package struct Embedding: Hashable, Sendable {
        /// Multiplies embeddings.
        package var scale: Float = 1
        /// Rows of the table of learned positions; nil where there is none.
        package var positionCount: Int?
        /// Row of the first position.
        package var positionOffset = 0
        package var hasNorm = false
        /// Width of the embeddings where a matrix carries them to the model's width and back; nil: they have that width.
        package var projectedWidth: Int?
    }

    package struct Head: Hashable, Sendable {
        package var hasNorm = true
        package var hasBias = false
        /// Multiplies logits.
        package var scale: Float = 1
        /// Logits become cap·tanh(logit/cap); 0: they stay.
        package var softcap: Float = 0
    }

    package var norm = Norm()
    /// Where a layer has norms.
    package var norms: Set<LayerModule> = [.inputNorm, .feedForwardNorm]
    /// The feed-forward layer reads the layer's input, not what attention made of it.
    package var isParallel = false
    /// Of a parallel layer: attention and feed-forward layer read the same normalised input.
    package var sharesInputNorm = false
    package var attention = Attention()
    package var rotations: [Rotation] = []
    /// One for each layer.
    package var layers: [Layer] = []
    package var activation = Activation.silu
    /// activation(gate)·up; else activation(up).
    package var isGated = true
    /// Multiplies what a layer's halves add to the residual stream.
    package var residualScale: Float = 1
    /// Matrices of a layer that have a bias.
    package var biased: Set<LayerModule> = []
    package var embedding = Embedding()
    package var head = Head()
    package var names = TensorNames.llama

    package init() {}
}
