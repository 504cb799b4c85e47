#!/usr/bin/env python3
"""Scores of a program, which have no derivative, maximised on few coordinates.

    Benchmarks/learning/few.py friendlier     friendlier texts (examples/friendlier.toml), beside the last layer
    Benchmarks/learning/few.py records        JSON that a program checks (examples/records.toml)

Needs what `make friendlier` and `examples/records.py --prepare` have made, and nothing but Python's standard library. Each row is `onebyte
cluster` with its flags. ε and the rate are the best of the row's choices by the score of 200 validation prompts, seed 0; a single choice was
made by hand on the same prompts. The held-out prompts are judged only then, with each seed. Prints a table and writes it to
few-TASK.json; runs that are there are not repeated (--again: they are).
"""

import argparse
import json
import math
from pathlib import Path

from learning import ROOT, interval, machine, train

TASKS = {"friendlier": "examples/friendlier-few.toml", "records": "examples/records.toml"}
# A run file without labels, for friendlier texts.
NO_WORDS = ["--config", "examples/records.toml", "--train-file", ".cache/friendlier/train.jsonl", "--basis-text", ".cache/movie-reviews/public.jsonl",
            "--template", "{prompt}", "--objective-command", "python3 examples/friendliness.py", "--objective-max-tokens", "10"]
SHORT = ["--rounds", "4", "--samples-per-round", "8", "--samples-per-batch", "8"]


def size(outputs, inputs):
    return ["--adapter-outputs", str(outputs), "--adapter-inputs", str(inputs)]


# Task: name, flags, choices of ε and the rate.
ROWS = {
    "friendlier": [
        ("two words, 13 numbers, 128 bytes", [], [(0.3, 1), (0.6, 2)]),
        ("two words, 13 numbers, 32 bytes", SHORT, [(0.6, 2)]),
        ("two words, 64 numbers, 128 bytes", ["--adapter-inputs", "64"], [(0.3, 1)]),
        ("two words, 256 numbers, 128 bytes", ["--adapter-inputs", "256"], [(0.15, 0.5)]),
        ("no words, 8 x 8 numbers, 128 bytes", [*NO_WORDS, *size(8, 8)], [(0.15, 0.5)]),
    ],
    "records": [
        ("13 x 1 numbers, 128 bytes", size(13, 1), [(0.5, 1)]),
        ("8 x 8 numbers, 128 bytes", size(8, 8), [(0.25, 1)]),
        ("16 x 16 numbers, 128 bytes", size(16, 16), [(0.12, 0.5)]),
    ],
}


def run(task, flags, seed, split):
    data = ROOT / f".cache/{task}"
    flags = [*([] if "--config" in flags else ["--config", TASKS[task]]), *flags]
    report = train([*flags, "--eval-file", data / f"{split}.jsonl", "--evaluate-every", "0"], seed)
    if "failed" in report:
        return {"failed": report["failed"]}
    after = report["after"]
    return {"before": report["before"]["score"], "after": after["score"], "gain": after.get("gain"), "gain_interval": after.get("gain_interval"),
            "bytes": report["contribution_bytes"], "seconds": report["seconds"]["training"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=ROWS)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--rows", help="only rows whose names hold this text")
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    path = Path(__file__).parent / f"few-{arguments.task}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}

    def keep():
        path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")

    for name, flags, choices in ROWS[arguments.task]:
        if arguments.rows and arguments.rows not in name:
            continue
        row = rows.setdefault(name, {"flags": flags, "grid": {}, "seeds": {}})
        grid = [["--epsilon", str(epsilon), "--learning-rate", str(rate)] for epsilon, rate in choices]
        for choice in grid if len(grid) > 1 else []:
            key = " ".join(choice)
            if key not in row["grid"] or arguments.again:
                row["grid"][key] = run(arguments.task, [*flags, *choice], 0, "validation")
                keep()
                print(f"    {name}, {key}: {row['grid'][key]}", flush=True)
        best = max(row["grid"], key=lambda key: row["grid"][key].get("after", -math.inf)).split() if row["grid"] else grid[0]
        if row.get("choice") != best:
            row["choice"], row["seeds"] = best, {}
        for seed in map(str, arguments.seeds):
            if seed not in row["seeds"] or arguments.again:
                row["seeds"][seed] = run(arguments.task, [*flags, *best], seed, "test")
                keep()
        found = [one for one in row["seeds"].values() if "failed" not in one]
        if found:
            mean, half = interval([one["after"] for one in found])
            print(f"  {name:44s} {' '.join(best)}  {found[0]['bytes']:,} bytes  {found[0]['before']:.3f} -> "
                  f"{', '.join(format(one['after'], '.3f') for one in found)}  {sum(one['seconds'] for one in found) / len(found):.0f} s", flush=True)


if __name__ == "__main__":
    main()
