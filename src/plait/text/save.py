"""A tokenizer to a folder, complete: tokenizer.json, tokenizer_config.json, special_tokens_map.json, chat templates.

transformers reads the result with AutoTokenizer and gives the same ids.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.errors import TokenizerError

if TYPE_CHECKING:
    from tokenizers import AddedToken

    from plait.text.tokenizer import Tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> tuple[str, ...]:
    """Write the tokenizer's files into `folder`, which is made when missing; returns the paths written."""
    if folder.is_file():
        raise TokenizerError(f"{folder} is a file; save_pretrained writes several files and needs a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "tokenizer.json": tokenizer.engine.to_json(),
        "tokenizer_config.json": _dump(config(tokenizer)),
        "special_tokens_map.json": _dump(tokenizer.special_tokens_map),
        **templates(tokenizer.chat_template),
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tuple(str(folder / name) for name in texts)


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def config(tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer_config.json: what was read and not understood stays, what the tokenizer knows is written anew."""
    dropped = {"chat_template", "extra_special_tokens", "name_or_path", "model_type"}
    values = {key: value for key, value in tokenizer.init_kwargs.items() if key not in dropped}
    values |= tokenizer.special_tokens_map
    # The engine's rules are in tokenizer.json; a class that builds rules of its own would put others in their place.
    values["tokenizer_class"] = "PreTrainedTokenizerFast"
    values["model_input_names"] = tokenizer.model_input_names
    values["model_max_length"] = tokenizer.model_max_length
    values["padding_side"] = tokenizer.padding_side
    values["truncation_side"] = tokenizer.truncation_side
    values["clean_up_tokenization_spaces"] = bool(tokenizer.clean_up_tokenization_spaces)
    values["added_tokens_decoder"] = {
        str(index): spelled(token) for index, token in tokenizer.added_tokens_decoder.items()
    }
    for flag in ("add_bos_token", "add_eos_token"):
        values.pop(flag, None)
    return values


def spelled(token: AddedToken) -> dict[str, Any]:
    """An added token as configuration files write it."""
    return {
        "content": token.content,
        "lstrip": token.lstrip,
        "normalized": token.normalized,
        "rstrip": token.rstrip,
        "single_word": token.single_word,
        "special": token.special,
    }


def templates(template: str | dict[str, str] | None) -> dict[str, str]:
    """File name → chat template."""
    if template is None:
        return {}
    if isinstance(template, str):
        return {"chat_template.jinja": template}
    return {
        "chat_template.jinja" if name == "default" else f"additional_chat_templates/{name}.jinja": text
        for name, text in template.items()
    }
