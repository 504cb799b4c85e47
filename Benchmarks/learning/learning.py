#!/usr/bin/env python3
"""What is learned, and at what price: SmolLM2-135M on the demo's movie reviews, one table a command.

    Benchmarks/learning/learning.py guard      a learning rate 30 times too high, with the guard and without
    Benchmarks/learning/learning.py rate       the program's own choice of the learning rate (the grid: estimators.py rates)
    Benchmarks/learning/learning.py draws      samples that share their examples
    Benchmarks/learning/learning.py examples   examples that a direction is tried on, against bytes
    Benchmarks/learning/learning.py machines   1 … 16 workers at equal samples, and workers that see one class each
    Benchmarks/learning/learning.py byte       how large the bytes are; only their signs
    Benchmarks/learning/learning.py shape      plain directions, and K damped components
    Benchmarks/learning/learning.py strong     a strong prompt, and many rounds
    Benchmarks/learning/learning.py objective  accuracy itself as what is minimised
    Benchmarks/learning/learning.py hour       an hour on two cores: the last layer, then the attention of layers in the middle of what came of it, then the last layer again
    Benchmarks/learning/learning.py deeper     several layers at a time on the model that the hour's first run left
    Benchmarks/learning/learning.py trec       other tasks (tasks.py makes their data): questions of six kinds,
    Benchmarks/learning/learning.py cola       acceptable sentences,
    Benchmarks/learning/learning.py e2e        and a generation task
    Benchmarks/learning/learning.py places     which place of an adapter pays per byte and per second
    Benchmarks/learning/learning.py defaults   five tasks with nothing but model, task and data: an adapter and the program's own public text

Needs what `make demo` has made (the binary, .cache/) and nothing but Python's standard library. Every row is `onebyte cluster` with
tasks/reviews.toml and the flags that it names. Prints a table and writes it to Benchmarks/learning/NAME.json;
what is there with the same run file, flags and seed is kept (--again: made again; --jobs 4: four runs at a time).
"""

import argparse
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ONEBYTE = Path(os.environ.get("ONEBYTE", ROOT / ".build/release/onebyte"))
CONFIG = ROOT / "Benchmarks/learning/tasks/reviews.toml"
DATA = ROOT / ".cache/movie-reviews"
# Two-sided 95 % quantiles of Student's t with 1, 2, 3 … degrees of freedom.
STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]


def machine():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return f"{os.cpu_count()} cores, {line.split(':')[1].strip()}"
    return f"{os.cpu_count()} cores, {platform.machine()}"


def once(words):
    """Returns the flags without repetitions. The last of each counts, which is the row's: the program refuses a flag that is given twice."""
    words = [str(word) for word in words]
    kept, dropping = [], False
    for index, word in enumerate(words):
        if word.startswith("--"):
            dropping = word not in ("--label", "--train") and word in words[index + 1:]
        if not dropping:
            kept.append(word)
    return kept


def train(flags, seed):
    """Runs the program once and returns its report."""
    directory = Path(tempfile.mkdtemp(prefix="onebyte-learning-")) / "run"
    command = [ONEBYTE, "cluster", *([] if "--config" in flags else ["--config", CONFIG]), "--directory", directory, "--seed", str(seed), "--cache-directory",
               ROOT / ".cache/hidden-states", *flags]
    result = subprocess.run(once(command), cwd=ROOT, capture_output=True, text=True)
    if not (directory / "report.json").exists():
        (directory.parent / "stderr.txt").write_text(result.stderr)  # a crash has more to tell than its last line
        return {"failed": without_log(result.stderr.strip().splitlines()[-1]) if result.stderr.strip() else f"status {result.returncode}"}
    return json.loads((directory / "report.json").read_text()) | {"curve": held_out(directory)}


def held_out(run, samples=0):
    """Returns the measurements during a run; `samples` is the number of samples before it."""
    curve = []
    for event in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        samples += event["samples"] if event["event"] == "round" else 0
        if event["event"] == "evaluation":
            curve.append({"samples": samples, "loss": event.get("loss"), "accuracy": event.get("accuracy"), "auc": event.get("auc"),
                          "accuracy_best_threshold": event.get("bestThresholdAccuracy"), "validation_loss": event.get("validation", {}).get("loss")})
    return curve


def without_log(line):
    """Returns an error without the path of a temporary log."""
    return line.split(" (log: ")[0]


def interval(values):
    if any(value is None for value in values):
        return None, None
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, STUDENT[min(len(values) - 2, len(STUDENT) - 1)] * deviation / math.sqrt(len(values))


KEYS = {
    "accuracy": lambda r: r["after"].get("accuracy"), "loss": lambda r: r["after"]["loss"], "samples": lambda r: r["samples"],
    "training_seconds": lambda r: r["seconds"]["training"], "update_relative": lambda r: r["side_effects"]["update_relative"],
    "general_perplexity": lambda r: r["side_effects"].get("general_text", {}).get("perplexity_after"),
    "rounds_rewound": lambda r: r["rounds_rewound"], "learning_rate": lambda r: r["learning_rate"],
    "accuracy_best_threshold": lambda r: r["after"].get("accuracy_best_threshold"), "before": lambda r: r["before"],
    "curve": lambda r: r["curve"],
}
# These have no mean.
LISTS = {"before", "curve"}


def run_file(flags):
    """Returns the digest of the run file whose settings a row's flags override."""
    path = ROOT / flags[flags.index("--config") + 1] if "--config" in flags else CONFIG
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def summary(name, flags, found, failed):
    """Returns a row of the JSON. `found`: the result of each seed."""
    row = {"name": name, "machine": machine(), "flags": flags, "run_file": run_file(flags), "seeds": list(found)}
    if failed:
        row["failed"] = failed
    for key in KEYS if found else ():
        row[key + "_each"] = [result.get(key) for result in found.values()]
        if key not in LISTS:
            row[key], row[key + "_interval"] = interval(row[key + "_each"])
    return row


def show(row):
    if "failed" in row:
        return print(f"  {row['name']:44s} {row['failed'][0]}", flush=True)
    spread = f" ± {row['loss_interval']:.4f}" if row["loss_interval"] is not None else ""
    accuracy = f"accuracy {100 * row['accuracy']:.2f} %  " if row["accuracy"] is not None else ""
    moved = f"moved by {100 * row['update_relative']:.1f} %, " if row["update_relative"] is not None else ""
    general = f"perplexity of general text {row['general_perplexity']:.0f}, " if row["general_perplexity"] is not None else ""
    print(f"  {row['name']:44s} loss {row['loss']:.4f}{spread}  {accuracy}"
          f"{row['samples']:9,.0f} samples in {row['training_seconds']:5.1f} s ({row['samples'] / row['training_seconds']:,.0f}/s)  "
          f"{moved}{general}"
          f"taken back {row['rounds_rewound']:.0f} rounds, rate at the end {row['learning_rate']:.4g}", flush=True)


def table(title, rows, arguments):
    """Runs rows of (name, flags) over the seeds. Seeds that the JSON has with the same run file and flags are not run again;
    each row is written as soon as it and all rows before it are complete."""
    print(f"{title} ({machine()}; seeds {arguments.seeds}):")
    path = Path(__file__).parent / f"{arguments.what}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"rows": []}
    # Older files have one machine for all rows.
    earlier = {row["name"]: {"machine": kept.get("machine")} | row for row in kept["rows"]}
    made = {name: earlier.get(name) for name, _ in rows}
    rows = [(name, [str(flag) for flag in flags]) for name, flags in rows if not arguments.rows or arguments.rows in name]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = {}
        for name, flags in rows:
            row, found = made[name], {}
            if row and (row["flags"], row.get("run_file")) == (flags, run_file(flags)) and "loss_each" in row and not arguments.again:
                found = {seed: {key: row[key + "_each"][i] for key in KEYS if key + "_each" in row} for i, seed in enumerate(row["seeds"]) if seed in arguments.seeds}
            runs[name] = found, {seed: pool.submit(train, flags, seed) for seed in arguments.seeds if seed not in found}
        for name, flags in rows:
            found, missing = runs[name]
            failed = []
            for seed, report in missing.items():
                report = report.result()
                if "failed" in report or report["after"] is None or report["after"]["loss"] is None:
                    failed.append(report.get("failed", "no finite loss at the end"))
                else:
                    found[seed] = {key: value(report) for key, value in KEYS.items()}
                made[name] = summary(name, flags, dict(sorted(found.items())), failed)
                path.write_text(json.dumps({"title": title, "rows": [row for row in made.values() if row]}, indent=1) + "\n")
            show(made[name])


# Held-out data are measured only before and after, since nothing in between depends on them.
UNWATCHED = ["--guard", "0", "--evaluate-every", "0"]
# The grid of `estimators.py rates` uses two samples per batch, the run file four.
TWO = ["--samples-per-batch", "2"]


def guard(arguments):
    table("a learning rate 30 times too high", [
        ("rate 0.04", []),
        ("rate 1.2, no guard", ["--learning-rate", "1.2", "--guard", "0"]),
        ("rate 1.2, guard", ["--learning-rate", "1.2"]),
    ], arguments)


def rate(arguments):
    rows = [(f"trials of 40 rounds around {value}", ["--learning-rate", value, "--rate-trials", "40", *TWO]) for value in (0.01, 0.04, 0.16)]
    table("the program's choice of the learning rate", rows, arguments)


def draws(arguments):
    table("samples that share their examples", [(f"{count} samples a draw", ["--samples-per-batch", count, *UNWATCHED]) for count in (1, 2, 4, 8, 16)],
          arguments)


def examples(arguments):
    """All rows but the first and third read about the same number of sentences. The rate rises with the information in a byte."""
    def row(each, rate, rounds, samples):
        return (f"{each} {'sentence' if each == 1 else 'sentences'}, {rounds * samples:,} bytes",
                ["--batch-size", each, "--samples-per-batch", "8", "--learning-rate", rate, "--rounds", rounds, "--samples-per-round", samples, *UNWATCHED])
    table("sentences that a direction is tried on",
          [row(1, "0.04", 400, 256), row(4, "0.05", 400, 256), row(8, "0.08", 400, 256), row(8, "0.12", 200, 256), row(16, "0.12", 200, 128), row(32, "0.12", 200, 64)],
          arguments)


def machines(arguments):
    # Classes alternate line by line, so for an even n `--shard i/n` gives a worker one class only.
    lines = [json.loads(line) for line in open(DATA / "train.jsonl")]
    classes = [[line for line in lines if line["label"] == label] for label in ("0", "1")]
    # Paths are relative to the root, where every run is started.
    skewed, uniform = ".cache/movie-reviews/train-skewed.jsonl", ".cache/movie-reviews/train-balanced.jsonl"
    pairs = list(zip(*classes))
    (ROOT / skewed).write_text("".join(json.dumps(line) + "\n" for pair in pairs for line in pair))
    # The same sentences with every other pair reversed, so that each worker sees both classes.
    (ROOT / uniform).write_text("".join(json.dumps(line) + "\n" for i, pair in enumerate(pairs) for line in (pair if i % 2 else pair[::-1])))
    rows = [(f"{count} workers", ["--workers", count, "--threads", "1", *TWO, *UNWATCHED]) for count in (1, 2, 4, 8, 16)]
    rows += [("4 workers, each with both classes", ["--workers", "4", "--threads", "1", "--train-file", uniform, *TWO, *UNWATCHED]),
             ("4 workers, each with one class", ["--workers", "4", "--threads", "1", "--train-file", skewed, *TWO, *UNWATCHED])]
    table("machines at equal samples, and skewed data", rows, arguments)


def byte(arguments):
    rows = [(f"mean |q| {target}", ["--target-magnitude", target]) for target in (2, 8, 16, 32, 58)]
    rows += [(f"filter {name}", ["--filter", name]) for name in ("clip", "sign", "drop")]
    table("the byte", rows, arguments)


def shape(arguments):
    rows = [("plain, rate 0.016", ["--damped-components", "none", "--learning-rate", "0.016"])]
    rows += [(f"K = {k}", ["--damped-components", k]) for k in (1, 2, 4, 8, 16)]
    table("the shape", rows, arguments)


def strong(arguments):
    prompt = ["--template", "Review: {text}\nSentiment:", "--label", "0= negative", "--label", "1= positive", "--learning-rate", "0.03"]
    table("a strong prompt", [("400 rounds", prompt), ("4,000 rounds", [*prompt, "--rounds", "4000"])], arguments)


def objective(arguments):
    # Few directions, each tried on 32 examples: 3,840 bytes in all.
    few = ["--rounds", "60", "--samples-per-round", "64", "--batch-size", "32", "--guard", "0", "--samples-per-batch", "1", "--estimator", "two-sided"]
    # The run file's values are for a loss.
    steps = ["--epsilon", "0.03", "--learning-rate", "0.1"]
    table("accuracy itself", [("the loss", few), ("the loss, rate 0.1", [*few, "--learning-rate", "0.1"]),
                              ("accuracy", [*few, *steps, "--objective", "accuracy"]), ("f1", [*few, *steps, "--objective", "f1"])],
          arguments)


def attention(parts, first=12, last=18):
    """Returns flags that train these matrices of the layers' attention."""
    return [word for layer in range(first, last + 1) for part in parts for word in ("--train", f"layers.{layer}.self_attn.{part}_proj.weight")]


def hour(arguments):
    """Makes three runs, each on the model of the one before. Their directories are kept, and complete runs are not repeated."""
    unsure = ["--generalized-cross-entropy", "0.7"]
    stages = [
        ("last layer", ["--samples-per-batch", "16", "--rounds", "1600", "--samples-per-round", "512", "--learning-rate", "0.03", "--evaluate-every", "100"]),
        ("attention of layers 12 to 18", [*attention("qkvo"), "--damped-components", "none", "--precision", "int8", "--samples-per-batch", "32", *unsure, "--rounds", "160",
                                          "--samples-per-round", "1024", "--learning-rate", "0.02", "--target-magnitude", "48", "--evaluate-every", "40"]),
        ("last layer again", [*unsure, "--samples-per-batch", "16", "--batch-size", "8", "--rounds", "600", "--samples-per-round", "256",
                              "--learning-rate", "0.12", "--evaluate-every", "100"]),
    ]
    path = Path(__file__).parent / "hour.json"
    rows = [row for row in json.loads(path.read_text())["rows"] if row["seed"] not in arguments.seeds] if path.exists() else []
    for seed in arguments.seeds:
        place, model, samples = ROOT / f".cache/study/hour-{seed}", None, 0
        for number, (name, flags) in enumerate(stages, 1):
            run = place / f"run-{number}"
            if not (run / "report.json").exists():
                command = [ONEBYTE, "cluster", "--resume", run] if (run / "ledger").exists() else [
                    ONEBYTE, "cluster", "--config", CONFIG, "--directory", run, "--seed", seed, "--workers", "2", *(["--model", model] if model else []), *flags]
                subprocess.run(once(command), cwd=ROOT, check=True)
            base, model = model or ROOT / ".cache/SmolLM2-135M-Instruct.Q4_1.gguf", place / f"model-{number}"
            if number < len(stages) and not model.exists():
                subprocess.run([str(word) for word in [ONEBYTE, "export", "--model", base, "--ledger", run, "--output", model]], check=True)
            report = json.loads((run / "report.json").read_text())
            curve, sent = held_out(run, samples), report["samples"]
            samples += sent
            after = report["after"]
            rows.append({"name": name, "machine": machine(), "seed": seed, "flags": flags, "workers": report["workers"], "samples": sent,
                         "preparing_seconds": report["seconds"]["prefix_cache"], "training_seconds": report["seconds"]["training"],
                         "rounds_rewound": report["rounds_rewound"], "loss": after["loss"], "accuracy": after["accuracy"],
                         "accuracy_best_threshold": after["accuracy_best_threshold"], "curve": curve})
            print(f"  seed {seed}, {name:20s} loss {after['loss']:.4f}  accuracy {100 * after['accuracy']:.2f} %  {sent:,} samples, "
                  f"{report['workers']} workers, {report['seconds']['training']:.0f} s", flush=True)
            rows.sort(key=lambda row: row["seed"])
            path.write_text(json.dumps({"title": "an hour on two cores", "rows": rows}, indent=1) + "\n")


def deeper(arguments):
    """Needs the directories that `hour --seeds 0` keeps."""
    flags = ["--model", ".cache/study/hour-0/model-1", "--precision", "int8", "--samples-per-batch", "16", "--samples-per-round", "1024", "--evaluate-every", "100"]
    table("several layers, on the model of a trained last layer",
          [("top 2", [*flags, "--train", "layers.28-29", "--rounds", "400", "--learning-rate", "0.02"]),
           ("all 30", [*flags[:-1], "40", "--workers", "2", "--train", "layers.0-29", "--rounds", "80", "--learning-rate", "0.003"]),
           ("queries and keys of layer 17", [*flags, *attention("qk", 17, 17), "--damped-components", "none", "--samples-per-batch", "8", "--rounds", "800",
                                             "--samples-per-round", "256", "--learning-rate", "0.02"]),
           ("queries and keys of layers 12 to 18", [*flags[:-1], "50", "--workers", "2", *attention("qk"), "--damped-components", "none", "--rounds", "200", "--learning-rate", "0.006"])],
          arguments)


def other(name, title, *rows):
    config = ["--config", f"Benchmarks/learning/tasks/{name}.toml"]
    return lambda arguments: table(title, [(row, config + flags) for row, *flags in rows], arguments)


trec = other("trec", "questions of six kinds", ["K = 4"], ["plain, rate 0.01", "--damped-components", "none", "--learning-rate", "0.01"])
cola = other("cola", "acceptable sentences", ["K = 4"], ["plain, rate 0.016", "--damped-components", "none", "--learning-rate", "0.016"])
e2e = other("e2e", "a sentence from facts", ["K = 4"])


def defaults(arguments):
    row = lambda name, task, *flags: (name, ["--config", f"Benchmarks/learning/tasks/defaults/{task}.toml", *flags])
    table("the program's own choices", [
        row("reviews, defaults", "reviews"),
        row("AG News, defaults", "agnews"),
        row("AG News, 256 samples a round", "agnews", "--samples-per-round", "256"),
        row("RTE, defaults", "rte"),
        row("TREC, defaults", "trec"),
        row("TREC, 256 samples a round", "trec", "--samples-per-round", "256"),
        row("TREC, 1,024 samples a round", "trec", "--samples-per-round", "1024"),
        row("E2E, defaults", "e2e"),
        # Four passes over 32 examples for a round, as with the default of 256 samples.
        row("E2E, 1,600 samples a round", "e2e", "--samples-per-round", "1600", "--samples-per-batch", "400"),
    ], arguments)


# Name, values of --train, flags, and the rates among which the validation loss of seed 0 chooses.
PLACES = [
    ("final, 1 × 128", ["final"], ["--adapter-inputs", "128"], (0.15, 0.3, 0.6)),
    ("29 down, 1 × 128", ["layers.29.mlp.down_proj"], ["--adapter-inputs", "128"], (0.075, 0.15, 0.3, 0.6)),
    ("29 o, 1 × 128", ["layers.29.self_attn.o_proj"], ["--adapter-inputs", "128"], (0.075, 0.15, 0.3, 0.6)),
    ("29 q and v, 8 × 8 each", ["layers.29.self_attn.q_proj", "layers.29.self_attn.v_proj"], ["--adapter-inputs", "8", "--adapter-outputs", "8"], (0.3, 1.2, 5)),
    ("29 all, 4 × 16 each", ["layers.29"], ["--adapter-inputs", "16", "--adapter-outputs", "4"], (0.03, 0.1, 0.3)),
    ("20 down, 1 × 128", ["layers.20.mlp.down_proj"], ["--adapter-inputs", "128"], (0.1, 0.3)),
    ("20 o, 1 × 128", ["layers.20.self_attn.o_proj"], ["--adapter-inputs", "128"], (0.1, 0.3)),
    ("20 q and v, 8 × 8 each", ["layers.20.self_attn.q_proj", "layers.20.self_attn.v_proj"], ["--adapter-inputs", "8", "--adapter-outputs", "8"], (0.3, 1.2)),
    ("20 to 29 down, 1 × 16 each", ["layers.20-29.mlp.down_proj"], ["--adapter-inputs", "16"], (0.02, 0.06)),
    ("20 to 29 o, 1 × 16 each", ["layers.20-29.self_attn.o_proj"], ["--adapter-inputs", "16"], (0.02, 0.06)),
    ("12 to 18 q and k, 4 × 4 each", ["layers.12-18.self_attn.q_proj", "layers.12-18.self_attn.k_proj"], ["--adapter-inputs", "4", "--adapter-outputs", "4"], (0.3, 1.2)),
    ("12 to 29 v, 4 × 4 each", ["layers.12-29.self_attn.v_proj"], ["--adapter-inputs", "4", "--adapter-outputs", "4"], (0.1, 0.4)),
]


def places(arguments):
    """Trains on the demo's first sentences. The validation loss of the first seed chooses the rates."""
    directory = ROOT / ".cache/study/places"
    directory.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 300), ("validation", 150), ("test", 400)):
        (directory / f"{split}.jsonl").write_text("".join((DATA / f"{split}.jsonl").read_text().splitlines(keepends=True)[:count]))
    (directory / "public.jsonl").write_text("".join((DATA / "public.jsonl").read_text().splitlines(keepends=True)[::4]))
    path = Path(__file__).parent / "places.json"
    made = {row["name"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}
    for name, patterns, flags, rates in PLACES:
        if arguments.rows and arguments.rows not in name:
            continue
        row = made.get(name) or {"name": name, "machine": machine(), "flags": flags, "rates": {}, "runs": {}}
        base = ["--config", "Benchmarks/learning/tasks/adapters.toml", *flags, *(word for pattern in patterns for word in ("--train", "adapter:" + pattern))]

        def run(rate, seed):
            report = train([*base, "--learning-rate", str(rate)], seed)
            if "failed" in report:
                return {"failed": report["failed"]}
            return {"validation_loss": report["curve"][-1]["validation_loss"], "loss": report["after"]["loss"], "accuracy": report["after"]["accuracy"],
                    "samples": report["samples"], "seconds": report["seconds"]["training"]}

        for rate in rates:
            if arguments.again or str(rate) not in row["rates"]:
                row["rates"][str(rate)] = run(rate, arguments.seeds[0])
        best = min((found.get("validation_loss") or math.inf, rate) for rate, found in row["rates"].items())[1]
        row["rate"] = float(best)
        for seed in arguments.seeds:
            row["runs"][str(seed)] = row["rates"][best] if seed == arguments.seeds[0] else row["runs"].get(str(seed)) or run(best, seed)
        made[name] = row
        path.write_text(json.dumps({"title": "places of adapters", "rows": list(made.values())}, indent=1) + "\n")
        runs = [found for found in row["runs"].values() if "failed" not in found]
        accuracies, losses = (", ".join(format(found[key], form) for found in runs) for key, form in (("accuracy", ".1%"), ("loss", ".4f")))
        print(f"  {name:32s} rate {best:5s} accuracy {accuracies}  loss {losses}  " + (f"{runs[0]['seconds']:.1f} s" if runs else "failed"), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["guard", "rate", "draws", "examples", "machines", "byte", "shape", "strong", "objective", "hour", "deeper", "trec", "cola", "e2e", "places", "defaults"])
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--rows", help="only rows whose names hold this text; the others stay as they are")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    arguments = parser.parse_args()
    if not ONEBYTE.exists() or not (DATA / "validation.jsonl").exists():
        sys.exit("run `make demo` first")
    globals()[arguments.what](arguments)


if __name__ == "__main__":
    main()
