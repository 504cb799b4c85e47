#!/usr/bin/env python3
"""What joining, latency and stragglers cost: SmolLM2-135M on real processes, over a line that this script makes long or narrow.

    Benchmarks/elasticity/elasticity.py join         a worker joins at round 500
    Benchmarks/elasticity/elasticity.py latency      round-trip times × ways to close a round
    Benchmarks/elasticity/elasticity.py stragglers   one of two workers at a quarter of its speed × ways to close a round

Needs what `make demo` has made (the binary, .cache/) and nothing but Python's standard library. Prints a table and writes its figures to
Benchmarks/elasticity/NAME.json.
"""

import argparse
import asyncio
import atexit
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ONEBYTE = Path(os.environ.get("ONEBYTE", ROOT / ".build/release/onebyte"))
CONFIG = ROOT / "Benchmarks/learning/tasks/reviews.toml"
MODEL = ROOT / ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
TRAIN = ROOT / ".cache/movie-reviews/train.jsonl"
TEST = ROOT / ".cache/movie-reviews/test.jsonl"
# The run's basis, made once by `onebyte prepare`.
BASIS = ROOT / ".cache/elasticity.basis"
PROCESSES = []
OWN = dict(cwd=ROOT, stdin=subprocess.DEVNULL)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Line:
    """A TCP proxy that delays data by `delay` seconds in each direction and counts the bytes."""

    def __init__(self, target, delay=0.0):
        self.target, self.delay, self.port = target, delay, free_port()
        self.up = self.down = 0
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def serve():
            await asyncio.start_server(self.connection, "127.0.0.1", self.port)
            ready.set()

        threading.Thread(target=lambda: (self.loop.run_until_complete(serve()), self.loop.run_forever()), daemon=True).start()
        ready.wait()

    async def connection(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        for stream in (writer, far_writer):
            stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(self.pump(reader, far_writer, "up"), self.pump(far_reader, writer, "down"))

    async def pump(self, reader, writer, direction):
        def deliver(data):
            if not writer.is_closing():
                writer.write(data) if data else writer.close()

        while True:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                data = b""
            setattr(self, direction, getattr(self, direction) + len(data))
            # Data stay in order: the loop runs calls with different times by time.
            self.loop.call_later(self.delay, deliver, data)
            if not data:
                return


class Run:
    """A coordinator and its workers, with the coordinator's events as they arrive."""

    def __init__(self, flags, delay=0.0, slow=None):
        self.directory = Path(tempfile.mkdtemp(prefix="onebyte-elasticity-"))
        port = free_port()
        self.line = Line(port, delay)
        self.coordinator = subprocess.Popen(
            [ONEBYTE, "coordinator", "--config", CONFIG, "--basis", BASIS, "--directory", self.directory / "run", "--listen",
             f"tcp://127.0.0.1:{port}", "--events", "--evaluate-every", "0", "--guard", "0", *flags],
            stdout=subprocess.PIPE, stderr=open(self.directory / "coordinator.log", "w"), text=True, **OWN)
        PROCESSES.append(self.coordinator)
        self.workers = []
        self.throttled = threading.Event()
        if slow is not None:
            threading.Thread(target=self.throttle, args=(slow,), daemon=True).start()

    def worker(self, name, line, *flags):
        process = subprocess.Popen(
            [ONEBYTE, "worker", "--coordinator", f"tcp://127.0.0.1:{line.port}", "--model", MODEL, "--name", name, "--threads", "1",
             "--train-file", TRAIN, *flags],
            stdout=subprocess.DEVNULL, stderr=open(self.directory / f"{name}.log", "w"), **OWN)
        self.workers.append(process)
        PROCESSES.append(process)
        return process

    def throttle(self, part):
        """Lets the first worker run only `part` of the time, once it trains."""
        self.throttled.wait()
        while self.throttled.is_set():
            try:
                self.workers[0].send_signal(signal.SIGCONT)
                time.sleep(0.08 * part)
                self.workers[0].send_signal(signal.SIGSTOP)
                time.sleep(0.08 * (1 - part))
            except (ProcessLookupError, OSError):
                return
        self.workers[0].send_signal(signal.SIGCONT)

    def events(self):
        for line in self.coordinator.stdout:
            yield json.loads(line)

    def stop(self):
        self.throttled.clear()
        time.sleep(0.2)
        for process in (self.coordinator, *self.workers):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        if self.coordinator.poll() is None:
            self.coordinator.send_signal(signal.SIGTERM)
        self.coordinator.stdout.close()
        for process in (self.coordinator, *self.workers):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def loss(self, round_number):
        """Returns held-out loss and accuracy of the parameters before this round, on the first 1,000 sentences."""
        held_out = self.directory / "held-out.jsonl"
        held_out.write_text("".join(open(TEST).readlines()[:1000]))
        result = subprocess.run(
            [ONEBYTE, "evaluate", held_out, "--model", MODEL, "--ledger", self.directory / "run", "--at-round", str(round_number),
             "--format", "json"], capture_output=True, text=True, cwd=ROOT)
        if result.returncode:
            sys.exit(result.stderr)
        return json.loads(result.stdout)


def prepare():
    for path in (ONEBYTE, MODEL, TRAIN):
        if not path.exists():
            sys.exit(f"{path} is missing; run `make demo` first")
    if not BASIS.exists():
        subprocess.run([ONEBYTE, "prepare", "--config", CONFIG, "--output", BASIS, "--threads", str(os.cpu_count())], check=True, **OWN)


def machine():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return f"{os.cpu_count()} cores, {line.split(':')[1].strip()}"
    return f"{os.cpu_count()} cores, {platform.machine()}"


def join(arguments):
    """One worker trains; at round 500 another one joins through a proxy that counts bytes."""
    run = Run(["--rounds", "100000", "--schedule", "constant", "--learning-rate", "0.02", "--samples-per-round", "256"])
    run.worker("trains", run.line, "--shard", "1/2")
    line = Line(run.line.target)
    rounds, started, joined, joined_round, busy, phases = [], None, None, None, None, {}
    down_at_join = None
    for event in run.events():
        kind = event["event"]
        if kind == "round":
            rounds.append((event["time"], event["machines"]))
            if len(rounds) == arguments.round:
                started = event["time"]
                run.worker("joins", line, "--shard", "2/2")
            if event["machines"] == 2 and joined is None:
                joined, joined_round, down_at_join = event["time"], len(rounds), line.down
            if joined and len(rounds) >= joined_round + 300:
                break
        elif kind == "worker" and started and event.get("name") == "joins":
            phases.setdefault(event["phase"], []).append(event["time"] - started)
    run.stop()
    times = [t for t, _ in rounds]
    gaps = [b - a for a, b in zip(times, times[1:])]
    first = arguments.round
    before = statistics.median(gaps[100:first - 1])
    during = statistics.median(gaps[first - 1:joined_round - 1])
    after = statistics.median(gaps[joined_round:])
    ledger = (run.directory / "run/ledger").stat().st_size
    result = {
        "machine": machine(), "join_round": first, "seconds_until_it_takes_part": joined - started,
        "rounds_meanwhile": joined_round - first, "first_seen_in_phase_s": {k: round(v[0], 2) for k, v in phases.items()},
        "round_seconds_before": before, "round_seconds_during": during, "round_seconds_after": after,
        "ratio_during_to_before": during / before, "bytes_downloaded": down_at_join, "ledger_bytes_at_end": ledger,
    }
    print(f"a worker joins at round {first} ({result['machine']}):")
    print(f"  takes part after {result['seconds_until_it_takes_part']:.1f} s, at round {joined_round}; its phases began (s): "
          f"{result['first_seen_in_phase_s']}")
    print(f"  the other worker's round, median: {1e3 * before:.1f} ms before, {1e3 * during:.1f} ms during (ratio {during / before:.2f}), "
          f"{1e3 * after:.1f} ms with two")
    print(f"  downloaded until then: {down_at_join:,} bytes")
    return result


def measure(name, flags, arguments, delay=0.0, slow=None):
    """Runs two workers for `samples` samples; measures seconds and what was learned."""
    run = Run(["--rounds", "100000", "--schedule", "constant", "--learning-rate", "0.02", "--minimum-workers", "2", *flags], delay, slow)
    for number in (1, 2):
        run.worker(f"w{number}", run.line, "--shard", f"{number}/2")
    first = None
    rounds = 0
    late = 0
    for event in run.events():
        kind = event["event"]
        if kind == "late":
            late += event["samples"] if event["taken"] else 0
        if kind != "round":
            continue
        rounds += 1
        # The first rounds still fill buffers and pipelines, so they are not measured.
        if rounds == 10:
            first = (event["time"], event["samplesSoFar"])
            if slow is not None:
                run.throttled.set()
        if first and event["samplesSoFar"] >= arguments.samples:
            break
    seconds, samples = event["time"] - first[0], event["samplesSoFar"] - first[1]
    run.stop()
    score = run.loss(rounds)
    row = {"name": name, "flags": flags, "rtt_ms": 2e3 * delay, "slow": slow, "rounds": rounds, "samples": event["samplesSoFar"],
           "late_samples": late, "samples_per_second": samples / seconds, "loss": score["loss"], "accuracy": score["accuracy"]}
    print(f"  {name:34s} {row['rtt_ms']:5.0f} ms  {row['samples_per_second']:7.0f} samples/s  {rounds:5d} rounds  loss {row['loss']:.4f}  "
          f"accuracy {100 * row['accuracy']:.1f} %", flush=True)
    return row


WAIT = ("all wait", [])


def ways(*names):
    table = {
        "wait": WAIT,
        "ahead 1": ("staleness 1", ["--staleness", "1"]),
        "ahead 4": ("staleness 4", ["--staleness", "4"]),
        "deadline": ("deadline 2×, quorum ½", ["--round-deadline-factor", "2", "--quorum", "0.4"]),
        "deadline late": ("deadline 2×, quorum ½, staleness 2", ["--round-deadline-factor", "2", "--quorum", "0.4", "--staleness", "2"]),
        "box": ("time box 0.1 s", ["--round-seconds", "0.1", "--samples-per-round", "2048"]),
        "box faster": ("time box 0.1 s, learning rate 0.05", ["--round-seconds", "0.1", "--samples-per-round", "2048", "--learning-rate", "0.05"]),
        "box ahead": ("time box 0.1 s, staleness 4", ["--round-seconds", "0.1", "--samples-per-round", "2048", "--staleness", "4"]),
    }
    return [table[name] for name in names]


def table(arguments, cells):
    print(f"two workers with one thread each, until {arguments.samples:,} samples, learning rate 0.02 constant ({machine()}):")
    rows = [
        measure(name, flags, arguments, delay, slow) for name, flags, delay, slow in cells
        if arguments.only is None or name.startswith(arguments.only)
    ]
    return {"machine": machine(), "rows": rows}


def latency(arguments):
    cells = []
    for rtt, names in ((0, ["wait", "ahead 4"]), (0.1, ["wait", "ahead 1", "ahead 4"]), (0.3, ["wait", "ahead 1", "ahead 4", "box ahead"])):
        for name, flags in ways(*names):
            cells.append((name, flags, rtt / 2, None))
    return table(arguments, cells)


def stragglers(arguments):
    return table(arguments, [(name, flags, 0.0, 0.25) for name, flags in ways("wait", "deadline", "deadline late", "ahead 4", "box", "box faster")])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["join", "latency", "stragglers"])
    parser.add_argument("--round", type=int, default=500, help="at which the newcomer is started")
    parser.add_argument("--only", help="ways whose name begins so")
    parser.add_argument("--samples", type=int, default=51200)
    arguments = parser.parse_args()
    prepare()
    atexit.register(lambda: [process.kill() for process in PROCESSES])
    result = {"join": join, "latency": latency, "stragglers": stragglers}[arguments.what](arguments)
    if arguments.only is None:
        (Path(__file__).parent / f"{arguments.what}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
