#!/usr/bin/env python3
"""Reference logits of SmolLM2-135M-Instruct for 20 prompts, by transformers, in F32: smollm2-logits.json.

    python3 smollm2_logits.py path/to/SmolLM2-135M-Instruct.Q4_1.gguf

Needs torch, transformers and gguf from PyPI. The token ids come from `tokenizers` over the file's own vocabulary, since
transformers' conversion of this file's tokenizer puts a BOS in front and loses the splitting of digits.
"""
import json
import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM

PROMPTS = [
    "The capital of France is", "Once upon a time", "It was great  1234 isn't  ok", "def fibonacci(n):\n    if n < 2:\n        return",
    "#include <stdio.h>\nint main(void) {", "a gripping, funny and tender film It was", "dull from its first minute to its last It was",
    "Review: a warm and clever comedy\nSentiment:", "Question: Who wrote Hamlet?\nThe answer is a", "2 + 2 =", "1, 2, 3, 5, 8, 13,",
    "Die Hauptstadt von Deutschland ist", "La capitale de l'Italie est", "Москва — столица", "東京は日本の", "مرحبا بالعالم",
    "🙂👩‍👩‍👧‍👦 family", "\t\tindented\r\n\r\n   text", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "The quick brown fox jumps over the lazy dog. " * 8,
]
TOP = 40


def main():
    path = Path(sys.argv[1])
    reader = GGUFReader(path)
    texts = lambda key: [bytes(reader.fields[key].parts[i]).decode() for i in reader.fields[key].data]
    vocabulary = {token: i for i, token in enumerate(texts("tokenizer.ggml.tokens"))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(m.split(" ")) for m in texts("tokenizer.ggml.merges")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
    prompts = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        rows = torch.log_softmax(logits.double(), -1)
        total = float(sum(rows[t - 1, ids[t]] for t in range(1, len(ids))))
        values, tokens = logits[-1].topk(TOP)
        prompts.append({"prompt": prompt, "ids": ids, "sum_logprob": round(total, 6),
                        "top": [[int(t), round(float(v), 6)] for t, v in zip(tokens, values)]})
    Path(__file__).with_name("smollm2-logits.json").write_text(json.dumps({"prompts": prompts}, ensure_ascii=False) + "\n")


main()
