"""The layer between tokens and an answer, complete for one sequence: the text of a generation, piece by piece."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from plait.generate.generation import config_of, plan
from plait.generate.protocol import LanguageModel
from plait.generate.settings import GenerationConfig
from plait.generate.stopping import StopStrings

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Piece:
    """Whole characters of text (perhaps none yet), after `tokens` new tokens; the last piece says why it is the last.

    `thinking` is text of the same kind that a splitter set apart from the answer.
    "stop": an end token, a stop string or a stop of the caller's; "length": the limit of tokens or of time.
    """

    text: str
    tokens: int
    finish_reason: FinishReason | None = None
    thinking: str = ""


class _Unsplit:
    """A detokenizer as a splitter: everything is answer."""

    def __init__(self, detokenizer: Any) -> None:
        self.detokenizer = detokenizer

    def add(self, token: int) -> tuple[str, str]:
        return "", self.detokenizer.add(token)

    def finish(self) -> tuple[str, str]:
        return "", self.detokenizer.finish()


def generate_text(
    model: LanguageModel,
    tokenizer: Any,
    input_ids: Tensor,
    *,
    generation_config: GenerationConfig | None = None,
    generator: torch.Generator | None = None,
    seed: int | None = None,
    skip_special_tokens: bool = True,
    splitter: Any = None,
    **options: Any,
) -> Generator[Piece, None, None]:
    """Yield one piece per new token after `input_ids` (1, T), and a last one with the reason for the end.

    Text is cut before a stop string, and what may be the beginning of one is held back until it is clear. A `splitter`
    takes the place of the tokenizer's detokenizer: its `add(id)` and `finish()` give (thinking, answer), and the answer
    is what stop strings are looked for in. Closing the iterator ends the generation. `options` and errors are those of
    `generate`.
    """
    config = config_of(model, generation_config, options)
    config.refuse_beams()
    strings = StopStrings(config.stop_strings or [])
    planned = plan(config.updated(stop_strings=None), input_ids, generator=generator, seed=seed)
    ends = set(config.eos_token_ids())
    stream = splitter or _Unsplit(tokenizer.detokenizer(skip_special_tokens=skip_special_tokens))
    count, ended = 0, False
    for ids in planned.steps(model):
        count, token = count + 1, int(ids)
        if ended := token in ends:
            break
        thinking, answer = stream.add(token)
        text = strings.add(answer)
        if strings.stopped is not None:
            yield Piece(text, count, "stop", thinking)
            return
        yield Piece(text, count, None, thinking)
    thinking, answer = stream.finish()
    text = strings.add(answer)
    reason: FinishReason = "stop" if ended or strings.stopped is not None else "length"
    yield Piece(text + strings.finish(), count, reason, thinking)
