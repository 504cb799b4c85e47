#!/usr/bin/env python3
"""The demo's method in NumPy, on hidden states that are computed once: what the number of machines, skewed data, late and lost samples change.

    Benchmarks/learning/simulate.py shares      machines, skew, staleness and losses, at 4,096 bytes
    Benchmarks/learning/simulate.py rivals      gradients of the same coordinates, as bytes and as floats
    Benchmarks/learning/simulate.py states      makes the hidden states first (needs what rivals.py needs)

Needs numpy, the hidden states, and --basis FILE, the basis of examples/movie-reviews.toml (onebyte prepare). Samples, bytes and momentum are
those of docs/reference/arithmetic.md. But sums are in floating point, signs are NumPy's, and there is no filter. So it shows means, not bits.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy

from learning import ROOT, interval

STATES = ROOT / ".cache/study/states-reviews.npz"


def make_states(name="reviews", config="examples/movie-reviews.toml", flags=()):
    """Writes the normed last states at each prompt's end, the labels, and the head's rows of the label words."""
    import rivals
    import torch
    from states import hidden_states
    task = rivals.Task(name)
    model = rivals.Model(task)
    arrays = {"head": model.network.lm_head.weight[task.words].detach().numpy()}
    keys = {"train": "train-file", "validation": "validation-file", "test": "eval-file"}
    found = hidden_states(config, list(flags), {split: ROOT / task.run["data"][key] for split, key in keys.items()})
    with torch.no_grad():
        for split, examples in task.splits.items():
            arrays[split] = model.network.model.norm(torch.from_numpy(found[split])).numpy()
            arrays[f"{split}_labels"] = numpy.array([label for *_, label in examples])
            assert len(arrays[split]) == len(examples)
    numpy.savez(STATES.with_name(f"states-{name}.npz"), **arrays)


def read_basis(path):
    """Returns V (a column for each input) and U (likewise) of the first adapter in a basis record."""
    record, place = path.read_bytes(), 0

    def take(form):
        nonlocal place
        found = struct.unpack_from("<" + form, record, place)
        place += struct.calcsize("<" + form)
        return found

    version, spaces = take("HH")
    assert (version, spaces) == (2, 0)
    length = take("2H")[1]
    place += length
    p, r, m, n = take("4I")

    def vectors(count, size):
        exponents = numpy.array(take(f"{count}b"))
        return numpy.array(take(f"{count * size}h"), numpy.float64).reshape(count, size).T * 2.0 ** (exponents - 14)

    u = vectors(p, m)
    return vectors(r, n), u


class Task:
    def __init__(self, basis, inputs):
        states, (v, u) = numpy.load(STATES), read_basis(basis)
        head = states["head"].astype(float)
        self.contrast = head @ u[:, 0]  # what a unit of C'Vn adds to each label's score
        self.parts = {}
        for split in ("train", "test"):
            x = states[split].astype(float)
            self.parts[split] = x @ head.T, x @ v[:, :inputs], states[f"{split}_labels"].astype(int)
        self.inputs = inputs

    def gradient(self, c, rows):
        """Returns the gradient of the mean loss over some training examples, and that loss."""
        scores, seen, labels = (part[rows] for part in self.parts["train"])
        p, loss = softmax(scores + numpy.outer(seen @ c, self.contrast), labels)
        return ((p - numpy.eye(len(self.contrast))[labels]) @ self.contrast) @ seen / len(labels), loss

    def test(self, c):
        scores, seen, labels = self.parts["test"]
        scores = scores + numpy.outer(seen @ c, self.contrast)
        return {"accuracy": float((scores.argmax(1) == labels).mean()), "loss": float(softmax(scores, labels)[1])}


def softmax(scores, labels):
    p = numpy.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p, -numpy.log(p[numpy.arange(len(labels)), labels]).mean()


def hadamard(size):
    h = numpy.ones((1, 1))
    while len(h) < size:
        h = numpy.block([[h, h], [h, -h]])
    return h


class Nesterov:
    """The arithmetic page's momentum."""

    def __init__(self, size, most=0.9):
        self.c, self.v, self.t, self.most, self.before = numpy.zeros(size), numpy.zeros(size), 0, most, 0

    def step(self, delta):
        fraction = min(self.t / (self.t + 3), self.most)
        self.v = self.before * self.v - delta
        self.c = self.c - delta + fraction * self.v
        self.before, self.t = fraction, self.t + 1


def run(task, seed, shares, rounds=64, samples=64, rate=0.3, staleness=0, lost=0.0, momentum=0.9, together=1):
    """Trains with a byte for each orthogonal direction. `shares` has the rows of each machine. Samples are up to `staleness` rounds late, each
    as late as chance has it. `lost` is the part of (machine, round) whose bytes never arrive. `together` neighbouring machines have the same
    directions, which the program cannot do: their gradients are added before the noise of a direction comes in."""
    random = numpy.random.default_rng(seed)
    size = 1 << (task.inputs - 1).bit_length()
    h, blocks, counters = hadamard(size), {}, [0] * len(shares)
    state, past, scale, committed = Nesterov(task.inputs, momentum), [], None, 0
    for number in range(rounds):
        past = [state.c, *past[:staleness]]
        values, directions = [], []
        for machine, rows in enumerate(shares):
            count = samples // len(shares) + (machine < samples % len(shares))
            gradient, _ = task.gradient(past[random.integers(len(past))], rows)
            arrives = random.random() >= lost
            for _ in range(count):
                block, place = divmod(counters[machine], size)
                key = machine // together, block
                if key not in blocks:
                    blocks[key] = random.permutation(size), random.choice((-1.0, 1.0), task.inputs)
                order, signs = blocks[key]
                z = h[order[place], :task.inputs] * signs
                counters[machine] += 1
                if arrives:
                    values.append(z @ gradient)
                    directions.append(z)
        if not values:
            continue
        values, directions = numpy.array(values), numpy.array(directions)
        if scale is None:
            scale = 2.0 ** round(numpy.log2(numpy.abs(values).mean() / 32))
        q = numpy.clip(numpy.rint(values / scale), -127, 127)
        state.step(rate * (1 - number / rounds) * scale / len(q) * (q @ directions))
        committed += len(q)
        # The scale follows the bytes' mean magnitude, by powers of two.
        scale *= 2.0 ** round(numpy.log2(max(numpy.abs(q).mean(), 1) / 32))
    return task.test(state.c) | {"bytes": committed}


def descend(task, shares, steps, rate, momentum, byte):
    """Trains with gradients: each machine sends every coordinate's, as a byte or a float, in every step."""
    state = Nesterov(task.inputs, momentum)
    for step in range(steps):
        sent = [task.gradient(state.c, rows)[0] for rows in shares]
        if byte:
            sent = [numpy.rint(g * (127 / numpy.abs(g).max())) * (numpy.abs(g).max() / 127) for g in sent]
        state.step(rate * (1 - step / steps) * sum(sent) / len(sent))
    return task.test(state.c) | {"bytes": task.inputs * steps * len(shares) * (1 if byte else 4)}


def show(name, found):
    parts = [f"{key} {mean:.4f}" + (f" ± {half:.4f}" if half else "") for key in ("accuracy", "loss")
             for mean, half in [interval([one[key] for one in found])]]
    print(f"  {name:52s} {'  '.join(parts)}  {sum(one['bytes'] for one in found) / len(found):,.0f} bytes", flush=True)
    return {"accuracy": [one["accuracy"] for one in found], "loss": [one["loss"] for one in found], "bytes": [one["bytes"] for one in found]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["states", "shares", "rivals"])
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--basis", type=Path, default=ROOT / "runs/demo/basis")
    arguments = parser.parse_args()
    if arguments.what == "states":
        return make_states()
    task = Task(arguments.basis, 128)
    labels = task.parts["train"][2]
    every = lambda count: [numpy.arange(i, len(labels), count) for i in range(count)]
    classes = [numpy.flatnonzero(labels == label) for label in (0, 1)]
    one_class = [classes[i % 2][i // 2::8] for i in range(16)]
    rows = {}
    if arguments.what == "shares":
        late = {"staleness": 4, "momentum": 0.5}
        lost = {"lost": 1 / 3, "rounds": 96}
        table = {
            "1 machine": (every(1), {}), "3 machines, the demo": (every(3), {}), "16 machines": (every(16), {}),
            "2, one class each": (classes, {}), "16, one class each": (one_class, {}),
            "16, one class each, two share directions": (one_class, {"together": 2}),
            "16, one class each, four share directions": (one_class, {"together": 4}),
            "16, four share directions": (every(16), {"together": 4}),
            "16, one class each, momentum 0.5": (one_class, {"momentum": 0.5}),
            "16, one class each, up to 4 rounds late": (one_class, late),
            "16, one class each, a third lost, 96 rounds": (one_class, lost),
            "16, one class each, a third lost, late, 96 rounds": (one_class, late | lost)}
        for name, (shares, flags) in table.items():
            rows[name] = show(name, [run(task, seed, shares, **flags) for seed in arguments.seeds])
    else:
        for inputs, byte, steps in ((64, True, 5), (128, True, 11), (128, True, 43), (128, False, 11), (128, False, 43)):
            some = Task(arguments.basis, inputs)
            # The best of a grid by held-out loss, which favours the rival.
            best = min(((rate, momentum, descend(some, every(3), steps, rate, momentum, byte)) for rate in (0.3, 0.6, 1, 2, 3, 4, 6)
                        for momentum in (0, 0.5, 0.7, 0.9)), key=lambda found: found[2]["loss"])
            name = f"{inputs} coordinates as {'bytes' if byte else 'floats'}, {steps} steps, rate {best[0]}, momentum {best[1]}"
            rows[name] = show(name, [best[2]])
    (Path(__file__).parent / f"simulate-{arguments.what}.json").write_text(json.dumps({"seeds": arguments.seeds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
