#!/usr/bin/env python3
"""What an estimator, a shape, a depth is worth: runs of one machine in one process, without a cluster around them, on one core.

    ONEBYTE_WITH=benchmarks swift build -c release --product EstimatorBenchmark     (after `make demo`, which obtains model and data)

    Benchmarks/learning/estimators.py estimators   two-sided and one-sided, shared examples, mean off, momentum, a step by the bytes' spread
    Benchmarks/learning/estimators.py sharing      samples that share an example, on questions of six kinds
    Benchmarks/learning/estimators.py value        one byte against 15 bits and against a sign
    Benchmarks/learning/estimators.py shapes       K damped components on three tasks (tasks.py makes the data of two)
    Benchmarks/learning/estimators.py rates        a grid of seven learning rates
    Benchmarks/learning/estimators.py depth        how many layers, which family: equal seconds on one core
    Benchmarks/learning/estimators.py long         further samples from the weak and the strong prompt, and on questions of six kinds

Prints a table and writes it to Benchmarks/learning/NAME.json; what is there with the same flags and seed is kept (--again: made again).
`--jobs 8` has eight runs at a time, each on one core.
"""

import argparse
import json
import os
import subprocess
import tomllib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from learning import ROOT, interval, machine

BINARY = Path(os.environ.get("BENCHMARK", ROOT / ".build/release/EstimatorBenchmark"))
FILES = {"reviews": "Benchmarks/learning/tasks/reviews.toml", "strong": "Benchmarks/learning/tasks/reviews.toml"} | {
    name: f"Benchmarks/learning/tasks/{name}.toml" for name in ("trec", "cola")}
STRONG = {"template": "Review: {text}\nSentiment:", "labels": {"0": " negative", "1": " positive"}}
ONE = ["--estimator", "one-sided", "--samples-per-batch", "8"]
FAST = ["--estimator", "one-sided", "--samples-per-batch", "16"]


def shapes(plain, shaped, components=(1, 4, 16)):
    rows = [("plain", [*ONE, "--basis", "none", "--learning-rate", str(plain)])]
    rows += [(f"K = {k}", [*ONE, "--basis", f"basis-{k}", "--learning-rate", str(shaped)]) for k in components]
    return rows


TABLES = {
    "estimators": {"reviews": [
        ("two-sided, an example a sample", []),
        ("one-sided, 2 samples an example", ["--estimator", "one-sided", "--samples-per-batch", "2"]),
        ("two-sided, 8 samples an example", ["--samples-per-batch", "8"]),
        ("one-sided, 8 samples an example", ONE),
        ("one-sided, 32 samples an example", ["--estimator", "one-sided", "--samples-per-batch", "32"]),
        ("one-sided, 8 samples, their mean off", [*ONE, "--mean-off"]),
        ("momentum 0.8", [*ONE, "--momentum", "0.8"]),
        ("rate 0.06", [*ONE, "--learning-rate", "0.06"]),
        ("rate 0.06, step by the spread, 3", [*ONE, "--learning-rate", "0.06", "--spread", "3"]),
    ]},
    "sharing": {"trec": [
        ("two-sided, an example a sample", ["--basis", "basis-4"]),
        *[(f"one-sided, {draw} samples an example", ["--basis", "basis-4", "--estimator", "one-sided", "--samples-per-batch", str(draw)]) for draw in (2, 4, 8)],
    ]},
    "value": {"reviews": [
        ("one byte", ONE),
        ("15 bits", [*ONE, "--value", "float"]),
        ("its sign, rate 0.02", [*ONE, "--value", "sign", "--learning-rate", "0.02"]),
    ]},
    "shapes": {"reviews": shapes(0.016, 0.04, [4])[1:], "trec": shapes(0.01, 0.02), "cola": shapes(0.01, 0.02)},
    "rates": {"reviews": [
        (f"rate {rate}", ["--estimator", "one-sided", "--samples-per-batch", "2", "--learning-rate", rate])
        for rate in ("0.005", "0.01", "0.02", "0.04", "0.08", "0.16", "0.32")]},
    # This table uses the validation examples, because the hidden states of 2,000 examples at five depths would take longer than the table.
    "depth": {"reviews": [
        (name, ["--train", layers, "--basis", basis, "--learning-rate", rate, "--seconds", "60", "--eval-file", ".cache/movie-reviews/validation.jsonl", *more])
        for name, layers, basis, rate, more in [
            ("last layer, K = 4", "layers.29", "basis-4", "0.04", FAST),
            ("last layer, plain", "layers.29", "none", "0.016", FAST),
            ("top 2, plain", "layers.28-29", "none", "0.003", [*FAST, "--samples-per-round", "128"]),
            ("top 4, plain", "layers.26-29", "none", "0.001", [*FAST, "--samples-per-round", "64"]),
            ("top 8, plain", "layers.22-29", "none", "0.0004", [*FAST, "--samples-per-round", "64"]),
            ("all 30, plain", "layers.0-29", "none", "0.0001", [*FAST, "--samples-per-round", "32"]),
            ("layer 17's q and k, K = 0", "layers.17.self_attn.q_proj.weight,layers.17.self_attn.k_proj.weight", "none", "0.01", [*FAST, "--samples-per-round", "64"]),
            ("last layer, rademacher", "layers.29", "none", "0.0001", ["--perturbation", "rademacher", *FAST, "--samples-per-round", "16"]),
            ("last layer, gaussian", "layers.29", "none", "0.0001", ["--perturbation", "gaussian", *FAST, "--samples-per-round", "16"]),
        ]]},
    "long": {task: [
        (f"{rounds * 512:,} samples", [*FAST, "--rounds", str(rounds), "--samples-per-round", "512", "--learning-rate", rate])
        for rounds, rate in lengths] for task, lengths in {
            **dict.fromkeys(("reviews", "strong"), [(400, "0.04"), (1600, "0.03"), (4800, "0.02")]), "trec": [(400, "0.02"), (1600, "0.015")]}.items()},
}


def prepare(task):
    """Returns the run directory of a task, which holds its spec and bases, and the flags that name its data."""
    directory = ROOT / ".cache/study" / f"run-{task}"
    directory.mkdir(parents=True, exist_ok=True)
    run = tomllib.loads((ROOT / FILES[task]).read_text())
    if task == "strong":
        run["task"] |= STRONG
    spec = {"version": 1, "seed": 0, "train": ["layers.29"], "perturbation": "rank1", "shapeComponents": 0, "epsilon": 1e-3,
            "learningRate": run["training"]["learning-rate"], "schedule": "linear", "warmupRounds": 0, "rounds": 400, "samplesPerRound": 256,
            "examplesPerSample": 1, "targetMagnitude": 32, "digestEvery": 0, "evaluateEvery": 0, "minimumWorkers": 1, "roundDeadlineFactor": 0,
            "quorum": 0.5, "staleness": 0, "heartbeatSeconds": 1, "heartbeatTimeoutSeconds": 10,
            "task": {"kind": "classification", "template": run["task"]["template"], "maxLength": run["task"]["max-length"],
                     "labels": [{"label": label, "word": word} for label, word in run["task"]["labels"].items()]}}
    (directory / "run.json").write_text(json.dumps(spec))
    for components in (1, 2, 4, 8, 16):
        if not (directory / f"basis-{components}").exists():
            subprocess.run([BINARY, "bases", "--run", directory, "--components", str(components)], cwd=ROOT, check=True)
    if not (directory / "basis").exists():
        (directory / "basis").write_bytes((directory / "basis-4").read_bytes())
    return directory, ["--run", directory, "--train-file", run["data"]["train-file"]], ["--eval-file", run["data"]["eval-file"]]


def learn(directory, flags, seed):
    flags = [directory / flag if str(flag).startswith("basis-") else flag for flag in flags]
    result = subprocess.run([str(word) for word in [BINARY, "learn", "--seed", seed, *flags]], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(result.stderr)
    return json.loads(result.stdout)


def table(task, rows, pool, path, arguments):
    """Prints one line per row over the seeds; writes each row as soon as it is complete."""
    print(f"{arguments.what}, {task} ({machine()}; one core; seeds {arguments.seeds}):")
    directory, data, evaluation = prepare(task)
    before = json.loads(path.read_text())["tasks"].get(task, []) if path.exists() and not arguments.again else []
    rows = [(name, flags, next((row for row in before if row["flags"] == flags), None)) for name, flags in rows]
    runs = {}
    for name, flags, row in rows:
        own = data + ([] if "--eval-file" in flags else evaluation) + flags
        known = {seed: {key[:-5]: values[i] for key, values in row.items() if key.endswith("_each")} for i, seed in enumerate(row["seeds"])} if row else {}
        if not arguments.rows or arguments.rows in name:
            runs[name] = [known.get(seed) or pool.submit(learn, directory, own, seed) for seed in arguments.seeds]
    done = []
    for name, flags, row in rows:
        if name not in runs:
            done += [row] if row else []
            continue
        found = [run.result() if isinstance(run, Future) else run for run in runs[name]]
        row = {"name": name, "flags": flags, "seeds": arguments.seeds}
        for key in found[0]:
            row[key + "_each"] = [result.get(key) for result in found]
            row[key], row[key + "_interval"] = interval(row[key + "_each"])
        spread = f" ± {row['loss_interval']:.4f}" if row["loss_interval"] is not None else ""
        print(f"  {name:40s} loss {row['loss']:.4f}{spread}  accuracy {100 * row['accuracy']:.2f} %  "
              f"{row['samples']:,.0f} samples in {row['seconds']:.1f} s", flush=True)
        done.append(row)
        # Another process may be writing another task.
        tasks = json.loads(path.read_text())["tasks"] if path.exists() else {}
        tasks = {name: tasks[name] for name in TABLES[arguments.what] if name in tasks} | {task: done}
        path.write_text(json.dumps({"title": arguments.what, "machine": machine(), "tasks": tasks}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=TABLES)
    parser.add_argument("--tasks", type=lambda text: text.split(","))
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--rows", help="only rows whose names hold this text; the others stay as they are")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    arguments = parser.parse_args()
    path = Path(__file__).parent / f"{arguments.what}.json"
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for task, rows in TABLES[arguments.what].items():
            if not arguments.tasks or task in arguments.tasks:
                table(task, rows, pool, path, arguments)


if __name__ == "__main__":
    main()
