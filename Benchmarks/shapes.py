#!/usr/bin/env python3
"""Makes a checkpoint with the shape of a known model and random weights, to measure speed and memory without downloading it.

    Benchmarks/shapes.py gpt2 .cache/shapes/gpt2          124M parameters in F32
    Benchmarks/shapes.py llama-1b .cache/shapes/llama-1b  Llama 3.2 1B in BF16
    Benchmarks/shapes.py llama-8b .cache/shapes/llama-8b  Llama 3.1 8B in BF16 (16 GB)

There is no tokenizer: what is measured reads token numbers.
"""

import json
import os
import sys
from pathlib import Path

CHUNK = 1 << 24
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


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(__doc__)
    config, tensors, data_type = SHAPES[sys.argv[1]]()
    directory = Path(sys.argv[2])
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
