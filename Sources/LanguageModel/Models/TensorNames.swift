/// Where a model's tensors lie in Hugging Face's files and in GGUF files.
package struct TensorNames: Hashable, Sendable {
    /// A module of a layer in both formats.
    package struct Place: Hashable, Sendable {
        /// Of the module in Hugging Face's files, below the layer.
        package var file: String
        /// What this module is called where it is a part of that tensor; nil: it is all of it.
        package var part: String?
        /// Of a part: rows of a head's query, key and value follow each other, head by head; else all rows of a module do.
        package var isByHead = false
        /// Of the module in GGUF files, below the block.
        package var gguf: String
        /// Modules with the same GGUF name lie there one after the other.
        package var isPartOfGGUF = false
        /// GGUF files interleave the two halves of each head.
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

        /// Of the module, as runs name it.
        package var name: String { part.map { "\(file).\($0)" } ?? file }
    }

    /// A module that belongs to no layer, in both formats.
    package struct ModelPlace: Hashable, Sendable {
        package var file: String
        package var gguf: String

        package init(_ file: String, gguf: String = "") {
            self.file = file
            self.gguf = gguf
        }
    }

    /// What all of Hugging Face's names begin with, but for the head's; some files leave it out.
    package var root = "model."
    /// A layer's number stands behind it.
    package var layers = "model.layers."
    /// Without `.weight` and `.bias`.
    package var model: [ModelTensor: ModelPlace] = [:]
    package var modules: [LayerModule: Place] = [:]
    /// Matrices are stored with a row for each input: GPT-2's Conv1D.
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

    /// Of the module that holds a module: `self_attn` for its query.
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

    /// Llama's, for families whose GGUF files keep the rows of queries and keys as they are.
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

    /// Names modules that are called otherwise than llama's.
    package mutating func rename(_ files: [LayerModule: String]) {
        for (module, file) in files { modules[module]?.file = file }
    }
}

extension ModelTensor {
    package var isBias: Bool { weight != self }

    /// The weight whose bias it is; itself where it is a weight.
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
