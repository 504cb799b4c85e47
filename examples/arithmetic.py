#!/usr/bin/env python3
"""Sums that a program checks: the objective of examples/arithmetic.toml, and what belongs to it.

    examples/arithmetic.py                     scores answers, as onebyte asks for them: JSON lines in, JSON lines out
    examples/arithmetic.py --prepare           makes the questions, into .cache/arithmetic/
    examples/arithmetic.py --compare A B       two files of `onebyte evaluate --texts`: scores, bare numbers, right answers

An answer that is a number and nothing else scores a half, the right number another half. Neither has a gradient.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

PLACE = Path(__file__).resolve().parent.parent / ".cache/arithmetic"
NUMBERS = range(0, 21)
COUNTS = {"train": 240, "test": 200}


def judge(text, answer):
    """Whether the text is a number and nothing else, and whether it is the right one."""
    found = re.fullmatch(r"\s*(-?\d{1,9})\.?\s*", text)
    return bool(found), bool(found) and int(found[1]) == int(answer)


def score():
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"id": request["id"], "score": sum(judge(request["text"], request["answer"])) / 2}), flush=True)


def prepare():
    """Which sum is in which split depends on nothing but the sum."""
    pairs = sorted(((a, b) for a in NUMBERS for b in NUMBERS), key=lambda pair: hashlib.sha256(repr(pair).encode()).digest())
    PLACE.mkdir(parents=True, exist_ok=True)
    start = 0
    for name, count in COUNTS.items():
        rows = [{"prompt": f"Question: What is {a} + {b}?\nAnswer:", "answer": a + b} for a, b in pairs[start:start + count]]
        start += count
        (PLACE / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"arithmetic: .cache/arithmetic/{name}.jsonl: {len(rows)} sums", file=sys.stderr)
    # Of the same form, and of other numbers.
    public = [f"Question: What is {a} + {b}?\nAnswer: {a + b}" for a in range(21, 51, 2) for b in range(22, 52, 5)]
    (PLACE / "public.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in public), encoding="utf-8")


def compare(*files):
    for name, path in zip(("before", "after"), files):
        rows = [json.loads(line) for line in open(path, encoding="utf-8")]
        answers = [eval_sum(row["prompt"]) for row in rows]
        judged = [judge(row["text"], answer) for row, answer in zip(rows, answers)]
        print(f"{name:7} score {sum(map(sum, judged)) / 2 / len(rows):.3f}, bare numbers {sum(form for form, _ in judged)} of {len(rows)}, "
              f"right {sum(right for _, right in judged)}")


def eval_sum(prompt):
    a, b = re.search(r"(\d+) \+ (\d+)", prompt).groups()
    return int(a) + int(b)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--compare", nargs=2, metavar=("BEFORE", "AFTER"))
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare()
    elif arguments.compare:
        compare(*arguments.compare)
    else:
        score()


if __name__ == "__main__":
    main()
