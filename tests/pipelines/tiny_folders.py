"""Folders of tiny random models with real tokenizers, made once per run; both libraries read the same files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

from plait.models.auto import AutoTokenizer

transformers.utils.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()

# A template of one line per message, so that a tiny model's chat is short.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def bert(folder: Path, tokenizer_folder: Path, kind: str, **values: Any) -> Path:
    """A BERT of `transformers.<kind>` with MiniLM's vocabulary."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=512,
        initializer_range=0.25,
        **values,
    )
    getattr(transformers, kind)(config).eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (tokenizer_folder / name).is_file():
            shutil.copy(tokenizer_folder / name, folder / name)
    return folder


def llama(folder: Path, gguf: Path) -> Path:
    """A Llama with SmolLM2's tokenizer, which is read from its GGUF file."""
    tokenizer = AutoTokenizer.from_pretrained(gguf)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.25,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    transformers.LlamaForCausalLM(config).eval().save_pretrained(folder)
    return folder


def t5(folder: Path, tokenizer_folder: Path, prefixes: dict[str, str]) -> Path:
    """A T5 with MiniLM's vocabulary and a prefix for each task that is named."""
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4, "initializer_factor": 4.0}
    tokens = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 102}
    config = transformers.T5Config(vocab_size=30522, **sizes, **tokens)
    config.task_specific_params = {task: {"prefix": prefix, "num_beams": 4} for task, prefix in prefixes.items()}
    transformers.T5ForConditionalGeneration(config).eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(tokenizer_folder / name, folder / name)
    return folder
