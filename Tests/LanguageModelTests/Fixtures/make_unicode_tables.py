"""Writes Sources/LanguageModel/Tokenizer/UnicodeTables.swift from what Hugging Face's `tokenizers` treats as letters, numbers,
white space, punctuation and the other categories. Its patterns run on Oniguruma, its `Digits` and `Punctuation` splitters on tables of
their own, which follow different versions of Unicode. Asking the library itself for every scalar is the only way to agree with it.

    python make_unicode_tables.py      (tokenizers 0.23.3: Oniguruma has Unicode 16.0, Rust 17.0)
"""

import pathlib

import tokenizers
from tokenizers import Regex, pre_tokenizers

TARGET = pathlib.Path(__file__).resolve().parents[3] / "Sources/LanguageModel/Tokenizer/UnicodeTables.swift"
SCALARS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
STEP = 20000


def matching(pattern):
    found = set()
    splitter = pre_tokenizers.Split(Regex(pattern), "removed")
    for i in range(0, len(SCALARS), STEP):
        text = "|".join(SCALARS[i : i + STEP])
        kept = set()
        for _, (start, end) in splitter.pre_tokenize_str(text):
            kept.update(range(start, end))
        found.update(text[j] for j in range(0, len(text), 2) if j not in kept)
    return found


def digits():
    found = set()
    splitter = pre_tokenizers.Digits(individual_digits=True)
    for i in range(0, len(SCALARS), STEP):
        text = "xx".join(SCALARS[i : i + STEP])
        for piece, (start, end) in splitter.pre_tokenize_str(text):
            if end - start == 1 and start % 3 == 0:
                found.add(piece)
    return found


def punctuation():
    found = set()
    splitter = pre_tokenizers.Punctuation(behavior="isolated")
    for i in range(0, len(SCALARS), STEP):
        for piece, (start, end) in splitter.pre_tokenize_str("xx".join(SCALARS[i : i + STEP])):
            if end - start == 1 and start % 3 == 0:
                found.add(piece)
    return found


CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn".split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcd"


def categories():
    """Returns every scalar's general category as runs: a letter for the category (by its place in CATEGORIES), and the length unless it is 1."""
    of = ["b"] * 0x110000
    for category, letter in zip(CATEGORIES, LETTERS):
        if category != "Cs":
            for scalar in matching(r"\p{%s}" % category):
                assert of[ord(scalar)] == "b"
                of[ord(scalar)] = letter
    runs, code = [], 0
    while code < len(of):
        end = code
        while end < len(of) and of[end] == of[code]:
            end += 1
        runs.append(of[code] + (str(end - code) if end - code > 1 else ""))
        code = end
    lines, line = [], ""
    for run in runs:
        if len(line) + len(run) > 126:
            lines.append(line)
            line = ""
        line += run
    lines.append(line)
    body = "\\\n".join("        " + line for line in lines)
    return f'    /// {" ".join(CATEGORIES)}, in runs: `A` for Lu and so on, and how many scalars, unless it is one.\n    static let categories: StaticString = """\n{body}\n        """\n'


def ranges(found):
    out = []
    for code in sorted(ord(c) for c in found):
        if out and out[-1][0] + out[-1][1] == code:
            out[-1][1] += 1
        else:
            out.append([code, 1])
    return out


def table(name, comment, found):
    items = [f"0x{start:x}, {count}," for start, count in ranges(found)]
    lines, line = [], "       "
    for item in items:
        if len(line) + 1 + len(item) > 130:
            lines.append(line)
            line = "       "
        line += " " + item
    lines.append(line)
    return f"    /// {comment}\n    package static let {name}: [UInt32] = [\n" + "\n".join(lines) + "\n    ]\n"


letters, numbers, spaces = matching(r"\p{L}"), matching(r"\p{N}"), matching(r"\s")
assert not letters & numbers and not spaces & (letters | numbers)
more = digits() - numbers
assert not more & letters
signs = punctuation() - matching(r"\p{P}") - set("$+<=>^`|~")
fewer = matching(r"\p{P}") - punctuation()
TARGET.write_text(
    f"// Made by Tests/LanguageModelTests/Fixtures/make_unicode_tables.py from tokenizers {tokenizers.__version__}; not edited by hand.\n\n"
    "/// Ranges of scalars, each as its first and its number of scalars.\n"
    "package enum UnicodeTables {\n"
    + table("letters", r"`\p{L}`", letters) + "\n"
    + table("numbers", r"`\p{N}`", numbers) + "\n"
    + table("spaces", r"`\s`", spaces) + "\n"
    + table("laterDigits", r"What the `Digits` splitter takes for a digit beyond `\p{N}`: its Unicode is newer.", more) + "\n"
    + table("otherPunctuation", r"What the `Punctuation` splitter takes for punctuation beyond `\p{P}` and ASCII's signs.", signs) + "\n"
    + table("laterPunctuation", r"What it does not take for it of `\p{P}`: its Unicode is older.", fewer) + "\n"
    + "".join(table(name.lower(), r"`\p{%s}`" % name, matching(r"\p{%s}" % name)) + "\n" for name in ("Han", "Hiragana", "Katakana", "Hangul"))
    + table("words", r"`\w` beyond letters, marks, decimal digits and connectors", matching(r"\w") - matching(r"[\p{L}\p{M}\p{Nd}\p{Pc}]")) + "\n"
    + categories()
    + "}\n"
)
