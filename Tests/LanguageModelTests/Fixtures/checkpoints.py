"""Checks directories of checkpoints, whatever they are, with transformers: first what this program reads, then what it exports.

    python checkpoints.py references CHECKPOINTS        (torch, transformers)
    ONEBYTE_CHECKPOINTS=CHECKPOINTS ONEBYTE_CHECKPOINT_EXPORTS=EXPORTS swift test --filter CheckpointTests
    python checkpoints.py exports CHECKPOINTS EXPORTS

CHECKPOINTS holds a Hugging Face directory for each model. The first command writes reference.json into each: ids, the mean loss of texts, the loss of
a choice between two words, and 32 tokens that the model writes greedily. Ids are those of tokenizer.json (PreTrainedTokenizerFast), because some
classes of transformers build another pre-tokenizer than the file says.
"""

import json
import os
import pathlib
import sys
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
TEXTS = [
    "The film was great and the actors were good, but it was not the best of the year.",
    "It was a terrible film with a terrible story and I did not like it at all.",
    "In 2024, 1234567 people saw it: 42.5% of them twice!",
    "It's what they've said, isn't it?  WE'LL see\n\n  - one\n\t- two \r\n",
    "naïve café, „Straße“ № 42½, 东京都、한국어, кириллица, हिन्दी 🙂",
    "def f(x_1): return x**2  # a comment\n\n\n",
    "   white space   at both ends   ",
]
REVIEWS = [("A great film.", 1), ("The story was bad, and so were the actors.", 0), ("I liked it very much", 1), ("not good at all", 0)]
TEMPLATE, WORDS = "{} It was", (" terrible", " great")


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def log_p(model, ids):
    return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)


def reference(directory):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    model = load(directory).double()
    ids = [tokenizer(text).input_ids for text in TEXTS]
    losses = []
    for own in ids:
        p = log_p(model, own)
        losses.append(-sum(p[i, own[i + 1]].item() for i in range(len(own) - 1)) / (len(own) - 1))
    words = [tokenizer(word, add_special_tokens=False).input_ids for word in WORDS]
    choices, prompts = [], []
    for text, label in REVIEWS:
        prompt = tokenizer(TEMPLATE.format(text)).input_ids
        scores = []
        for word in words:
            p = log_p(model, prompt + word)
            scores.append(sum(p[len(prompt) - 1 + k, word[k]].item() for k in range(len(word))))
        choices.append(-torch.log_softmax(torch.tensor(scores, dtype=torch.double), 0)[label].item())
        prompts.append(prompt)
    written, margin = list(ids[0]), float("inf")
    for _ in range(32):
        top = torch.topk(log_p(model, written)[-1], 2)
        margin = min(margin, (top.values[0] - top.values[1]).item())
        written.append(int(top.indices[0]))
    return dict(
        texts=TEXTS, ids=ids, losses=losses, prompts=prompts, words=words, labels=[label for _, label in REVIEWS], choices=choices,
        written=written[len(ids[0]):], margin=margin)


def references(root):
    for directory in sorted(path for path in root.iterdir() if (path / "config.json").exists()):
        try:
            (directory / "reference.json").write_text(json.dumps(reference(directory)))
            print("made", directory.name, flush=True)
        except Exception as error:
            print("none", directory.name, type(error).__name__, str(error)[:200], flush=True)


def exports(root, exported):
    for directory in sorted(path for path in exported.iterdir() if (path / "config.json").exists()):
        a, b = load(root / directory.name), load(directory)
        tokenizers = [PreTrainedTokenizerFast.from_pretrained(place) for place in (root / directory.name, directory)]
        same = all(tokenizers[0](text).input_ids == tokenizers[1](text).input_ids for text in TEXTS)
        worst = max((log_p(a, ids) - log_p(b, ids)).abs().max().item() for ids in (tokenizers[0](text).input_ids for text in TEXTS))
        print("same" if same and worst == 0 else "DIFFERENT", directory.name, f"ids {'equal' if same else 'differ'}, log p differ by at most {worst:.1e}", flush=True)


if __name__ == "__main__":
    {"references": references, "exports": exports}[sys.argv[1]](*map(pathlib.Path, sys.argv[2:]))
