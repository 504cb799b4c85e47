#!/usr/bin/env python3
"""LoRA with gradients of one byte a number, on the demo's reviews: what it learns from how many bytes.

    Benchmarks/learning/lora8.py     prints the table and writes it to lora8.json (needs the states that simulate.py makes)

Three machines hold a third of the training examples each. In every step each of them sends the gradient over all its examples: one byte for each
number, rounded to the nearest, and a scale of four bytes for each matrix. Everybody averages what arrives and takes a step of Adam with it. The
rate falls linearly to 0. Bytes are those that the machines send, as everywhere else; what comes back is not counted.

LoRA is n + 2·B·A·n with B = 0 and A random at first (Hu et al., arXiv 2106.09685), on what the head reads, where the default adapter of onebyte
sits. The rate is the best of the grid by validation loss of the first seed, for each row.
"""

import argparse
import json
from pathlib import Path

import numpy

import simulate
from learning import interval

WORKERS = 3
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
STEPS = (1, 2, 4, 8, 16, 32, 64, 128)


def scores(part, added):
    x, (a, b) = part["states"], added
    return (x + 2 * (x @ a.T) @ b.T) @ part["head"].T


def gradients(part, rows, added):
    """Returns the gradients of the mean loss over some rows with respect to A and B."""
    x, (a, b) = part["states"][rows], added
    p, _ = simulate.softmax(scores(part | {"states": x}, added), part["labels"][rows])
    asked = (p - numpy.eye(p.shape[1])[part["labels"][rows]]) @ part["head"] / len(x)
    return [2 * (asked @ b).T @ x, 2 * asked.T @ (x @ a.T)]


def rounded(gradient):
    largest = numpy.abs(gradient).max()
    return numpy.rint(gradient * (127 / largest)) * (largest / 127) if largest > 0 else gradient


def measure(part, added):
    found = scores(part, added)
    return float(simulate.softmax(found, part["labels"])[1]), float((found.argmax(1) == part["labels"]).mean())


def train(parts, rank, steps, rate, seed):
    random = numpy.random.default_rng(seed)
    part, width = parts["train"], parts["train"]["states"].shape[1]
    added = [random.normal(size=(rank, width)) / width ** 0.5, numpy.zeros((width, rank))]
    first, second = [0, 0], [0, 0]
    for step in range(steps):
        sent = [gradients(part, numpy.arange(worker, len(part["labels"]), WORKERS), added) for worker in range(WORKERS)]
        for i in range(2):
            mean = sum(rounded(each[i]) for each in sent) / WORKERS
            first[i] = 0.9 * first[i] + 0.1 * mean
            second[i] = 0.999 * second[i] + 0.001 * mean ** 2
            adam = first[i] / (1 - 0.9 ** (step + 1)) / (numpy.sqrt(second[i] / (1 - 0.999 ** (step + 1))) + 1e-8)
            added[i] = added[i] - rate * (1 - step / steps) * adam
    validation, _ = measure(parts["validation"], added)
    loss, accuracy = measure(parts["test"], added)
    return {"validation_loss": validation, "loss": loss, "accuracy": accuracy, "rate": rate,
            "bytes": WORKERS * steps * sum(matrix.size + 4 for matrix in added)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    arguments = parser.parse_args()
    states = numpy.load(simulate.STATES)
    parts = {split: {"states": states[split].astype(float), "labels": states[f"{split}_labels"].astype(int), "head": states["head"].astype(float)}
             for split in ("train", "validation", "test")}
    rows = {}
    for rank in (1, 2):
        for steps in STEPS:
            first, *others = arguments.seeds
            best = min((train(parts, rank, steps, rate, first) for rate in RATES), key=lambda found: found["validation_loss"])
            found = [best, *(train(parts, rank, steps, best["rate"], seed) for seed in others)]
            (accuracy, spread), (loss, _) = interval([one["accuracy"] for one in found]), interval([one["loss"] for one in found])
            rows[f"rank {rank}, {steps} steps"] = {"bytes": best["bytes"], "rate": best["rate"], "accuracy": [one["accuracy"] for one in found],
                                                   "loss": [one["loss"] for one in found]}
            print(f"  rank {rank}  {steps:4d} steps  {best['bytes']:10,} bytes  rate {best['rate']:g}  accuracy {accuracy:.4f}"
                  + (f" ± {spread:.4f}" if spread else "") + f"  loss {loss:.4f}", flush=True)
    (Path(__file__).parent / "lora8.json").write_text(json.dumps({"seeds": arguments.seeds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
