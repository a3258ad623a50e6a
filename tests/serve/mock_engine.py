"""A model that says a fixed text letter by letter, and the tokenizer of its letters: a server without a checkpoint."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from plait.errors import TemplateError
from plait.generate import GenerationConfig

# A token is a byte of UTF-8, so that most characters take several; 0 is the end.
END = 0


class ByteDetokenizer:
    def __init__(self) -> None:
        self.held = b""

    def add(self, token: int) -> str:
        self.held += bytes([token])
        try:
            text = self.held.decode("utf-8")
        except UnicodeDecodeError:
            return ""
        self.held = b""
        return text

    def finish(self) -> str:
        text, self.held = self.held.decode("utf-8", errors="replace"), b""
        return text


class NoMarkers:
    def token_to_id(self, token: str) -> None:
        return None


class ByteTokenizer:
    chat_template = "{{ messages }}"
    engine = NoMarkers()

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode("utf-8"))}

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> list[int]:
        assert (options.pop("tokenize"), options.pop("add_generation_prompt"), options.pop("return_dict")) == (
            True,
            True,
            False,
        )
        if options.get("fail"):
            raise TemplateError("the template failed on line 1")
        text = "".join(f"{message['role']}:{message['content']}\n" for message in messages)
        return list((text + "".join(f"{name}={value}\n" for name, value in options.items())).encode("utf-8"))

    def detokenizer(self, **options: Any) -> ByteDetokenizer:
        return ByteDetokenizer()


class EchoModel:
    """Says `reply`, or the prompt itself when it is None, and then the end. Each step waits for `gate` to be set."""

    class config:  # the attribute of a real model
        max_position_embeddings = 64

    def __init__(self, reply: str | None = None, *, fail_at: int | None = None, cut: int = 0) -> None:
        self.reply = reply
        self.fail_at = fail_at
        self.cut = cut
        self.generation_config = GenerationConfig(eos_token_id=END)
        self.gate = threading.Event()
        self.gate.set()
        self.steps = 0
        self.finished_prompts: list[str] = []

    def new_cache(self, batch: int, *, capacity: int) -> list[int]:
        return []

    def next_logits(
        self, tokens: Tensor, *, cache: Any, valid: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        assert self.gate.wait(20)
        self.steps += 1
        if not cache:
            prompt = bytes(tokens[0].tolist())
            said = prompt if self.reply is None else self.reply.encode("utf-8")
            cache.extend([*said[: len(said) - self.cut], END])
            self.finished_prompts.append(prompt.decode("utf-8"))
        if self.fail_at == self.steps:
            raise ZeroDivisionError("the secret inside")
        return torch.nn.functional.one_hot(torch.tensor([cache.pop(0)]), 256).float()
