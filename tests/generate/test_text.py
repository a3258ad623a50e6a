"""Text piece by piece: what is shown when, and why it ends, whatever coincides."""

from __future__ import annotations

import pytest
import torch
from mock_model import LetterTokenizer, ScriptModel

from plait.generate.text import Piece, generate_text

PROMPT = torch.tensor([[0]])


def pieces(script: list[int], **options: object) -> list[Piece]:
    return list(generate_text(ScriptModel([script]), LetterTokenizer(), PROMPT, eos_token_id=9, **options))


@pytest.mark.parametrize(
    ("script", "options", "text", "tokens", "reason"),
    [
        ([1, 2, 3], {"max_new_tokens": 3}, "bcd", 3, "length"),
        ([1, 2, 9], {"max_new_tokens": 3}, "bc", 3, "stop"),  # the end token at the last step
        ([1, 2, 9], {"max_new_tokens": 2}, "bc", 2, "length"),
        ([9, 9, 9], {"max_new_tokens": 3}, "", 1, "stop"),
        ([1, 2, 3], {"max_new_tokens": 3, "stop_strings": "cd"}, "b", 3, "stop"),  # a stop string at the last step
        ([1, 2, 3, 4], {"max_new_tokens": 4, "stop_strings": ["c", "zz"]}, "b", 2, "stop"),
        ([1, 2, 9], {"max_new_tokens": 4, "stop_strings": ["cd"]}, "bc", 3, "stop"),  # held back, and then no stop
        ([1, 2, 3], {"max_new_tokens": 2, "stop_strings": ["cd"]}, "bc", 2, "length"),
        ([1, 2], {"max_new_tokens": 2, "max_time": 0.0}, "b", 1, "length"),
    ],
)
def test_text_and_reason(script: list[int], options: dict, text: str, tokens: int, reason: str) -> None:
    result = pieces(script, **options)
    assert "".join(piece.text for piece in result) == text
    assert [piece.finish_reason for piece in result[:-1]] == [None] * (len(result) - 1)
    assert result[-1].finish_reason == reason
    assert result[-1].tokens == tokens


def test_what_may_begin_a_stop_string_waits() -> None:
    shown = [piece.text for piece in pieces([1, 2, 3, 5, 9], max_new_tokens=5, stop_strings=["cde"])]
    assert shown == ["b", "", "", "cdf", ""]


def test_bytes_left_in_the_detokenizer_come_last() -> None:
    class Late(LetterTokenizer):
        def detokenizer(self, **options: object) -> Late:
            assert options == {"skip_special_tokens": False}
            return Late()

        def finish(self) -> str:
            return "!?"

    options = {"max_new_tokens": 1, "skip_special_tokens": False}
    steps = generate_text(ScriptModel([[1]]), Late(), PROMPT, **options)
    assert list(steps) == [Piece("b", 1), Piece("!?", 1, "length")]
    cut = generate_text(ScriptModel([[1]]), Late(), PROMPT, stop_strings="?", **options)
    assert list(cut) == [Piece("b", 1), Piece("!", 1, "stop")]


def test_closing_ends_the_generation() -> None:
    model = ScriptModel([[1, 2, 3, 4]])
    steps = generate_text(model, LetterTokenizer(), PROMPT, max_new_tokens=4)
    next(steps)
    steps.close()
    assert model.calls == 1
