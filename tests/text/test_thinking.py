"""Replies split into thinking and answer: every way a prompt may leave off, whole and streamed, cut short anywhere."""

from __future__ import annotations

import itertools
import random

import pytest

from plait.text import Tokenizer
from plait.text.letters import letters_of_bytes
from plait.text.thinking import Reply, ThinkingStream, split, thinks

SPECIAL = ["<|im_start|>", "<|im_end|>"]


def tokenizer(*, marked: bool, template: str = "<think></think>") -> Tokenizer:
    """Bytes, two special tokens, and with `marked` the two markers as tokens of their own, as Qwen3 has them."""
    markers = ["<think>", "</think>"] if marked else []
    tokens = [*letters_of_bytes(), *SPECIAL, *markers]
    return Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "qwen2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [*[1] * 256, 3, 3, *[4] * len(markers)],
            "tokenizer.ggml.eos_token_id": 257,
            "tokenizer.chat_template": template,
        }
    )


MARKED, SPELLED = tokenizer(marked=True), tokenizer(marked=False)
HEAD = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
USER = "<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n"

CASES = [
    # prompt, reply → thinking, answer, finished
    (HEAD, "<think>\nhm\n</think>\n\nYes.<|im_end|>", Reply("hm", "Yes.", True)),
    (HEAD, "Yes.<|im_end|>", Reply("", "Yes.", True)),
    (HEAD, "\n\nYes.\n", Reply("", "\n\nYes.\n", True)),
    (HEAD + "<think>\n", "hm\n\nhm\n</think>\n\nYes.\n\nNo.\n", Reply("hm\n\nhm", "Yes.\n\nNo.\n", True)),
    (HEAD + "<think>\n", "\nhm", Reply("hm", "", False)),
    (HEAD + "<think>\n", "", Reply("", "", False)),
    (HEAD + "<think>\n", "</think>\n\nYes.", Reply("", "Yes.", True)),
    (HEAD + "<think>\n\n</think>\n\n", "Yes.", Reply("", "Yes.", True)),
    (HEAD + "<think>\n\n</think>\n\n", "\nYes.", Reply("", "Yes.", True)),
    (HEAD + "<think>\nLet me", "\nsee</think>Yes.", Reply("\nsee", "Yes.", True)),
    (HEAD + "<think>\nso</think>\nIt is", "\n42", Reply("", "\n42", True)),
    (HEAD, "<think>a</think>b<think>\nc</think>\nd", Reply("a\nc", "b\nd", True)),
    (HEAD, "<think>a</think><think></think>b", Reply("a", "b", True)),
    (HEAD, "no</think>yes", Reply("", "noyes", True)),
    (HEAD, "<think>a < b </ c <thin\n\n\nk</think>< d", Reply("a < b </ c <thin\n\n\nk", "< d", True)),
    (HEAD, "<think>想一想👩‍🚀</think>好的👍🏽", Reply("想一想👩‍🚀", "好的👍🏽", True)),
    (USER, "A <|im_end|>", Reply("", "A ", True)),
    (USER + "<think>\n", "A</think>B", Reply("A", "B", True)),
    ("", "<think>a</think>b", Reply("a", "b", True)),
    (HEAD, "<think>\n", Reply("", "", False)),
]


@pytest.mark.parametrize("own", [MARKED, SPELLED], ids=["markers are tokens", "markers are spelled"])
@pytest.mark.parametrize(("prompt", "reply", "expected"), CASES)
def test_replies(own: Tokenizer, prompt: str, reply: str, expected: Reply) -> None:
    ids, before = own.encode(reply), own.encode(prompt)
    assert split(own, ids, prompt=before) == expected
    stream = ThinkingStream(own, prompt=before)
    deltas = [*map(stream.add, ids), stream.finish()]
    assert "".join(delta.thinking for delta in deltas) == expected.thinking
    assert "".join(delta.answer for delta in deltas) == expected.answer
    assert stream.thinking is not expected.finished
    for delta in deltas:
        assert not (delta.thinking and delta.answer)
        assert not any(
            mark in delta.thinking + delta.answer for mark in ("<think>", "</think>", "<|im_end|>", "\ufffd")
        )


@pytest.mark.parametrize("own", [MARKED, SPELLED], ids=["markers are tokens", "markers are spelled"])
def test_a_reply_cut_anywhere_is_the_beginning_of_the_whole(own: Tokenizer) -> None:
    ids = own.encode("<think>\n想 </thin\n\n</think>\n\nYes 👍🏽\n")
    whole = split(own, ids)
    for stop in range(len(ids)):
        stream = ThinkingStream(own)
        shown = [stream.add(index) for index in ids[:stop]]
        assert whole.thinking.startswith("".join(delta.thinking for delta in shown))
        assert whole.answer.startswith("".join(delta.answer for delta in shown))


def test_marked_letters_spelled_by_other_tokens_are_text() -> None:
    ids = [letters_of_bytes().index(letter) for letter in "</think>"]
    opening = MARKED.convert_tokens_to_ids("<think>")
    assert split(MARKED, [opening, *ids]) == Reply("</think>", "", False)


def test_models_that_do_not_think() -> None:
    own = tokenizer(marked=False, template="{{ messages }}")
    assert not thinks(own)
    assert split(own, own.encode("<think>a</think>b")) == Reply("", "<think>a</think>b", True)


def test_other_markers() -> None:
    own = tokenizer(marked=False, template="[THINK] [/THINK]")
    reply = split(own, own.encode("[THINK]a[/THINK]b"), markers=("[THINK]", "[/THINK]"))
    assert reply == Reply("a", "b", True)


@pytest.mark.parametrize("own", [MARKED, SPELLED], ids=["markers are tokens", "markers are spelled"])
def test_streamed_is_whole_and_nothing_leaks(own: Tokenizer) -> None:
    """Any order of markers, line breaks, beginnings of markers and text, behind any prompt."""
    source = random.Random(13)
    parts = ["<think>", "</think>", "\n", "\n\n", "<", "</", "<thi", "a", "你", " b", "<|im_end|>"]
    prompts = ["", HEAD, HEAD + "<think>\n", HEAD + "<think>\n\n</think>\n\n", HEAD + "<think>x"]
    for _, prompt in itertools.product(range(150), prompts):
        text = "".join(source.choices(parts, k=source.randint(0, 12)))
        ids, before = own.encode(text), own.encode(prompt)
        whole = split(own, ids, prompt=before)
        stream = ThinkingStream(own, prompt=before)
        deltas = [*map(stream.add, ids), stream.finish()]
        assert "".join(delta.thinking for delta in deltas) == whole.thinking
        assert "".join(delta.answer for delta in deltas) == whole.answer
        # All letters are in one of the parts, in order, apart from markers, special tokens and line breaks.
        kept = text.replace("<think>", "").replace("</think>", "").replace("<|im_end|>", "").replace("\n", "")
        assert sorted((whole.thinking + whole.answer).replace("\n", "")) == sorted(kept)
