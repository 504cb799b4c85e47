#!/usr/bin/env python3
"""Checks that a run's adapters give the same model in transformers, merged, and in peft.

    scripts/check_adapter_exports.py BASE MERGED PEFT

BASE is the base model as a Hugging Face directory, MERGED and PEFT the outputs of `onebyte export --format merged` and `--format peft` for one
run. Prints the largest difference of logits, their size, and how often the likeliest token is the same. Needs torch, transformers and peft.
"""

import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base, merged, adapter = sys.argv[1:]
load = lambda path: AutoModelForCausalLM.from_pretrained(path, torch_dtype=torch.float32).eval()
model = load(base)
tokens = torch.randint(3, model.config.vocab_size, (8, 24), generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    before = model(tokens).logits
    one = load(merged)(tokens).logits
    two = PeftModel.from_pretrained(model, adapter)(tokens).logits
size = one.abs().max().item()
same = (one.argmax(-1) == two.argmax(-1)).float().mean().item()
print(f"logits up to {size:.3f}; the adapter changes them by up to {(one - before).abs().max().item():.3f}; "
      f"merged and peft differ by at most {(one - two).abs().max().item():.2e}; likeliest tokens the same: {same:.2%}")
sys.exit((one - two).abs().max().item() > 1e-3 * size)
