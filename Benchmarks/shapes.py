#!/usr/bin/env python3
"""Makes a checkpoint with the shape of a known model and random weights, to measure speed and memory without downloading it.

    Benchmarks/shapes.py gpt2 .cache/shapes/gpt2              124M parameters in F32
    Benchmarks/shapes.py llama-1b .cache/shapes/llama-1b      Llama 3.2 1B in BF16
    Benchmarks/shapes.py llama-8b .cache/shapes/llama-8b      Llama 3.1 8B in BF16 (16 GB)
    Benchmarks/shapes.py llama-8b .cache/shapes/8b.gguf       the same in Q4_0 (4.5 GB), with the tokenizer of the demo's model

A directory has no tokenizer: what is measured with it reads token numbers.
"""

import json
import os
import struct
import sys
from pathlib import Path

CHUNK = 1 << 24
TOKENIZER = Path(".cache/SmolLM2-135M-Instruct.Q4_1.gguf")
# The high byte of a BF16 or F32 number is its sign and most of its exponent. These are numbers of about ±0.01 to ±0.03.
HIGH = bytes((0x3C if byte % 2 else 0xBC) for byte in range(256))


def llama(hidden, layers, heads, key_value_heads, feed_forward, vocabulary, tied):
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": key_value_heads, "intermediate_size": feed_forward, "vocab_size": vocabulary,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu", "tie_word_embeddings": tied,
        "attention_bias": False, "mlp_bias": False, "head_dim": hidden // heads,
    }
    small = hidden // heads * key_value_heads
    tensors = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for i in range(layers):
        at = f"model.layers.{i}."
        tensors |= {
            at + "input_layernorm.weight": (hidden,), at + "post_attention_layernorm.weight": (hidden,),
            at + "self_attn.q_proj.weight": (hidden, hidden), at + "self_attn.k_proj.weight": (small, hidden),
            at + "self_attn.v_proj.weight": (small, hidden), at + "self_attn.o_proj.weight": (hidden, hidden),
            at + "mlp.gate_proj.weight": (feed_forward, hidden), at + "mlp.up_proj.weight": (feed_forward, hidden),
            at + "mlp.down_proj.weight": (hidden, feed_forward),
        }
    if not tied:
        tensors["lm_head.weight"] = (vocabulary, hidden)
    return config, tensors, "BF16"


def gpt2(hidden, layers, heads, vocabulary, positions):
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads, "vocab_size": vocabulary,
        "n_positions": positions, "n_ctx": positions, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
    }
    tensors = {"wte.weight": (vocabulary, hidden), "wpe.weight": (positions, hidden), "ln_f.weight": (hidden,), "ln_f.bias": (hidden,)}
    for i in range(layers):
        at = f"h.{i}."
        for norm in ("ln_1", "ln_2"):
            tensors |= {at + norm + ".weight": (hidden,), at + norm + ".bias": (hidden,)}
        # The file has a row for each input.
        for name, inputs, outputs in (("attn.c_attn", 1, 3), ("attn.c_proj", 1, 1), ("mlp.c_fc", 1, 4), ("mlp.c_proj", 4, 1)):
            tensors |= {f"{at}{name}.weight": (inputs * hidden, outputs * hidden), f"{at}{name}.bias": (outputs * hidden,)}
    return config, tensors, "F32"


SHAPES = {
    "gpt2": lambda: gpt2(768, 12, 12, 50257, 1024),
    "llama-1b": lambda: llama(2048, 16, 32, 8, 8192, 128256, True),
    "llama-8b": lambda: llama(4096, 32, 32, 8, 14336, 128256, False),
}


def numbers(count, width):
    """Yields the bytes of random numbers, each `width` bytes long, little-endian."""
    while count > 0:
        some = min(count, CHUNK)
        values = bytearray(os.urandom(some * width))
        values[width - 1::width] = values[width - 1::width].translate(HIGH)
        yield values
        count -= some


def q4_blocks(count):
    """Yields the bytes of `count` random blocks of Q4_0: a half of about 0.002, and 32 numbers of four bits."""
    while count > 0:
        some = min(count, CHUNK // 16)
        blocks = bytearray(os.urandom(18 * some))
        blocks[1::18] = b"\x18" * some
        yield blocks
        count -= some


class Metadata:
    """Entries of a GGUF file. The types are 4 for UInt32, 5 for Int32, 6 for F32, 8 for text and 9 for arrays."""

    SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def __init__(self):
        self.entries = []

    @staticmethod
    def text(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def add(self, key, value):
        kind, data = (8, self.text(value)) if isinstance(value, str) else (6, struct.pack("<f", value)) if isinstance(value, float) else (4, struct.pack("<I", value))
        self.entries.append(self.text(key) + struct.pack("<I", kind) + data)

    def add_array(self, key, kind, items):
        self.entries.append(self.text(key) + struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items))

    def add_tokenizer(self, path, vocabulary):
        """Copies the tokenizer of a GGUF file, with unused tokens behind its own."""
        data = path.read_bytes()
        at = 24

        def end_of(kind, at):
            if kind == 8:
                return at + 8 + struct.unpack_from("<Q", data, at)[0]
            if kind != 9:
                return at + self.SIZES[kind]
            item, count = struct.unpack_from("<IQ", data, at)
            at += 12
            for _ in range(count):
                at = end_of(item, at)
            return at

        for _ in range(struct.unpack_from("<Q", data, 16)[0]):
            start = at
            key = data[at + 8:end_of(8, at)].decode()
            at = end_of(8, at)
            kind = struct.unpack_from("<I", data, at)[0]
            begin, at = at + 4, end_of(kind, at + 4)
            if not key.startswith("tokenizer."):
                continue
            fill = {"tokenizer.ggml.tokens": lambda i: self.text(f"[PAD{i}]"), "tokenizer.ggml.token_type": lambda i: struct.pack("<i", 5)}.get(key)
            if fill is None:
                self.entries.append(data[start:at])
            else:
                item, count = struct.unpack_from("<IQ", data, begin)
                items = [data[begin + 12:at]] + [fill(i) for i in range(count, vocabulary)]
                self.entries.append(self.text(key) + struct.pack("<IIQ", 9, item, vocabulary) + b"".join(items))


def write_gguf(path, config, tensors):
    metadata = Metadata()
    metadata.add("general.architecture", "llama")
    metadata.add("general.quantization_version", 2)
    metadata.add("general.file_type", 2)
    for key, name in {
        "context_length": "max_position_embeddings", "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "vocab_size": "vocab_size",
        "feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
        "attention.layer_norm_rms_epsilon": "rms_norm_eps", "rope.freq_base": "rope_theta", "rope.dimension_count": "head_dim",
    }.items():
        metadata.add("llama." + key, config[name])
    metadata.add_tokenizer(TOKENIZER, config["vocab_size"])
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers.": "blk.", "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }
    places, offset = b"", 0
    for name, shape in tensors.items():
        for own, other in names.items():
            name = name.replace(own, other)
        count = 1
        for size in shape:
            count *= size
        kind, size = (0, 4 * count) if len(shape) == 1 else (2, count // 32 * 18)
        places += Metadata.text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", kind, offset)
        offset += size + -size % 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata.entries)) + b"".join(metadata.entries) + places
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for shape in tensors.values():
            if len(shape) == 1:
                file.write(struct.pack("<f", 1) * shape[0])
            else:
                for blocks in q4_blocks(shape[0] * shape[1] // 32):
                    file.write(blocks)
            file.write(bytes(-file.tell() % 32))


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(__doc__)
    config, tensors, data_type = SHAPES[sys.argv[1]]()
    directory = Path(sys.argv[2])
    if directory.suffix == ".gguf":
        if data_type != "BF16":
            sys.exit("shapes.py: GGUF is made of llamas only")
        directory.parent.mkdir(parents=True, exist_ok=True)
        return write_gguf(directory, config, tensors)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config | {"torch_dtype": {"BF16": "bfloat16", "F32": "float32"}[data_type]}, indent=1))
    width = {"BF16": 2, "F32": 4}[data_type]
    header, offset = {}, 0
    for name, shape in tensors.items():
        count = 1
        for size in shape:
            count *= size
        header[name] = {"dtype": data_type, "shape": shape, "data_offsets": [offset, offset + count * width]}
        offset += count * width
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(directory / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in header.values():
            start, end = entry["data_offsets"]
            for values in numbers((end - start) // width, width):
                file.write(values)


main()
