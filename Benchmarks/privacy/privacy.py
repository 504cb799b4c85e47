#!/usr/bin/env python3
"""Measures private runs of the demo: accuracy, bytes, and an attack on the bytes, with and without noise.

    Benchmarks/privacy/privacy.py [--binary .build/release/onebyte] [--seeds 0,1,2] [--epsilons 0,8,2] [--others 2000] [FLAGS]

Needs scripts/demo-data. For each ε (0: no noise) and seed it runs `onebyte cluster` on examples/movie-reviews.toml with PRIVATE below, and then
`onebyte ledger membership` on the bytes of worker-1: can the holder of the ledger tell its 500 examples from others of the same kind? The others are
examples that the demo leaves alone; the attacker knows the first half of them. Further FLAGS are for every run.

Writes privacy.json beside this file; --table prints it as Markdown.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = HERE / "privacy.json"
DATA = ROOT / ".cache/movie-reviews"
MODEL = ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
PRIVATE = []


def onebyte(binary, *arguments):
    result = subprocess.run([binary, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: {result.stderr[-2000:]}")
    return result.stdout


def measure(arguments, epsilon, seed, others, place):
    directory = place / f"{epsilon}-{seed}"
    private = ["--privacy-epsilon", epsilon, *PRIVATE] if float(epsilon) > 0 else []
    common = ["--cache-directory", arguments.caches, "--threads", arguments.threads]
    onebyte(arguments.binary, "cluster", "--config", "examples/movie-reviews.toml", "--directory", directory, "--seed", seed, *common, *private,
            *arguments.flags)
    report = json.loads((directory / "report.json").read_text())
    machines = json.loads(onebyte(arguments.binary, "ledger", "show", directory, "--format", "json"))["machineList"]
    machine = next(m["machine"] for m in machines if m["name"] == "worker-1")
    attack = json.loads(onebyte(
        arguments.binary, "ledger", "membership", directory, "--machine", machine, "--model", MODEL, "--train-file", DATA / "train.jsonl",
        "--shard", "1/3", "--others", others, "--format", "json", *common))
    return {"epsilon": float(epsilon), "seed": seed, "accuracy": report["after"]["accuracy"], "loss": report["after"]["loss"],
            "bytes": report["contribution_bytes"], "without_value": report["samples_without_value"], "rounds_rewound": report["rounds_rewound"],
            "privacy": report.get("privacy"), "attack": attack}


def table(rows):
    print("| ε | accuracy | bytes | attack: area under the curve | advantage | found at 1 % false |")
    print("| --- | --- | --- | --- | --- | --- |")
    for epsilon in sorted({row["epsilon"] for row in rows}, key=lambda e: -e or -1e9):
        own = [row for row in rows if row["epsilon"] == epsilon]

        def mean(value, scale=1.0):
            values = [scale * value(row) for row in own]
            return f"{statistics.mean(values):.{3 if scale == 1 else 1}f} ({', '.join(f'{v:.{3 if scale == 1 else 1}f}' for v in values)})"

        print(f"| {'none' if epsilon == 0 else f'{epsilon:g}'} | {mean(lambda r: r['accuracy'], 100)} | {own[0]['bytes']:,} | "
              f"{mean(lambda r: r['attack']['auc'])} | {mean(lambda r: r['attack']['advantage'])} | "
              f"{mean(lambda r: r['attack']['found_at_one_percent'], 100)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--binary", default=str(ROOT / ".build/release/onebyte"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epsilons", default="0,8,2")
    parser.add_argument("--others", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--caches", default=str(ROOT / ".cache/hidden-states"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("flags", nargs="*", help="for `onebyte cluster`")
    arguments = parser.parse_args()
    if arguments.table:
        return table(json.loads(arguments.output.read_text()))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        others = Path(scratch) / "others.jsonl"
        others.write_text("".join((DATA / "rest.jsonl").read_text().splitlines(keepends=True)[: arguments.others]))
        for epsilon in arguments.epsilons.split(","):
            for seed in map(int, arguments.seeds.split(",")):
                rows.append(measure(arguments, epsilon, seed, others, Path(scratch)))
                print(json.dumps(rows[-1]), flush=True)
                arguments.output.write_text(json.dumps(rows, indent=1) + "\n")
    table(rows)


if __name__ == "__main__":
    main()
