#!/usr/bin/env python3
"""How fast everything is, in one run: ratios first, medians of paired turns, the machine named.

    make bench            (after `make demo`, which obtains model and data; PyTorch from PyPI is installed for the comparison)

Prints a table and writes bench.json: for each row its key, ratio (where it is compared with something), goal, median, spread and unit. The programs take turns, so
that what disturbs the machine disturbs all of them; a ratio is that of two figures of the same turn. Rows of one thread are in processor time, so that other
work on the machine counts little, all others in time of the clock.

    Benchmarks/bench.py --only kernels,step --turns 1        kernels, model, step, prefix, mezo, cluster, sharing, wire

--check compares the rows that thresholds.json names with their bounds, and ends with 1 where one is outside. These are ratios and counts
that hardly depend on the machine (make bench-check).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Benchmarks/learning"))
from learning import machine

BUILD = ROOT / ".build/release"
THRESHOLDS = ROOT / "Benchmarks/thresholds.json"
HF_MODEL = ROOT / ".cache/SmolLM2-135M-Instruct"
RUN = ROOT / ".cache/study/run-reviews"

PROGRAMS = {
    "kernels": [[BUILD / "KernelBenchmark", "1", "--json"], [BUILD / "KernelBenchmark", "2", "--json"]],
    "model": [[BUILD / "KernelBenchmark", "1", "--model", "--json"]],
    "step": [[BUILD / "EstimatorBenchmark", "step", "--run", RUN]],
    "prefix": [[BUILD / "EstimatorBenchmark", "prefix", "--threads", str(threads)] for threads in (1, 2)],
    "sharing": [[BUILD / "EstimatorBenchmark", "speed", "--run", RUN, "--layers", "1,2", "--draws", "1,8", "--examples", "64", "--seconds", "2", "--estimator", "one-sided", "--json"]],
    "mezo": [[sys.executable, ROOT / "Benchmarks/mezo.py"]],
    "wire": [[BUILD / "ClusterBenchmark", "rounds", "--workers", "16,64"]],
    "cluster": [
        [BUILD / "ClusterBenchmark", "rounds", "--workers", "1,16,256,1024"], [BUILD / "ClusterBenchmark", "rounds", "--workers", "16,256,1024", "--curve"],
        [BUILD / "ClusterBenchmark", "sockets"], [BUILD / "ClusterBenchmark", "catch-up"], [BUILD / "ClusterBenchmark", "ledger"],
        # A million syncs of a real disk would take hours, and only memory is measured.
        [BUILD / "ClusterBenchmark", "memory", "--directory", "/dev/shm"],
    ],
}
# The slow programs run once: they last long enough to average themselves.
ONCE = {"model", "cluster", "wire", "prefix"}
USUAL = ["kernels", "model", "step", "prefix", "mezo", "cluster"]


def best_variant(found):
    names = [key.split(".")[1] for key in found if key.startswith("kernels.")]
    return next((name for name in ("amx", "avx512vbmi", "avx512vnni", "avx512", "avx2", "neondot", "neon", "portable") if name in names), "portable")


def ratios(variant):
    """Returns rows (key, figure, divisor or None, goal as text). For seconds the rival's are the figure, and this program's the divisor."""
    kernels, model = f"kernels.{variant}.1", f"kernels.{variant}.1.model"
    goal = {"amx": "≥ 25 G/s", "avx512vbmi": "≥ 25 G/s", "avx512vnni": "≥ 25 G/s", "avx512": "≥ 25 G/s", "avx2": "≥ 10 G/s"}.get(variant)
    return [
        ("update.rademacher.64", f"{kernels}.rademacher_update.64", None, goal),
        ("update.rademacher.two_cores", f"kernels.{variant}.2.rademacher_update.256", f"{kernels}.rademacher_update.256", "≥ 1.9×"),
        ("machine.two_cores", f"kernels.{variant}.2.multiply_adds", f"kernels.{variant}.1.multiply_adds", None),
        ("update.rademacher.64_against_1", f"{kernels}.rademacher_update.64", f"{kernels}.rademacher_update.1", None),
        ("update.rank1.against_portable", f"{kernels}.rank1_update.256", "kernels.portable.1.rank1_update.256", None),
        ("update.rank1.256", f"{kernels}.rank1_update.256", None, "≥ 200 G/s (VNNI)"),
        ("update.rank1.1024_against_256", f"{kernels}.rank1_update.1024", f"{kernels}.rank1_update.256", "no fall-off"),
        ("update.rank1.4096_against_256", f"{kernels}.rank1_update.4096", f"{kernels}.rank1_update.256", "no fall-off"),
        ("replay.rank1", f"{model}.rank1_replay.1000:seconds", None, "≤ 15 s (VNNI)"),
        ("replay.dense_a_tenth", f"{model}.rademacher_replay.100:seconds", None, "≤ 10 s (AVX-512)"),
        ("update.16_peers_against_mezo", "mezo.1.update.16", f"{model}.rademacher_update:seconds", "≥ 150× (signs against Gaussian)"),
        ("update.16_peers_like_for_like", "mezo.1.best_signs.update.16", f"{model}.rademacher_update:seconds", "≥ 10×"),
        ("update.16_peers_rank1_like_for_like", "mezo.1.best_rank1.update.16", f"{model}.rank1_update:seconds", None),
        ("step.gemm_share", "step.1.rank1.gemm_share", None, "≥ 0.9"),
        ("step.gemm_of_peak", "step.1.rank1.gemm_of_peak", None, "≥ 0.75"),
        # A step of this program ends with the F32 copies of the new integers, which PyTorch does not need. rank1 tries one direction per
        # sequence, so its update has 16 times as many bytes as MeZO's.
        ("step.against_mezo_alone", "mezo.1.forward + mezo.1.update.1", "step.1.rank1.forward + step.1.rank1.update.1 + step.1.rank1.floats", "≥ 3×"),
        ("step.against_mezo_16_peers", "mezo.1.forward + mezo.1.update.16", "step.1.rank1.forward + step.1.rank1.update.16 + step.1.rank1.floats", "≥ 10×"),
        ("step.dense_against_mezo_alone", "mezo.1.forward + mezo.1.update.1", "step.1.rademacher.forward + step.1.rademacher.update.1 + step.1.rademacher.floats", "≥ 3×"),
        ("step.dense_against_mezo_16_peers", "mezo.1.forward + mezo.1.update.16", "step.1.rademacher.forward + step.1.rademacher.update.16 + step.1.rademacher.floats", "≥ 10×"),
        ("step.forward_against_pytorch", "mezo.1.forward_twice", "step.1.rank1.forward", None),
        ("step.allocations", "step.1.rank1.allocations", None, None),
        ("step.memory_over_parameters", "step.1.peak_memory", "step.1.parameters", None),
        ("prefix.int8_against_float", "prefix.SmolLM2.1.int8", "prefix.SmolLM2.1.float", "≥ 2× (VNNI)"),
        ("prefix.int8_against_float.two_cores", "prefix.SmolLM2.2.int8", "prefix.SmolLM2.2.float", "≥ 2× (VNNI)"),
        ("sharing.last_layer", "speed.1.8.float", "speed.1.1.float", None),
        ("sharing.two_layers", "speed.2.8.float", "speed.2.1.float", None),
        ("coordinator.1024.rounds", "coordinator.1024.rounds_per_second", None, "≥ 25"),
        ("coordinator.1024.cpu_against_bare_sockets", "coordinator.1024.cpu_ms_per_round", "sockets.1024.cpu_ms_per_round", None),
        ("coordinator.1024.memory", "coordinator.1024.peak_rss_mb", None, "≤ 200 MB"),
        ("coordinator.16.bytes_up", "coordinator.16.bytes_up_per_sample", None, "≤ 2"),
        ("coordinator.16.bytes_down", "coordinator.16.bytes_down_per_peer_sample", None, "≤ 2"),
        ("coordinator.16.curve.bytes_up", "coordinator.16.curve.bytes_up_per_sample", None, "≤ 2"),
    ]


def run(command):
    """Runs a program and returns the figures of its JSON lines by key, and KEY:seconds for rows with seconds."""
    result = subprocess.run([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    if result.returncode != 0:
        sys.exit(f"bench.py: {' '.join(map(str, command))} ended with status {result.returncode}")
    figures = {}
    for line in result.stdout.splitlines():
        row = json.loads(line)
        figures[row["key"]] = (row["value"], row["unit"])
        if "seconds" in row:
            figures[row["key"] + ":seconds"] = (row["seconds"], "s")
    return figures


def evaluate(expression, figures):
    """Returns the sum of figures of one turn; None if one is missing."""
    values = [figures.get(key) for key in expression.split(" + ")]
    return None if None in values else (sum(value for value, _ in values), values[0][1])


def check(rows):
    """Whether every row is within its bounds. A row that was not measured on this machine is named."""
    print()
    is_good = True
    for bound in json.loads(THRESHOLDS.read_text()):
        row = rows.get(bound["row"])
        if row is None:
            print(f"  not measured  {bound['row']}")
            continue
        value = row.get("ratio", row.get("median"))
        is_within = bound.get("min", value) <= value <= bound.get("max", value)
        limits = " and ".join(f"{word} {bound[key]:g}" for key, word in (("min", "at least"), ("max", "at most")) if key in bound)
        print(f"  {'ok' if is_within else 'OUTSIDE':12s}  {bound['row']:38s} {value:10.4g}   {limits}: {bound['why']}")
        is_good = is_good and is_within
    return is_good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=USUAL)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="hold the rows against thresholds.json")
    parser.add_argument("--output", type=Path, default=ROOT / "bench.json")
    arguments = parser.parse_args()
    if {"step", "sharing"} & set(arguments.only) and not (RUN / "basis").exists():
        from estimators import prepare
        prepare("reviews")
    if "mezo" in arguments.only and not HF_MODEL.exists():
        subprocess.run([BUILD / "onebyte", "export", "--model", f"{HF_MODEL}.Q4_1.gguf", "--output", HF_MODEL], cwd=ROOT, check=True)

    turns = []
    for turn in range(arguments.turns):
        figures = {}
        for group in arguments.only:
            if turn > 0 and group in ONCE:
                continue
            for command in PROGRAMS[group]:
                print(f"turn {turn + 1} of {arguments.turns}: {group}: {' '.join(Path(word).name for word in map(str, command))}", file=sys.stderr, flush=True)
                figures |= run(command)
        turns.append(figures)

    # Figures that were measured once count for every turn.
    for figures in turns[1:]:
        for key, value in turns[0].items():
            figures.setdefault(key, value)
    rows = {}
    print(f"{machine()}; {len(turns)} turns")
    for name, figure, base, goal in ratios(best_variant(turns[0])):
        pairs = [(evaluate(figure, figures), base and evaluate(base, figures)) for figures in turns]
        if any(top is None or (base and bottom is None) for top, bottom in pairs):
            continue
        values = [top[0] / bottom[0] if base else top[0] for top, bottom in pairs]
        rows[name] = {"ratio" if base else "median": statistics.median(values), "spread": [min(values), max(values)], "goal": goal,
                      "unit": "×" if base else pairs[0][0][1], "of": figure, "to": base}
        print(f"  {name:38s} {statistics.median(values):10.4g} {rows[name]['unit']:24s} {min(values):.4g} … {max(values):.4g}   {goal or ''}")
    print()
    for key in turns[0]:
        values = [figures[key][0] for figures in turns]
        rows[key] = {"median": statistics.median(values), "spread": [min(values), max(values)], "unit": turns[0][key][1]}
        if not key.endswith(":seconds"):
            print(f"  {key:60s} {statistics.median(values):12.5g} {turns[0][key][1]}")
    arguments.output.write_text(json.dumps({"machine": machine(), "turns": len(turns), "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    if arguments.check and not check(rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
