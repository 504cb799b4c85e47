"""Hidden states of a run's examples at the first trained tensor, computed by the program itself.

An evaluating worker keeps them in a file (PrefixFile.swift has the layout), in the order of its data.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy

from adapters import MODEL, prepare
from learning import ONEBYTE, ROOT

HEADER_BYTES = 64


def read(path):
    count = int.from_bytes(path.open("rb").read(HEADER_BYTES)[48:56], "little")
    return numpy.fromfile(path, "<f4", count, offset=HEADER_BYTES)


def hidden_states(config, flags, files):
    """Returns the rows of each file of `files`, one after the other: those of all positions up to the last one that a loss reads, or only of
    positions that are read if nothing but `adapter:final` is trained. In that case they are the final norm's inputs."""
    directory = Path(tempfile.mkdtemp(prefix="onebyte-states-"))
    processes = []

    def start(name, *words, stdout=subprocess.DEVNULL):
        processes.append(subprocess.Popen([ONEBYTE, *map(str, words)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout,
                                          stderr=open(directory / f"{name}.log", "w"), text=True))
        return processes[-1]

    try:
        coordinator = start("coordinator", "coordinator", "--config", config, "--basis", prepare(config, flags), "--directory", directory / "run",
                            "--listen", "tcp://127.0.0.1:0", "--events", "--minimum-workers", "1", *flags, stdout=subprocess.PIPE)
        events = map(json.loads, coordinator.stdout)
        address = next(event["endpoint"] for event in events if event["event"] == "listening")
        for name, file in files.items():
            start(name, "worker", "--coordinator", address, "--model", MODEL, "--name", name, "--threads", "1", "--evaluate", file,
                  "--cache-directory", directory / name)
        # A file gets this name when it is complete.
        while not all(any((directory / name).glob("prefix-*.cache")) for name in files):
            if any(process.poll() is not None for process in processes):
                raise RuntimeError(f"a process ended; see {directory}")
            time.sleep(0.5)
    finally:
        for process in processes:
            process.kill()  # nothing has to be kept, and nobody reads the events any more
        for process in processes:
            process.wait()
    return {name: read(next((directory / name).glob("prefix-*.cache"))).reshape(-1, 576) for name in files}
