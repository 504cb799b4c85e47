#!/usr/bin/env python3
"""Measures whether steering hurts: the same run with and without it, over tasks and seeds.

    Benchmarks/learning/steering.py [--binary .build/release/onebyte] [--tasks reviews,trec] [--seeds 2]

Uses a part of the examples of scripts/demo-data and Benchmarks/learning/tasks.py, so that runs are short. Trains the last
layer, once as it is ("none") and once with trials of the rate, guard and patience ("steered"), at the default rate and at four times that rate,
where steering matters. Both are judged on the same held-out examples, which neither trains nor steers.

Writes steering.json beside this file; --table prints it as Markdown.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = HERE / "steering.json"
MODEL = ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZES = {"train": 200, "validation": 100, "test": 200}
COMMON = ["--train", "layers.29", "--damped-components", "none", "--rounds", "60", "--samples-per-round", "64", "--evaluate-every", "10",
          "--workers", "1", "--threads", "1"]
STEERING = ["--rate-trials", "10", "--patience", "4"]


def labels(**words):
    return [flag for label, word in words.items() for flag in ("--label", f"{label}= {word}")]


TASKS = {
    "reviews": (".cache/movie-reviews", ["--template", "{text} It was", "--label", "0= terrible", "--label", "1= great"]),
    "trec": (".cache/study/trec", ["--template", "{text}\nThe answer is",
             *[flag for k, w in enumerate(("short", "thing", "description", "person", "place", "number")) for flag in ("--label", f"{k}= {w}")]]),
    "agnews": (".cache/study/agnews", ["--template", "{text}\nThis is news about",
               *[flag for k, w in (("1", "politics"), ("2", "sports"), ("3", "business"), ("4", "technology")) for flag in ("--label", f"{k}= {w}")]]),
    "cola": (".cache/study/cola", ["--template", "{text}\nThis sentence is", "--label", "0= wrong", "--label", "1= correct"]),
    "rte": (".cache/study/rte", ["--template", "{premise}\nQuestion: {hypothesis} True or False?\nAnswer:",
            *labels(entailment="True", not_entailment="False"), "--max-length", "128"]),
    "e2e": (".cache/study/e2e", ["--kind", "completion"]),
}


def part(directory, name, place):
    lines = (ROOT / directory / f"{name}.jsonl").read_text().splitlines()[: SIZES[name]]
    path = place / f"{name}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def run(binary, task, seed, rate, steered, caches):
    directory, flags = TASKS[task]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        files = {name: part(directory, name, place) for name in SIZES}
        command = [binary, "cluster", "--model", MODEL, *flags, *COMMON, "--seed", str(seed), "--train-file", files["train"],
                   "--eval-file", files["test"], "--validation-file", files["validation"], "--directory", f"{scratch}/run",
                   "--cache-directory", str(caches), "--learning-rate", str(rate), *(STEERING if steered else ["--guard", "0"])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
        report = json.loads((place / "run/report.json").read_text())
    moved = (report.get("side_effects") or {}).get("most_moved") or {}
    return {
        "task": task, "seed": seed, "rate": rate, "steered": steered, "before": report["before"]["loss"], "after": report["after"]["loss"],
        "accuracy": report["after"].get("accuracy"), "gain": report["after"].get("gain"), "gain_interval": report["after"].get("gain_interval"),
        "rate_at_end": report["learning_rate"], "rounds": report["rounds"], "rounds_rewound": report["rounds_rewound"],
        "moved": moved.get("part"), "examples": report["after"]["examples"],
    }


def table(rows):
    """Returns the loss after and the movement of the layer, for each pair."""
    known = {(r["task"], r["seed"], r["rate"], r["steered"]): r for r in rows}
    print("| task, rate | seed | loss before | none | steered | moved, none | moved, steered | rate taken |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (task, seed, rate, steered), none in known.items():
        with_it = known.get((task, seed, rate, True))
        if steered or not with_it:
            continue
        def number(value, places=3):
            return "not finite" if value is None else f"{value:.{places}f}"
        print(f"| {task}, {rate} | {seed} | {number(none['before'])} | {number(none['after'])} | {number(with_it['after'])} "
              f"| {number((none['moved'] or 0) * 100, 0)} % | {number((with_it['moved'] or 0) * 100, 0)} % | {with_it['rate_at_end']:g} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=".build/release/onebyte")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rates", default="0.016,0.064")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if not arguments.table:
        caches = ROOT / ".cache/steering-states"
        for seed in range(arguments.seeds):
            for task in arguments.tasks.split(","):
                for rate in map(float, arguments.rates.split(",")):
                    for steered in (False, True):
                        key = (task, seed, rate, steered)
                        if any((r["task"], r["seed"], r["rate"], r["steered"]) == key for r in rows):
                            continue
                        rows.append(run(arguments.binary, *key, caches))
                        RESULTS.write_text("[\n" + ",\n".join(" " + json.dumps(r) for r in rows) + "\n]\n")
                        print(rows[-1], flush=True)
    table(rows)


if __name__ == "__main__":
    main()
