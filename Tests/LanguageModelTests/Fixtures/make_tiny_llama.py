"""Makes the tiny Llama that the tests run on, in every format, with transformers' answers for it.

    python make_tiny_llama.py          (torch, transformers, tokenizers, safetensors, gguf, numpy)

tiny-llama/            a Hugging Face directory: random weights in F16, a byte-level BPE tokenizer of 288 tokens, ChatML template
tiny-llama.gguf        the same model: matrices in the block formats, norms in F32, q and k rows interleaved
tiny-llama-digests.json  SHA-256 of each tensor as F32 in Hugging Face's order, for the directory and for the GGUF file
tiny-llama-reference.json, tiny-llama-logits.f32
                       for 20 prompts: tokens, log-probability sums, and the last position's logits (20 × 288 floats), in F32
"""

import hashlib
import json
import pathlib
import shutil

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
OUT = HERE / "tiny-llama"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 288
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXT = [
    "The film was great and the actors were good, but it was not the best of the year.",
    "It was a terrible film with a terrible story and I did not like it at all.",
    "She was in the house when the rain began, and there was nothing to be done.",
    "def function(self, value):\n    return self.value + value\n",
] * 4


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(t, special=True) for t in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    return tokenizer


def make_model():
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, rope_theta=10000.0,
    )
    model = LlamaForCausalLM(config).eval()
    # Larger than an initialisation, so that attention is far from uniform and a wrong rotation or mask shows.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.35 * torch.randn_like(parameter))
    return model.half()


def reference(tokenizer):
    # Read from the files again, because .half() has also rounded the model's rotary frequencies, which no file holds.
    model = LlamaForCausalLM.from_pretrained(OUT, dtype=torch.float32).eval()
    prompts = [
        "It was", "The film", "a", "great  1234 isn't  ok", "\n", "She was in the house when the rain began",
        "def f(x):\n    return x", "été à Noël", "日本語", "🙂", "terrible", "  ", "It was a terrible film. It was",
        "0123456789", "the the the the the the", "I did not like it at all. It was", "Review: good\nSentiment:",
        "don't", "x" * 40, "The film was great and the actors were good, but it was not the best of the year. " * 2,
    ]
    records, logits = [], []
    for prompt in prompts:
        ids = tokenizer.encode(prompt).ids
        with torch.no_grad():
            out = model(torch.tensor([ids])).logits[0].float()
        logits.append(out[-1].numpy())
        scores = torch.log_softmax(out.double(), -1)
        total = sum(scores[i, ids[i + 1]].item() for i in range(len(ids) - 1))
        records.append({"prompt": prompt, "tokens": ids, "logProbabilitySum": total})
    (HERE / "tiny-llama-reference.json").write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n")
    np.stack(logits).astype("<f4").tofile(HERE / "tiny-llama-logits.f32")


def write_gguf(model, tokenizer):
    config = model.config
    w = gguf.GGUFWriter(HERE / "tiny-llama.gguf", "llama")
    w.add_name("tiny-llama")
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_vocab_size(VOCABULARY)
    w.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda kv: kv[1])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list([t for t, _ in vocabulary])
    w.add_token_types([3 if t in SPECIAL else 1 for t, _ in vocabulary])
    w.add_token_merges([" ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(False)
    w.add_chat_template(CHATML)

    digests = {}
    formats = gguf.GGMLQuantizationType
    cycle = [formats.Q4_1, formats.Q8_0, formats.Q4_0, formats.Q5_0, formats.Q5_1, formats.F16, formats.BF16]
    names = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
             "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    matrices = 0
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if name == "lm_head.weight":
            continue
        if name == "model.embed_tokens.weight":
            target = "token_embd.weight"
        elif name == "model.norm.weight":
            target = "output_norm.weight"
        else:
            _, _, layer, rest = name.split(".", 3)
            target = f"blk.{layer}.{names[rest.removesuffix('.weight')]}.weight"
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(target.split(".")[-2])
        if values.ndim == 1:
            w.add_tensor(target, values)
            back = values
        else:
            rows, columns = values.shape
            if heads:  # the same permutation as llama.cpp's converter
                values = values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
            kind = formats.Q8_0 if "token_embd" in target else cycle[matrices % len(cycle)]
            matrices += 1
            data = gguf.quantize(np.ascontiguousarray(values), kind)
            w.add_tensor(target, data, raw_dtype=kind)
            back = gguf.dequantize(data, kind).reshape(rows, columns)
            if heads:
                back = back.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        digests[name] = hashlib.sha256(np.ascontiguousarray(back, dtype="<f4").tobytes()).hexdigest()
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return digests


tokenizer = make_tokenizer()
model = make_model()
shutil.rmtree(OUT, ignore_errors=True)
model.save_pretrained(OUT)
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[2],
                               unk_token=SPECIAL[0])
fast.chat_template = CHATML
fast.save_pretrained(OUT)
directory = {
    name: hashlib.sha256(tensor.float().numpy().astype("<f4").tobytes()).hexdigest()
    for name, tensor in model.state_dict().items()
    if name != "lm_head.weight"
}
digests = {"directory": directory, "gguf": write_gguf(model, tokenizer)}
(HERE / "tiny-llama-digests.json").write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")
reference(tokenizer)
