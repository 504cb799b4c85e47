/// Names of a model's tensors in Hugging Face's files and in GGUF files.
package struct TensorNames: Hashable, Sendable {
    /// A module of a layer in both formats.
    package struct Place: Hashable, Sendable {
        /// Name of the module in Hugging Face's files, below the layer.
        package var file: String
        /// Name of this module if it is a part of that tensor; nil if it is all of it.
        package var part: String?
        /// Whether a fused tensor holds query, key and value rows head by head, instead of one module after the other.
        package var isByHead = false
        /// Name of the module in GGUF files, below the block.
        package var gguf: String
        /// Whether the module is part of a GGUF tensor, in which modules with the same name lie one after the other.
        package var isPartOfGGUF = false
        /// Whether GGUF files interleave the two halves of each head.
        package var isInterleavedInGGUF = false

        package init(_ file: String, gguf: String, interleaved: Bool = false) {
            self.file = file
            self.gguf = gguf
            isInterleavedInGGUF = interleaved
        }

        package init(partOf file: String, _ part: String, byHead: Bool = false, gguf: String) {
            self.file = file
            self.part = part
            isByHead = byHead
            self.gguf = gguf
            isPartOfGGUF = true
        }

        /// Name of the module in runs.
        package var name: String { part.map { "\(file).\($0)" } ?? file }
    }

    /// A module outside the layers, in both formats.
    package struct ModelPlace: Hashable, Sendable {
        package var file: String
        package var gguf: String

        package init(_ file: String, gguf: String = "") {
            self.file = file
            self.gguf = gguf
        }
    }

    /// Beginning of all Hugging Face names except the head's; some files omit it.
    package var root = "model."
    /// Prefix of a layer's number.
    package var layers = "model.layers."
    /// Names without `.weight` and `.bias`.
    package var model: [ModelTensor: ModelPlace] = [:]
    package var modules: [LayerModule: Place] = [:]
    /// Whether matrices are stored with a row for each input, as GPT-2's Conv1D does.
    package var isTransposed = false

    package func name(_ tensor: ModelTensor) -> String {
        (model[tensor.weight]?.file ?? "") + (tensor.isBias ? ".bias" : ".weight")
    }

    package func ggufName(_ tensor: ModelTensor) -> String {
        (model[tensor.weight]?.gguf ?? "") + (tensor.isBias ? ".bias" : ".weight")
    }

    package func name(_ tensor: LayerTensor, layer: Int) -> String {
        "\(layers)\(layer).\(modules[tensor.module]?.name ?? "")\(tensor.isBias ? ".bias" : ".weight")"
    }

    /// Returns the name of the module that contains a module: `self_attn` for its query.
    package func parent(_ module: LayerModule) -> String {
        let name = modules[module]?.name ?? ""
        guard let dot = name.lastIndex(of: ".") else { return "" }
        return String(name[..<dot])
    }

    package static let llama: TensorNames = {
        var names = TensorNames()
        names.model = [
            .embedding: ModelPlace("model.embed_tokens", gguf: "token_embd"), .finalNorm: ModelPlace("model.norm", gguf: "output_norm"),
            .head: ModelPlace("lm_head", gguf: "output"),
        ]
        names.modules = [
            .inputNorm: Place("input_layernorm", gguf: "attn_norm"),
            .query: Place("self_attn.q_proj", gguf: "attn_q", interleaved: true),
            .key: Place("self_attn.k_proj", gguf: "attn_k", interleaved: true),
            .value: Place("self_attn.v_proj", gguf: "attn_v"), .output: Place("self_attn.o_proj", gguf: "attn_output"),
            .feedForwardNorm: Place("post_attention_layernorm", gguf: "ffn_norm"),
            .gate: Place("mlp.gate_proj", gguf: "ffn_gate"), .up: Place("mlp.up_proj", gguf: "ffn_up"),
            .down: Place("mlp.down_proj", gguf: "ffn_down"),
            .queryNorm: Place("self_attn.q_norm", gguf: "attn_q_norm"), .keyNorm: Place("self_attn.k_norm", gguf: "attn_k_norm"),
        ]
        return names
    }()

    /// Llama's names, for families whose GGUF files keep the order of the rows of queries and keys.
    package static let plain: TensorNames = {
        var names = llama
        names.modules[.query] = Place("self_attn.q_proj", gguf: "attn_q")
        names.modules[.key] = Place("self_attn.k_proj", gguf: "attn_k")
        return names
    }()

    /// Makes query, key and value parts of one tensor.
    package mutating func fuseAttention(_ file: String, byHead: Bool = false) {
        for (module, part) in [(LayerModule.query, "q"), (.key, "k"), (.value, "v")] {
            modules[module] = Place(partOf: file, part, byHead: byHead, gguf: "attn_qkv")
        }
    }

    /// Renames modules whose names differ from llama's.
    package mutating func rename(_ files: [LayerModule: String]) {
        for (module, file) in files { modules[module]?.file = file }
    }
}

extension ModelTensor {
    package var isBias: Bool { weight != self }

    /// The weight that belongs to a bias; a weight returns itself.
    package var weight: ModelTensor {
        switch self {
        case .embeddingNormBias: .embeddingNorm
        case .finalNormBias: .finalNorm
        case .headBias: .head
        default: self
        }
    }

    package var isNorm: Bool {
        switch self {
        case .embeddingNorm, .embeddingNormBias, .finalNorm, .finalNormBias: true
        case .embedding, .positions, .projectIn, .projectOut, .head, .headBias: false
        }
    }
}
