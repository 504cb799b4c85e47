#!/usr/bin/env python3
"""MeZO in PyTorch on the model, batch and threads of `EstimatorBenchmark step`: its own way, and the best that PyTorch does. JSON lines.

    Benchmarks/mezo.py [--threads 1] [--steps 3]

*Own way* (Malladi et al., arXiv 2305.17333, and their code): torch.normal for each tensor from a seed, θ perturbed three times a step, two
forward passes of a padded batch, the update with z made once more, and once for each peer. *Best*: random signs made a byte each, the peers' bytes added up in a
float tensor before they touch θ (like for like with `rademacher`); and outer products of signs as one matrix product for all peers (`rank1`).
Needs torch and transformers, the data of `make demo`, and the model as a directory (`onebyte export`; see Benchmarks/bench.py).
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "learning"))

import torch
from transformers import AutoModelForCausalLM

from rivals import MODEL, Task


def median_seconds(steps, body):
    """Returns the median seconds of steps. With one thread they are processor time, so that other work on the machine counts little."""
    now = time.process_time if torch.get_num_threads() == 1 else time.monotonic
    times = []
    for step in range(steps):
        start = now()
        body(step)
        times.append(now() - start)
    return statistics.median(times)


class MeZO:
    def __init__(self, tokens, sequences):
        self.network = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
        self.parameters = list(self.network.parameters())
        task = Task("reviews")
        # A stable sort, as on the other side, so that both read the same sentences except for ties.
        self.batch = sorted(task.splits["train"], key=lambda example: abs(len(example[0]) - tokens))[:sequences]
        self.words, self.width = task.words, max(len(example[0]) for example in self.batch)
        self.ids = torch.tensor([example[0] + [0] * (self.width - len(example[0])) for example in self.batch])
        self.last = torch.tensor([first for _, first, _ in self.batch])
        self.labels = torch.tensor([label for *_, label in self.batch])

    def loss(self):
        states = self.network.model(self.ids).last_hidden_state[torch.arange(len(self.batch)), self.last]
        return torch.nn.functional.cross_entropy(states @ self.network.lm_head.weight[self.words].T, self.labels)

    def move(self, seed, scale):
        torch.manual_seed(seed)
        for parameter in self.parameters:
            parameter.data.add_(torch.normal(0, 1, parameter.shape), alpha=scale)

    def forward(self, seed, epsilon=1e-3):
        """Returns the projected gradient from the losses at θ + εz and θ − εz, and restores θ."""
        self.move(seed, epsilon)
        plus = self.loss()
        self.move(seed, -2 * epsilon)
        minus = self.loss()
        self.move(seed, epsilon)
        return float(plus - minus) / (2 * epsilon)

    def update_gaussian(self, peers):
        for peer in range(peers):
            self.move(peer, -1e-9)

    def update_signs(self, peers):
        for index, parameter in enumerate(self.parameters):
            total = torch.zeros(parameter.shape)
            for peer in range(peers):
                torch.manual_seed(peer * 1000 + index)
                total.add_(torch.randint(0, 2, parameter.shape, dtype=torch.int8), alpha=2 * (peer + 1))
            # Σ q(2·bit − 1) = Σ 2q·bit − Σ q
            parameter.data.add_(total.sub_(peers * (peers + 1) // 2), alpha=-1e-12)

    def update_rank1(self, peers):
        q = torch.arange(1, peers + 1).float()
        for index, parameter in enumerate(self.parameters):
            torch.manual_seed(index)
            if parameter.dim() == 1:
                parameter.data.add_(q @ (torch.randint(0, 2, (peers, *parameter.shape)).float() * 2 - 1), alpha=-1e-12)
                continue
            a = (torch.randint(0, 2, (peers, parameter.shape[0])).float() * 2 - 1) * q[:, None]
            b = torch.randint(0, 2, (peers, parameter.shape[1])).float() * 2 - 1
            parameter.data.addmm_(a.T, b, alpha=-1e-12)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--peers", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    mezo = MeZO(arguments.tokens, arguments.sequences)

    def row(key, value, unit="s"):
        print(json.dumps({"key": f"mezo.{arguments.threads}.{key}", "value": value, "unit": unit}), flush=True)

    row("tokens", sum(len(example[0]) for example in mezo.batch), "tokens")
    mezo.loss()
    row("forward_twice", 2 * median_seconds(arguments.steps, lambda step: mezo.loss()))
    row("forward", median_seconds(arguments.steps, mezo.forward))
    row("update.1", median_seconds(arguments.steps, lambda _: mezo.update_gaussian(1)))
    row(f"update.{arguments.peers}", median_seconds(1, lambda _: mezo.update_gaussian(arguments.peers)))
    row(f"best_signs.update.{arguments.peers}", median_seconds(1, lambda _: mezo.update_signs(arguments.peers)))
    row(f"best_rank1.update.{arguments.peers}", median_seconds(arguments.steps, lambda _: mezo.update_rank1(arguments.peers)))


if __name__ == "__main__":
    main()
