import Foundation
import LanguageModel

/// A very small model of two layers, and an adapter for it.
enum FuzzedModel {
    static let configuration = """
        {"model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, \
        "num_key_value_heads": 1, "vocab_size": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4, \
        "tie_word_embeddings": true}
        """

    /// Makes a directory with the model.
    static func write(to directory: String) throws {
        var tensors = [("model.embed_tokens.weight", [16, 8]), ("model.norm.weight", [8])]
        for layer in 0..<2 {
            let parts = [
                ("input_layernorm", [8]), ("self_attn.q_proj", [8, 8]), ("self_attn.k_proj", [4, 8]), ("self_attn.v_proj", [4, 8]),
                ("self_attn.o_proj", [8, 8]), ("post_attention_layernorm", [8]), ("mlp.gate_proj", [16, 8]), ("mlp.up_proj", [16, 8]),
                ("mlp.down_proj", [8, 16]),
            ]
            tensors += parts.map { ("model.layers.\(layer).\($0).weight", $1) }
        }
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try Data(configuration.utf8).write(to: URL(filePath: "\(directory)/config.json"))
        try Data(safetensors(tensors)).write(to: URL(filePath: "\(directory)/model.safetensors"))
    }

    /// The tensors of a LoRA adapter of rank 2.
    static let adapter = safetensors([
        ("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", [2, 8]),
        ("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight", [16, 2]),
        ("base_model.model.model.embed_tokens.lora_embedding_A", [2, 16]), ("base_model.model.model.embed_tokens.lora_embedding_B", [8, 2]),
        ("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight", [2, 8]),
        ("base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight", [8, 2]),
        ("base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector", [8]),
    ])

    /// Returns a file of F32 tensors with small values.
    private static func safetensors(_ tensors: [(name: String, shape: [Int])]) -> [UInt8] {
        var members: [String] = []
        var values: [UInt8] = []
        for (name, shape) in tensors {
            let start = values.count
            for i in 0..<shape.reduce(1, *) {
                withUnsafeBytes(of: (Float((start + 7 * i) % 13 - 6) / 16).bitPattern.littleEndian) { values += $0 }
            }
            members.append("\"\(name)\": {\"dtype\": \"F32\", \"shape\": \(shape), \"data_offsets\": [\(start), \(values.count)]}")
        }
        let header = [UInt8]("{\(members.joined(separator: ", "))}".utf8)
        return withUnsafeBytes(of: UInt64(header.count).littleEndian, Array.init) + header + values
    }
}
