#!/usr/bin/env python3
"""What a forward pass of few bits does to projected gradients, and to what is learnt from them: a simulation in PyTorch.

    Benchmarks/int8/quantised.py gradients              schemes against the g of floats: last layer, top 2
    Benchmarks/int8/quantised.py maps                   one linear map at a time in 8 bits: where g breaks
    Benchmarks/int8/quantised.py epsilon                the same schemes with longer steps
    Benchmarks/int8/quantised.py learning               102,400 samples, last layer, plain 8 bits against floats

Needs torch, transformers and numpy (PyPI), the data of `make demo`, and the model as a directory:

    onebyte export --model .cache/SmolLM2-135M-Instruct.Q4_1.gguf --output .cache/SmolLM2-135M-Instruct

Products are of floats that hold quantised values, which is what integer products give up to the rounding of a float. Weights are
quantised symmetrically, with a scale for each output channel (or for each group of inputs); activations with a scale for each row, which is a token.
The rank-one term +-e(x.b)a is added in float from the unquantised x. Norms, attention scores, SwiGLU and the head are in float.
The examples are the demo's, with 8 directions an example; a direction's signs come from PyTorch's generator, shaped by the run's basis.
Prints JSON lines.
"""

import argparse
import json
import math
import struct
import time
from pathlib import Path

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / ".cache/SmolLM2-135M-Instruct"
DATA = ROOT / ".cache/movie-reviews"
BASIS = ROOT / ".cache/study/run-reviews/basis"
STATES = ROOT / ".build/int8-states"
TEMPLATE, WORDS, MAX_LENGTH = "{} It was", (" terrible", " great"), 96
DRAW = 8  # directions per example
BITS = [(7, 8), (7, 7), (7, 6), (6, 6), (5, 5), (4, 4)]  # bits of weights, bits of differences
NAMES = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
         "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
SPACES = {"q": "self_attn:in", "k": "self_attn:in", "v": "self_attn:in", "o": "self_attn.o_proj:in",
          "gate": "mlp:in", "up": "mlp:in", "down": "mlp.down_proj:in"}


def show(key, value, unit, **more):
    print(json.dumps({"key": key, "value": value, "unit": unit} | more), flush=True)


def quantise(x, bits, group=None):
    """Rounds to multiples of a scale per row (or per `group` of a row): symmetric, `bits` bits including the sign."""
    shape = x.shape
    if group:
        x = x.reshape(*shape[:-1], shape[-1] // group, group)
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-30) / (2 ** (bits - 1) - 1)
    return ((x / scale).round() * scale).reshape(shape)


class Scheme:
    """A way to compute a linear map, described by its name in the tables.

    weights, inputs: bits, None for float. group: inputs that share a scale; None: all of a row.
    clean: None, or bits (0: float) of the clean rows in a differential pass: there the product of the clean rows is computed once, and what a
    direction's rows differ by is quantised at its own scale, its product added to the clean one.
    only: the linear maps that are quantised; None means all."""

    def __init__(self, weights=None, inputs=None, group=None, clean=None, only=None):
        self.weights, self.inputs, self.group, self.clean, self.only = weights, inputs, group, clean, only
        self.known = {}

    def forget(self):
        """Forgets the quantised weights, because the weights have changed."""
        self.known = {}

    def weight(self, w, bits):
        if not bits:
            return w
        key = w.data_ptr(), bits
        if key not in self.known:
            self.known[key] = quantise(w, bits, self.group)
        return self.known[key]

    def product(self, name, x, w):
        """x: segments x tokens x inputs, with the clean segment first, or alone if all segments share it."""
        if self.only and name not in self.only:
            return x @ w.T
        if self.clean is None:
            return (quantise(x, self.inputs, self.group) if self.inputs else x) @ self.weight(w, self.weights).T
        clean = (quantise(x[:1], self.clean, self.group) if self.clean else x[:1]) @ self.weight(w, self.clean and max(self.clean, self.weights)).T
        if x.shape[0] == 1:
            return clean
        return torch.cat([clean, clean + quantise(x[1:] - x[:1], self.inputs, self.group) @ self.weight(w, self.weights).T])


def schemes():
    return {
        "float": Scheme(),
        "weights 8": Scheme(weights=8),
        "weights 8, groups of 32": Scheme(weights=8, group=32),
        "inputs 8": Scheme(inputs=8),
        "weights 8, inputs 8": Scheme(weights=8, inputs=8),
        "weights 8, inputs 8, groups of 32": Scheme(weights=8, inputs=8, group=32),
        "weights 11, inputs 11": Scheme(weights=11, inputs=11),
        "differential 8, clean 8": Scheme(weights=8, inputs=8, clean=8),
        "differential 8, clean 8, groups of 32": Scheme(weights=8, inputs=8, clean=8, group=32),
        "differential 8, clean 11": Scheme(weights=8, inputs=8, clean=11),
        "differential 8, clean float": Scheme(weights=8, inputs=8, clean=0),
        "differential 11, clean 11": Scheme(weights=11, inputs=11, clean=11),
    } | {f"differential {w} x {x}, clean float": Scheme(weights=w, inputs=x, clean=0) for w, x in BITS}


class Basis:
    """Reads the damped components of a run's input spaces (RunBasis.swift describes the format)."""

    def __init__(self, path):
        data = path.read_bytes()
        _, count = struct.unpack_from("<HH", data)
        at, self.vectors = 4, {}
        for _ in range(count):
            length, = struct.unpack_from("<H", data, at)
            name = data[at + 2:at + 2 + length].decode()
            width, k = struct.unpack_from("<IH", data, at + 2 + length)
            at += 8 + length
            values = numpy.frombuffer(data, "<i2", width * k, at).reshape(k, width)
            self.vectors[name] = torch.tensor(values.astype(numpy.float32) / 2 ** 14)
            at += 2 * width * k

    def shape(self, layer, part, b):
        v = self.vectors.get(f"model.layers.{layer}.{SPACES[part]}")
        if v is None:
            return b
        return (32 * (b - (b @ v.T) @ v)).round().clamp(-127, 127) / 32


class Layer:
    def __init__(self, module, number):
        self.number = number
        self.w = {part: module.get_submodule(name).weight.detach().clone() for part, name in NAMES.items()}
        self.norms = [module.input_layernorm.weight.detach(), module.post_attention_layernorm.weight.detach()]


class Model:
    def __init__(self):
        self.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self.network = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
        c = self.network.config
        self.heads, self.kv, self.dim = c.num_attention_heads, c.num_key_value_heads, c.hidden_size // c.num_attention_heads
        self.count, self.eps = c.num_hidden_layers, c.rms_norm_eps
        theta = getattr(c, "rope_theta", None) or c.rope_parameters["rope_theta"]
        angles = torch.outer(torch.arange(MAX_LENGTH).double(), theta ** (-torch.arange(0, self.dim, 2).double() / self.dim))
        self.cos, self.sin = torch.cat([angles.cos()] * 2, 1).float(), torch.cat([angles.sin()] * 2, 1).float()
        words = [self.tokenizer(word, add_special_tokens=False).input_ids[0] for word in WORDS]
        self.head = self.network.lm_head.weight.detach()[words]
        self.final = self.network.model.norm.weight.detach()
        self.basis = Basis(BASIS)

    def layers(self, top):
        return [Layer(self.network.model.layers[i], i) for i in range(self.count - top, self.count)]

    def examples(self, split, top, limit=None):
        """Returns (hidden states at the entry of the `top` last layers, label) of each example; kept in a file."""
        STATES.mkdir(parents=True, exist_ok=True)
        file = STATES / f"{split}-{top}-{limit}.pt"
        if file.exists():
            return torch.load(file)
        found = []
        for line in list(open(DATA / f"{split}.jsonl"))[:limit]:
            record = json.loads(line)
            ids = self.tokenizer(TEMPLATE.format(record["text"]), add_special_tokens=False).input_ids[-MAX_LENGTH:]
            with torch.no_grad():
                states = self.network.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            found.append((states[self.count - top][0].clone(), int(record["label"])))
        torch.save(found, file)
        return found

    def norm(self, x, w):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * w

    def directions(self, layers, count, generator):
        """Returns a (count x outputs) and b (count x inputs) for each matrix."""
        signs = lambda n: torch.randint(0, 2, (count, n), generator=generator, dtype=torch.int8).float() * 2 - 1
        return [{part: (signs(w.shape[0]), self.basis.shape(layer.number, part, signs(w.shape[1]))) for part, w in layer.w.items()}
                for layer in layers]

    def losses(self, hidden, label, layers, directions, steps, scheme):
        """Returns the loss at theta for segment 0, and at theta + step[s] z[s] for segment 1 + s."""
        x = hidden[None]
        tokens = hidden.shape[0]
        mask = torch.full((tokens, tokens), -math.inf, dtype=x.dtype).triu(1)
        cos, sin = self.cos[:tokens].to(x.dtype), self.sin[:tokens].to(x.dtype)

        def linear(part, x):
            y = scheme.product(part, x, layer.w[part].to(x.dtype))
            if directions is None:
                return y
            a, b = own[part]
            if x.shape[0] == 1:
                term = torch.einsum("th,sh->st", x[0], b.to(x.dtype))
                y = y.expand(1 + len(steps), -1, -1).clone()
            else:
                term = torch.einsum("sth,sh->st", x[1:], b.to(x.dtype))
            y[1:] += (term * steps[:, None].to(x.dtype))[..., None] * a.to(x.dtype)[:, None, :]
            return y

        def split(y, heads):
            return y.view(*y.shape[:2], heads, self.dim).transpose(1, 2)

        def turn(y, cos, sin):
            half = self.dim // 2
            return y * cos + torch.cat([-y[..., half:], y[..., :half]], -1) * sin

        for number, layer in enumerate(layers):
            own = directions[number] if directions is not None else None
            last = number == len(layers) - 1
            n = self.norm(x, layer.norms[0])
            read = n[:, -1:] if last else n
            q = turn(split(linear("q", read), self.heads), cos[-read.shape[1]:], sin[-read.shape[1]:])
            k = turn(split(linear("k", n), self.kv), cos, sin).repeat_interleave(self.heads // self.kv, 1)
            v = split(linear("v", n), self.kv).repeat_interleave(self.heads // self.kv, 1)
            scores = q @ k.transpose(2, 3) / math.sqrt(self.dim) + mask[-read.shape[1]:]
            attended = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
            x = (x[:, -1:] if last else x) + linear("o", attended)
            n = self.norm(x, layer.norms[1])
            gated = torch.nn.functional.silu(linear("gate", n)) * linear("up", n)
            x = x + linear("down", gated)
        logits = self.norm(x[:, 0], self.final) @ self.head.to(x.dtype).T
        return torch.nn.functional.cross_entropy(logits, torch.full((logits.shape[0],), label), reduction="none").double(), logits[0]

    def gradients(self, hidden, label, layers, directions, epsilon, scheme, sides="two-sided"):
        """Returns g of each direction; two-sided passes give both kinds."""
        count = directions[0]["q"][0].shape[0]
        steps = torch.full((count,), epsilon)
        if sides == "two-sided":
            directions = [{part: (a.repeat(2, 1), b.repeat(2, 1)) for part, (a, b) in layer.items()} for layer in directions]
            steps = torch.cat([steps, -steps])
        loss, _ = self.losses(hidden, label, layers, directions, steps, scheme)
        plus = loss[1:1 + count]
        found = {"one-sided": (plus - loss[0]) / epsilon}
        if sides == "two-sided":
            found[sides] = (plus - loss[1 + count:]) / (2 * epsilon)
        return found


def agreement(key, reference, found, **more):
    """Returns the correlation, the slope of found on reference, and rms and mean of the difference, both divided by the reference's rms."""
    r, f = torch.cat(reference).numpy(), torch.cat(found).numpy()
    rms = math.sqrt((r ** 2).mean())
    show(f"{key}/correlation", round(float(numpy.corrcoef(r, f)[0, 1]), 5), "1", **more)
    show(f"{key}/slope", round(float((r * f).mean() / (r * r).mean()), 4), "1", **more)
    show(f"{key}/difference", round(float(math.sqrt(((f - r) ** 2).mean()) / rms), 4), "rms of g", **more)
    show(f"{key}/bias", round(float((f - r).mean() / rms), 4), "rms of g", standard_error=round(float((f - r).std() / rms / math.sqrt(len(r))), 4), **more)


def compare(model, top, samples, epsilons, chosen, title=None):
    """Compares the schemes' g with that of floats at 1e-3 along the same directions, on the first examples."""
    layers, examples = model.layers(top), model.examples("train", top, samples // DRAW)
    generator = torch.Generator().manual_seed(1)
    reference, found = [], {(name, epsilon): [] for name in chosen for epsilon in epsilons}
    for hidden, truth in examples:
        directions = model.directions(layers, DRAW, generator)
        reference.append(model.gradients(hidden, truth, layers, directions, 1e-3, Scheme()))
        for (name, epsilon), list in found.items():
            list.append(model.gradients(hidden, truth, layers, directions, epsilon, chosen[name]))
    for (name, epsilon), list in found.items():
        for sides in ("two-sided", "one-sided"):
            agreement(f"{title or f'gradients/top {top}'}/{name}/{sides}", [g[sides] for g in reference], [g[sides] for g in list],
                      epsilon=epsilon, samples=len(examples) * DRAW)


def learn(model, scheme, sides, seed, train, test, rounds, samples, rate):
    """Runs the demo on one machine: one byte per sample, linearly falling rates. Returns held-out loss and accuracy."""
    layers = model.layers(1)
    layer = layers[0]
    generator = torch.Generator().manual_seed(1000 + seed)
    order, at, size, exponent = [], 0, None, 0
    for done in range(rounds):
        scheme.forget()
        directions = model.directions(layers, samples, generator)
        values = []
        for start in range(0, samples, DRAW):
            if at == len(order):
                order, at = torch.randperm(len(train), generator=generator).tolist(), 0
            own = [{part: (a[start:start + DRAW], b[start:start + DRAW]) for part, (a, b) in directions[0].items()}]
            values.append(model.gradients(*train[order[at]], layers, own, 1e-3, scheme, sides)[sides])
            at += 1
        g = torch.cat(values)
        # The scale follows a slow mean of |g|, so that the mean byte is near 32.
        size = g.abs().mean() if size is None else size + (g.abs().mean() - size) * max(samples / 2048, 1 / (done + 1))
        exponent = round(math.log2(size / 32))
        q = (g * 2.0 ** -exponent).round().clamp(-127, 127).float()
        step = rate * (1 - done / rounds) / samples * 2.0 ** exponent
        for part, (a, b) in directions[0].items():
            layer.w[part] -= step * (a * q[:, None]).T @ b
    return evaluate(model, layers, test)


def evaluate(model, layers, test):
    """Evaluates in floats, because the learnt parameters are F32."""
    loss, right = 0.0, 0
    for hidden, truth in test:
        own, logits = model.losses(hidden, truth, layers, None, torch.empty(0), Scheme())
        loss += float(own[0]) / len(test)
        right += int(logits.argmax() == truth)
    return loss, right / len(test)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gradients", "maps", "epsilon", "learning"])
    parser.add_argument("--layers", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2])
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--schemes", type=lambda text: text.split(";"), help="names, separated by ;")
    parser.add_argument("--seeds", type=lambda text: [int(n) for n in text.split(",")], default=[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, known = Model(), schemes()

    def chosen(*names):
        return {name: known[name] for name in arguments.schemes or names}

    with torch.no_grad():
        if arguments.what == "gradients":
            for top in arguments.layers:
                compare(model, top, arguments.samples, [1e-3], chosen(*list(known)[1:]))
        elif arguments.what == "maps":
            compare(model, 1, arguments.samples, [1e-3], {part: Scheme(weights=8, inputs=8, only=[part]) for part in NAMES}, "maps")
        elif arguments.what == "epsilon":
            compare(model, 1, arguments.samples, [1e-3, 3e-3, 1e-2, 3e-2, 1e-1], chosen("float", "weights 8, inputs 8", "weights 11, inputs 11"), "epsilon")
        else:
            train, test = model.examples("train", 1), model.examples("test", 1)
            loss, accuracy = evaluate(model, model.layers(1), test)
            show("learning/nothing/loss", round(loss, 4), "nat", accuracy=accuracy)
            for seed in arguments.seeds:
                for name, scheme in chosen("float", "weights 8, inputs 8").items():
                    start = time.time()
                    loss, accuracy = learn(model, scheme, "one-sided", seed, train, test, arguments.rounds, 256, 0.04)
                    show(f"learning/{name}/loss", round(loss, 4), "nat", accuracy=accuracy, seed=seed, samples=256 * arguments.rounds, seconds=round(time.time() - start))


if __name__ == "__main__":
    main()
