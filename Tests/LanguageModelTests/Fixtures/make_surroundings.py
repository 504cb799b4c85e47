"""Makes surroundings.json: the tokens that transformers' tokenizer classes put before and after a text.

    python make_surroundings.py

For each class, post-processor of tokenizer.json and add_bos_token of tokenizer_config.json, the ids of "x" as AutoTokenizer gives them. The rest
of tokenizer.json is the fixtures' own vocabulary.

And `whole`: the ids of whole texts with a vocabulary of SentencePiece, whose class is CodeLlama's, as AutoTokenizer gives them
(`ids`), and as PreTrainedTokenizerFast reads the same tokenizer.json (`file`).
"""

import gzip
import json
import pathlib
import tempfile

import tokenizers
import transformers

import make_pipelines

HERE = pathlib.Path(__file__).parent
BEGIN, END = "<|im_start|>", "<|im_end|>"
IDS = {BEGIN: 1, END: 2}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
CLASSES = [None, "PreTrainedTokenizerFast", "TokenizersBackend", "LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast",
           "GPT2Tokenizer", "GPT2TokenizerFast", "GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "GemmaTokenizer", "GemmaTokenizerFast", "Qwen2Tokenizer",
           "Qwen2TokenizerFast", "CohereTokenizerFast", "BloomTokenizerFast"]


def template(before, after):
    single = [{"SpecialToken": {"id": t, "type_id": 0}} for t in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [{"SpecialToken": {"id": t, "type_id": 0}} for t in after]
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [IDS[t]], "tokens": [t]} for t in sorted(set(before + after))}}


POST_PROCESSORS = {
    "none": None, "bytes": BYTES, "begin": template([BEGIN], []), "both": template([BEGIN], [END]), "end": template([], [END]),
    "sequence": {"type": "Sequence", "processors": [BYTES, template([BEGIN], [])]},
    "roberta": {"type": "RobertaProcessing", "sep": [END, IDS[END]], "cls": [BEGIN, IDS[BEGIN]], "trim_offsets": True, "add_prefix_space": False},
}


def ids(name, post_processor, adds):
    file = json.loads((HERE / "tokenizer/tokenizer.json").read_text().replace('"PRE_TOKENIZER"', json.dumps(BYTES)))
    file["post_processor"] = post_processor
    config = {"bos_token": BEGIN, "eos_token": END, "unk_token": "<|endoftext|>"}
    config |= {} if name is None else {"tokenizer_class": name}
    config |= {} if adds is None else {"add_bos_token": adds}
    with tempfile.TemporaryDirectory() as directory:
        for path, value in {"tokenizer.json": file, "tokenizer_config.json": config, "config.json": {"model_type": "llama"}}.items():
            (pathlib.Path(directory) / path).write_text(json.dumps(value, ensure_ascii=False))
        return transformers.AutoTokenizer.from_pretrained(directory)("x").input_ids


transformers.logging.set_verbosity_error()
rows = [{"class": name, "post_processor": kind, "add_bos_token": adds, "ids": ids(name, value, adds)}
        for name in CLASSES for kind, value in POST_PROCESSORS.items() for adds in (None, True, False)]


def codellama():
    """Returns a tokenizer.json's parts and texts with their ids. Control tokens in the texts are text."""
    text, parts = make_pipelines.assemble((HERE / "tokenizer/sentencepiece.json").read_text(), make_pipelines.LEGACY, None, [])
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "CodeLlamaTokenizer"}
    with tempfile.TemporaryDirectory() as directory:
        for path, value in {"tokenizer.json": text, "tokenizer_config.json": json.dumps(config), "config.json": '{"model_type":"llama"}'}.items():
            (pathlib.Path(directory) / path).write_text(value)
        named = transformers.AutoTokenizer.from_pretrained(directory)
    file = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(text), bos_token="<s>", eos_token="</s>")
    assert type(named).__name__ == "CodeLlamaTokenizer"
    corpus = gzip.decompress((HERE / "tokenizer/corpus.gz").read_bytes()).decode().split("\x1e")
    samples = [t for t in make_pipelines.MORE + corpus[::90] if "FILL_ME" not in t and len(t) < 200]
    samples += [" x", "  x", "def f(x):\n    return x\n", "\n", "x </s> y", " <s> y", "12345 don't", "日本 🙂"]
    encode = lambda t, s: t.encode(s, add_special_tokens=False, split_special_tokens=True)
    return {"config": config, "replacements": parts, "leading": named("").input_ids,
            "texts": [{"text": s, "ids": encode(named, s), "file": encode(file, s)} for s in samples]}


whole = {"transformers": transformers.__version__, "post_processors": POST_PROCESSORS, "rows": rows, "whole": codellama()}
(HERE / "tokenizer/surroundings.json").write_text(json.dumps(whole, separators=(",", ":")) + "\n")
texts = whole["whole"]["texts"]
print(len(rows), "rows,", len(texts), "whole texts,", sum(t["ids"] != t["file"] for t in texts), "of them other than by the file")
