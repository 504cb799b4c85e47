#!/usr/bin/env python3
"""Samples a second on one core, by the number of trained layers: this program beside PyTorch doing the same.

    ONEBYTE_WITH=benchmarks swift build -c release --product EstimatorBenchmark     (after `make demo`, which obtains model and data)
    .build/release/onebyte export --model .cache/SmolLM2-135M-Instruct.Q4_1.gguf --output .cache/SmolLM2-135M-Instruct
    Benchmarks/learning/speed.py

PyTorch (torch and transformers from PyPI) does what one would write there: hidden states below the first trained layer kept, a
batch of samples each with a direction of its own, both signs, y = xW + ε(x·b)a added without building the perturbed matrix, and in
the last layer only the position that is read goes further than keys and values. The rows take turns and each is measured three times;
medians of processor time. Prints a table and writes it to Benchmarks/learning/speed.json (another machine's to another file: --output), where other depths and lengths keep their rows.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from estimators import BINARY, prepare
from learning import ROOT, machine
from rivals import MODEL, Task

HERE = ROOT / "Benchmarks/learning"
ONE_SIDED = ["--estimator", "one-sided", "--draws"]
OURS = {
    "two-sided": ["--estimator", "two-sided", "--draws", 1],
    "one-sided, 2 samples an example (the default)": [*ONE_SIDED, 2],
    "4 samples an example": [*ONE_SIDED, 4],
    "8 samples an example": [*ONE_SIDED, 8],
    "16 samples an example": [*ONE_SIDED, 16],
    "8, --precision int8": [*ONE_SIDED, 8, "--arithmetic", "int8"],
    "16, --precision int8": [*ONE_SIDED, 16, "--arithmetic", "int8"],
}


class PyTorch:
    def __init__(self, examples, longest):
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        self.network = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval().model
        self.head = self.network.embed_tokens.weight
        self.task = Task("reviews")
        lines = (ROOT / self.task.run["data"]["train-file"]).read_text().splitlines()
        chosen = [(line, example) for line, example in zip(lines, self.task.splits["train"], strict=True) if len(example[0]) <= longest][:examples]
        # The examples that both sides read.
        self.file = ROOT / ".cache/study/speed.jsonl"
        self.file.write_text("".join(line + "\n" for line, _ in chosen))
        self.examples = sorted((example for _, example in chosen), key=lambda example: len(example[0]))
        self.config = self.network.config

    def hidden(self, first):
        """Returns the hidden states of every example at the input of layer `first`."""
        kept = []
        hook = self.network.layers[first].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0][0].clone()))
        for tokens, _, _ in self.examples:
            self.network(torch.tensor([tokens]))
        hook.remove()
        return kept

    def pass_layer(self, layer, x, factors, epsilon, cosine, sine, mask, read):
        c, (a, b) = self.config, factors

        def linear(x, module, name):
            return x @ module.weight.T + epsilon * (x * b[name]).sum(-1, keepdim=True) * a[name]

        def rotate(x):
            half = x.shape[-1] // 2
            return torch.cat((-x[..., half:], x[..., :half]), -1)

        own, rows = layer.self_attn, x.shape[0]
        normed = layer.input_layernorm(x)
        queries = normed if read is None else normed[torch.arange(rows), read][:, None]
        q = linear(queries, own.q_proj, "q").view(rows, -1, c.num_attention_heads, 64).transpose(1, 2)
        k = linear(normed, own.k_proj, "k").view(rows, -1, c.num_key_value_heads, 64).transpose(1, 2)
        v = linear(normed, own.v_proj, "v").view(rows, -1, c.num_key_value_heads, 64).transpose(1, 2)
        k = k * cosine + rotate(k) * sine
        if read is None:
            q = q * cosine + rotate(q) * sine
        else:
            q = q * cosine[read][:, None, None] + rotate(q) * sine[read][:, None, None]
            x = x[torch.arange(rows), read][:, None]
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        x = x + linear(attended.transpose(1, 2).reshape(rows, -1, q.shape[1] * 64), own.o_proj, "o")
        normed = layer.post_attention_layernorm(x)
        inner = torch.nn.functional.silu(linear(normed, layer.mlp.gate_proj, "gate")) * linear(normed, layer.mlp.up_proj, "up")
        return x + linear(inner, layer.mlp.down_proj, "down")

    def samples(self, layers, hidden, first_sample, batch, epsilon=1e-3):
        """Computes the projected gradients of `batch` samples."""
        chosen = [(first_sample + i) % len(self.examples) for i in range(batch)]
        states = torch.nn.utils.rnn.pad_sequence([hidden[i] for i in chosen], batch_first=True)
        x = torch.cat((states, states))
        read = torch.tensor([self.examples[i][1] for i in chosen] * 2)
        positions = torch.arange(x.shape[1])
        angles = positions[:, None] / (self.config.rope_parameters["rope_theta"] ** (torch.arange(0, 64, 2) / 64))[None]
        cosine, sine = torch.cat((angles.cos(),) * 2, -1), torch.cat((angles.sin(),) * 2, -1)
        generator = torch.Generator().manual_seed(first_sample)
        sign = torch.cat((torch.ones(batch), -torch.ones(batch)))[:, None, None]
        for number in layers:
            layer = self.network.layers[number]
            last = number == self.config.num_hidden_layers - 1
            shapes = {"q": layer.self_attn.q_proj, "k": layer.self_attn.k_proj, "v": layer.self_attn.v_proj, "o": layer.self_attn.o_proj,
                      "gate": layer.mlp.gate_proj, "up": layer.mlp.up_proj, "down": layer.mlp.down_proj}
            a, b = {}, {}
            for name, module in shapes.items():
                for into, width in ((a, module.out_features), (b, module.in_features)):
                    signs = torch.randint(0, 2, (batch, 1, width), generator=generator) * 2.0 - 1
                    into[name] = torch.cat((signs, signs))
                a[name] = a[name] * sign
            mask = (positions[None] <= read[:, None])[:, None, None] if last else torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()[None, None]
            x = self.pass_layer(layer, x, (a, b), epsilon, cosine, sine, mask, read if last else None)
        logits = self.network.norm(x[:, 0]) @ self.head[self.task.words].T
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor([self.examples[i][2] for i in chosen] * 2), reduction="none")
        return (losses[:batch] - losses[batch:]) / (2 * epsilon)

    def rate(self, layers, hidden, seconds):
        batch = {1: 64, 2: 16}.get(len(layers), 8)
        self.samples(layers, hidden, 0, batch)
        # Examples of similar length share a batch. Batches come in random order, so that a short measurement does not consist of short
        # sentences.
        firsts = random.Random(0).sample(range(0, len(self.examples), batch), -(-len(self.examples) // batch))
        done, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            self.samples(layers, hidden, firsts[done // batch % len(firsts)], batch)
            done += batch
        return done / (time.process_time() - start)


def ours(data, flags):
    command = [BINARY, "speed", *data, "--json", *flags]
    result = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)["samples_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=lambda text: [int(count) for count in text.split(",")], default=[1, 2, 4, 8, 30])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--output", type=Path, default=HERE / "speed.json")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--longest", type=int, default=96, help="only sentences of so many tokens at most, template included")
    arguments = parser.parse_args()
    directory, _, _ = prepare("reviews")
    peer = PyTorch(arguments.examples, arguments.longest)
    data = ["--run", directory, "--train-file", peer.file]
    length = statistics.mean(len(example[0]) for example in peer.examples)
    print(f"one core of {machine()}; sentences of {length:.1f} tokens on average; samples/s, in brackets seconds for 1,000")
    path = arguments.output
    earlier = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row for row in earlier if (row["layers"], row.get("longest", 96)) not in [(count, arguments.longest) for count in arguments.layers]]
    for count in arguments.layers:
        top = peer.config.num_hidden_layers
        layers = range(top - count, top)
        hidden = peer.hidden(top - count)
        found = {name: [] for name in ("PyTorch, two-sided", *OURS)}
        for _ in range(3):
            found["PyTorch, two-sided"].append(peer.rate(layers, hidden, arguments.seconds))
            for name, flags in OURS.items():
                found[name].append(ours(data, [*flags, "--layers", count, "--seconds", arguments.seconds, "--examples", arguments.examples]))
        row = {"layers": count, "longest": arguments.longest, "tokens": length}
        for name, rates in found.items():
            ratios = [rate / other for rate, other in zip(rates, found["PyTorch, two-sided"])]
            row[name] = {"samples_per_second": statistics.median(rates), "each": rates, "ratio": statistics.median(ratios), "ratios": ratios}
        rows.append(row)
        print(f"  top {count:2d}: " + "; ".join(
            f"{name} {row[name]['samples_per_second']:,.0f} ({1000 / row[name]['samples_per_second']:.2f} s) {row[name]['ratio']:.1f}x" for name in found), flush=True)
        rows.sort(key=lambda row: (row.get("longest", 96), row["layers"]))
        path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
