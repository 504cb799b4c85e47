"""Makes the corpus on which this program's tokenizers are compared with Hugging Face's `tokenizers`, and that library's answers.

    python tokenizer_parity.py corpus      tokenizer/corpus.gz, tokenizer/tokenizer.json, tokenizer/parity.json (for CI)
    python tokenizer_parity.py model SmolLM2-135M-Instruct.Q4_1.gguf [shared data directory]
                                           tokenizer/smollm2.json: the same for a real model's vocabulary, on the corpus and on
                                           the lines of files that may not be committed (only digests of the ids are kept)
    python tokenizer_parity.py show NAME [MODEL.gguf] INDEX
                                           the ids of one sample, to find out why a digest differs

corpus.gz holds samples separated by U+001E. They come from Python 3.11's standard library (sources, tests, documentation and C
headers: PSF License 2.0, copyright Python Software Foundation), from the Universal Declaration of Human Rights (public domain), and
from the generators below. A digest covers CHUNK samples: the first 16 hexadecimal digits of the SHA-256 of all ids as little-endian
int32, -1 after each sample.
"""

import gzip
import hashlib
import json
import pathlib
import random
import re
import struct
import sys
import sysconfig
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent / "tokenizer"
SEPARATOR = "\x1e"
CHUNK = 25
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PATTERNS = {
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PRE_TOKENIZERS = {
    "gpt2": BYTE_LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
    **{
        name: {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {**BYTE_LEVEL, "use_regex": False}]}
        for name, pattern in PATTERNS.items()
    },
}
PLACEHOLDER = '"pre_tokenizer":"PRE_TOKENIZER"'

DECLARATION = [
    "All human beings are born free and equal in dignity and rights.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "Todos os seres humanos nascem livres e iguais em dignidade e em direitos.",
    "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti.",
    "Alla människor är födda fria och lika i värde och rättigheter.",
    "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.",
    "Minden emberi lény szabadon születik és egyenlő méltósága és joga van.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
    "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "Всі люди народжуються вільними і рівними у своїй гідності та правах.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "人人生而自由，在尊严和权利上一律平等。",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "Բոլոր մարդիկ ծնվում են ազատ ու հավասար՝ իրենց արժանապատվությամբ և իրավունքներով։",
]


def standard_library(rng):
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    headers = pathlib.Path(sysconfig.get_config_var("INCLUDEPY"))

    def lines(paths):
        for path in sorted(paths):
            try:
                text = path.read_bytes().decode()
            except (UnicodeDecodeError, OSError):
                continue
            yield from (line for line in text.split("\n") if line.strip() and SEPARATOR not in line)

    code = list(lines(p for p in library.glob("*.py")))
    prose = list(lines(library.glob("idlelib/*.txt")))
    prose += [line for line in code if re.match(r"^ {4,8}[A-Z][a-z]+ [a-z]+ [a-z ,.]+$", line)]
    others = [line for line in lines(library.glob("test/**/*.py")) if re.search(r"[^\x00-\x7f]", line) and len(line) < 150]
    cjk = list(lines(library.glob("test/cjkencodings/*-utf8.txt")))
    c = list(lines(headers.glob("*.h")))
    samples = [
        line
        for lines_of_kind, count in ((prose, 1300), (code, 1100), (c, 600), (others, 700), (cjk, 100))
        for line in rng.sample(lines_of_kind, min(count, len(lines_of_kind)))
    ]
    # Several lines as one sample, some with Windows line ends.
    for i in range(100):
        start = rng.randrange(len(code) - 5)
        samples.append(rng.choice(["\n", "\r\n", "\n\n", " \n"]).join(code[start : start + 3]))
    return samples


def scripts(rng):
    """Makes words from every script's letters, marks and digits."""
    blocks = {}
    for code in range(0x80, 0x20000):
        c = chr(code)
        if 0xD800 <= code < 0xE000 or unicodedata.category(c) in ("Cn", "Co", "Cs"):
            continue
        blocks.setdefault(unicodedata.name(c, "?").split()[0], []).append(c)
    samples = []
    for name, characters in sorted(blocks.items()):
        if len(characters) < 8:
            continue
        for _ in range(2):
            words = ["".join(rng.choices(characters, k=rng.randint(1, 6))) for _ in range(rng.randint(1, 5))]
            samples.append(rng.choice([" ", "  ", ", "]).join(words))
    everything = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and chr(c) != SEPARATOR]
    for _ in range(200):
        samples.append("".join(rng.choices(everything, k=rng.randint(1, 8))))
    return samples[:1000] if len(samples) > 1000 else samples


def emoji(rng):
    base = ["👩", "👨", "🧑", "👧", "🏳️", "❤️", "🐻", "🏴‍☠️", "👍", "🤷", "🙂", "😀", "🇩🇪", "🇯🇵", "1️⃣", "#️⃣", "☎️"]
    parts = base + ["\u200d", "\u200d", "🏽", "🏿", "♀️", "💻", "🔥", "❄️", "\ufe0f", "🌈", "é", " ", "a"]
    return ["".join(rng.choices(parts, k=rng.randint(1, 9))) for _ in range(200)]


def nasty(rng):
    pieces = [
        " ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u3000", "\u2003", "\u200b", "\ufeff", "\x0b", "\x0c", "\x1c", "\x85",
        "\u2028", "'s", "'S", "'t", "'re", "'RE", "'ll", "'LL", "'Ve", "'m", "'d", "'ſ", "'", "''", "’s", "a", "A", "word", "Word", "été",
        "e\u0301", "\u0301", "ﬁ", "ß", "İ", "ſ", "1", "12", "123", "1234", "12345", "½", "Ⅻ", "٣", "१२३", "²", "𝟙", "一", "三十", "!", "?!", "...",
        "…", "—", "-", "_", "__init__", "$", "€", "#", "@", "/", "\\", "\"", "(", ")", "{}", "[]", "=>", "&amp;", "<|", "|>", "<|im_start|>",
        "<|im_end|>", "<|endoftext|>", "<|im_end", "日本", "語", "한국", "ไทย", "हिन्दी", "עברית", "العربية", "🙂", "\u0000", "\x01", "\x04", "\x7f",
    ]
    samples = ["".join(rng.choices(pieces, k=rng.randint(1, 12))) for _ in range(700)]
    samples += [" " * n for n in range(1, 12)] + ["\n" * n for n in range(1, 8)] + ["\r\n" * n + "x" for n in range(1, 5)]
    samples += ["a" * n for n in (10, 47, 48, 49, 50, 97, 1000)] + ["ab" * 300, "the" * 100, "=" * 80, "-" * 49, "0123456789" * 10, "é" * 60]
    samples += ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=k)) for k in (30, 48, 49, 60, 100, 400)]
    samples += ["It was great  1234 isn't  ok", " great", " terrible", "x  ", "x \n y", "x\n  y", "\n \n", " \n", "a\u00a0b", "a\u3000 b"]
    return samples


def corpus():
    rng = random.Random(2306)
    samples = standard_library(rng) + DECLARATION + scripts(rng) + emoji(rng) + nasty(rng)
    assert all(SEPARATOR not in s and s for s in samples) and len(samples) >= 5000, len(samples)
    return samples


def load_corpus():
    return gzip.decompress((HERE / "corpus.gz").read_bytes()).decode().split(SEPARATOR)


def digests(encode, samples, chunk):
    out = []
    for i in range(0, len(samples), chunk):
        h = hashlib.sha256()
        for sample in samples[i : i + chunk]:
            ids = encode(sample)
            h.update(struct.pack(f"<{len(ids) + 1}i", *ids, -1))
        out.append(h.hexdigest()[:16])
    return out


def small(name):
    """Returns the tests' own vocabulary with a pre-tokenizer, such as `qwen2`, and optionally a normaliser, as in `qwen2+NFC`."""
    pre_tokenizer, _, normalizer = name.partition("+")
    text = (HERE / "tokenizer.json").read_text()
    text = text.replace(PLACEHOLDER, '"pre_tokenizer":' + json.dumps(PRE_TOKENIZERS[pre_tokenizer]))
    if normalizer:
        text = text.replace('"normalizer":null', json.dumps({"normalizer": {"type": normalizer}})[1:-1])
    return Tokenizer.from_str(text)


def make_corpus():
    samples = corpus()
    (HERE / "corpus.gz").write_bytes(gzip.compress(SEPARATOR.join(samples).encode(), 9, mtime=0))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERNS["llama3"]), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    # There is no initial alphabet: as in SmolLM2, the vocabulary lacks some bytes, so their treatment is compared too.
    tokenizer.train_from_iterator(samples, trainers.BpeTrainer(
        vocab_size=2000, special_tokens=[AddedToken(t, special=True) for t in SPECIAL], show_progress=False))
    data = json.loads(tokenizer.to_str())
    data["pre_tokenizer"] = "PRE_TOKENIZER"
    (HERE / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
    result = {"chunk": CHUNK, "samples": len(samples), "preTokenizers": PRE_TOKENIZERS, "digests": {}}
    for name in [*PRE_TOKENIZERS, "qwen2+NFC"]:
        encode = small(name)
        result["digests"][name] = digests(lambda s: encode.encode(s).ids, samples, CHUNK)
    (HERE / "parity.json").write_text(json.dumps(result, indent=1) + "\n")
    print(len(samples), "samples", tokenizer.get_vocab_size(), "tokens")


def from_gguf(path):
    """Builds the tokenizer of a GGUF file with pre-tokenizer `smollm` by hand, because transformers' own conversion loses the digit split."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, kind in zip(tokens, types) if kind == 3])
    assert tokenizer.encode("It was great  1234 isn't  ok").tokens == "It|Ġwas|Ġgreat|ĠĠ|1|2|3|4|Ġisn|'t|Ġ|Ġok".split("|")
    return tokenizer


SHARED = ["sst2", "agnews", "cola", "e2e", "gsm8k", "rte", "sinica"]


def make_model(path, shared=None):
    tokenizer = from_gguf(path)
    samples = load_corpus()
    encode = lambda s: tokenizer.encode(s).ids
    result = {"chunk": CHUNK, "digests": digests(encode, samples, CHUNK), "shared": []}
    lines_total = 0
    for name in SHARED if shared else []:
        for file in sorted(p for p in (pathlib.Path(shared) / name).rglob("*") if p.is_file() and p.suffix != ".gz"):
            try:
                lines = file.read_bytes().decode().split("\n")
            except UnicodeDecodeError:
                continue
            lines_total += len(lines)
            result["shared"].append({"file": str(file.relative_to(shared)), "lines": len(lines), "digest": digests(encode, lines, len(lines))[0]})
    (HERE / "smollm2.json").write_text(json.dumps(result, indent=1) + "\n")
    print(len(samples), "samples,", lines_total, "lines of shared data")


if sys.argv[1:2] == ["corpus"]:
    make_corpus()
elif sys.argv[1:2] == ["model"]:
    make_model(*sys.argv[2:])
elif sys.argv[1:2] == ["show"]:
    name, *rest = sys.argv[2:]
    tokenizer = from_gguf(rest[0]) if name == "smollm2" else small(name)
    sample = load_corpus()[int(rest[-1])]
    print(repr(sample), tokenizer.encode(sample).ids, tokenizer.encode(sample).tokens)
else:
    sys.exit(__doc__)
