"""Templates built from the constructs of published ones, against transformers' rendering of the same conversations.

| template | constructs of |
|---|---|
| chatml_tools | Qwen2.5: tools as JSON, calls and results merged into turns |
| chatml_thinking | Qwen3: a search from the end, thinking of past turns dropped, enable_thinking |
| headers | Llama 3: dates, tools in the user's turn, slices of messages, raise_exception |
| instructions | Mistral: turns that must alternate, filters on attributes, JSON built by hand |
| turns | Gemma: content in parts, a system text that joins the first turn |
| flags | DeepSeek-R1: flags in a namespace, all on one line |
| first_turn | SmolLM2: a default system text |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plait.errors import TemplateError
from plait.text import Tokenizer
from plait.text.thinking import ThinkingStream

FOLDER = Path(__file__).parent / "templates"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jinja"))

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Größe <b> & 'c'"}}},
    },
}
CALL = {
    "role": "assistant",
    "tool_calls": [
        {"type": "function", "id": "123456789", "function": {"name": "weather", "arguments": {"city": "北京"}}}
    ],
}
SYSTEM = {"role": "system", "content": " Be kind. "}
USER, REPLY = {"role": "user", "content": "Hi 你好\n"}, {"role": "assistant", "content": " Hello "}
THOUGHT = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes"}
RESULT = {"role": "tool", "content": '{"degrees": 21}'}
TALKS: dict[str, list[dict[str, Any]]] = {
    "a question": [USER],
    "with a system text": [SYSTEM, USER],
    "two turns": [USER, REPLY, USER],
    "a closed turn": [SYSTEM, USER, REPLY],
    "thinking in the past": [USER, THOUGHT, USER],
    "thinking at the end": [USER, THOUGHT],
    "thinking in a field": [USER, {"role": "assistant", "content": "Yes", "reasoning_content": "hm"}, USER],
    "a call": [USER, CALL],
    "a result": [USER, CALL, RESULT],
    "two results": [USER, CALL, RESULT, RESULT, REPLY, USER],
    "roles out of turn": [USER, USER],
    "nobody asks": [REPLY],
    "content in parts": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " what? "}]}],
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"add_generation_prompt": True},
    {"add_generation_prompt": True, "enable_thinking": False},
    {"tools": [TOOL, TOOL], "date_string": "2 Feb 2002"},
    {"tools": [TOOL], "in_user": False, "builtin_tools": ["interpreter", "weather"], "date_string": "2 Feb 2002"},
]


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", NAMES)
def test_as_transformers_renders(name: str, talk: str, chat: Tokenizer, their_chat: Any) -> None:
    template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    for options in OPTIONS:
        named = {"chat_template": template, "tokenize": False, **options}
        expected = refusal = ""
        try:
            expected = their_chat.apply_chat_template(TALKS[talk], **named)
        except Exception as error:
            refusal = str(error)
        if refusal:  # both refuse, and ours says where
            with pytest.raises(TemplateError, match=r"(refuses this conversation|fails) at line \d+: ") as caught:
                chat.apply_chat_template(TALKS[talk], **named)
            assert refusal in str(caught.value)
        else:
            assert chat.apply_chat_template(TALKS[talk], **named) == expected
    named = {"chat_template": template, "return_dict": True}
    if talk == "a question" and name != "headers":
        assert dict(chat.apply_chat_template(TALKS[talk], **named)) == {
            "input_ids": chat.encode(chat.apply_chat_template(TALKS[talk], chat_template=template, tokenize=False)),
            "attention_mask": [1] * len(chat.apply_chat_template(TALKS[talk], chat_template=template)),
        }


def test_thinking_on_and_off(chat: Tokenizer) -> None:
    """The template decides where the reply begins, and the reply is split from there."""
    template = (FOLDER / "chatml_thinking.jinja").read_text(encoding="utf-8")
    own = Tokenizer(chat.engine, roles={"eos_token": chat.eos_token}, chat_template=template)
    head = "<|im_start|>user\nHi 你好\n<|im_end|>\n<|im_start|>assistant\n"
    for named, tail in (
        ({}, ""),
        ({"enable_thinking": True}, ""),
        ({"enable_thinking": False}, "<think>\n\n</think>\n\n"),
    ):
        assert own.apply_chat_template([USER], tokenize=False, add_generation_prompt=True, **named) == head + tail
        prompt = own.apply_chat_template([USER], add_generation_prompt=True, **named)
        assert ThinkingStream(own, prompt=prompt).thinking is False
    flags = (FOLDER / "flags.jinja").read_text(encoding="utf-8")
    own.chat_template = flags
    prompt = own.apply_chat_template([USER], add_generation_prompt=True)
    assert ThinkingStream(own, prompt=prompt).thinking is True


def test_refusals_name_the_reason(chat: Tokenizer) -> None:
    template = (FOLDER / "instructions.jinja").read_text(encoding="utf-8")
    with pytest.raises(TemplateError, match="refuses this conversation at line 13: User and assistant take turns"):
        chat.apply_chat_template([USER, USER], chat_template=template)
