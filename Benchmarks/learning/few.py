#!/usr/bin/env python3
"""Scores of a program, which have no derivative, maximised on few coordinates.

    Benchmarks/learning/few.py friendlier     friendlier texts (examples/friendlier.toml), beside the last layer
    Benchmarks/learning/few.py records        JSON that a program checks (examples/records.toml)

Needs what `make friendlier` and `examples/records.py --prepare` have made, and nothing but Python's standard library. Each row is `onebyte
cluster` with its flags. ε and the rate are the best of the row's grid by the score of 200 validation prompts, seed 0. The held-out prompts
are judged only then, with each seed. Prints a table and writes it to few-TASK.json; runs that are there are not repeated (--again: they are).
"""

import argparse
import json
import math
from pathlib import Path

from learning import ROOT, interval, machine, train

# What all rows on adapters share: 128 bytes in eight rounds, if a row does not say otherwise.
FEW = ["--train", "adapter:final", "--rounds", "8", "--samples-per-round", "16", "--batch-size", "16", "--samples-per-batch", "16"]


def size(outputs, inputs):
    return ["--adapter-outputs", outputs, "--adapter-inputs", inputs]


TASKS = {"friendlier": ["--config", "examples/friendlier.toml"], "records": ["--config", "examples/records.toml"]}
# Task: name, flags, values of ε times the root of the number of coordinates, rates, number of coordinates.
ROWS = {
    "friendlier": [],
    "records": [],
}


def run(task, flags, seed, split):
    data = ROOT / f".cache/{task}"
    report = train([*TASKS[task], *map(str, flags), "--eval-file", data / f"{split}.jsonl", "--evaluate-every", "0", "--guard", "0"], seed)
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

    for name, flags, widths, rates, coordinates in ROWS[arguments.task]:
        if arguments.rows and arguments.rows not in name:
            continue
        row = rows.setdefault(name, {"flags": flags, "grid": {}, "seeds": {}})
        grid = [["--epsilon", f"{width / math.sqrt(coordinates):.3g}", "--learning-rate", str(rate)] for width in widths for rate in rates]
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
