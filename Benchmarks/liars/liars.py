#!/usr/bin/env python3
"""Measures what liars do to the demo: real processes with default settings, some of which lie.

    Benchmarks/liars/liars.py [--binary .build/release/onebyte] [--seeds 0,1,2] [--cases honest,flipped,…] [-- FLAGS]

Needs scripts/demo-data. A liar is an ordinary worker behind a proxy that changes what it says on the way: its bytes, or the losses on validation
examples that it reports. So the coordinator, the honest workers and the run file (examples/movie-reviews.toml) are a user's own.

    honest          nobody lies
    flipped         one of three sends each byte with the other sign
    constant        one of three sends 126 for each sample
    random          one of three sends random bytes
    validations     all of three evaluate too; one reports a validation loss that rises from evaluation to evaluation
    judged          the same three, and nobody lies
    honest-8        eight workers, nobody lies
    flipped-8       two of eight send each byte with the other sign
    loud-8          two of eight send 126 with the other sign
    random-8        two of eight send random bytes

Writes liars.json beside this file; --table prints it as Markdown.
"""

import argparse
import asyncio
import json
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = HERE / "liars.json"
DATA = ROOT / ".cache/movie-reviews"
MODEL = ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
CONFIG = "examples/movie-reviews.toml"
CASES = {
    "honest": (3, [], None), "flipped": (3, [2], "flipped"), "constant": (3, [2], "constant"), "random": (3, [2], "random"),
    "judged": (3, [], None), "validations": (3, [2], "validations"),
    "honest-8": (8, [], None), "flipped-8": (8, [3, 7], "flipped"), "loud-8": (8, [3, 7], "loud"), "random-8": (8, [3, 7], "random"),
}
# In these all workers evaluate, and there is no evaluator beside them.
JUDGED = ("judged", "validations")
COMPARED = {"flipped": "honest", "constant": "honest", "random": "honest", "validations": "judged",
            "flipped-8": "honest-8", "loud-8": "honest-8", "random-8": "honest-8"}

# Seconds after which a run counts as failed.
PATIENCE = 1800

# docs/reference/protocol.md, "Frames"
VERSION, CONTRIBUTION, EVALUATION = 3, 4, 7


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Liar:
    """A TCP proxy towards the coordinator that lies in the worker's frames."""

    def __init__(self, target, lie, seed):
        self.target, self.lie, self.port = target, lie, free_port()
        self.random, self.told = random.Random(seed), 0
        loop, ready = asyncio.new_event_loop(), threading.Event()

        async def serve():
            await asyncio.start_server(self.connection, "127.0.0.1", self.port)
            ready.set()

        threading.Thread(target=lambda: (loop.run_until_complete(serve()), loop.run_forever()), daemon=True).start()
        ready.wait()

    async def connection(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(self.truth(far_reader, writer), self.lies(reader, far_writer))

    async def truth(self, reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def lies(self, reader, writer):
        """Takes ZMTP 3 (RFC 23) apart: a greeting of 64 bytes, then frames of flags, size (1 or 8 bytes) and body."""
        try:
            # A peer sends the rest of its greeting when it has seen the beginning of the other's.
            for size in (10, 1, 53):
                writer.write(await reader.readexactly(size))
            while True:
                flags = (await reader.readexactly(1))[0]
                size = await reader.readexactly(8 if flags & 2 else 1)
                body = await reader.readexactly(int.from_bytes(size, "big"))
                writer.write(bytes([flags]) + size + (body if flags & 4 else self.changed(body)))
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    def changed(self, frame):
        if len(frame) < 2 or frame[0] != VERSION:
            return frame
        kind = frame[1]
        if kind == CONTRIBUTION and self.lie != "validations":
            at = self.behind_varints(frame, 2, 2) + 1
            at = self.behind_varints(frame, at, 1)
            self.told += len(frame) - at
            # -128 stands for a sample without a value.
            return frame[:at] + bytes(b if b == 128 else self.byte(b) & 0xFF for b in frame[at:])
        if kind == EVALUATION and self.lie == "validations":
            at = self.behind_varints(frame, 2, 2) + 5 * 8
            at = self.behind_varints(frame, at, 1)
            if frame[at] != 1:
                return frame
            at = self.behind_varints(frame, at + 1, 1)
            self.told += 1
            return frame[:at] + struct.pack("<dd", 5.0 * self.told, 0.0) + frame[at + 16:]
        return frame

    def byte(self, b):
        if self.lie == "flipped":
            return -b
        if self.lie == "loud":
            return -126 if b < 128 else 126
        return 126 if self.lie == "constant" else self.random.randint(-127, 127)

    @staticmethod
    def behind_varints(frame, at, count):
        for _ in range(count):
            while frame[at] & 0x80:
                at += 1
            at += 1
        return at


def train(arguments, case, seed, basis, directory):
    """Runs a coordinator, its workers and an evaluator. Returns the report, and how much the liars have changed."""
    count, liars, lie = CASES[case]
    port = free_port()
    proxies = {i: Liar(port, lie, 1000 * seed + i) for i in liars}
    coordinator = ["coordinator", "--config", CONFIG, "--directory", directory, "--listen", f"tcp://127.0.0.1:{port}", "--basis", basis,
                   "--minimum-workers", count, "--seed", seed, *arguments.flags]
    common = ["worker", "--model", MODEL, "--cache-directory", arguments.caches, "--threads", 1, "--prefix-precision", arguments.prefix_precision]
    judge = ["--evaluate", DATA / "test.jsonl", "--validate", DATA / "validation.jsonl"]
    commands = [coordinator]
    if case not in JUDGED:
        commands.append([*common, "--coordinator", f"tcp://127.0.0.1:{port}", "--name", "evaluator", *judge])
    for i in range(1, count + 1):
        place = proxies[i].port if i in proxies else port
        commands.append([*common, "--coordinator", f"tcp://127.0.0.1:{place}", "--name", f"worker-{i}", "--train-file", DATA / "train.jsonl",
                         "--shard", f"{i}/{count}", *(judge if case in JUDGED else [])])
    children = []
    for number, command in enumerate(commands):
        log = open(f"{directory}.{number}.log", "w")
        children.append(subprocess.Popen([arguments.binary, *map(str, command)], cwd=ROOT, stdout=log, stderr=log))
        # The evaluator calls first, so that the run waits for it.
        time.sleep(1 if number < 2 else 0)
    try:
        # A liar may be told to leave, or leave by itself; the coordinator's end is the run's.
        end = time.time() + PATIENCE
        while children[0].poll() is None and time.time() < end:
            time.sleep(0.2)
        time.sleep(1)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
    report = directory / "report.json"
    if not report.exists():
        return {"outcome": f"status {children[0].returncode}: {Path(f'{directory}.0.log').read_text()[-300:]}"}, proxies
    return json.loads(report.read_text()), proxies


def measure(arguments, case, seed, basis, place):
    started = time.time()
    report, proxies = train(arguments, case, seed, basis, place / f"{case}-{seed}")
    told = sum(proxy.told for proxy in proxies.values())
    if proxies and not told:
        sys.exit(f"{case}: the liar said nothing")
    after = report.get("after") or {}
    return {"case": case, "seed": seed, "flags": arguments.flags, "outcome": report.get("outcome"), "accuracy": after.get("accuracy"),
            "best_threshold": after.get("accuracy_best_threshold"), "loss": after.get("loss"), "rounds": report.get("rounds"),
            "rewound": report.get("rounds_rewound"), "changed": told, "seconds": round(time.time() - started, 1)}


def table(rows):
    print("| | accuracy | points against honest |\n| --- | --- | --- |")
    for case in CASES:
        own = {row["seed"]: row for row in rows if row["case"] == case}
        if not own or any(row["accuracy"] is None for row in own.values()):
            continue
        values = [100 * row["accuracy"] for row in own.values()]
        others = {row["seed"]: row for row in rows if row["case"] == COMPARED.get(case)}
        differences = [100 * (row["accuracy"] - others[seed]["accuracy"]) for seed, row in own.items() if seed in others]
        cells = [case, f"{statistics.mean(values):.1f} % ({', '.join(f'{v:.2f}' for v in values)})",
                 f"{statistics.mean(differences):+.1f} ({', '.join(f'{d:+.2f}' for d in differences)})" if differences else ""]
        print(f"| {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--binary", default=str(ROOT / ".build/release/onebyte"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--basis", help="made before, by onebyte prepare with the same run file")
    parser.add_argument("--caches", default=str(ROOT / ".cache/hidden-states"))
    parser.add_argument("--prefix-precision", default="float", help="of all workers")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("flags", nargs="*", help="for every coordinator, after --")
    arguments = parser.parse_args()
    if arguments.table:
        return table(json.loads(arguments.output.read_text()))
    rows = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        basis = arguments.basis or place / "basis"
        if not arguments.basis:
            prepared = subprocess.run([arguments.binary, "prepare", "--config", CONFIG, "--output", basis], cwd=ROOT, capture_output=True, text=True)
            if prepared.returncode:
                sys.exit(prepared.stderr)
        for seed in map(int, arguments.seeds.split(",")):
            for case in arguments.cases.split(","):
                row = measure(arguments, case, seed, basis, place)
                print(json.dumps(row), flush=True)
                rows = [old for old in rows if (old["case"], old["seed"]) != (case, seed)] + [row]
                arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
