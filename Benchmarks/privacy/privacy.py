#!/usr/bin/env python3
"""Measures private runs of the demo: accuracy, bytes, and an attack on the bytes, with and without noise.

    Benchmarks/privacy/privacy.py [--binary .build/release/onebyte] [--seeds 0,1,2] [--epsilons 0,8,2] [--others 2000] [-- FLAGS]

Needs scripts/demo-data. For each ε (0: no noise) and seed it runs examples/movie-reviews.toml with three workers and without a guard, and then
`onebyte ledger membership` on the bytes of worker-1: can the holder of the ledger tell its 500 examples from others of the same kind? The others are
examples that the demo leaves alone. One attacker knows the first half of them, another all but one of the 500 examples.

Writes privacy.json beside this file; --table prints it as Markdown.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = HERE / "privacy.json"
DATA = ROOT / ".cache/movie-reviews"
MODEL = ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
CONFIG = "examples/movie-reviews.toml"
WORKERS = 3
ROUNDS = 64
DELTA = 1 / 500


def onebyte(binary, *arguments):
    result = subprocess.run([binary, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: {result.stderr[-2000:]}")
    return result.stdout


def train(arguments, epsilon, seed, basis, directory):
    """Runs a coordinator, three workers and an evaluator with one basis for all runs, as `onebyte cluster` would. Returns the report."""
    endpoint = f"ipc://{directory}.socket"
    private = ["--privacy-epsilon", epsilon, "--privacy-delta", DELTA] if float(epsilon) > 0 else []
    coordinator = ["coordinator", "--config", CONFIG, "--directory", directory, "--listen", endpoint, "--basis", basis, "--base", "none",
                   "--minimum-workers", WORKERS, "--rounds", ROUNDS, "--guard", 0, "--seed", seed, *private, *arguments.flags]
    common = ["worker", "--coordinator", endpoint, "--model", MODEL, "--cache-directory", arguments.caches, "--threads", arguments.threads]
    evaluator = [*common, "--name", "evaluator", "--evaluate", arguments.eval_file]
    workers = [[*common, "--name", f"worker-{i}", "--train-file", arguments.train_file, "--shard", f"{i}/{WORKERS}",
                *(["--privacy-account", f"{directory}.{i}.json"] if private else [])] for i in range(1, WORKERS + 1)]
    children = []
    for number, command in enumerate([coordinator, evaluator, *workers]):
        log = open(f"{directory}.{number}.log", "w")
        children.append(subprocess.Popen([arguments.binary, *map(str, command)], cwd=ROOT, stdout=log, stderr=log))
        # The evaluator calls first, so that the run waits for it.
        time.sleep(1 if number < 2 else 0)
    failed = None
    try:
        # Whichever fails first ends the wait: without a worker the coordinator would wait for ever.
        while failed is None and any(child.poll() is None for child in children):
            time.sleep(0.2)
            failed = next((number for number, child in enumerate(children) if child.poll()), None)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
    if failed is not None:
        sys.exit(f"process {failed} ended with status {children[failed].returncode}:\n{Path(f'{directory}.{failed}.log').read_text()[-2000:]}")
    return json.loads((directory / "report.json").read_text())


def measure(arguments, epsilon, seed, basis, others, place):
    directory = place / f"{epsilon}-{seed}"
    report = train(arguments, epsilon, seed, basis, directory)
    row = {"epsilon": float(epsilon), "seed": seed, "flags": arguments.flags, "accuracy": report["after"]["accuracy"],
           "best_threshold": report["after"]["accuracy_best_threshold"], "loss": report["after"]["loss"], "bytes": report["contribution_bytes"],
           "without_value": report["samples_without_value"], "left_out": report.get("samples_left_out", 0), "privacy": report.get("privacy")}
    if others:
        machines = json.loads(onebyte(arguments.binary, "ledger", "show", directory, "--format", "json"))["machineList"]
        machine = next(m["machine"] for m in machines if m["name"] == "worker-1")
        row["attack"] = json.loads(onebyte(
            arguments.binary, "ledger", "membership", directory, "--machine", machine, "--model", MODEL, "--train-file", arguments.train_file,
            "--shard", f"1/{WORKERS}", "--others", others, "--format", "json", "--cache-directory", arguments.caches, "--threads",
            arguments.threads))
    return row


def table(rows):
    print("| ε | δ | noise | accuracy | bytes | knows the kind: area | advantage | knows the others: area | advantage | bound |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for epsilon in sorted({row["epsilon"] for row in rows}, key=lambda e: -e if e else -1e9):
        own = [row for row in rows if row["epsilon"] == epsilon]

        def mean(value, digits=3):
            values = [value(row) for row in own]
            return f"{statistics.mean(values):.{digits}f} ({', '.join(f'{v:.{digits}f}' for v in values)})"

        attack = [mean(lambda r: r["attack"][who][what]) if who in own[0].get("attack", {}) else ""
                  for who in ("knowing_the_kind", "knowing_the_others") for what in ("auc", "advantage")]
        privacy = own[0]["privacy"] or {}
        noise = privacy.get("noise_multiplier", 0)
        # The largest area for an attacker who knows all other examples: Φ(√ρ), with ρ = 1/2σ² for each of the rounds.
        bound = statistics.NormalDist().cdf(math.sqrt(ROUNDS / 2) / noise) if noise else 1
        cells = [f"{epsilon:g}" if epsilon else "no noise", f"{privacy['delta']:g}" if privacy else "", f"{noise:g}",
                 mean(lambda r: 100 * r["accuracy"], 2), f"{own[0]['bytes']:,}", *attack, f"{bound:.2f}"]
        print(f"| {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--binary", default=str(ROOT / ".build/release/onebyte"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epsilons", default="0,8,2")
    parser.add_argument("--others", type=int, default=2000, help="number of other examples; 0: no attack")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--caches", default=str(ROOT / ".cache/hidden-states"))
    parser.add_argument("--basis", help="made before, by onebyte prepare with the same flags")
    parser.add_argument("--train-file", default=str(DATA / "train.jsonl"))
    parser.add_argument("--eval-file", default=str(DATA / "test.jsonl"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("flags", nargs="*", help="for every run, after --")
    arguments = parser.parse_args()
    if arguments.table:
        return table(json.loads(arguments.output.read_text()))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        place, others, basis = Path(scratch), None, arguments.basis
        if not basis:
            basis = place / "basis"
            onebyte(arguments.binary, "prepare", "--config", CONFIG, "--output", basis)
        if arguments.others:
            others = place / "others.jsonl"
            others.write_text("".join((DATA / "rest.jsonl").read_text().splitlines(keepends=True)[: arguments.others]))
        for epsilon in arguments.epsilons.split(","):
            for seed in map(int, arguments.seeds.split(",")):
                rows.append(measure(arguments, epsilon, seed, basis, others, place))
                print(json.dumps(rows[-1]), flush=True)
                arguments.output.write_text(json.dumps(rows, indent=1) + "\n")
    table(rows)


if __name__ == "__main__":
    main()
