"""Compares GGUF exports of the models of families.json with llama.cpp.

    ONEBYTE_TEST_GGUF=OUT swift test --filter keepsFilesForLlamaCpp
    python check_gguf.py OUT                                   (cyllama, which is llama.cpp with bindings; numpy)

Prints for each file how far the losses lie from those of transformers in F64 on the unrounded model. llama.cpp keeps keys and values in F32 here; it
rounds the inputs of products to the type of the weights, unless these are F32.
"""

import json
import math
import pathlib
import sys

import numpy as np
from cyllama.llama import llama_cpp as cpp

# Largest relative difference of the mean loss.
LIMITS = {"F32": 1e-5, "F16": 1e-3, "BF16": 1e-2, "Q8_0": 1e-2}


class Model(cpp.LlamaModel):
    """With the property that `get_logits_ith` reads and the bindings' class lacks."""

    @property
    def n_vocab(self):
        return self.get_vocab().n_vocab


def logits(path, tokens):
    model = Model(str(path), verbose=False)
    params = cpp.LlamaContextParams()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads, params.n_threads_batch = 256, 256, 256, 1, 1
    params.type_k = params.type_v = 0
    params.flash_attn_type = 0
    context = cpp.LlamaContext(model, params, verbose=False)
    count = min(len(tokens), model.n_ctx_train)
    batch = cpp.LlamaBatch(n_tokens=count, embd=0, n_seq_max=1)
    for i in range(count):
        batch.add(tokens[i], i, [0], True)
    assert context.decode(batch) == 0, path
    return np.array([context.get_logits_ith(i) for i in range(count - 1)], np.float64)


if __name__ == "__main__":
    cpp.disable_logging()
    models = {m["name"]: m for m in json.loads((pathlib.Path(__file__).parent / "families.json").read_text())}
    bad = 0
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.gguf")):
        name, kind = path.stem.rsplit("-", 1)
        rows = logits(path, models[name]["tokens"])
        losses = [math.log(np.exp(row - row.max()).sum()) + row.max() - row[token] for row, token in zip(rows, models[name]["tokens"][1:])]
        expected = models[name]["losses"][: len(losses)]
        difference = abs(sum(losses) - sum(expected)) / sum(expected)
        worst = max(abs(a - b) / b for a, b in zip(losses, expected))
        ok = difference < LIMITS[kind]
        bad += not ok
        print(f"{'ok' if ok else 'BAD':3} {path.stem:26} {len(losses) + 1:3} tokens, mean loss {sum(losses) / len(losses):.6f}, off by {difference:.1e}, a token by {worst:.1e}", flush=True)
    sys.exit(bool(bad))
