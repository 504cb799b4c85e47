#!/usr/bin/env python3
"""Whom the filter `robust` leaves out: machines with one class each, liars and wrong labels, in NumPy on kept hidden states.

    Benchmarks/learning/disagreement.py states                    makes the hidden states, with PyTorch (needs what rivals.py needs)
    Benchmarks/learning/disagreement.py --basis FILE              prints the table and writes it to disagreement.json

FILE is the basis of a run of tasks/defaults/agnews.toml with --adapter-inputs 256 (onebyte prepare). The task is the part of AG News with the
labels " politics" and " business": few sentences, so that the table takes seconds. Three rules judge the machines: none; `former`, which heard
only the machines of a round, and never believed in other data; `present`, that of Agreement.swift. What is left out is said as a part of all
(machine, round) of the machines named.
"""

import argparse
import json
from pathlib import Path

import numpy

import simulate
from learning import ROOT

STATES = ROOT / ".cache/study/states-agnews.npz"
CLASSES, INPUTS = (0, 2), 128


def make_states():
    import rivals
    import torch
    torch.set_num_threads(1)
    task = rivals.Task("agnews")
    model = rivals.Model(task)
    arrays = {"head": model.network.lm_head.weight[task.words].detach().numpy()}
    with torch.no_grad():
        for split, examples in task.splits.items():
            order = sorted(range(len(examples)), key=lambda i: len(examples[i][0]))
            arrays[split] = numpy.empty((len(examples), arrays["head"].shape[1]), numpy.float32)
            for start in range(0, len(order), 16):
                some = order[start:start + 16]
                found = model.states([examples[i] for i in some], "all-layers")
                for row, i in enumerate(some):
                    arrays[split][i] = found[row, examples[i][1]]
            arrays[f"{split}_labels"] = numpy.array([label for *_, label in examples])
    STATES.parent.mkdir(parents=True, exist_ok=True)
    numpy.savez(STATES, **arrays)


class Task:
    """Two classes; a unit of C'Vn moves their scores by an orthonormal contrast."""
    contrast = numpy.array([0.5, -0.5]) * 2 ** 0.5

    def __init__(self, basis):
        states, (v, _) = numpy.load(STATES), simulate.read_basis(basis)
        head = states["head"].astype(float)[list(CLASSES)]
        self.parts = {}
        for split in ("train", "test"):
            some = numpy.isin(states[f"{split}_labels"], CLASSES)
            x = states[split][some].astype(float)
            self.parts[split] = x @ head.T, x @ v[:, :INPUTS], (states[f"{split}_labels"][some] == CLASSES[1]).astype(int)

    def gradient(self, c, rows, labels):
        scores, seen, _ = (part[rows] for part in self.parts["train"])
        p, _ = simulate.softmax(scores + numpy.outer(seen @ c, self.contrast), labels[rows])
        return ((p - numpy.eye(2)[labels[rows]]) @ self.contrast) @ seen / len(rows)

    def test(self, c):
        scores, seen, labels = self.parts["test"]
        scores = scores + numpy.outer(seen @ c, self.contrast)
        return float((scores.argmax(1) == labels).mean()), float(simulate.softmax(scores, labels)[1])


class Agreement:
    """The rules of Agreement.swift, and the former ones."""

    def __init__(self, former):
        self.former, self.largest, self.found = former, 0.0, set()
        self.sums, self.weights, self.rounds, self.products = {}, {}, {}, {}
        self.oppositions, self.clearings, self.condemned = {}, {}, set()

    def mean(self, machine):
        return self.sums[machine] / self.weights[machine]

    def along(self, machines, direction):
        """Returns the mean gradient along a direction, and its standard deviation."""
        noise = [(self.mean(m) @ self.mean(m) / self.weights[m]) for m in machines]
        return numpy.mean([self.mean(m) @ direction for m in machines]), sum(noise) ** 0.5 / len(machines)

    def remains(self, machine):
        direction, others, (own_then, own_noise), (theirs_then, _) = self.oppositions[machine]
        (own, noise), (theirs, their_noise) = self.along([machine], direction), self.along(others, direction)
        part = -own / own_then
        return part, noise / own_then, own_noise / own_then, max(theirs / theirs_then, 0), their_noise / theirs_then

    def disagreeing(self, round_bytes, scale):
        """`round_bytes`: q and z of each machine that is present."""
        for machine, (q, z) in round_bytes.items():
            kept = 1 - 0.8 * min(1, len(q) / z.shape[1])
            self.sums[machine] = kept * self.sums.get(machine, 0) + scale * (q @ z)
            self.weights[machine] = kept * self.weights.get(machine, 0) + len(q)
            self.rounds[machine] = self.rounds.get(machine, 0) + 1
            if machine in self.clearings:
                self.clearings[machine] = [a + b for a, b in zip(self.clearings[machine], (1, len(q)))]
        present = sorted(round_bytes)
        if not self.former:
            for machine in set(self.clearings) & set(present):
                rounds, count = self.clearings[machine]
                if rounds >= 8 and count >= 2 * INPUTS:
                    own, noise, then_noise, theirs, their_noise = self.remains(machine)
                    if own + theirs > 1.35 + (noise ** 2 + (own * then_noise) ** 2 + their_noise ** 2) ** 0.5:
                        del self.clearings[machine]
                        self.condemned.add(machine)
            for machine in self.found & set(present) & set(self.oppositions):
                own, noise, then_noise, theirs, their_noise = self.remains(machine)
                middle = (1 + theirs) / 2
                if theirs < 0.6 and own > middle + 2 * (noise ** 2 + (middle * then_noise) ** 2 + their_noise ** 2 / 4) ** 0.5:
                    self.clearings[machine] = [0, 0]
                    self.found.discard(machine)
        if self.compare(present):
            self.judge(present)
        self.oppositions = {m: found for m, found in self.oppositions.items() if m in self.found or m in self.clearings}
        return (self.found | self.condemned) & set(present)

    def compare(self, present):
        squares = {m: self.sums[m] @ self.sums[m] for m in present}
        median = sorted(squares.values())[(len(squares) - 1) // 2]
        self.largest = max(self.largest, median)
        if median < 0.05 * self.largest:
            return False
        for i, a in enumerate(present):
            for b in present[i + 1:]:
                new = numpy.array([self.sums[a] @ self.sums[b], squares[a], squares[b]])
                self.products[a, b] = 0.98 * self.products.get((a, b), 0) + new
        return True

    def cosine(self, a, b):
        cross, first, second = self.products.get((min(a, b), max(a, b)), (0, 0, 0))
        return cross / (first * second) ** 0.5 if first > 0 and second > 0 else 0

    def judge(self, present):
        known = [m for m in (present if self.former else sorted(self.rounds)) if self.rounds[m] >= 2 and m not in self.condemned]
        if len(known) < 3:
            return
        support = {m: sorted(self.cosine(m, other) for other in known if other != m)[(len(known) - 1) // 2] for m in known}
        median = sorted(support.values())[(len(known) - 1) // 2]
        if median <= 0.2:
            return
        outside = {m for m in known if support[m] < 0.25 * median and m not in self.clearings}
        if 2 * len(outside) >= len(known):
            outside = set()
        self.found = (self.found - set(present)) | outside if self.former else outside
        others = [m for m in known if m not in outside and m not in self.clearings]
        for machine in outside:
            if not self.former and support[machine] < -0.2 and machine not in self.oppositions:
                direction = sum(self.mean(other) for other in others)
                direction = direction / (direction @ direction) ** 0.5
                (own, noise), theirs = self.along([machine], direction), self.along(others, direction)
                if -own > 2 * noise and theirs[0] > 0:
                    self.oppositions[machine] = direction, others, (-own, noise), theirs


def run(task, seed, shares, labels, rule, samples, few, flips, silent):
    """Trains once. Returns accuracy, loss, and the part of the rounds in which the machines `few` and the others were left out."""
    rounds, rate = (96, 0.3) if samples == 64 else (24, 0.6)
    random, h, blocks = numpy.random.default_rng(seed), simulate.hadamard(INPUTS), {}
    state, scale, counters = simulate.Nesterov(INPUTS), None, [0] * len(shares)
    agreement, away, left_out, seen = Agreement(rule == "former"), set(), [0, 0], [0, 0]
    for number in range(rounds):
        if silent and number % 8 == 0:
            away = set(random.choice(len(shares), round(len(shares) * silent), False))
        found = {}
        for machine, rows in enumerate(shares):
            if machine in away:
                continue
            gradient = task.gradient(state.c, rows, labels) * (-1 if machine in flips else 1)
            z = []
            for _ in range(max(samples // (len(shares) - len(away)), 1)):
                block, place = divmod(counters[machine], INPUTS)
                if (machine, block) not in blocks:
                    blocks[machine, block] = random.permutation(INPUTS), random.choice((-1.0, 1.0), INPUTS)
                order, signs = blocks[machine, block]
                z.append(h[order[place]] * signs)
                counters[machine] += 1
            found[machine] = numpy.array(z) @ gradient, numpy.array(z)
        if scale is None:
            scale = 2.0 ** round(numpy.log2(numpy.abs(numpy.concatenate([values for values, _ in found.values()])).mean() / 32))
        found = {m: (numpy.clip(numpy.rint(values / scale), -127, 127), z) for m, (values, z) in found.items()}
        out = set() if rule == "none" else agreement.disagreeing(found, scale)
        for machine in found:
            seen[machine not in few] += 1
            left_out[machine not in few] += machine in out
        counted = [found[m] for m in found if m not in out]
        state.step(rate * (1 - number / rounds) * scale / sum(len(q) for q, _ in counted) * sum(q @ z for q, z in counted))
        scale *= 2.0 ** round(numpy.log2(max(numpy.abs(numpy.concatenate([q for q, _ in found.values()])).mean(), 1) / 32))
    return (*task.test(state.c), *(a / max(b, 1) for a, b in zip(left_out, seen)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["states"])
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--basis", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "states":
        return make_states()
    task = Task(arguments.basis)
    labels = task.parts["train"][2]
    first, second = (numpy.flatnonzero(labels == label) for label in (0, 1))
    every = lambda count: [numpy.arange(i, len(labels), count) for i in range(count)]
    split = lambda a, b: [first[i::a] for i in range(a)] + [second[i::b] for i in range(b)]
    table = [("8 of 16 with the other class, a third silent, 64", split(8, 8), range(8, 16), {"silent": 1 / 3}),
             ("8 of 16 with the other class, a third silent, 1,024", split(8, 8), range(8, 16), {"silent": 1 / 3}),
             ("4 of 16 with the other class, 1,024", split(12, 4), range(12, 16), {}), ("1 of 3 with the other class, 64", split(2, 1), [2], {}),
             ("1 of 3 with the other class, 384", split(2, 1), [2], {}), ("1 of 3 flips signs, 64", every(3), [1], {"flips": True}),
             ("1 of 3 flips signs, 384", every(3), [1], {"flips": True}), ("2 of 8 flip signs, 1,024", every(8), [2, 6], {"flips": True}),
             ("1 of 3 has wrong labels, 64", every(3), [1], {"wrong": True}), ("1 of 3 has wrong labels, 384", every(3), [1], {"wrong": True}),
             ("2 of 8 have wrong labels, 1,024", every(8), [2, 6], {"wrong": True})]
    rows = {}
    for name, shares, few, how in table:
        # A name ends in the samples of a round.
        samples, own = int(name.rsplit(", ", 1)[1].replace(",", "")), labels.copy()
        if how.get("wrong"):
            for machine in few:
                own[shares[machine]] = 1 - own[shares[machine]]
        rows[name] = {}
        for rule in ("none", "former", "present"):
            found = [run(task, seed, shares, own, rule, samples, set(few), set(few) if how.get("flips") else set(), how.get("silent", 0))
                     for seed in arguments.seeds]
            rows[name][rule] = dict(zip(("accuracy", "loss", "few_left_out", "others_left_out"), map(list, zip(*found))))
            show = lambda place, form: ", ".join(format(one[place], form) for one in found)
            print(f"  {name:52s} {rule:8s} accuracy {show(0, '.3f')}  loss {show(1, '.2f')}  left out: these {show(2, '.0%')}, others {show(3, '.0%')}", flush=True)
    (Path(__file__).parent / "disagreement.json").write_text(json.dumps({"seeds": arguments.seeds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
