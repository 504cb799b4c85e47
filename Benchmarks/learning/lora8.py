#!/usr/bin/env python3
"""LoRA with gradients of one byte a number, on the demo's reviews: what it learns from how many bytes.

    Benchmarks/learning/lora8.py states      makes the hidden states first
    Benchmarks/learning/lora8.py             prints the table and writes it to lora8.json (needs what rivals.py needs)

Three machines hold a third of the training examples each. In every step each of them sends the gradient over all its examples: one byte for each
number, rounded to the nearest, and a scale of four bytes for each matrix. Everybody averages what arrives and takes a step of Adam with it. A rate
falls linearly to 0. Bytes are those that the machines send, as everywhere else; what comes back is not counted.

LoRA is y = Wx + 2·B·A·x with B = 0 and A random at first (Hu et al., arXiv 2106.09685): on what the head reads (`final`), where the default adapter of
onebyte sits, or on matrices of the last layer. Only the last position is read, so below it the layer needs nothing but keys and values. The
rate is the best of the grid by validation loss, for each row.
"""

import argparse
import json
import math
from pathlib import Path

import torch

import rivals
from learning import ROOT, interval, machine
from states import hidden_states

STATES = ROOT / ".cache/study/states-last-layer.pt"
WORKERS = 3
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
# Name, where, rank, numbers of steps, seeds.
ROWS = [
    ("final, rank 1", ("final",), 1, (1, 2, 4, 8, 16, 32, 64, 128), (0, 1, 2)),
    ("final, rank 2", ("final",), 2, (1, 2, 4, 8, 16, 32, 64), (0, 1, 2)),
    ("queries and values of the last layer, rank 1", ("q", "v"), 1, (1, 2, 4, 8, 16, 32), (0,)),
    ("all matrices of the last layer, rank 1", MATRICES, 1, (1, 2, 4, 8, 16, 32), (0,)),
]
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def make_states():
    task = rivals.Task("reviews")
    files = {split: ROOT / f".cache/movie-reviews/{split}.jsonl" for split in task.splits}
    found = hidden_states("Benchmarks/learning/tasks/reviews.toml", [], files)
    kept = {}
    for split, examples in task.splits.items():
        lengths = [len(tokens) for tokens, *_ in examples]
        kept[split] = torch.from_numpy(found[split]).split(lengths), torch.tensor([label for *_, label in examples])
    torch.save(kept, STATES)


class LastLayer:
    """The last layer at the last position, the final norm, and the scores of the label words."""

    def __init__(self):
        task = rivals.Task("reviews")
        network = rivals.Model(task).network
        self.model, self.layer = network.model, network.model.layers[-1]
        self.head = network.lm_head.weight[task.words].detach()
        attention, mlp = self.layer.self_attn, self.layer.mlp
        self.weights = {name: getattr(part, f"{name}_proj").weight.detach()
                        for part, names in ((attention, "qkvo"), (mlp, ("gate", "up", "down"))) for name in names}
        self.sizes = {name: tuple(weight.shape) for name, weight in self.weights.items()} | {"final": (self.head.shape[1],) * 2}
        self.width = attention.head_dim
        self.parts = {}
        with torch.no_grad():
            for split, (states, labels) in torch.load(STATES).items():
                lengths = torch.tensor([len(one) for one in states])
                x = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
                cosine, sine = self.model.rotary_emb(x[:1], torch.arange(x.shape[1])[None])
                n = self.layer.input_layernorm(x)
                rows = torch.arange(len(x))
                self.parts[split] = {
                    "x": x[rows, lengths - 1], "n": n, "at": n[rows, lengths - 1], "k": n @ self.weights["k"].T, "v": n @ self.weights["v"].T,
                    "seen": torch.arange(x.shape[1])[None] < lengths[:, None], "cosine": cosine[0], "sine": sine[0], "last": lengths - 1,
                    "labels": labels}
                part = self.parts[split]
                part["final"] = self.final_states(part, lambda name, x: x @ self.weights[name].T, lambda name, x: 0)

    def rotate(self, x, cosine, sine):
        half = x.shape[-1] // 2
        return x * cosine + torch.cat((-x[..., half:], x[..., :half]), -1) * sine

    def final_states(self, part, product, low_rank):
        """Returns the states that the head reads."""
        heads = lambda x: x.unflatten(-1, (-1, self.width)).transpose(-2, -3)
        q = self.rotate(heads(product("q", part["at"])[:, None]), *(part[name][part["last"]][:, None, None] for name in ("cosine", "sine")))
        k = self.rotate(heads(part["k"] + low_rank("k", part["n"])), part["cosine"], part["sine"])
        v = heads(part["v"] + low_rank("v", part["n"]))
        # Neighbouring query heads share keys and values.
        q = q.unflatten(1, (k.shape[1], -1))
        weights = q @ k[:, :, None].transpose(-1, -2) / math.sqrt(self.width)
        weights = weights.masked_fill(~part["seen"][:, None, None, None], -math.inf).softmax(-1)
        y = part["x"] + product("o", (weights @ v[:, :, None]).flatten(1))
        m = self.layer.post_attention_layernorm(y)
        return self.model.norm(y + product("down", torch.nn.functional.silu(product("gate", m)) * product("up", m)))

    def scores(self, part, added, rows=slice(None)):
        """Returns the label words' scores. `added` has A and B of the adapted maps."""
        part = {name: value if name in ("cosine", "sine") else value[rows] for name, value in part.items()}
        low_rank = lambda name, x: 2 * (x @ added[name][0].T @ added[name][1].T) if name in added else 0
        product = lambda name, x: x @ self.weights[name].T + low_rank(name, x)
        # An adapter at `final` changes nothing below it.
        n = part["final"] if "final" in part and set(added) <= {"final"} else self.final_states(part, product, low_rank)
        return (n + low_rank("final", n)) @ self.head.T

    def measure(self, split, added):
        part = self.parts[split]
        with torch.no_grad():
            scores = self.scores(part, added)
        return (torch.nn.functional.cross_entropy(scores, part["labels"]).item(), (scores.argmax(1) == part["labels"]).float().mean().item())


def train(layer, places, rank, steps, rate, seed):
    torch.manual_seed(seed)
    added = {}
    for name in places:
        outputs, inputs = layer.sizes[name]
        added[name] = (torch.nn.Parameter(torch.randn(rank, inputs) / inputs ** 0.5), torch.nn.Parameter(torch.zeros(outputs, rank)))
    parameters = [matrix for pair in added.values() for matrix in pair]
    optimiser = torch.optim.Adam(parameters, lr=rate)
    part = layer.parts["train"]
    shares = [torch.arange(worker, len(part["labels"]), WORKERS) for worker in range(WORKERS)]
    for step in range(steps):
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for rows in shares:
            loss = torch.nn.functional.cross_entropy(layer.scores(part, added, rows), part["labels"][rows])
            for total, gradient in zip(sums, torch.autograd.grad(loss, parameters)):
                scale = gradient.abs().max() / 127
                if scale > 0:
                    total += (gradient / scale).round() * scale
        for parameter, total in zip(parameters, sums):
            parameter.grad = total / WORKERS
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimiser.step()
    sent = WORKERS * steps * sum(parameter.numel() + 4 for parameter in parameters)
    validation, _ = layer.measure("validation", added)
    loss, accuracy = layer.measure("test", added)
    return {"validation_loss": validation, "loss": loss, "accuracy": accuracy, "bytes": sent, "rate": rate}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["states"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", help="only rows whose names hold this text")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "states":
        return make_states()
    layer = LastLayer()
    print("  before: loss {:.4f}, accuracy {:.4f}".format(*layer.measure("test", {})))
    path = Path(__file__).parent / "lora8.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name, places, rank, counts, seeds in ROWS:
        if arguments.rows and arguments.rows not in name:
            continue
        for steps in counts:
            # The best rate by validation loss of the first seed.
            best = min((train(layer, places, rank, steps, rate, seeds[0]) for rate in RATES), key=lambda found: found["validation_loss"])
            found = [best, *(train(layer, places, rank, steps, best["rate"], seed) for seed in seeds[1:])]
            (accuracy, spread), (loss, _) = interval([one["accuracy"] for one in found]), interval([one["loss"] for one in found])
            rows[f"{name}, {steps} steps"] = {"bytes": best["bytes"], "rate": best["rate"], "accuracy": [one["accuracy"] for one in found],
                                              "loss": [one["loss"] for one in found]}
            print(f"  {name:46s} {steps:4d} steps  {best['bytes']:10,} bytes  rate {best['rate']:g}  accuracy {accuracy:.4f}"
                  + (f" ± {spread:.4f}" if spread else "") + f"  loss {loss:.4f}", flush=True)
            path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
