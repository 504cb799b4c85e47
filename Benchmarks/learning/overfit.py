#!/usr/bin/env python3
"""What a task's examples can teach: runs of the defaults with a decay towards C = 0, the best that a decay reaches, and a linear probe.

    Benchmarks/learning/overfit.py states                 makes the hidden states first (needs what rivals.py needs)
    Benchmarks/learning/overfit.py --basis FILE           prints the table and writes it to overfit.json
    Benchmarks/learning/overfit.py --task rte …           RTE in place of AG News (overfit-rte.json)

FILE is the basis of a run of tasks/defaults/TASK.toml with --adapter-inputs 256 (onebyte prepare). Runs are in NumPy, as in simulate.py; a
decay of c examples adds c·C/n to the gradient, n being the number of examples. The best is a ridge regression in the whitened space of the training
examples, which starts from the model's own scores or from none; c is the best of six by validation loss. The probe is that of rivals.py.
"""

import argparse
import json
from pathlib import Path

import numpy

import simulate
from learning import ROOT

def states_file(task):
    return ROOT / f".cache/study/states-{task}.npz"


class Task:
    def __init__(self, states, basis, inputs):
        v, u = simulate.read_basis(basis)
        head = states["head"].astype(float)
        self.contrast, self.inputs = head @ u, inputs
        self.parts = {}
        for split in ("train", "validation", "test"):
            x = states[split].astype(float)
            self.parts[split] = x @ head.T, x @ v[:, :inputs], states[f"{split}_labels"].astype(int)

    def losses(self, c, split, rows=slice(None)):
        scores, seen, labels = (part[rows] for part in self.parts[split])
        scores = scores + seen @ c.T @ self.contrast.T
        p, loss = simulate.softmax(scores, labels)
        return p, seen, labels, loss, float((scores.argmax(1) == labels).mean())

    def gradient(self, c, rows):
        p, seen, labels, *_ = self.losses(c, "train", rows)
        return ((p - numpy.eye(len(self.contrast))[labels]) @ self.contrast).T @ seen / len(labels)


def run(task, seed, samples, decay, rounds=64, machines=3):
    """Trains with the defaults. Returns what `report` says at the end."""
    random = numpy.random.default_rng(seed)
    outputs = task.contrast.shape[1]
    count = outputs * task.inputs
    size = 1 << (count - 1).bit_length()
    rate = 2 * 1.5 * len(task.contrast) * 0.1 * min(1, samples / size)
    h, blocks, counters = simulate.hadamard(size), {}, [0] * machines
    examples = len(task.parts["train"][2])
    state, scale = simulate.Nesterov(count), None
    for number in range(rounds):
        values, directions = [], []
        for machine in range(machines):
            c = state.c.reshape(outputs, -1)
            gradient = (task.gradient(c, numpy.arange(machine, examples, machines)) + decay / examples * c).ravel()
            for _ in range(samples // machines + (machine < samples % machines)):
                block, place = divmod(counters[machine], size)
                if (machine, block) not in blocks:
                    blocks[machine, block] = random.permutation(size), random.choice((-1.0, 1.0), count)
                order, signs = blocks[machine, block]
                directions.append(h[order[place], :count] * signs)
                values.append(directions[-1] @ gradient)
                counters[machine] += 1
        values, directions = numpy.array(values), numpy.array(directions)
        if scale is None:
            scale = 2.0 ** round(numpy.log2(numpy.abs(values).mean() / 32))
        q = numpy.clip(numpy.rint(values / scale), -127, 127)
        state.step(rate * (1 - number / rounds) * scale / len(q) * (q @ directions))
        scale *= 2.0 ** round(numpy.log2(max(numpy.abs(q).mean(), 1) / 32))
    return report(lambda split: task.losses(state.c.reshape(outputs, -1), split)[3:])


def report(measure):
    found = {split: measure(split) for split in ("train", "validation", "test")}
    return {"train_loss": float(found["train"][0]), "validation_loss": float(found["validation"][0]), "loss": float(found["test"][0]),
            "accuracy": float(found["test"][1])}


def zero_shot(states):
    def measure(split):
        scores, labels = states[split].astype(float) @ states["head"].T, states[f"{split}_labels"].astype(int)
        return simulate.softmax(scores, labels)[1], (scores.argmax(1) == labels).mean()
    return report(measure)


def probe(states):
    import rivals
    splits = ("train", "validation", "test")
    found = rivals.fit_probe({split: states[split] for split in splits}, {split: states[f"{split}_labels"].astype(int) for split in splits})
    return found | {"train_loss": found.pop("training_loss")}


def ridge(states, own_scores, floor=0.3, steps=300):
    """Returns the best of six decays by validation loss."""
    head, inputs = states["head"].astype(float), {split: states[split].astype(float) for split in ("train", "validation", "test")}
    labels = {split: states[f"{split}_labels"].astype(int) for split in inputs}
    values, vectors = numpy.linalg.eigh(inputs["train"].T @ inputs["train"] / len(labels["train"]))
    whitening = vectors / numpy.sqrt(numpy.maximum(values, 0) + floor * values[-2])
    seen = {split: x @ whitening for split, x in inputs.items()}
    start = {split: x @ head.T if own_scores else numpy.zeros((len(x), len(head))) for split, x in inputs.items()}
    right, count, best = numpy.eye(len(head))[labels["train"]], len(labels["train"]), None
    curvature = 0.5 * numpy.linalg.norm(seen["train"], 2) ** 2 / count
    for examples in (0.3, 1, 3, 10, 30, 100):
        weights = before = numpy.zeros((len(head), whitening.shape[1]))
        for step in range(steps):
            ahead = weights + step / (step + 3) * (weights - before)
            p, _ = simulate.softmax(start["train"] + seen["train"] @ ahead.T, labels["train"])
            gradient = (p - right).T @ seen["train"] / count + examples / count * ahead
            before, weights = weights, ahead - gradient / (curvature + examples / count)

        def measure(split):
            scores = start[split] + seen[split] @ weights.T
            return simulate.softmax(scores, labels[split])[1], (scores.argmax(1) == labels[split]).mean()
        found = report(measure) | {"decay": examples}
        best = found if best is None or found["validation_loss"] < best["validation_loss"] else best
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["states"])
    parser.add_argument("--task", choices=["agnews", "rte"], default="agnews")
    parser.add_argument("--basis", type=Path)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    arguments = parser.parse_args()
    if arguments.what == "states":
        return simulate.make_states(arguments.task, f"Benchmarks/learning/tasks/defaults/{arguments.task}.toml", ["--adapter-inputs", "256"])
    if not arguments.basis:
        parser.error("give --basis FILE, or states")
    path = Path(__file__).parent / ("overfit.json" if arguments.task == "agnews" else f"overfit-{arguments.task}.json")
    rows, states = {}, dict(numpy.load(states_file(arguments.task)))

    def keep(name, found):
        rows[name] = found
        path.write_text(json.dumps({"seeds": arguments.seeds, "rows": rows}, indent=1) + "\n")
        show = lambda key, form: ", ".join(format(one[key], form) for one in found)
        print(f"  {name:44s} accuracy {show('accuracy', '.3f')}  loss {show('loss', '.4f')}  training loss {show('train_loss', '.3f')}", flush=True)

    keep("before", [zero_shot(states)])
    for inputs in (16, 32):
        keep(f"4,096 bytes, {inputs} inputs", [run(Task(states, arguments.basis, inputs), seed, 64, 0) for seed in arguments.seeds])
    for inputs, samples in ((128, 64), (256, 256)):
        task = Task(states, arguments.basis, inputs)
        for decay in (0, 10, 20):
            keep(f"{64 * samples:,} bytes, decay of {decay} examples", [run(task, seed, samples, decay) for seed in arguments.seeds])
    for own in (True, False):
        keep(f"ridge regression from {'the model’s own scores' if own else 'no scores'}", [ridge(states, own)])
    keep("linear probe", [probe(states)])


if __name__ == "__main__":
    main()
