#!/usr/bin/env python3
"""What an estimator is worth, in one process without a cluster around it: equal samples, equal directions.

    swift build -c release --product EstimatorBenchmark
    .build/release/onebyte cluster --config examples/movie-reviews.toml --directory .cache/study/run --rounds 1
    Benchmarks/learning/estimators.py estimators     two-sided and one-sided, shared examples, mean off, momentum, a step by the bytes' spread
    Benchmarks/learning/estimators.py value          one byte against 15 bits and against a sign
    Benchmarks/learning/estimators.py depth          what is trained: layers, families; equal seconds on one core

Prints a table and writes it to Benchmarks/learning/NAME.json. The run directory gives spec and basis.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path

from learning import ROOT, interval, machine

BINARY = Path(os.environ.get("BENCHMARK", ROOT / ".build/release/EstimatorBenchmark"))
ONE = ["--estimator", "one-sided", "--samples-per-draw", "8"]
TABLES = {
    "estimators": [
        ("two-sided, an example a sample", []),
        ("one-sided, an example a sample", ["--estimator", "one-sided"]),
        ("two-sided, 8 samples an example", ["--samples-per-draw", "8"]),
        ("one-sided, 8 samples an example", ONE),
        ("one-sided, 32 samples an example", ["--estimator", "one-sided", "--samples-per-draw", "32"]),
        ("one-sided, 8 samples, their mean off", [*ONE, "--mean-off"]),
        ("momentum 0.8", [*ONE, "--momentum", "0.8"]),
        ("momentum 0.8, rate 0.08", [*ONE, "--momentum", "0.8", "--learning-rate", "0.08"]),
        ("step by the spread of the bytes, 3", [*ONE, "--spread", "3"]),
        ("step by the spread of the bytes, 4.5", [*ONE, "--spread", "4.5"]),
        ("rate 0.08 without", [*ONE, "--learning-rate", "0.08"]),
        ("rate 0.08, step by the spread, 3", [*ONE, "--learning-rate", "0.08", "--spread", "3"]),
    ],
    "value": [
        ("one byte", ONE),
        ("15 bits", [*ONE, "--value", "float"]),
        ("15 bits, rate 0.02", [*ONE, "--value", "float", "--learning-rate", "0.02"]),
        ("its sign, rate 0.04", [*ONE, "--value", "sign"]),
        ("its sign, rate 0.02", [*ONE, "--value", "sign", "--learning-rate", "0.02"]),
    ],
}


def learn(run, flags, seed):
    command = [BINARY, "learn", "--run", run, "--seed", str(seed), *flags]
    result = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(result.stderr)
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=TABLES)
    parser.add_argument("--run", type=Path, default=ROOT / ".cache/study/run")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    arguments = parser.parse_args()
    print(f"{arguments.what} ({machine()}; one core; seeds {arguments.seeds}):")
    rows = []
    for name, flags in TABLES[arguments.what]:
        found = [learn(arguments.run, flags, seed) for seed in arguments.seeds]
        row = {"name": name, "flags": flags, "seeds": arguments.seeds}
        for key in found[0]:
            row[key + "_each"] = [result.get(key) for result in found]
            row[key], row[key + "_interval"] = interval(row[key + "_each"])
        spread = f" ± {row['loss_interval']:.4f}" if row["loss_interval"] is not None else ""
        print(f"  {name:40s} loss {row['loss']:.4f}{spread}  accuracy {100 * row['accuracy']:.2f} %  "
              f"{row['samples']:,.0f} samples in {row['seconds']:.1f} s", flush=True)
        rows.append(row)
    (Path(__file__).parent / f"{arguments.what}.json").write_text(
        json.dumps({"title": arguments.what, "machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
