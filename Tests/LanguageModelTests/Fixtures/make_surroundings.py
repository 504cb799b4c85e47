"""Makes surroundings.json: the tokens that transformers' tokenizer classes put before and after a text.

    python make_surroundings.py

For each class, post-processor of tokenizer.json and add_bos_token of tokenizer_config.json, the ids of "x" as AutoTokenizer gives them. The rest
of tokenizer.json is the fixtures' own vocabulary.
"""

import json
import pathlib
import tempfile

import transformers

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
whole = {"transformers": transformers.__version__, "post_processors": POST_PROCESSORS, "rows": rows}
(HERE / "tokenizer/surroundings.json").write_text(json.dumps(whole, separators=(",", ":")) + "\n")
print(len(rows), "rows")
