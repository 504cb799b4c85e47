#!/usr/bin/env python3
"""What other methods reach on the same examples, prompts and label words, in PyTorch, on one core.

    Benchmarks/learning/rivals.py reviews          rows: zero-shot, probe, last-layer, mezo, attention, layer-17, middle, top-2, top-4, top-8, lora, all-layers
    Benchmarks/learning/rivals.py e2e --rows zero-shot,last-layer,mezo,lora,all-layers --device cuda

Needs torch, transformers, numpy and scikit-learn (PyPI), the data of `make demo` and of tasks.py, and the model as a directory:

    onebyte export --model .cache/SmolLM2-135M-Instruct.Q4_1.gguf --output .cache/SmolLM2-135M-Instruct

The loss is a softmax over the label words at the prompt's end, or the mean token loss of a completion with its end token. What there
is to choose (C, the learning rate, the epoch) is chosen on validation examples. `bytes` is what three workers would send each other
if each sent its gradient as float32 and fetched the mean: parameters x 4 x 2 x 3 x steps. Prints a table and keeps
its rows in Benchmarks/learning/rivals-TASK.json. A GPU (`--device cuda`) changes seconds, which its rows say, and not losses.
"""

import argparse
import json
import random
import time
import tomllib
from pathlib import Path

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / ".cache/SmolLM2-135M-Instruct"
RUNS = {"reviews": ROOT / "Benchmarks/learning/tasks/reviews.toml"} | {
    name: ROOT / f"Benchmarks/learning/tasks/{name}.toml" for name in ("trec", "cola", "e2e")} | {
    name: ROOT / f"Benchmarks/learning/tasks/defaults/{name}.toml" for name in ("agnews", "rte")}
BATCH = 16


class Task:
    """Returns examples as (tokens, first position that the loss reads, right class or None)."""

    def __init__(self, name):
        self.run = tomllib.loads(RUNS[name].read_text())
        self.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        task = self.run["task"]
        self.labels = task.get("labels")
        if self.labels:
            self.words = torch.tensor([self.tokenizer(word, add_special_tokens=False).input_ids[0] for word in self.labels.values()])
        keys = {"train": "train-file", "validation": "validation-file", "test": "eval-file"}
        data = self.run["data"]
        data.setdefault("validation-file", data["train-file"].replace("train", "validation"))
        self.splits = {split: [self.encode(json.loads(line), task) for line in open(ROOT / data[key])]
                       for split, key in keys.items()}

    def encode(self, record, task):
        ids = lambda text: self.tokenizer(text, add_special_tokens=False).input_ids
        if self.labels:
            tokens = ids(task["template"].format(**record))[-task["max-length"]:]
            return tokens, len(tokens) - 1, list(self.labels).index(record["label"])
        prompt = ids(record["prompt"])
        answer = ids(record["completion"]) + [self.tokenizer.eos_token_id]
        return (prompt + answer)[:task["max-length"]], len(prompt) - 1, None


def batches(examples, size=BATCH, order=None):
    order = order if order is not None else sorted(range(len(examples)), key=lambda i: len(examples[i][0]))
    for start in range(0, len(order), size):
        yield [examples[i] for i in order[start:start + size]]


class Model:
    """The network, or only its last layer on cached hidden states."""

    def __init__(self, task):
        self.task = task
        self.network = AutoModelForCausalLM.from_pretrained(MODEL, torch_dtype=torch.float32).to(torch.get_default_device()).eval()
        self.cache = {}

    def parameters(self, part):
        chosen = self.network.model.layers[-1].parameters() if part == "last-layer" else self.network.parameters()
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        return [parameter.requires_grad_(True) for parameter in chosen]

    def below(self, batch, network):
        """Returns the hidden states that enter the last layer, computed once per example."""
        missing = [example for example in batch if id(example) not in self.cache]
        if missing:
            kept = []
            hook = network.layers[-1].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
            width = max(len(example[0]) for example in missing)
            with torch.no_grad():
                network(torch.tensor([example[0] + [0] * (width - len(example[0])) for example in missing]))
            hook.remove()
            for example, states in zip(missing, kept[0]):
                self.cache[id(example)] = states[:len(example[0])].clone()
        return torch.nn.utils.rnn.pad_sequence([self.cache[id(example)] for example in batch], batch_first=True)

    def states(self, batch, part):
        """Returns the last hidden states, after the final norm."""
        network = self.network.model
        if part == "last-layer":
            states = self.below(batch, network)
            positions = torch.arange(states.shape[1])[None]
            causal = torch.full((states.shape[1],) * 2, float("-inf")).triu(1)[None, None]
            layer = network.layers[-1]
            states = layer(states, attention_mask=causal, position_ids=positions, position_embeddings=network.rotary_emb(states, positions))
            # Older releases of transformers return a tuple.
            return network.norm(states[0] if isinstance(states, tuple) else states)
        width = max(len(example[0]) for example in batch)
        return network(torch.tensor([example[0] + [0] * (width - len(example[0])) for example in batch])).last_hidden_state

    def losses(self, batch, part):
        """Returns each example's loss, and whether it is right (None for completions). Padding is on the right, where it is never seen."""
        states = self.states(batch, part)
        head = self.network.lm_head.weight
        if self.task.labels:
            at = torch.stack([states[i, first] for i, (_, first, _) in enumerate(batch)])
            logits = at @ head[self.task.words].T
            right = torch.tensor([label for *_, label in batch])
            return torch.nn.functional.cross_entropy(logits, right, reduction="none"), logits.argmax(1) == right
        losses = []
        for i, (tokens, first, _) in enumerate(batch):
            losses.append(torch.nn.functional.cross_entropy(states[i, first:len(tokens) - 1] @ head.T, torch.tensor(tokens[first + 1:])))
        return torch.stack(losses), None

    def measure(self, split, part):
        losses, right = [], []
        with torch.no_grad():
            for batch in batches(self.task.splits[split], 32):
                loss, correct = self.losses(batch, part)
                losses.append(loss)
                if correct is not None:
                    right.append(correct)
        return torch.cat(losses).mean().item(), torch.cat(right).float().mean().item() if right else None


def descend(model, part, parameters, rates, epochs, seed):
    """Trains with AdamW and the best rate and epoch by validation loss. Returns its test scores, and seconds and steps of that run alone."""
    first = [parameter.detach().clone() for parameter in parameters]
    best = (float("inf"),)
    if part == "last-layer":
        for split in model.task.splits.values():
            for batch in batches(split, 32):
                model.below(batch, model.network.model)
    for rate in rates:
        for parameter, value in zip(parameters, first):
            parameter.data.copy_(value)
        optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0)
        shuffle = random.Random(seed)
        seconds, steps = 0, 0
        for _ in range(epochs):
            started = time.monotonic()
            examples = model.task.splits["train"]
            order = shuffle.sample(range(len(examples)), len(examples))
            # Examples of similar length share a batch, and batches come in random order: little padding.
            chunks = [sorted(order[i:i + 16 * BATCH], key=lambda j: len(examples[j][0])) for i in range(0, len(order), 16 * BATCH)]
            groups = [chunk[i:i + BATCH] for chunk in chunks for i in range(0, len(chunk), BATCH)]
            shuffle.shuffle(groups)
            for group in groups:
                optimiser.zero_grad()
                model.losses([examples[i] for i in group], part)[0].mean().backward()
                optimiser.step()
                steps += 1
            seconds += time.monotonic() - started
            validation, _ = model.measure("validation", part)
            print(f"    rate {rate:g}, {steps} steps, {seconds:.0f} s: validation loss {validation:.4f}", flush=True)
            if validation < best[0]:
                best = (validation, [parameter.detach().clone() for parameter in parameters], seconds, steps, rate)
    _, values, seconds, steps, rate = best
    for parameter, value in zip(parameters, values):
        parameter.data.copy_(value)
    loss, accuracy = model.measure("test", part)
    for parameter, value in zip(parameters, first):
        parameter.data.copy_(value)
    count = sum(parameter.numel() for parameter in parameters)
    return {"loss": loss, "accuracy": accuracy, "seconds": seconds, "steps": steps, "rate": rate, "parameters": count,
            "bytes": count * 4 * 2 * 3 * steps}


def zero_shot(model, seed):
    loss, accuracy = model.measure("test", "last-layer")
    return {"loss": loss, "accuracy": accuracy, "seconds": 0, "bytes": 0}


def probe(model, seed):
    """Fits logistic regression on the last hidden state at the prompt's end."""
    features, labels = {}, {}
    started = time.monotonic()
    with torch.no_grad():
        for split, examples in model.task.splits.items():
            rows = [(model.states(batch, "last-layer"), batch) for batch in batches(examples, 32)]
            features[split] = numpy.stack([states[i, first].cpu().numpy() for states, batch in rows for i, (_, first, _) in enumerate(batch)])
            labels[split] = numpy.array([label for _, batch in rows for *_, label in batch])
    found = fit_probe(features, labels)
    return {"loss": found["loss"], "accuracy": found["accuracy"], "seconds": time.monotonic() - started, "bytes": 0, "C": found["C"]}


def fit_probe(features, labels):
    """Returns the scores of the logistic regression that is the best of six by validation loss."""
    from sklearn.linear_model import LogisticRegression
    mean, deviation = features["train"].mean(0), features["train"].std(0) + 1e-6
    loss = lambda fit, split: -numpy.log(
        fit.predict_proba((features[split] - mean) / deviation)[numpy.arange(len(labels[split])), labels[split]] + 1e-12).mean()
    fits = [LogisticRegression(C=c, max_iter=2000).fit((features["train"] - mean) / deviation, labels["train"])
            for c in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1)]
    best = min(fits, key=lambda fit: loss(fit, "validation"))
    accuracy = (best.predict((features["test"] - mean) / deviation) == labels["test"]).mean()
    return {"training_loss": float(loss(best, "train")), "validation_loss": float(loss(best, "validation")), "loss": float(loss(best, "test")),
            "accuracy": float(accuracy), "C": best.C}


def last_layer(model, seed):
    return descend(model, "last-layer", model.parameters("last-layer"), (2e-4, 5e-4), 4, seed)


def all_layers(model, seed):
    return descend(model, "all-layers", model.parameters("all-layers"), (2e-5,), 2, seed)


def last_and_attention(parts, first, last):
    """Trains the last layer together with these attention matrices of layers `first` to `last`."""
    def row(model, seed):
        layers = model.network.model.layers[first:last + 1]
        chosen = [*model.parameters("last-layer"), *(layer.self_attn.get_submodule(f"{part}_proj").weight for layer in layers for part in parts)]
        for parameter in chosen:
            parameter.requires_grad_(True)
        return descend(model, "all-layers", chosen, (2e-4,), 2, seed)
    return row


class LowRank(torch.nn.Module):
    """LoRA: y = Wx + 2 B A x (Hu et al., arXiv 2106.09685), with B = 0 at first."""

    def __init__(self, linear, rank=8):
        super().__init__()
        self.linear = linear
        self.a = torch.nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features ** 0.5)
        self.b = torch.nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + 2 * (x @ self.a.T @ self.b.T)


def top(layers):
    """Trains the top layers with AdamW: what they can learn with back-propagation."""
    def run(model, seed):
        model.parameters("last-layer")
        chosen = [parameter.requires_grad_(True) for layer in model.network.model.layers[-layers:] for parameter in layer.parameters()]
        return descend(model, "all-layers", chosen, (1e-4,), 2, seed)
    return run


def lora(model, seed):
    torch.manual_seed(seed)
    model.parameters("last-layer")
    for parameter in model.network.parameters():
        parameter.requires_grad_(False)
    attentions = [layer.self_attn for layer in model.network.model.layers]
    for attention in attentions:
        attention.q_proj, attention.v_proj = LowRank(attention.q_proj), LowRank(attention.v_proj)
    added = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
    result = descend(model, "all-layers", added, (1e-3,), 2, seed)
    for attention in attentions:
        attention.q_proj, attention.v_proj = attention.q_proj.linear, attention.v_proj.linear
    return result


def mezo(model, seed, seconds=60, rate=1e-6, epsilon=1e-3):
    """MeZO (Malladi et al., arXiv 2305.17333): all parameters, Gaussian z from a seed, perturbed three times and updated once per step."""
    parameters = model.parameters("all-layers")
    first = [parameter.detach().clone() for parameter in parameters]
    examples, choose = model.task.splits["train"], random.Random(seed)
    steps, end = 0, time.monotonic() + seconds

    def move(name, scale):
        torch.manual_seed(name)
        for parameter in parameters:
            parameter.data.add_(torch.normal(0, 1, parameter.shape), alpha=scale)

    with torch.no_grad():
        while time.monotonic() < end:
            batch, name = choose.sample(examples, BATCH), choose.randrange(1 << 31)
            move(name, epsilon)
            plus = model.losses(batch, "all-layers")[0].mean().item()
            move(name, -2 * epsilon)
            minus = model.losses(batch, "all-layers")[0].mean().item()
            move(name, epsilon)
            move(name, -rate * (plus - minus) / (2 * epsilon))
            steps += 1
    loss, accuracy = model.measure("test", "all-layers")
    for parameter, value in zip(parameters, first):
        parameter.data.copy_(value)
    return {"loss": loss, "accuracy": accuracy, "seconds": seconds, "steps": steps, "bytes": 4 * steps}


ROWS = {"zero-shot": zero_shot, "probe": probe, "last-layer": last_layer, "mezo": mezo,
        # The attention that `learning.py hour` trains in two runs, and that rows of `deeper` add to its first run.
        "attention": last_and_attention("qkvo", 12, 18), "layer-17": last_and_attention("qk", 17, 17), "middle": last_and_attention("qk", 12, 18),
        **{f"top-{layers}": top(layers) for layers in (2, 4, 8)}, "lora": lora, "all-layers": all_layers}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=RUNS)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS))
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_device(arguments.device)
    model = Model(Task(arguments.task))
    path = Path(__file__).parent / f"rivals-{arguments.task}.json"
    for name in arguments.rows:
        for seed in arguments.seeds:
            row = ROWS[name](model, seed)
            if arguments.device != "cpu":
                row["device"] = torch.cuda.get_device_name()
            accuracy = f"{100 * row['accuracy']:.2f} %" if row["accuracy"] is not None else "-"
            print(f"  {name:12s} seed {seed}: loss {row['loss']:.4f}  accuracy {accuracy}  {row['seconds']:.0f} s  {row['bytes']:,} bytes", flush=True)
            # Another process may be writing other rows.
            results = json.loads(path.read_text()) if path.exists() else {}
            results.setdefault(name, {})[str(seed)] = row
            path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
