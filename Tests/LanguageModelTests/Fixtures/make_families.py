"""Makes families.json: a tiny model of each family, with the results of transformers in F64.

    python make_families.py [NAME…]          (torch, transformers, safetensors, numpy)

Weights are not stored: a value is a function of its tensor's name and its place (`values`), and the tests make the same ones. A model has its
config.json as transformers writes it, its tensors (`{}` stands for a layer's number) with shape, mean and half width of their values, tokens,
the loss of each of them after the first, the loss of a choice between two tokens behind all, and 32 tokens that it writes greedily after eight.
"""

import json
import os
import pathlib
import re
import sys
import tempfile
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")
import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent
VOCABULARY = 61

BASE = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, pad_token_id=None)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
NO_RMS = {k: v for k, v in BASE.items() if k != "rms_norm_eps"}
ALL_HEADS = {**NO_RMS, "num_key_value_heads": 4}
GPT = dict(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=1)


def default(theta):
    return dict(rope_type="default", rope_theta=theta)


MODELS = {
    "llama": ("llama", {**BASE, "rope_parameters": default(10000.0)}),
    "llama-biased": ("llama", {**BASE, "attention_bias": True, "mlp_bias": True, "rope_parameters": default(10000.0)}),
    "llama-3.1": ("llama", {**BASE, "rope_parameters": LLAMA3}),
    "llama-linear": ("llama", {**BASE, "rope_parameters": dict(rope_type="linear", factor=4.0, rope_theta=10000.0)}),
    "llama-dynamic": ("llama", {**BASE, "rope_parameters": dict(rope_type="dynamic", factor=2.0, rope_theta=10000.0)}),
    "llama-yarn": ("llama", {**BASE, "rope_parameters": dict(
        rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=1.0)}),
    "mistral": ("mistral", {**BASE, "head_dim": 12, "sliding_window": 5, "rope_parameters": default(10000.0)}),
    "ministral3": ("ministral3", {**BASE, "head_dim": 8, "tie_word_embeddings": True, "rope_parameters": dict(
        rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=1.0, mscale=1.0,
        mscale_all_dim=1.0, llama_4_scaling_beta=0.1)}),
    "qwen2": ("qwen2", {**BASE, "tie_word_embeddings": True, "use_sliding_window": False, "rope_parameters": default(1e6)}),
    "qwen3": ("qwen3", {**BASE, "head_dim": 12, "tie_word_embeddings": True, "attention_bias": False, "rope_parameters": default(1e6)}),
    "gemma": ("gemma", {**BASE, "num_key_value_heads": 1, "head_dim": 12, "tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": ("gemma2", {**BASE, "head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 5, "attn_logit_softcapping": 5.0,
                          "final_logit_softcapping": 3.0, "tie_word_embeddings": True}),
    "gemma3": ("gemma3_text", {**BASE, "num_hidden_layers": 6, "num_key_value_heads": 1, "head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 5,
                               "tie_word_embeddings": True}),
    "gemma3-scaled": ("gemma3_text", {**BASE, "num_hidden_layers": 2, "num_key_value_heads": 1, "head_dim": 12, "query_pre_attn_scalar": 20, "sliding_window": 5,
                               "tie_word_embeddings": True}),
    "opt": ("opt", dict(GPT, hidden_size=32, ffn_dim=40, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, word_embed_proj_dim=32,
                        pad_token_id=1)),
    "opt-350m": ("opt", dict(GPT, hidden_size=32, ffn_dim=40, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, word_embed_proj_dim=20,
                             do_layer_norm_before=False, pad_token_id=1)),
    "gpt2": ("gpt2", dict(GPT, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
    "gpt-neo": ("gpt_neo", dict(GPT, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=5,
                                max_position_embeddings=64, intermediate_size=40)),
    "gpt-j": ("gptj", dict(GPT, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64, tie_word_embeddings=False)),
    "pythia": ("gpt_neox", dict(GPT, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
                                rotary_pct=0.25, hidden_act="gelu", tie_word_embeddings=False)),
    "neox-sequential": ("gpt_neox", dict(GPT, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
                                         rotary_pct=0.5, use_parallel_residual=False, hidden_act="gelu", tie_word_embeddings=False)),
    "phi-2": ("phi", {**ALL_HEADS, "partial_rotary_factor": 0.5, "hidden_act": "gelu_new"}),
    "phi-3.5": ("phi3", {**BASE, "original_max_position_embeddings": 64, "max_position_embeddings": 256, "sliding_window": 5, "rope_parameters": dict(
        rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=64, short_factor=[1.0, 1.1, 1.3, 2.0], long_factor=[1.0, 2.0, 4.0, 8.0])}),
    "phi-3.5-long": ("phi3", {**BASE, "original_max_position_embeddings": 24, "max_position_embeddings": 96, "rope_parameters": dict(
        rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=24, short_factor=[1.0, 1.1, 1.3, 2.0], long_factor=[1.0, 2.0, 4.0, 8.0])}),
    "phi-4": ("phi3", {**BASE, "rope_parameters": default(250000.0)}),
    "phi-4-mini": ("phi3", {**BASE, "partial_rotary_factor": 0.5, "tie_word_embeddings": True, "rope_parameters": dict(
        rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)}),
    "smollm3": ("smollm3", {**BASE, "num_hidden_layers": 4, "tie_word_embeddings": True, "no_rope_layers": [1, 1, 1, 0], "use_sliding_window": False,
                            "rope_parameters": default(5e6)}),
    "granite": ("granite", {**BASE, "embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.4, "logits_scaling": 2.0,
                            "tie_word_embeddings": True}),
    "granite-4": ("granitemoehybrid", {**BASE, "layer_types": ["attention"] * 2, "embedding_multiplier": 3.0, "attention_multiplier": 0.2,
                                       "residual_multiplier": 0.4, "logits_scaling": 2.0, "tie_word_embeddings": True, "num_local_experts": 0,
                                       "num_experts_per_tok": 0, "shared_intermediate_size": 40, "position_embedding_type": "rope", "mamba_n_heads": 4, "mamba_d_head": 16}),
    "olmo": ("olmo", {**NO_RMS, "clip_qkv": None, "tie_word_embeddings": True}),
    "olmo2": ("olmo2", BASE),
    "olmo3": ("olmo3", {**BASE, "num_hidden_layers": 4, "sliding_window": 5, "rope_parameters": dict(
        full_attention=dict(rope_type="yarn", rope_theta=500000.0, factor=4.0, attention_factor=1.2, beta_fast=4.0, beta_slow=1.0,
                            original_max_position_embeddings=16),
        sliding_attention=default(500000.0))}),
    "stablelm": ("stablelm", {**NO_RMS, "partial_rotary_factor": 0.25, "use_qkv_bias": True}),
    "stablelm-parallel": ("stablelm", {**NO_RMS, "partial_rotary_factor": 0.5, "use_parallel_residual": True}),
    "starcoder2": ("starcoder2", {**NO_RMS, "use_bias": True, "sliding_window": 5, "tie_word_embeddings": True}),
    "cohere": ("cohere", {**NO_RMS, "layer_norm_eps": 1e-5, "logit_scale": 0.25, "tie_word_embeddings": True}),
    "cohere2": ("cohere2", {**NO_RMS, "num_hidden_layers": 4, "layer_norm_eps": 1e-5, "sliding_window": 5, "logit_scale": 0.25, "tie_word_embeddings": True}),
    "hunyuan": ("hunyuan_v1_dense", {**BASE, "head_dim": 12, "tie_word_embeddings": True, "rope_parameters": dict(
        rope_type="dynamic", rope_theta=10000.0, alpha=1000.0, factor=1.0)}),
    "exaone4": ("exaone4", {**BASE, "num_hidden_layers": 4, "sliding_window": 5, "sliding_window_pattern": 4, "tie_word_embeddings": True}),
    "apertus": ("apertus", {**BASE, "head_dim": 8, "rope_parameters": LLAMA3}),
    "arcee": ("arcee", BASE),
    "ernie-4.5": ("ernie4_5", {**BASE, "head_dim": 8, "use_bias": False, "tie_word_embeddings": True}),
    "helium": ("helium", {**BASE, "head_dim": 8}),
    "falcon": ("falcon", dict(GPT, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, multi_query=True, parallel_attn=True, bias=False,
                              new_decoder_architecture=False, tie_word_embeddings=True, max_position_embeddings=64)),
    "bloom": ("bloom", dict(GPT, hidden_size=36, n_layer=2, n_head=6, seq_length=64)),
}
# If transformers uses a norm's weights unchanged, their mean is 1.
NORM_MEAN = {"gemma": 0.0, "gemma2": 0.0, "gemma3_text": 0.0}


def values(name, shape, mean, half_width):
    """Returns values uniform in mean ± half_width: splitmix64 from the FNV-1a hash of the name, 24 bits per value."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 & (1 << 64) - 1
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)).astype(np.float64) / (1 << 24)
    return torch.from_numpy((mean + half_width * (2 * unit - 1)).astype(np.float32).reshape(shape))


def width_of(name, tensor, kind):
    if tensor.dim() >= 2:
        # Number of terms in a product's sum; GPT-2's matrices have a row for each input.
        inputs = tensor.shape[0] if kind == "gpt2" and "wte" not in name and "wpe" not in name else tensor.shape[-1]
        return 0.0, round(2.0 / inputs**0.5, 4)
    if name.endswith("bias"):
        return 0.0, 0.3
    if name.endswith(("act_fn.beta", "act_fn.eps")):
        return (0.5 if name.endswith("beta") else -1e-6), 0.0
    return NORM_MEAN.get(kind, 1.0), 0.3


def describe(name):
    kind, settings = MODELS[name]
    config = AutoConfig.for_model(kind, **settings)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    tensors = {}
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        stored = load_file(directory + "/model.safetensors")
        written = json.loads(pathlib.Path(directory + "/config.json").read_text())
        for tensor_name, tensor in stored.items():
            mean, half_width = width_of(tensor_name, tensor, kind)
            stored[tensor_name] = values(tensor_name, tensor.shape, mean, half_width)
            key = re.sub(r"\.\d+\.", ".{}.", tensor_name)
            tensors[key] = [list(tensor.shape), mean, half_width]
        from safetensors.torch import save_file

        save_file(stored, directory + "/model.safetensors", {"format": "pt"})
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    single = model
    model = model.double()
    tokens = [int(t) for t in (np.arange(40) * 17 + 3 * (np.arange(40) % 7)) % (VOCABULARY - 2) + 2]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].double()
        log_p = torch.log_softmax(logits, -1)
        losses = [-log_p[i, tokens[i + 1]].item() for i in range(len(tokens) - 1)]
        choice = -torch.log_softmax(logits[-1, [5, 9]], 0)[1].item()
        written_tokens = tokens[:8]
        margin = float("inf")
        for _ in range(32):
            last = model(torch.tensor([written_tokens])).logits[0, -1].double()
            top = torch.topk(last, 2)
            margin = min(margin, (top.values[0] - top.values[1]).item())
            written_tokens.append(int(top.indices[0]))
    assert margin > 1e-4, (name, margin)
    keep = {k: v for k, v in written.items() if k not in ("transformers_version", "dtype", "initializer_range", "use_cache", "architectures") and not k.endswith("dropout")}
    return dict(
        name=name, config=keep, tensors=tensors, tokens=tokens, losses=[round(x, 9) for x in losses], choice=round(choice, 9), written=written_tokens[8:])


if __name__ == "__main__":
    path = HERE / "families.json"
    known = {m["name"]: m for m in json.loads(path.read_text())} if path.exists() and sys.argv[1:] else {}
    for name in sys.argv[1:] or MODELS:
        try:
            known[name] = describe(name)
            print(name, len(json.dumps(known[name])), np.mean(known[name]["losses"]), flush=True)
        except Exception as error:
            print("FAILED", name, type(error).__name__, str(error)[:400], flush=True)
            if os.environ.get("STOP"): raise
    order = [n for n in MODELS if n in known]
    path.write_text("[\n" + ",\n".join(json.dumps(known[n], separators=(",", ":")) for n in order) + "\n]\n")
