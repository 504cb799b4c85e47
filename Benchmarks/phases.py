#!/usr/bin/env python3
"""How long each phase of a run takes, how much memory it needs, and how often it reads the model's file. For models that are large for the machine.

    Benchmarks/shapes.py llama-8b .cache/shapes/8b.gguf
    Benchmarks/phases.py .cache/shapes/8b.gguf                           24 of the demo's reviews to train on, 24 that judge, 24 public texts
    Benchmarks/phases.py .cache/shapes/8b.gguf --memory 4 --examples 8   with 4 GB for everything, page cache included (root; cgroups)

`peak` is the largest process with the pages of the model's file that it has touched; `own` is what all processes of the phase together have
allocated. With --memory the page cache is emptied before each phase, and `file reads` are bytes read from disks over the file's size.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".cache/movie-reviews"
WORK = ROOT / ".cache/phases"
GROUPS = Path("/sys/fs/cgroup")
RUN_FILE = """model = "{model}"
[task]
kind = "classification"
template = "{{text}} It was"
labels = {{ 0 = " terrible", 1 = " great" }}
max-length = 96
[data]
train-file = "train.jsonl"
eval-file = "test.jsonl"
basis-text = "public.jsonl"
[training]
rounds = 8
samples-per-round = 64
evaluate-every = 4
[cluster]
workers = 1
"""


class Group:
    """A control group whose processes share a limited memory, page cache included."""

    def __init__(self, limit):
        self.directory = next((d for d in (GROUPS / "memory", GROUPS) if (d / "cgroup.procs").exists()), GROUPS) / f"phases-{os.getpid()}"
        self.directory.mkdir()
        old = self.directory / "memory.limit_in_bytes"
        (old if old.exists() else self.directory / "memory.max").write_text(str(limit))

    def enter(self):
        (self.directory / "cgroup.procs").write_text(str(os.getpid()))


def descendants(process):
    found = [process]
    for number in found:
        try:
            for task in Path(f"/proc/{number}/task").iterdir():
                found += (task / "children").read_text().split()
        except OSError:
            pass
    return found


def own_memory(process):
    """Bytes that a process and those it has started have allocated."""
    total = 0
    for number in descendants(str(process)):
        try:
            for line in Path(f"/proc/{number}/status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total


def phase(name, command, size, group):
    if group:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1")
    start = time.monotonic()
    with open(WORK / f"{name}.log", "wb") as log:
        child = subprocess.Popen([str(word) for word in command], cwd=WORK, stdout=log, stderr=log, preexec_fn=group.enter if group else None)
    own, ended = [0], threading.Event()

    def watch():
        while not ended.wait(0.25):
            own[0] = max(own[0], own_memory(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status, usage = os.wait4(child.pid, 0)[1:]
    ended.set()
    watcher.join()
    seconds = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    reads = f"{usage.ru_inblock * 512 / size:.2f}" if group else ""
    print(f"| {name} | {seconds:.0f} s | {usage.ru_utime + usage.ru_stime:.0f} s | {usage.ru_maxrss * 1024 / 1e9:.2f} GB | {own[0] / 1e9:.2f} GB | {reads} |", flush=True)
    if child.returncode != 0:
        sys.exit(f"phases.py: {name} ended with status {child.returncode}: {WORK / name}.log")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("model", type=Path)
    parser.add_argument("--examples", type=int, default=24)
    parser.add_argument("--memory", type=float, metavar="GB")
    parser.add_argument("--program", type=Path, default=ROOT / ".build/release/onebyte")
    arguments = parser.parse_args()
    program, model = arguments.program.resolve(), arguments.model.resolve()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    for name in ("train", "test", "public"):
        lines = (DATA / f"{name}.jsonl").read_text().splitlines()[:arguments.examples]
        (WORK / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (WORK / "run.toml").write_text(RUN_FILE.format(model=model))
    size = model.stat().st_size
    group = Group(int(arguments.memory * 1e9)) if arguments.memory else None
    print(f"{model.name}: {size / 1e9:.2f} GB; {arguments.examples} examples of each kind" + (f"; {arguments.memory} GB for everything" if group else ""))
    print("| phase | time | processors | peak | own | file reads |\n| --- | --- | --- | --- | --- | --- |")
    phase("inspect", [program, "model", "inspect", model], size, group)
    phase("prepare", [program, "prepare", "--config", "run.toml", "--output", "basis"], size, group)
    phase("train", [program, "cluster", "--config", "run.toml", "--directory", "run"], size, group)
    phase("evaluate", [program, "evaluate", "test.jsonl", "--model", model, "--ledger", "run"], size, group)
    phase("export-peft", [program, "export", "--model", model, "--ledger", "run", "--format", "peft", "--output", "adapter"], size, group)
    phase("export-gguf", [program, "export", "--model", model, "--ledger", "run", "--format", "gguf", "--data-type", "q8_0", "--output", "out.gguf"], size, group)
    phase("export-merged", [program, "export", "--model", model, "--ledger", "run", "--data-type", "bf16", "--output", "merged"], size, group)
    if group:
        group.directory.rmdir()
    report = json.loads((WORK / "run/report.json").read_text())
    print(f"loss {report['before']['loss']:.3f} before, {report['after']['loss']:.3f} after")
    shutil.rmtree(WORK)


main()
