"""Computes the tiny Llama at θ ± εz with PyTorch in F64, with z from the arithmetic's NumPy script, and its basis with NumPy.

    python make_estimator.py           (torch, transformers, numpy; after make_tiny_llama.py)

estimator.json   examples of every objective; for several families and sets of trained tensors the two losses of a few samples;
                 a basis of layer 2, and losses along directions that it damps.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "CoreTests" / "Fixtures"))
import arithmetic  # noqa: E402

EPSILON = 1e-3
SEED = 0x0123456789ABCDEF
MACHINE = 3
COMPONENTS = 2

model = AutoModelForCausalLM.from_pretrained(HERE / "tiny-llama", dtype=torch.float32, attn_implementation="eager").double().eval()
parameters = {name: p for name, p in model.named_parameters()}
names = sorted(parameters, key=lambda n: n.encode())
rng = np.random.default_rng(5)


def tokens(n):
    return [int(t) for t in rng.integers(3, 288, n)]


def sequence(length, positions):
    return {"tokens": tokens(length), "targets": [[p, int(rng.integers(3, 288))] for p in positions]}


EXAMPLES = (
    [{"kind": "candidates", "candidates": [20, 41], "correct": i % 2, "sequences": [sequence(n, [n - 1])]} for i, n in enumerate([5, 9, 14, 3])]
    + [{"kind": "candidates", "candidates": [7, 100, 250], "correct": 2, "sequences": [sequence(11, [8])]}]
    + [{"kind": "options", "correct": c, "sequences": [sequence(8, [5, 6]), sequence(10, [5, 6, 7, 8]), sequence(7, [5])]} for c in (0, 1)]
    + [{"kind": "tokens", "sequences": [sequence(n, list(range(n // 2, n)))]} for n in (12, 6)]
    + [{"kind": "tokens", "sequences": [sequence(40, list(range(40)))]}]
)


def loss(example):
    with torch.no_grad():
        outputs = [torch.log_softmax(model(torch.tensor([s["tokens"]])).logits[0], -1) for s in example["sequences"]]
    picked = [[float(o[p, t]) for p, t in s["targets"]] for o, s in zip(outputs, example["sequences"])]
    if example["kind"] == "candidates":
        at = example["sequences"][0]["targets"][0][0]
        scores = outputs[0][at, example["candidates"]]
    elif example["kind"] == "options":
        scores = torch.tensor([sum(p) for p in picked], dtype=torch.float64)
    else:
        return -sum(map(sum, picked)) / sum(map(len, picked))
    return -float(torch.log_softmax(scores, -1)[example["correct"]])


def two_sided(trained, family, basis, example, sample):
    run = {"seed": SEED, "family": family, "tensors": []}
    tensors = []
    for name in names:
        if not trained(name):
            continue
        own = basis.get(space_of(name)) if basis else None  # vectors and the head have none
        tensors.append({"name": name, "index": names.index(name), "shape": list(parameters[name].shape), "basis": own})
    run["tensors"] = tensors
    saved = {t["name"]: parameters[t["name"]].detach().clone() for t in tensors}
    scale = 2.0 ** -arithmetic.fraction_bits(run, tensors[0])
    z = {t["name"]: torch.tensor(arithmetic.direction(run, t, (MACHINE, sample)) * scale).reshape(t["shape"]) for t in tensors}
    losses = []
    with torch.no_grad():
        for sign in (1, -1):
            for name in saved:
                parameters[name].copy_(saved[name] + sign * EPSILON * z[name])
            losses.append(loss(example))
        for name in saved:
            parameters[name].copy_(saved[name])
    return losses


SPACES = {"q_proj": "self_attn:in", "k_proj": "self_attn:in", "v_proj": "self_attn:in", "o_proj": "self_attn.o_proj:in",
          "gate_proj": "mlp:in", "up_proj": "mlp:in", "down_proj": "mlp.down_proj:in"}


def space_of(name):
    for matrix, space in SPACES.items():
        if f".{matrix}." in name:
            return f"model.layers.{name.split('.')[2]}.{space}"
    return None


def make_basis(layer):
    """Returns the K damped components of the inputs of a layer's matrices, from second moments at the positions that matter."""
    last = layer == model.config.num_hidden_layers - 1
    block = model.model.layers[layer]
    spaces = {"self_attn:in": block.self_attn.q_proj, "self_attn.o_proj:in": block.self_attn.o_proj, "mlp:in": block.mlp.gate_proj,
              "mlp.down_proj:in": block.mlp.down_proj}
    sums = {}
    reads = []

    def watch(space):
        def hook(_, inputs):
            x = inputs[0][0].numpy()
            x = x[reads] if last and space != "self_attn:in" else x[: reads[-1] + 1]
            sums[space] = sums.get(space, 0) + x.T @ x
        return hook

    handles = [module.register_forward_pre_hook(watch(space)) for space, module in spaces.items()]
    with torch.no_grad():
        for example in EXAMPLES:
            for s in example["sequences"]:
                reads[:] = [p for p, _ in s["targets"]]
                model(torch.tensor([s["tokens"]]))
    for handle in handles:
        handle.remove()
    basis = {}
    for space, total in sums.items():
        w, u = np.linalg.eigh(total)
        vectors = []
        for k in range(COMPONENTS):
            v = u[:, -1 - k]
            v = v * np.sign(v[np.abs(v).argmax()]) * math.sqrt(1 - math.sqrt(w[-1 - COMPONENTS] / w[-1 - k]))
            vectors.append([int(x) for x in np.rint(v * 2**14)])
        basis[f"model.layers.{layer}.{space}"] = vectors
    return basis


def layer(*numbers):
    return lambda n: any(f".layers.{i}." in n for i in numbers)


def matrices(*numbers):
    return lambda n: layer(*numbers)(n) and "norm" not in n


BOTH = ["model.layers.1.*", "model.layers.2.*"]
CASES = [
    ("rank1", ["layers.2"], matrices(2), False),
    ("rank1", ["layers.2"], matrices(2), True),
    ("rank1", ["layers.1-2"], matrices(1, 2), False),
    ("rank1", ["layers.1-2"], matrices(1, 2), True),
    ("rank1", ["model.layers.2.*"], layer(2), True),
    ("rank1", ["layers.2.self_attn"], lambda n: ".layers.2.self_attn" in n, False),
    ("rank1", ["layers.2.post_attention_layernorm", "layers.2.mlp"], lambda n: layer(2)(n) and "attn" not in n and "input" not in n, True),
    ("rank1", BOTH, layer(1, 2), False),
    ("rank1", ["*_proj.weight"], lambda n: "_proj" in n, False),
    ("rank1", ["model.norm.weight"], lambda n: n == "model.norm.weight", False),
    ("rank1", ["all"], lambda n: True, False),
    ("rademacher", ["model.layers.2.*"], layer(2), False),
    ("rademacher", ["all"], lambda n: True, False),
    ("gaussian", BOTH, layer(1, 2), False),
    ("gaussian", ["all"], lambda n: True, False),
]

basis = make_basis(1) | make_basis(2)
cases = [{"family": family, "patterns": patterns, "shaped": shaped,
          "losses": [two_sided(trained, family, basis if shaped else None, e, i) for i, e in enumerate(EXAMPLES)]}
         for family, patterns, trained, shaped in CASES]
(HERE / "estimator.json").write_text(json.dumps(
    {"epsilon": EPSILON, "seed": SEED, "machine": MACHINE, "components": COMPONENTS, "examples": EXAMPLES,
     "clean": [loss(e) for e in EXAMPLES], "basis": basis, "cases": cases}, separators=(",", ":")))
