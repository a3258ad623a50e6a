"""Thinking behind the server: set apart from the answer whatever the template left open, streamed and whole alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from torch import Tensor

from plait.generate import GenerationConfig
from plait.serve.engine import Engine
from plait.serve.http import application
from plait.text import Tokenizer
from plait.text.letters import letters_of_bytes

CHAT = "/v1/chat/completions"
# As Qwen3 does it: enable_thinking=False closes an empty block in the prompt; "open" is for templates that open one.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined %}{% if enable_thinking == 'open' %}<think>\n"
    "{% elif not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def tokenizer_of_bytes(*, marked: bool) -> Tokenizer:
    """A token for each byte, and with `marked` one for each marker, so that characters and markers are cut anywhere."""
    markers = ["<think>", "</think>"] if marked else []
    return Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "qwen2",
            "tokenizer.ggml.tokens": [*letters_of_bytes(), "<|im_start|>", "<|im_end|>", *markers],
            "tokenizer.ggml.token_type": [*[1] * 256, 3, 3, *[4] * len(markers)],
            "tokenizer.ggml.eos_token_id": 257,
            "tokenizer.chat_template": TEMPLATE,
        }
    )


class Speaker:
    """A model that says `reply` and then the end token."""

    def __init__(self, tokenizer: Tokenizer, reply: str) -> None:
        self.ids = [*tokenizer(reply, add_special_tokens=False)["input_ids"], 257]
        self.generation_config = GenerationConfig(eos_token_id=257)

    def new_cache(self, batch: int, *, capacity: int) -> list[int]:
        return list(self.ids)

    def next_logits(
        self, tokens: Tensor, *, cache: Any, valid: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor([cache.pop(0)]), 300).float()


def replies(marked: bool, reply: str, **fields: Any) -> list[tuple[str | None, str, str]]:
    """(thinking, content, reason) of the whole answer and of the joined stream."""
    tokenizer = tokenizer_of_bytes(marked=marked)
    engine = Engine(Speaker(tokenizer, reply), tokenizer)
    body = {"messages": [{"role": "user", "content": "What is <think>?"}], **fields}
    with TestClient(application(engine, name="m"), base_url="http://localhost") as client:
        choice = client.post(CHAT, json=body).json()["choices"][0]
        text = client.post(CHAT, json={**body, "stream": True}).text
    message = choice["message"]
    assert message.get("reasoning") == message.get("reasoning_content")
    chunks = [json.loads(frame.removeprefix("data: "))["choices"][0] for frame in text.split("\n\n")[:-2]]
    deltas = [part["delta"] for part in chunks]
    assert all(delta.get("reasoning") == delta.get("reasoning_content") for delta in deltas)
    thinking = "".join(delta.get("reasoning", "") for delta in deltas) or None
    content = "".join(delta.get("content", "") for delta in deltas)
    return [
        (message.get("reasoning"), message["content"], choice["finish_reason"]),
        (thinking, content, chunks[-1]["finish_reason"]),
    ]


CASES = [
    # enable_thinking, what the model says → thinking, content
    (None, "<think>\nhm 想\n</think>\n\nYes 👍🏽.", "hm 想", "Yes 👍🏽."),
    (None, "Yes.", None, "Yes."),
    (True, "<think>\nhm\n</think>\n\nYes.", "hm", "Yes."),
    (False, "Yes.", None, "Yes."),
    (False, "\nYes </ no.", None, "Yes </ no."),
    ("open", "hm\n</think>\n\nYes.", "hm", "Yes."),
    ("open", "hm", "hm", ""),
]


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize(("switch", "reply", "thinking", "content"), CASES)
def test_thinking_and_answer_are_told_apart(
    marked: bool, switch: object, reply: str, thinking: str | None, content: str
) -> None:
    options = {} if switch is None else {"chat_template_kwargs": {"enable_thinking": switch}}
    assert replies(marked, reply, **options) == [(thinking, content, "stop")] * 2


@pytest.mark.parametrize("marked", [True, False])
def test_a_limit_within_the_thinking_loses_nothing(marked: bool) -> None:
    reply = "<think>\nabc"
    limit = len(tokenizer_of_bytes(marked=marked)(reply, add_special_tokens=False)["input_ids"])
    assert replies(marked, reply + "def</think>x", max_tokens=limit) == [("abc", "", "length")] * 2


def test_stop_strings_are_for_the_answer() -> None:
    got = replies(True, "<think>stop here</think>\n\nand stop here", stop="stop")
    assert got == [("stop here", "and ", "stop")] * 2


def test_thinking_stays_in_the_text_when_asked() -> None:
    got = replies(True, "<think>a</think>b", separate_reasoning=False)
    assert got == [(None, "<think>a</think>b", "stop")] * 2
