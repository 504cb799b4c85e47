"""Makes peft.json: LoRA adapters of models of make_families.py, with the losses that peft and transformers get in F64.

    python make_peft.py          (as make_families.py, and peft)

An adapter's values are functions of its tensors' names, as a model's are. An adapter has its adapter_config.json as peft writes it, its tensors
with shape and half width of their values (a magnitude of DoRA lies around 1), and the loss of each token after the first.
"""

import json
import pathlib
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

import make_families as families

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "plain": ("llama", dict(r=3, lora_alpha=6, target_modules=LINEAR)),
    "rank-stabilised": ("llama", dict(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj"])),
    "patterns": ("qwen3", dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], rank_pattern={"down_proj": 5}, alpha_pattern={"layers.1.self_attn.q_proj": 16})),
    "weights": ("llama", dict(r=2, target_modules=["o_proj"], use_dora=True)),
    "weights-transposed": ("gpt2", dict(r=2, target_modules=["c_attn", "mlp.c_proj"], use_dora=True, fan_in_fan_out=True)),
    "transposed": ("gpt2", dict(r=3, lora_alpha=9, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)),
    "fused": ("phi-4", dict(r=3, lora_alpha=9, target_modules=["qkv_proj", "gate_up_proj"])),
    "by-head": ("pythia", dict(r=3, lora_alpha=9, target_modules=["query_key_value", "dense_4h_to_h"])),
    "saved": ("llama", dict(r=3, lora_alpha=9, target_modules=["q_proj"], modules_to_save=["lm_head", "input_layernorm"])),
    "biases": ("qwen2", dict(r=3, lora_alpha=9, target_modules=["q_proj"], bias="lora_only")),
    "tied-head": ("qwen3", dict(r=3, lora_alpha=9, target_modules=["lm_head", "v_proj"])),
    "tied-embedding": ("qwen3", dict(r=3, lora_alpha=9, target_modules=["embed_tokens", "v_proj"])),
}


def describe(name):
    family, settings = ADAPTERS[name]
    kind, own = families.MODELS[family]
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **own), dtype=torch.float32, attn_implementation="eager").eval()
    with tempfile.TemporaryDirectory() as directory:
        base.save_pretrained(directory + "/base")
        file = directory + "/base/model.safetensors"
        stored = {key: families.values(key, tensor.shape, *families.width_of(key, tensor, kind)) for key, tensor in load_file(file).items()}
        save_file(stored, file, {"format": "pt"})
        load = lambda: AutoModelForCausalLM.from_pretrained(directory + "/base", dtype=torch.float32, attn_implementation="eager").eval()
        get_peft_model(load(), LoraConfig(task_type="CAUSAL_LM", **settings)).save_pretrained(directory + "/adapter")
        file = directory + "/adapter/adapter_model.safetensors"
        tensors = {}
        stored = load_file(file)
        for key, tensor in stored.items():
            mean = 1.0 if "magnitude" in key or "norm" in key else 0.0
            half_width = 0.3 if tensor.dim() == 1 else round(1.0 / tensor.shape[-1] ** 0.5, 4)
            tensors[key] = [list(tensor.shape), mean, half_width]
            stored[key] = families.values(key, tensor.shape, mean, half_width)
        save_file(stored, file, {"format": "pt"})
        before = load().double()
        model = PeftModel.from_pretrained(load(), directory + "/adapter").double().eval()
        config = json.loads(pathlib.Path(directory + "/adapter/adapter_config.json").read_text())
    config = {key: value for key, value in config.items() if value is not None and key != "peft_version"}
    config |= {"base_model_name_or_path": "base", "target_modules": sorted(config["target_modules"])}
    tokens = [int(t) for t in (families.np.arange(40) * 17 + 3 * (families.np.arange(40) % 7)) % (families.VOCABULARY - 2) + 2]
    with torch.no_grad():
        log_p = torch.log_softmax(model(torch.tensor([tokens])).logits[0].double(), -1)
        before = torch.log_softmax(before(torch.tensor([tokens])).logits[0].double(), -1)
    losses = [-log_p[i, tokens[i + 1]].item() for i in range(len(tokens) - 1)]
    assert abs(sum(losses) + sum(before[i, tokens[i + 1]].item() for i in range(len(tokens) - 1))) > 0.1, name
    return dict(name=name, family=family, config=config, tensors=tensors, losses=[round(x, 9) for x in losses])


if __name__ == "__main__":
    made = []
    for name in ADAPTERS:
        made.append(describe(name))
        print(name, sum(made[-1]["losses"]) / 39, flush=True)
    (families.HERE / "peft.json").write_text("[\n" + ",\n".join(json.dumps(m, separators=(",", ":")) for m in made) + "\n]\n")
