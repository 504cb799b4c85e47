"""Converts the models of make_families.py with llama.cpp's own converter, for the test that reads GGUF files of all families.

    python make_family_gguf.py LLAMA_CPP OUT [NAME…]     (as make_families.py, and gguf)

LLAMA_CPP is a checkout that has convert_hf_to_gguf.py. Then: ONEBYTE_FAMILY_GGUF=OUT swift test -c release --filter FamilyGGUFTests
"""

import json
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, sys.argv[1])
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

import convert_hf_to_gguf as converter
import make_families as families


def set_vocabulary(model):
    """Returns a vocabulary of the least possible size, because the test reads no text."""
    count = model.hparams["vocab_size"]
    model.gguf_writer.add_tokenizer_model("gpt2")
    model.gguf_writer.add_tokenizer_pre("gpt-2")
    model.gguf_writer.add_token_list([f"t{i}" for i in range(count)])
    model.gguf_writer.add_token_types([1] * count)
    model.gguf_writer.add_token_merges(["t 0"])
    model.gguf_writer.add_bos_token_id(0)
    model.gguf_writer.add_eos_token_id(1)


def convert(name, out):
    kind, settings = families.MODELS[name]
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings), dtype=torch.float32)
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        model.save_pretrained(directory)
        tensors = load_file(directory / "model.safetensors")
        for tensor_name, tensor in tensors.items():
            tensors[tensor_name] = families.values(tensor_name, tensor.shape, *families.width_of(tensor_name, tensor, kind))
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
        config = converter.ModelBase.load_hparams(directory, False)
        # Keys of older files, which the converter still reads.
        config.setdefault("n_ctx", config.get("n_positions"))
        config.setdefault("rotary_pct", config.get("rope_parameters", {}).get("partial_rotary_factor", 1.0))
        if kind == "falcon":
            config["num_kv_heads"] = 1
        for tokenizer in (families.HERE / "tiny-llama").glob("tokenizer*"):
            shutil.copy(tokenizer, directory)
        architecture = config["architectures"][0]
        cls = converter.get_model_class(architecture) if hasattr(converter, "get_model_class") else converter.ModelBase.from_model_architecture(architecture)
        own = type("Own" + cls.__name__, (cls,), {"set_vocab": set_vocabulary, "model_arch": cls.model_arch})
        instance = own(directory, converter.gguf.LlamaFileType.ALL_F32, out / f"{name}.gguf", hparams=config)
        instance.write()


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or families.MODELS:
        try:
            convert(name, out)
            print("ok", name, flush=True)
        except (Exception, SystemExit) as error:
            print("FAILED", name, type(error).__name__, str(error)[:300], flush=True)
