#!/usr/bin/env python3
"""Scores how friendly a text is: the objective of examples/friendlier.toml.

    examples/friendliness.py                     scores texts for onebyte: JSON lines in, JSON lines out
    examples/friendliness.py --prepare           downloads VADER and makes the prompts, into .cache/ (run scripts/demo-data first)
    examples/friendliness.py --compare A B       compares the scores of two files of `onebyte evaluate --texts`, prompt by prompt

The score is the compound score of VADER (Hutto & Gilbert 2014), from -1 (hostile) to 1 (friendly). VADER is a lexicon of rated words with
rules for negations and the like. It looks words up and counts, so the score has no gradient.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
VADER = CACHE / "vader"
PACKAGE = "vaderSentiment==3.3.2 --hash=sha256:3bf1d243b98b1afad575b9f22bc2cb1e212b94ff89ca74f8a23a588d024ea311"
REVIEWS = CACHE / "movie-reviews"
PROMPTS = CACHE / "friendlier"
# The prompt is the first words of a review; the model continues it.
WORDS = 6
PROMPT_COUNTS = {"train": 600, "validation": 200, "test": 400}


def analyzer():
    sys.path.insert(0, str(VADER))
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        sys.exit(f"friendliness: there is no VADER in {VADER}; run: examples/friendliness.py --prepare")
    return SentimentIntensityAnalyzer()


def score():
    vader = analyzer()
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"id": request["id"], "score": vader.polarity_scores(request["text"])["compound"]}
        # onebyte waits for the answer, so it must not stay in a buffer.
        print(json.dumps(answer), flush=True)


def prepare():
    if not (VADER / "vaderSentiment").is_dir():
        # Its own directory: nothing is installed for the whole system.
        VADER.mkdir(parents=True, exist_ok=True)
        requirements = VADER / "requirements.txt"
        requirements.write_text(PACKAGE + "\n")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action", "ignore", "--no-deps",
                        "--require-hashes", "--target", str(VADER), "-r", str(requirements)], check=True)
    PROMPTS.mkdir(parents=True, exist_ok=True)
    for name, count in PROMPT_COUNTS.items():
        prompts = {}
        for line in (REVIEWS / f"{name}.jsonl").open(encoding="utf-8"):
            words = json.loads(line)["text"].split()
            if len(words) > WORDS:
                prompts.setdefault(" ".join(words[:WORDS]), None)
        lines = [json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in list(prompts)[:count]]
        (PROMPTS / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"friendliness: {PROMPTS.relative_to(ROOT)}/{name}.jsonl: {len(lines)} prompts", file=sys.stderr)


def mean_and_half(values):
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, 1.96 * math.sqrt(variance / len(values))


def compare(before, after, shown):
    def read(path):
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    pairs = list(zip(read(before), read(after), strict=True))
    for name, values in (("before", [a["score"] for a, _ in pairs]), ("after", [b["score"] for _, b in pairs]),
                         ("difference", [b["score"] - a["score"] for a, b in pairs])):
        mean, half = mean_and_half(values)
        print(f"{name:11}{mean:+.3f} ± {half:.3f} (95 %, {len(values)} prompts)")
    print(f"distinct   {len({a['text'] for a, _ in pairs})} texts before, {len({b['text'] for _, b in pairs})} after")
    for a, b in pairs[:shown]:
        print(f"\n{a['prompt']} …\n  before {a['score']:+.2f} …{a['text']}\n  after  {b['score']:+.2f} …{b['text']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--compare", nargs=2, metavar=("BEFORE", "AFTER"))
    parser.add_argument("--show", type=int, default=6, metavar="N", help="texts that --compare shows (default: 6)")
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare()
    elif arguments.compare:
        compare(*arguments.compare, arguments.show)
    else:
        score()


if __name__ == "__main__":
    main()
