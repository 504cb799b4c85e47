#!/usr/bin/env python3
"""Checks that a run's adapters give the same model in transformers, merged, and in peft.

    scripts/check_adapter_exports.py BASE MERGED PEFT
    scripts/check_adapter_exports.py BASE MERGED PEFT --predictions FILE --template '{text} It was' --label '0= terrible' --label '1= great'

BASE is the base model as a Hugging Face directory, MERGED and PEFT the outputs of `onebyte export --format merged` and `--format peft` for one
run. Prints the largest difference of logits on random tokens, their size, and how often the likeliest token is the same. With the output of
`onebyte predict` for a classification, it also prints how many answers of each export differ from it. Fails if logits differ by more than a
thousandth or if more than one answer in a thousand differs. Needs torch, transformers and peft.
"""

import argparse
import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def by_length(prompts):
    """Yields indices of prompts of the same length, 32 at most: batches without padding."""
    lengths = {}
    for index, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(index)
    for same in lengths.values():
        for start in range(0, len(same), 32):
            yield same[start:start + 32]


def answers(model, prompts, words):
    """Returns the scores of the label words after each prompt."""
    scores = torch.empty(len(prompts), len(words))
    for batch in by_length(prompts):
        logits = model(torch.tensor([prompts[i] for i in batch]), logits_to_keep=1).logits
        scores[batch] = logits[:, -1, words].float()
    return scores


def compare_answers(arguments, models):
    """Prints how many answers of each model differ from the file's. Returns the largest number."""
    tokenizer = AutoTokenizer.from_pretrained(arguments.base)
    ids = lambda text: tokenizer(text, add_special_tokens=False).input_ids
    labels, texts = zip(*(label.split("=", 1) for label in arguments.label))
    words = [ids(text)[0] for text in texts]
    rows = [json.loads(line) for line in open(arguments.predictions)]
    prompts = [ids(arguments.template.format(**row))[-arguments.max_length:] for row in rows]
    expected = torch.tensor([labels.index(row["predicted"]) for row in rows])
    probabilities = torch.tensor([[row["probabilities"][label] for label in labels] for row in rows])
    most = 0
    for name, model in models.items():
        scores = answers(model, prompts, words)
        different = int((scores.argmax(1) != expected).sum())
        apart = (scores.softmax(1) - probabilities).abs().max().item()
        print(f"{name}: {different} of {len(rows)} answers differ from onebyte's; probabilities by at most {apart:.4f}")
        most = max(most, different / len(rows))
    return most


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("merged")
    parser.add_argument("peft")
    parser.add_argument("--predictions", help="the output of `onebyte predict`")
    parser.add_argument("--template")
    parser.add_argument("--label", action="append", default=[], metavar="LABEL=WORD")
    parser.add_argument("--max-length", type=int, default=96)
    arguments = parser.parse_args()
    model = load(arguments.base)
    tokens = torch.randint(3, model.config.vocab_size, (8, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(tokens).logits
        models = {"merged": load(arguments.merged), "peft": PeftModel.from_pretrained(model, arguments.peft).eval()}
        one, two = (found(tokens).logits for found in models.values())
        size = one.abs().max().item()
        same = (one.argmax(-1) == two.argmax(-1)).float().mean().item()
        print(f"logits up to {size:.3f}; the adapter changes them by up to {(one - before).abs().max().item():.3f}; "
              f"merged and peft differ by at most {(one - two).abs().max().item():.2e}; likeliest tokens the same: {same:.2%}", flush=True)
        different = compare_answers(arguments, models) if arguments.predictions else 0
    sys.exit((one - two).abs().max().item() > 1e-3 * size or different > 1e-3)


if __name__ == "__main__":
    main()
