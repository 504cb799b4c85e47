#!/usr/bin/env python3
"""What adapters learn and cost, on runs of a coordinator and workers that this script starts.

    Benchmarks/learning/adapters.py shares    1 and 16 workers, skewed data, late bytes and lost bytes, at equal bytes
    Benchmarks/learning/adapters.py alone     three workers, one of which alone holds a class, with and without a filter
    Benchmarks/learning/adapters.py join      a worker joins after a million bytes
    Benchmarks/learning/adapters.py memory    memory of a worker that adapts all layers (--model FILE --layers N: of another model, as shapes.py makes it)

Needs what `make demo` has made (the binary, .cache/) and nothing but Python's standard library. The environment variable ONEBYTE names another
binary. Prints a table and writes it to Benchmarks/learning/adapters-NAME.json; rows and seeds that are there are not run again.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from learning import ONEBYTE, ROOT, interval, machine

sys.path.append(str(ROOT / "Benchmarks/elasticity"))
from elasticity import Line  # noqa: E402

MODEL = ROOT / ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
STUDY = ROOT / ".cache/study/adapters"
DEMO = "examples/movie-reviews.toml"
REVIEWS = ROOT / ".cache/movie-reviews"


def prepare(config, flags):
    """Returns the basis of a run file and flags. It does not depend on the seed, so it is made once."""
    STUDY.mkdir(parents=True, exist_ok=True)
    basis = STUDY / ("basis-" + hashlib.sha256((ROOT / config).read_bytes() + repr(list(map(str, flags))).encode()).hexdigest()[:16])
    if not basis.exists():
        subprocess.run([ONEBYTE, "prepare", "--config", config, *flags, "--output", basis, "--threads", "1"], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return basis


class Run:
    """A coordinator, workers, and an evaluator of each file in `evaluate`. `workers` has the data flags of each worker; `basis_flags` are those
    flags that the basis depends on; `delay` is that of the workers' line, in seconds."""

    def __init__(self, config, flags, workers, evaluate={}, basis_flags=(), delay=None, model=MODEL):
        self.directory = Path(tempfile.mkdtemp(prefix="onebyte-adapters-"))
        self.processes = []
        basis = prepare(config, list(basis_flags))
        self.model = model
        # A coordinator reads no text and no model.
        told = [word for word, before in zip(basis_flags, ["", *basis_flags]) if not {word, before} & {"--basis-text", "--model"}]
        self.coordinator = self.start(
            "coordinator", "coordinator", "--config", config, "--basis", basis, "--directory", self.directory / "run", "--listen",
            "tcp://127.0.0.1:0", "--events", "--evaluate-every", "0", "--guard", "0", "--minimum-workers", len(workers), *told, *flags,
            stdout=subprocess.PIPE)
        self.events = map(json.loads, self.coordinator.stdout)
        self.address = next(event["endpoint"] for event in self.events if event["event"] == "listening")
        # The coordinator does not wait long for a machine that measures. So the others come when that one has its hidden states.
        waiting = {self.worker(name, "--evaluate", file) and name for name, file in evaluate.items()}
        while waiting:
            event = next(self.events)
            if event["event"] == "worker" and event["phase"] == "waiting":
                waiting.discard(event["name"])
        if delay:
            self.address = f"tcp://127.0.0.1:{Line(int(self.address.rsplit(':', 1)[1]), delay).port}"
        self.trainers = [self.worker(f"w{number}", *data) for number, data in enumerate(workers)]

    def start(self, name, *words, stdout=subprocess.DEVNULL):
        process = subprocess.Popen([ONEBYTE, *map(str, words)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout,
                                   stderr=open(self.directory / f"{name}.log", "w"), text=True)
        self.processes.append(process)
        return process

    def worker(self, name, *flags):
        return self.start(name, "worker", "--coordinator", self.address, "--model", self.model, "--name", name, "--threads", "1",
                          "--cache-directory", ROOT / ".cache/hidden-states", *flags)

    def log(self, name):
        return (self.directory / f"{name}.log").read_text()

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            process.wait()


def rows_of(name):
    """Returns the file of a table and its rows by name."""
    path = Path(__file__).parent / f"adapters-{name}.json"
    return path, json.loads(path.read_text())["rows"] if path.exists() else {}


def keep(path, rows):
    path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


def fill(table, name, arguments, run):
    """Makes the seeds of a row that the table lacks with `run`, and prints the row. Returns its seeds' results."""
    if arguments.rows and arguments.rows not in name:
        return []
    path, rows = rows_of(table)
    row = rows.setdefault(name, {})
    for seed in map(str, arguments.seeds):
        if seed not in row or arguments.again:
            row[seed] = run(seed)
            keep(path, rows)
    found = [row[str(seed)] for seed in arguments.seeds]
    parts = []
    for key, digits in (("accuracy", 4), ("loss", 4), ("bytes", 0), ("rounds", 0), ("seconds", 1)):
        mean, half = interval([one.get(key) for one in found])
        if mean is not None:
            parts.append(f"{key} {mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half else ""))
    print(f"  {name:52s} {'  '.join(parts)}", flush=True)
    return found


# Shares

def skewed():
    """Returns a file of the demo's training sentences whose classes alternate: for an even n, `--shard i/n` has one class only."""
    lines = [json.loads(line) for line in open(REVIEWS / "train.jsonl")]
    classes = [[line for line in lines if line["label"] == label] for label in ("0", "1")]
    STUDY.mkdir(parents=True, exist_ok=True)
    path = STUDY / "skewed.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for pair in zip(*classes) for line in pair))
    return path


def learn(run, lost=0.0, seed=0):
    """Waits for a run's end. `lost`: part of the workers, drawn anew every half a second, that stand still.

    Returns what each evaluator measured last, the bytes committed, the rounds, and the seconds from the first round to the last."""
    ended = threading.Event()

    def stop_some():
        choose = random.Random(seed)
        while not ended.is_set():
            some = [process for process in choose.sample(run.trainers, round(lost * len(run.trainers))) if process.poll() is None]
            for process in some:
                process.send_signal(signal.SIGSTOP)
            ended.wait(0.5)
            for process in some:
                process.send_signal(signal.SIGCONT)

    times, samples, measured = [], 0, {}
    for event in run.events:
        if event["event"] == "evaluation":
            measured[event["name"]] = {key: event.get(key) for key in ("loss", "accuracy")}
        if event["event"] == "round":
            if not times and lost:
                threading.Thread(target=stop_some, daemon=True).start()
            times.append(event["time"])
            samples = event["samplesSoFar"]
    ended.set()
    run.stop()
    if not times:
        sys.exit(f"a run failed; see {run.directory}")
    shutil.rmtree(run.directory)
    return {**measured["test"], "bytes": samples, "rounds": len(times),
            "seconds": times[-1] - times[0]}


def split(file, count):
    return [["--train-file", file, "--shard", f"{i + 1}/{count}"] for i in range(count)]


def shares(arguments):
    whole, test = REVIEWS / "train.jsonl", {"test": REVIEWS / "test.jsonl"}
    deadline = ["--round-deadline-factor", "2", "--quorum", "0.5"]
    table = [
        ("3 workers, the demo", [], whole, 3), ("1 worker", [], whole, 1), ("16 workers", [], whole, 16), ("16, one class each", [], skewed(), 16),
        ("16, one class each, staleness 4", ["--staleness", "4"], skewed(), 16, 0.01, 0),
        ("16, one class each, a third lost", ["--rounds", "96", *deadline], skewed(), 16, 0.01, 1 / 3),
        ("16, one class each, staleness 4, a third lost", ["--rounds", "96", "--staleness", "4", *deadline], skewed(), 16, 0.01, 1 / 3),
        ("16, one class each, a third lost, no filter", ["--rounds", "96", "--filter", "none", *deadline], skewed(), 16, 0.01, 1 / 3),
        ("16, a third lost", ["--rounds", "96", *deadline], whole, 16, 0.01, 1 / 3),
    ]
    for name, flags, file, count, *line in table:
        delay, lost = line or (None, 0)
        fill("shares", name, arguments, lambda seed: learn(
            Run(DEMO, ["--seed", seed, *flags], split(file, count), test, delay=delay), lost, seed))


# Join

def alone(arguments):
    """Three workers with 60 reviews each, two with bad ones and one with good ones; 200 others are held out."""
    lines = [json.loads(line) for line in open(REVIEWS / "train.jsonl")]
    bad, good = ([line for line in lines if line["label"] == label] for label in "01")
    STUDY.mkdir(parents=True, exist_ok=True)
    held_out = [json.loads(line) for line in open(REVIEWS / "test.jsonl")][:200]
    parts = {"bad-1": bad[:60], "bad-2": bad[60:120], "good": good[:60], "test": held_out}
    for name, rows in parts.items():
        (STUDY / f"alone-{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    workers = [["--train-file", STUDY / f"alone-{name}.jsonl"] for name in ("bad-1", "bad-2", "good")]
    for kind in ("robust", "none"):
        fill("alone", f"filter {kind}", arguments, lambda seed: learn(
            Run(DEMO, ["--seed", seed, "--filter", kind], workers, {"test": STUDY / "alone-test.jsonl"}), seed=seed))


def processor_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def join(arguments):
    """One worker makes a ledger of a million bytes on a few sentences; another joins. The first one joined an empty ledger, so the difference of
    their processor time is what the ledger costs."""
    few = STUDY / "few.jsonl"
    STUDY.mkdir(parents=True, exist_ok=True)
    few.write_text("".join(open(REVIEWS / "train.jsonl").readlines()[:32]))
    path, rows = rows_of("join")
    for seed in map(str, arguments.seeds):
        run = Run(DEMO, ["--seed", seed, "--rounds", "1000000", "--schedule", "constant", "--learning-rate", "0.001", "--digest-every", "0"],
                  [["--train-file", few]])
        late, hello, at, processor = None, None, {}, {}
        for event in run.events:
            if event["event"] == "round" and event["samplesSoFar"] >= 1_000_000 and not late:
                late = run.worker("late", "--train-file", few)
            name = event.get("name")
            if event["event"] == "joined":
                processor[name] = processor_seconds(late if name == "late" else run.trainers[0])
                at[name] = event["round"]
            if name == "late":
                hello = hello or event["time"]
                if event["event"] == "worker" and event["phase"] != "hashing":
                    at.setdefault("hashed", event["time"] - hello)
                if event["event"] == "joined":
                    at["joined"] = event["time"] - hello
                    # A worker that was quick may have told nothing in between.
                    at.setdefault("hashed", at["joined"])
                    break
        run.stop()
        rows[seed] = row = {"round": at["late"], "bytes": 64 * at["late"], "ledger_bytes": (run.directory / "run/ledger").stat().st_size,
                            "seconds_from_hello": at["joined"], "of_these_hashing_at_most": at["hashed"],
                            "processor_seconds": processor["late"], "processor_seconds_of_an_empty_ledger": processor["w0"]}
        keep(path, rows)
        print(json.dumps(row), flush=True)


# Memory

def memory(arguments):
    """One worker trains on 16 sentences; its largest resident memory, and the part of it that is the mapped file."""
    few = STUDY / "some.jsonl"
    STUDY.mkdir(parents=True, exist_ok=True)
    few.write_text("".join(open(REVIEWS / "train.jsonl").readlines()[:16]))
    count = arguments.layers
    layers = f"layers.0-{count - 1}"
    places = {"final": "final", f"o_proj of {count} layers": f"{layers}.self_attn.o_proj", f"down_proj of {count} layers": f"{layers}.mlp.down_proj",
              f"all maps of {count} layers": layers}
    path, rows = rows_of("memory")
    for name, pattern in places.items():
        for batch in ("1", "8", "16"):
            if arguments.rows and arguments.rows not in name:
                continue
            run = Run(DEMO, ["--rounds", "1", "--batch-size", batch, "--samples-per-batch", "64"], [["--train-file", few]],
                      basis_flags=["--train", f"adapter:{pattern}", "--basis-text", few, "--model", arguments.model], model=arguments.model)
            worker = run.trainers[0]
            peak, parts = 0, {}
            while worker.poll() is None:
                try:
                    status = dict(re.findall(r"^(VmHWM|RssAnon|RssFile):\s+(\d+) kB", Path(f"/proc/{worker.pid}/status").read_text(), re.M))
                except OSError:
                    break
                if status:
                    peak = int(status["VmHWM"])
                    parts = {key: max(parts.get(key, 0), int(status[key])) for key in ("RssAnon", "RssFile")}
                time.sleep(0.05)
            run.stop()
            kind = "" if arguments.model == MODEL else f"{arguments.model.stem}, "
            rows[f"{kind}{name}, batches of {batch}"] = row = {"peak_kB": peak, **parts, "file_kB": arguments.model.stat().st_size // 1024}
            keep(path, rows)
            print(f"  {name}, batches of {batch}: {peak / 1024:.0f} MB at most; own memory {parts['RssAnon'] / 1024:.0f}, mapped files "
                  f"{parts['RssFile'] / 1024:.0f}; 1.3 x the model's file is {1.3 * row['file_kB'] / 1024:.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["shares", "alone", "join", "memory"])
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--rows", help="only rows whose names hold this text; the others stay as they are")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--model", type=lambda text: Path(text).resolve(), default=MODEL, help="of memory: a .gguf file with the same tokenizer")
    parser.add_argument("--layers", type=int, default=30, help="of that model")
    arguments = parser.parse_args()
    if not ONEBYTE.exists() or not (REVIEWS / "validation.jsonl").exists():
        sys.exit("run `make demo` first")
    globals()[arguments.what](arguments)


if __name__ == "__main__":
    main()
