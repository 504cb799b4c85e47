import Foundation
import Testing

/// The trained Llama with 260 thousand parameters from llama2.c, in that project's first file format, as a Hugging Face directory.
struct Stories260K {
    /// Path in the shared data; nil if they are not on this machine.
    static let files: String? = TestModels.sharedData.map { $0 + "/stories260K" }.flatMap {
        FileManager.default.fileExists(atPath: $0 + "/stories260K.bin") ? $0 : nil
    }

    /// Beginning of the text that the model writes greedily from BOS.
    static let greedyBeginning = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."

    /// Text of each token, with U+2581 and byte tokens resolved as llama2.c does.
    let vocabulary: [[UInt8]]

    /// Writes config.json and model.safetensors (F32) to an existing directory. There is no tokenizer.json, because the vocabulary is
    /// SentencePiece's.
    init(writingTo directory: String) throws {
        let path = try #require(Self.files)
        let data = try Data(contentsOf: URL(filePath: path + "/stories260K.bin"))
        let header = (0..<7).map { i in Int(data.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 4 * i, as: Int32.self) }) }
        let (dim, hidden, layers, heads, keyHeads, vocabularySize, length) = (
            header[0], header[1], header[2], header[3], header[4], header[5], header[6]
        )
        let headDim = dim / heads
        var position = 28
        func take(_ count: Int) -> Data {
            defer { position += 4 * count }
            return data[position..<position + 4 * count]
        }
        /// llama2.c rotates neighbours, Hugging Face the two halves of a head: row 2j + t becomes row t·headDim/2 + j.
        func unpermuted(_ matrix: Data) -> Data {
            let row = 4 * dim
            var out = Data()
            for head in 0..<matrix.count / row / headDim {
                for i in 0..<headDim {
                    let (t, j) = i.quotientAndRemainder(dividingBy: headDim / 2)
                    let start = matrix.startIndex + (head * headDim + 2 * j + t) * row
                    out += matrix[start..<start + row]
                }
            }
            return out
        }
        var tensors: [(name: String, shape: [Int], data: Data)] = []
        tensors.append(("model.embed_tokens.weight", [vocabularySize, dim], take(vocabularySize * dim)))
        func layered(_ name: String, _ shape: [Int], rotated: Bool = false) {
            for layer in 0..<layers {
                let values = take(shape.reduce(1, *))
                tensors.append(("model.layers.\(layer).\(name).weight", shape, rotated ? unpermuted(values) : values))
            }
        }
        layered("input_layernorm", [dim])
        layered("self_attn.q_proj", [dim, dim], rotated: true)
        layered("self_attn.k_proj", [keyHeads * headDim, dim], rotated: true)
        layered("self_attn.v_proj", [keyHeads * headDim, dim])
        layered("self_attn.o_proj", [dim, dim])
        layered("post_attention_layernorm", [dim])
        layered("mlp.gate_proj", [hidden, dim])
        layered("mlp.down_proj", [dim, hidden])
        layered("mlp.up_proj", [hidden, dim])
        tensors.append(("model.norm.weight", [dim], take(dim)))
        try #require(position + 4 * length * headDim == data.count)

        var entries: [String: Any] = ["__metadata__": ["format": "pt"]]
        var weights = Data()
        for tensor in tensors {
            entries[tensor.name] = [
                "dtype": "F32", "shape": tensor.shape, "data_offsets": [weights.count, weights.count + tensor.data.count],
            ]
            weights += tensor.data
        }
        let table = try JSONSerialization.data(withJSONObject: entries)
        var file = Data()
        withUnsafeBytes(of: UInt64(table.count).littleEndian) { file.append(contentsOf: $0) }
        try (file + table + weights).write(to: URL(filePath: directory + "/model.safetensors"))
        let config: [String: Any] = [
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": dim, "intermediate_size": hidden,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": keyHeads, "vocab_size": vocabularySize,
            "max_position_embeddings": length, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true,
            "bos_token_id": 1, "eos_token_id": 2,
        ]
        try JSONSerialization.data(withJSONObject: config).write(to: URL(filePath: directory + "/config.json"))

        let tokens = try Data(contentsOf: URL(filePath: path + "/tok512.bin"))
        var offset = 4
        vocabulary = (0..<vocabularySize).map { _ in
            let size = Int(tokens.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset + 4, as: Int32.self) })
            defer { offset += 8 + size }
            let bytes = Array(tokens[offset + 8..<offset + 8 + size])
            let text = String(decoding: bytes, as: UTF8.self)
            if text.hasPrefix("<0x"), let byte = UInt8(text.dropFirst(3).dropLast(), radix: 16) { return [byte] }
            return bytes
        }
    }

    /// Returns the text of tokens that follow BOS.
    func decode(_ tokens: some Sequence<Int32>) -> String {
        let text = String(decoding: tokens.flatMap { vocabulary[Int($0)] }, as: UTF8.self)
        return text.hasPrefix(" ") ? String(text.dropFirst()) : text
    }
}
