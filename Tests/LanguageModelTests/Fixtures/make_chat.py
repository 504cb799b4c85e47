"""Conversations as transformers' Jinja environment writes them, for each template that is built in.

    python make_chat.py      chat.json
"""

import json
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
SYSTEM = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI "
          "assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}" + CHATML.removeprefix("{% for message in messages %}").replace("\\n", "\n"))
LLAMA3 = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
          "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
          "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
ZEPHYR = ("{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
          "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
          "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n"
          "{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
CONVERSATIONS = [
    [("user", "Hello")],
    [("system", "Be brief."), ("user", "Hello \"there\"\n"), ("assistant", " Hi!\n")],
    [("user", "1"), ("assistant", "2"), ("user", "été 🙂"), ("assistant", "")],
]

out = []
for name, template in [("chatml", CHATML), ("system", SYSTEM), ("llama3", LLAMA3), ("zephyr", ZEPHYR)]:
    for conversation in CONVERSATIONS:
        messages = [{"role": r, "content": c} for r, c in conversation]
        texts = [
            render_jinja_template([messages], chat_template=template, add_generation_prompt=start, bos_token="<|begin_of_text|>", eos_token="</s>")[0][0]
            for start in (False, True)
        ]
        out.append({"name": name, "template": template, "messages": messages, "text": texts[0], "textWithReplyStart": texts[1]})
(pathlib.Path(__file__).parent / "chat.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")
