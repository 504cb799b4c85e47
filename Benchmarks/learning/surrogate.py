#!/usr/bin/env python3
"""What `rank1` bytes on other matrices of the model would learn, before a run of an hour is spent on it.

    Benchmarks/learning/surrogate.py --device cuda
    Benchmarks/learning/surrogate.py --device cuda --rows "attention" --seeds 0,1,2

One-sided projected gradients with their exact limit for small steps: one pass forwards and back over an example gives every matrix's
inputs x and output gradients d, and a direction's g is then sum over matrices and tokens of (a . d)(b . x). So 16 directions of an
example cost one pass, and a row of 250,000 samples a minute on a GPU where OneByte takes an hour on two cores. Bytes are clipped and
rounded as a run's are; 8-bit products, fixed point and finite differences are left out. Starts from the model of a trained last layer,
as the second run of `learning.py hour` does, whose first run must be there. Needs torch, transformers and numpy (PyPI). Prints a table
and keeps its rows in Benchmarks/learning/surrogate.json.
"""

import argparse
import json
import time
from pathlib import Path

import numpy
import torch
from transformers import AutoModelForCausalLM

import rivals

MODEL = rivals.ROOT / ".cache/study/hour-0/model-1"
DRAWS = 16
SAMPLES = 1024
# Name: matrices, layers, learning rate, rounds, and the multiple of the mean |g| at which a byte is clipped. Rows have equal cost, so
# deeper ones have fewer rounds.
ROWS = {
    "queries and keys of layers 12 to 18": ("qk", 12, 18, 0.006, 200, 4),
    "queries and keys of layers 12 to 18, twice the rate": ("qk", 12, 18, 0.012, 244, 4),
    "queries and keys of layers 8 to 24": ("qk", 8, 24, 0.004, 199, 4),
    "values and outputs of layers 12 to 18": ("vo", 12, 18, 0.005, 244, 4),
    "attention of layers 12 to 18, rate 0.004": ("qkvo", 12, 18, 0.004, 244, 4),
    "attention of layers 12 to 18": ("qkvo", 12, 18, 0.006, 244, 4),
    "attention of layers 12 to 18, clipped at 8": ("qkvo", 12, 18, 0.006, 244, 8),
    "attention of layers 12 to 18, clipped at 2": ("qkvo", 12, 18, 0.01, 244, 2),
    "attention of layers 12 to 18, clipped at 1.27": ("qkvo", 12, 18, 0.01, 244, 1.27),
    "attention of layers 12 to 18, clipped at 1.27, rate 0.014": ("qkvo", 12, 18, 0.014, 244, 1.27),
    "attention of layers 14 to 18": ("qkvo", 14, 18, 0.008, 274, 4),
    "attention of layers 12 to 29": ("qkvo", 12, 29, 0.005, 244, 4),
    "all of layers 12 to 18": ("qkvogud", 12, 18, 0.003, 244, 4),
    "all of layers 12 to 18, clipped at 1.27": ("qkvogud", 12, 18, 0.01, 244, 1.27),
    "attention of layers 12 to 18, 610 rounds": ("qkvo", 12, 18, 0.006, 610, 4),
}
MODULES = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj", "g": "mlp.gate_proj", "u": "mlp.up_proj",
           "d": "mlp.down_proj"}


class Top:
    """The layers from `first` on, applied to the states that enter them, which are computed once."""

    def __init__(self, model, first):
        self.model, self.network, self.first = model, model.network.model, first
        self.states = {}

    def below(self, batch):
        missing = [example for example in batch if id(example) not in self.states]
        if missing:
            kept = []
            hook = self.network.layers[self.first].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
            width = max(len(example[0]) for example in missing)
            with torch.no_grad():
                self.network(torch.tensor([example[0] + [0] * (width - len(example[0])) for example in missing]))
            hook.remove()
            for example, states in zip(missing, kept[0]):
                self.states[id(example)] = states[:len(example[0])].clone()
        return torch.nn.utils.rnn.pad_sequence([self.states[id(example)] for example in batch], batch_first=True)

    def logits(self, batch):
        states = self.below(batch)
        positions = torch.arange(states.shape[1])[None]
        causal = torch.full((states.shape[1],) * 2, float("-inf")).triu(1)[None, None]
        embeddings = self.network.rotary_emb(states, positions)
        for layer in self.network.layers[self.first:]:
            states = layer(states, attention_mask=causal, position_ids=positions, position_embeddings=embeddings)
            states = states[0] if isinstance(states, tuple) else states
        states = self.network.norm(states)
        at = torch.stack([states[i, position] for i, (_, position, _) in enumerate(batch)])
        return at @ self.model.network.lm_head.weight[self.model.task.words].T

    def measure(self, split):
        """Returns loss, accuracy, accuracy at the best threshold, AUC."""
        examples = self.model.task.splits[split]
        with torch.no_grad():
            pairs = [(self.logits(batch), [example[2] for example in batch]) for batch in rivals.batches(examples, 100)]
        logits, right = torch.cat([pair[0] for pair in pairs]), torch.tensor([label for pair in pairs for label in pair[1]])
        loss = torch.nn.functional.cross_entropy(logits, right).item()
        labels = right[(logits[:, 1] - logits[:, 0]).argsort()].cpu().numpy()
        positives = labels.sum()
        ranks = numpy.arange(1, len(labels) + 1)[labels == 1].sum()
        auc = (ranks - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))
        best = (positives + numpy.concatenate([[0], (1 - 2 * labels).cumsum()])).max() / len(labels)
        return {"loss": loss, "accuracy": (logits.argmax(1) == right).float().mean().item(), "accuracy_best_threshold": float(best), "auc": float(auc)}


def learn(model, row, seed):
    parts, first, last, rate, rounds, clip = row
    top = Top(model, first)
    modules = [top.network.layers[layer].get_submodule(MODULES[part]) for layer in range(first, last + 1) for part in parts]
    before = [module.weight.detach().clone() for module in modules]
    order, signs = numpy.random.default_rng(seed), torch.Generator(device=torch.get_default_device()).manual_seed(seed)
    examples, queue, mean, started = model.task.splits["train"], [], None, time.monotonic()
    seen = {}
    hooks = [module.register_forward_hook(lambda module, inputs, output: seen.__setitem__(module, (inputs[0].detach(), output.requires_grad_())))
             for module in modules]
    ones = lambda size: torch.randint(0, 2, (SAMPLES // DRAWS, DRAWS, size), generator=signs).float() * 2 - 1
    for number in range(rounds):
        while len(queue) < SAMPLES // DRAWS:
            queue += list(order.permutation(len(examples)))
        batch, queue = [examples[i] for i in queue[:SAMPLES // DRAWS]], queue[SAMPLES // DRAWS:]
        loss = torch.nn.functional.cross_entropy(top.logits(batch), torch.tensor([example[2] for example in batch]), reduction="sum")
        gradients = torch.autograd.grad(loss, [seen[module][1] for module in modules])
        directions = [(ones(module.out_features), ones(module.in_features)) for module in modules]
        g = sum((torch.bmm(gradient, a.mT) * torch.bmm(seen[module][0], b.mT)).sum(1)
                for module, gradient, (a, b) in zip(modules, gradients, directions))
        mean = g.abs().mean() if mean is None else 0.8 * mean + 0.2 * g.abs().mean()
        unit = clip * mean / 127
        q = (g / unit).round().clamp(-127, 127) * unit * (rate * (1 - number / rounds) / SAMPLES)
        for module, (a, b) in zip(modules, directions):
            module.weight.data -= (a.flatten(0, 1) * q.reshape(-1, 1)).T @ b.flatten(0, 1)
    for hook in hooks:
        hook.remove()
    result = {"seed": seed, "samples": rounds * SAMPLES, "test": top.measure("test"), "validation": top.measure("validation"), "seconds": time.monotonic() - started}
    for module, weight in zip(modules, before):
        module.weight.data.copy_(weight)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="only rows whose names hold this text")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, help="fewer of them, for a trial")
    arguments = parser.parse_args()
    torch.set_default_device(arguments.device)
    torch.backends.cuda.matmul.allow_tf32 = True
    model = rivals.Model(rivals.Task("reviews"))
    model.network = AutoModelForCausalLM.from_pretrained(MODEL, torch_dtype=torch.float32).to(arguments.device).eval().requires_grad_(False)
    path = Path(__file__).parent / "surrogate.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    for name, row in ROWS.items():
        if arguments.rows not in name:
            continue
        for seed in arguments.seeds:
            result = {"name": name, "device": torch.cuda.get_device_name() if arguments.device == "cuda" else arguments.device} | learn(
                model, (*row[:4], arguments.rounds or row[4], row[5]), seed)
            test, validation = result["test"], result["validation"]
            print(f"{name}, seed {seed}: {result['samples']:,} samples, loss {test['loss']:.4f}, accuracy {100 * test['accuracy']:.2f} %, AUC {test['auc']:.4f}, "
                  f"validation accuracy {100 * validation['accuracy']:.1f} % AUC {validation['auc']:.4f}, {result['seconds']:.0f} s", flush=True)
            if arguments.rounds is None:
                kept = [row for row in kept if (row["name"], row["seed"]) != (name, seed)] + [result]
                path.write_text(json.dumps({"title": "bytes on other matrices, simulated", "rows": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
