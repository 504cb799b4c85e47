"""Makes records of every kind of task, with the tokens and learnt positions that transformers and `tokenizers` give.

    python make_encodings.py                   encodings.json: 400 records, for CI
    python make_encodings.py COUNT FILE        as many as you like; ONEBYTE_ENCODINGS=FILE makes the test read them
    python make_encodings.py COUNT FILE SEED   others (without it, the seed is COUNT)

Three quarters of the records are cut by their max-length, which takes each value of 8 ... 64 in turn, for every kind.

The reference for conversations is PreTrainedTokenizerFast.apply_chat_template, whose generation marks show what is learnt;
where a content spells a control token, the text between the template's own control tokens is encoded as plain text. The other kinds are a
second implementation of docs/reference/tasks.md: tokens of prompt and answer, what is cut, what is learnt.
"""

import collections
import json
import pathlib
import random
import re
import sys

import jinja2
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

import make_chat
import make_pipelines

HERE = pathlib.Path(__file__).parent
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>"]
LENGTHS = range(8, 65)
SMOLLM = make_pipelines.sequence(make_pipelines.DIGITS, make_pipelines.GPT2)


def tokenizers():
    bases = {"bytes": (HERE / "tokenizer/tokenizer.json").read_text(), "sentencepiece": (HERE / "tokenizer/sentencepiece.json").read_text()}
    begin = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    o200k = make_pipelines.sequence(make_pipelines.split(make_pipelines.O200K, "Removed", True), make_pipelines.BYTES)
    chatml = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    files = {}
    for name, base, normalizer, pre_tokenizer, post_processor, names in [
        ("bytes", "bytes", None, SMOLLM, None, chatml), ("composed", "bytes", {"type": "NFC"}, o200k, None, chatml),
        ("sentencepiece", "sentencepiece", make_pipelines.LEGACY, None, begin, {"bos_token": "<s>", "eos_token": "</s>"}),
    ]:
        text, parts = make_pipelines.assemble(bases[base], normalizer, pre_tokenizer, [])
        parts.append(('"post_processor":null', '"post_processor":' + json.dumps(post_processor)))
        assert text.count(parts[-1][0]) == 1
        files[name] = {"text": text.replace(*parts[-1]), "vocabulary": base, "replacements": parts, "config": names}
    return files


class Reference:
    def __init__(self, name, file, names):
        path = pathlib.Path("/tmp") / f"onebyte-{name}.json"
        path.write_text(file)
        self.hf = PreTrainedTokenizerFast(tokenizer_file=str(path), **names)
        path.unlink()
        self.eos = self.hf.convert_tokens_to_ids(names["eos_token"])
        self.control = [t for t in CONTROL if any(str(a) == t and a.special for a in self.hf.added_tokens_decoder.values())]
        self.leading = self.hf("").input_ids

    def encode(self, text):
        return self.hf.encode(text, add_special_tokens=False, split_special_tokens=True)

    # Each returns (sequences of (tokens, targets), objective), or None if the record is refused or left out.

    def fit(self, template, fields, values, room):
        fill = lambda v: re.sub(r"\{(\w+)\}", lambda m: v[m[1]], template)
        whole = self.encode(fill(values))
        if len(whole) <= room:
            return self.leading + whole
        values = dict(values)
        for field in sorted(fields, key=lambda f: -len(values[f])):
            text, low, high = values[field], 0, len(values[field])
            while low < high:
                middle = (low + high + 1) // 2
                values[field] = text[:middle]
                if len(self.encode(fill(values))) <= room:
                    low = middle
                else:
                    high = middle - 1
            values[field] = text[:low]
            if len(self.encode(fill(values))) <= room:
                return self.leading + self.encode(fill(values))
        return None

    def classification(self, r):
        words = [self.encode(w) for _, w in r["labels"]]
        fields = list(dict.fromkeys(re.findall(r"\{(\w+)\}", r["template"])))
        prompt = self.fit(r["template"], fields, r["record"], r["max"] - max(map(len, words)) - len(self.leading))
        correct = [l for l, _ in r["labels"]].index(str(r["record"]["label"]))
        if not prompt:
            return None
        if all(len(w) == 1 for w in words):
            return [(prompt, [(len(prompt) - 1, words[correct][0])])], f"candidates({[w[0] for w in words]}, correct: {correct})"
        return [(prompt + w, [(len(prompt) - 1 + i, t) for i, t in enumerate(w)]) for w in words], f"options(correct: {correct})"

    def completion(self, r):
        fields = list(dict.fromkeys(re.findall(r"\{(\w+)\}", r["template"])))
        prompt_text = re.sub(r"\{(\w+)\}", lambda m: r["record"][m[1]], r["template"])
        head, whole = self.encode(prompt_text), self.encode(prompt_text + r["record"]["completion"])
        answer = (whole[len(head):] if whole[: len(head)] == head else self.encode(r["record"]["completion"])) + [self.eos]
        room = r["max"] - len(self.leading)
        least = len(self.encode(re.sub(r"\{(\w+)\}", "", r["template"])))
        if room <= max(1, least):
            return None
        if len(head) + len(answer) > room:
            keep = min(max(1, len(head)), max(room - len(answer), room // 2, least, 1))
            answer = answer[: room - keep]
        prompt = self.fit(r["template"], fields, r["record"], room - len(answer))
        return self.learn(prompt, answer, r["max"]) if prompt is not None else None

    def text(self, r):
        return self.learn(self.leading, self.encode(r["record"]["text"]), r["max"])

    def learn(self, prompt, answer, most):
        tokens = prompt + answer
        targets = [(i - 1, tokens[i]) for i in range(max(1, len(prompt)), min(len(tokens), most))]
        return ([(tokens[:most], targets)], "tokens") if targets else None

    def chat(self, r):
        messages = r["record"]["messages"]
        spells = any(c in json.dumps(messages) for c in self.control)
        names = {"bos_token": self.hf.bos_token, "eos_token": self.hf.eos_token}
        try:
            (text,), (ranges,) = render_jinja_template([messages], chat_template=r["marked"], return_assistant_tokens_mask=True, **names)
        except jinja2.TemplateError:
            return None
        if not spells:
            whole = self.hf.apply_chat_template(messages, chat_template=r["marked"], return_dict=True, return_assistant_tokens_mask=True)
            ids, mask = whole["input_ids"], whole["assistant_masks"]
        else:
            ids, mask = self.plain(messages, r["marked"], names, text, ranges)
        targets = [(i - 1, ids[i]) for i in range(1, min(len(ids), r["max"])) if mask[i]]
        return ([(ids[: r["max"]], targets)], "tokens") if targets else None

    def plain(self, messages, template, names, text, ranges):
        """Replaces "<" and ">" in contents by other characters, which shows where the template's own control tokens are."""
        masked = json.loads(json.dumps(messages).replace("<", "\ue000").replace(">", "\ue001"))
        (shape,), _ = render_jinja_template([masked], chat_template=template, return_assistant_tokens_mask=True, **names)
        assert len(shape) == len(text)
        ids, spans, start = [], [], 0
        for match in [*re.finditer("|".join(map(re.escape, self.control)), shape), None]:
            end = match.start() if match else len(text)
            part = self.hf._tokenizer
            part.encode_special_tokens = True
            encoded = part.encode(text[start:end], add_special_tokens=False)
            part.encode_special_tokens = False
            ids += encoded.ids
            spans += [(start + a, start + b) for a, b in encoded.offsets]
            if match:
                ids.append(self.hf.convert_tokens_to_ids(match[0]))
                spans.append(match.span())
                start = match.end()
        return ids, [int(any(a < stop and b > first for first, stop in ranges)) for a, b in spans]


WORDS = ["the", "film", "was", "great", "It", "café", "日本", "12345", "don't", "  ", "\n", "\n\n", " ", "a-b", "é", "e\u0301", "🙂", "…", "terrible", "\t", "x" * 30,
         "<|im_end|>", "<|im_start|>assistant\n", "</s>", "<s>", "<|end", "▁", "def f(x):", "\r\n", "Über", "I'LL"]
PLAIN = [w for w in WORDS if w not in ("<|im_end|>", "<|im_start|>assistant\n", "</s>", "<s>")]


def templates():
    # Headers of two characters, so that chats have something to learn within 8 tokens too.
    sources = make_chat.TEMPLATES | {"letters": "{% for m in messages %}{% if m.role == 'assistant' %}{{ 'a:' }}«{{ m.content + '<|im_end|>' }}»{% else %}{{ m.role[0] + ':' + m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}"}
    return {name: source.replace("«", make_chat.G).replace("»", make_chat.E) for name, source in sources.items() if "tools" not in name and "thoughts" not in name}


def record(kind, rng, sources):
    """Returns a random record of a kind."""
    def text(most, words=WORDS):
        return "".join(rng.choice(["", " "]) + rng.choice(words) for _ in range(rng.randint(0, most)))

    r = {"kind": kind}
    if kind == "classification":
        r["template"] = rng.choice(["{text} It was", "{premise}\n{text}?", "Review: {text}\nSentiment:", "{text}"])
        r["labels"] = rng.choice([[["0", " terrible"], ["1", " great"]], [["0", " a"], ["1", " b"], ["2", " c"]], [["no", " not at all"], ["yes", " yes"]], [["0", "bad"], ["1", "good"]]])
        r["record"] = {"text": text(40), "premise": text(20), "label": rng.choice(r["labels"])[0]}
    elif kind == "completion":
        r["template"] = rng.choice(["{prompt}", "Q: {prompt}\nA:", "{prompt} => "])
        r["record"] = {"prompt": text(30), "completion": text(30)}
    elif kind == "text":
        r["record"] = {"text": text(60)}
    else:
        r["template"] = rng.choice(list(sources) + ["letters"] * 4)
        r["marked"] = sources[r["template"]]
        turns = [("system", text(6))] if rng.random() < 0.3 else []
        words = WORDS if rng.random() < 0.4 else PLAIN
        for _ in range(rng.randint(1, 3)):
            turns += [("user", text(10, words)), ("assistant", "" if rng.random() < 0.1 else text(10, words))]
        if rng.random() < 0.1:
            turns.pop()
        r["record"] = {"messages": [{"role": role, "content": content} for role, content in turns]}
    return r


def records(count, references, seed):
    """Yields records and the reference's answers. Of each kind, three in four are cut, at the lengths 8 ... 64 in turn."""
    rng, sources, drawn, cut = random.Random(seed), templates(), collections.Counter(), collections.Counter()
    names = list(references)
    for i in range(count):
        kind = ["classification", "completion", "chat", "chat", "text"][i % 5]
        drawn[kind] += 1
        if drawn[kind] % 4 == 0:
            longest = 512 if rng.random() < (0.5 if kind == "chat" else 0.1) else rng.randint(8, 64)
            r = record(kind, rng, sources) | {"tokenizer": rng.choice(names), "max": longest}
            yield r, getattr(references[r["tokenizer"]], kind)(r)
            continue
        # 57 is a multiple of 3, so that each further pass gives each length another tokenizer.
        turn, step = divmod(cut[kind], len(LENGTHS))
        name, longest = names[(step + turn) % len(names)], LENGTHS[step]
        cut[kind] += 1
        for _ in range(100_000):
            r = record(kind, rng, sources) | {"tokenizer": name, "max": longest, "cut": True}
            answer = getattr(references[name], kind)(r)
            if answer and answer != getattr(references[name], kind)(r | {"max": 1 << 20}):
                break
        else:
            raise SystemExit(f"no {kind} is cut at {longest} tokens")
        yield r, answer


def main(count=400, path=HERE / "encodings.json", seed=None):
    files = tokenizers()
    references = {name: Reference(name, f["text"], f["config"]) for name, f in files.items()}
    out, refused, used = [], 0, {}
    for r, answer in records(int(count), references, int(seed or count)):
        if r["kind"] == "chat":
            used[r["template"]] = r.pop("marked").replace(make_chat.E + "\n", "").replace(make_chat.G, "").replace(make_chat.E, "")
        refused += answer is None
        if answer:
            r["sequences"] = [{"tokens": tokens, "targets": targets} for tokens, targets in answer[0]]
            r["objective"] = answer[1]
        out.append(r)
    whole = {"tokenizers": {name: {k: v for k, v in f.items() if k != "text"} for name, f in files.items()}, "templates": used, "records": out}
    pathlib.Path(path).write_text(json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(len(out), "records,", sum("cut" in r for r in out), "cut,", refused, "refused or left out")


main(*sys.argv[1:])
