"""Makes tokenizers of every structure that models use, with the ids that Hugging Face's `tokenizers` gives.

    python make_pipelines.py      tokenizer/sentencepiece.json, tokenizer/pipelines.json

A pipeline is one of two vocabularies (tokenizer.json, of bytes; sentencepiece.json, of characters with byte fallback) with a normaliser, a
pre-tokenizer and further added tokens. The samples are every third of corpus.gz and those below; a digest is that of tokenizer_parity.py.
"""

import gzip
import hashlib
import json
import pathlib
import struct
import unicodedata

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent / "tokenizer"
CHUNK = 120
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CL100K = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES
O200K = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*" + SPACES
TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*" + SPACES
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + SPACES
DEEPSEEK3 = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*""" + SPACES
BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
KIMI = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2 = {**BYTES, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
PUNCTUATION = {"type": "Punctuation", "behavior": "Contiguous"}
LEGACY = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


def metaspace(scheme, splits):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": splits}


def added(content, special=False, **flags):
    return {"content": content, "special": special, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, **flags}


# name: (vocabulary, normaliser, pre-tokenizer, further added tokens)
PIPELINES = {
    "o200k": ("bytes", None, sequence(split(O200K, "Removed", True), BYTES), []),
    "tekken": ("bytes", None, sequence(split(TEKKEN), BYTES), []),
    "qwen35": ("bytes", {"type": "NFC"}, sequence(split(QWEN35), BYTES), []),
    "cl100k-removed": ("bytes", {"type": "Sequence", "normalizers": [{"type": "NFC"}]}, sequence(sequence(split(CL100K, "Removed", True)), BYTES), []),
    "deepseek": ("bytes", None, sequence(split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), DIGITS, BYTES), []),
    "deepseek3": ("bytes", None, sequence(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK3), BYTES), []),
    "falcon": ("bytes", None, sequence(PUNCTUATION, GPT2, {**DIGITS, "individual_digits": False}, split("[0-9][0-9][0-9]")), []),
    "falcon3": ("bytes", None, sequence({**split(""), "pattern": {"String": "\n"}}, {**PUNCTUATION, "behavior": "Isolated"}, DIGITS, GPT2), []),
    "bloom": ("bytes", None, sequence(split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), BYTES), []),
    "bailing": ("bytes", None, sequence(split(BAILING), BYTES), []),
    "kimi": ("bytes", None, sequence(split(KIMI), BYTES), []),
    "previous": ("bytes", {"type": "NFKC"}, sequence(split(r"\s", "MergedWithPrevious"), BYTES), []),
    "next": ("bytes", {"type": "Lowercase"}, sequence(split(r"[A-Za-z]+?\b|\d{2,}", "MergedWithNext"), BYTES), []),
    "contiguous": ("bytes", {"type": "NFD"}, sequence(split(r"(?<=\s)\p{Ll}|[^\p{Lu}]$|^.", "Contiguous"), BYTES), []),
    "lookaround": ("bytes", {"type": "Strip", "strip_left": True, "strip_right": True}, sequence(split(r"\d{1,3}(?=(?:\d{3})*\b)"), {"type": "WhitespaceSplit"}, {**GPT2, "add_prefix_space": True}), []),
    "added": ("bytes", {"type": "NFC"}, GPT2, [
        added("été", normalized=True), added("<mask>", special=True, lstrip=True), added("the", single_word=True), added("  ", normalized=True),
        added("|>", rstrip=True), added("    ")]),
    "legacy": ("sentencepiece", LEGACY, None, []),
    "first": ("sentencepiece", None, metaspace("first", False), []),
    "always": ("sentencepiece", {"type": "NFKC"}, metaspace("always", True), []),
    "gemma": ("sentencepiece", REPLACE, {**split(""), "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}, [added("\n\n"), added("▁▁")]),
    "phi3": ("sentencepiece", LEGACY, None, [added("<|end|>", special=True, rstrip=True), added("<|im_end|>", special=True, rstrip=True)]),
    "pattern": ("sentencepiece", {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": "▁"}, {"type": "CharDelimiterSplit", "delimiter": "e"}, []),
}
MORE = ["", " ", "  a", "<mask>  <mask> b", "x <mask>", "the thethe the", "  été e\u0301te\u0301 ", "<s>[INST] x </s>", "a <|end|> \n b<|im_end|>  c", "▁▁x", "<0x0A>"]


def sentencepiece(samples):
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>"]
    trained.train_from_iterator(samples, trainers.BpeTrainer(
        vocab_size=1400, limit_alphabet=300, special_tokens=special + [f"<0x{b:02X}>" for b in range(256)], show_progress=False))
    data = json.loads(trained.to_str())
    data["model"].update(byte_fallback=True, fuse_unk=True)
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] in special]
    data["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    data["pre_tokenizer"] = "PRE_TOKENIZER"
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def assemble(base, normalizer, pre_tokenizer, tokens):
    """Returns the file's text by replacing parts, as the test does."""
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # As in real files, a token that the vocabulary holds keeps its number, and the others follow the vocabulary.
    vocabulary = json.loads(base)["model"]["vocab"]
    numbers = {}
    for token in tokens:
        numbers[token["content"]] = vocabulary.get(token["content"], len(vocabulary) + sum(n >= len(vocabulary) for n in numbers.values()))
    parts = [('"pre_tokenizer":"PRE_TOKENIZER"', '"pre_tokenizer":' + dump(pre_tokenizer)), ('"normalizer":null', '"normalizer":' + dump(normalizer))]
    if tokens:
        parts.append(('"added_tokens":[', '"added_tokens":[' + "".join(dump({"id": numbers[t["content"]], **t}) + "," for t in tokens)))
    for old, new in parts:
        assert base.count(old) == 1
        base = base.replace(old, new)
    return base, parts


def main():
    corpus = gzip.decompress((HERE / "corpus.gz").read_bytes()).decode().split("\x1e")
    if not (HERE / "sentencepiece.json").exists():
        (HERE / "sentencepiece.json").write_text(sentencepiece(corpus))
    bases = {"bytes": (HERE / "tokenizer.json").read_text(), "sentencepiece": (HERE / "sentencepiece.json").read_text()}
    out = []
    for name, (base, normalizer, pre_tokenizer, tokens) in PIPELINES.items():
        text, parts = assemble(bases[base], normalizer, pre_tokenizer, tokens)
        tokenizer = Tokenizer.from_str(text)
        # `tokenizers` has an older Unicode version in its compatibility forms, so samples with newer characters are not compared.
        isKnown = lambda s: name not in ("previous", "always") or tokenizer.normalizer.normalize_str(s) == unicodedata.normalize("NFKC", s)
        samples = MORE + corpus[::3]
        unknown = [i for i, s in enumerate(samples) if not isKnown(s)]
        samples = [s for s in samples if isKnown(s)]
        digests = []
        for i in range(0, len(samples), CHUNK):
            h = hashlib.sha256()
            for sample in samples[i : i + CHUNK]:
                ids = tokenizer.encode(sample, add_special_tokens=False).ids
                h.update(struct.pack(f"<{len(ids) + 1}i", *ids, -1))
            digests.append(h.hexdigest()[:16])
        out.append({"name": name, "vocabulary": base, "replacements": parts, "unknown": unknown, "digests": digests})
    (HERE / "pipelines.json").write_text(json.dumps({"chunk": CHUNK, "more": MORE, "pipelines": out}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
