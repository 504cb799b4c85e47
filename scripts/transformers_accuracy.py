#!/usr/bin/env python3
"""Accuracy of a Hugging Face model directory on labelled JSONL, by transformers alone.

A second opinion on `onebyte evaluate`: nothing here comes from this project but the file formats.

    python3 scripts/transformers_accuracy.py runs/demo/model .cache/movie-reviews/test.jsonl \
        --template '{text} It was' --label '0= terrible' --label '1= great'

Needs torch and transformers from PyPI. Prints one JSON object: examples, correct, accuracy, loss.
"""
import argparse
import json
import math


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a Hugging Face model directory")
    parser.add_argument("data", help="JSONL with `text` and `label`")
    parser.add_argument("--template", required=True, help="prompt with {text}")
    parser.add_argument("--label", action="append", required=True, metavar="LABEL=WORD", help="once for each class, in order")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=64, help="longest prompt in tokens")
    arguments = parser.parse_args()

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    names, words = zip(*(label.split("=", 1) for label in arguments.label))
    candidates = []
    for word in words:
        ids = tokenizer(word, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise SystemExit(f"the label word {word!r} is {len(ids)} tokens; this script reads words of one token")
        candidates.append(ids[0])

    rows = [json.loads(line) for line in open(arguments.data, encoding="utf-8") if line.strip()]
    prompts = [tokenizer(arguments.template.replace("{text}", row["text"]), add_special_tokens=False).input_ids for row in rows]
    truncated = sum(len(p) > arguments.max_length for p in prompts)
    if truncated:
        raise SystemExit(f"{truncated} prompts are longer than {arguments.max_length} tokens; raise --max-length")
    correct, loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, len(rows), arguments.batch):
            batch = prompts[start : start + arguments.batch]
            width = max(map(len, batch))
            ids = torch.tensor([p + [0] * (width - len(p)) for p in batch])
            mask = torch.tensor([[1] * len(p) + [0] * (width - len(p)) for p in batch])
            logits = model(input_ids=ids, attention_mask=mask).logits
            for i, prompt in enumerate(batch):
                scores = torch.log_softmax(logits[i, len(prompt) - 1, candidates], 0)
                truth = names.index(str(rows[start + i]["label"]))
                correct += int(scores.argmax()) == truth
                loss -= float(scores[truth])
    n = len(rows)
    print(json.dumps({"examples": n, "correct": correct, "accuracy": correct / n, "loss": loss / n if n else math.nan}))


if __name__ == "__main__":
    main()
