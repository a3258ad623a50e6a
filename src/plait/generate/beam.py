"""Beam search, complete for one prompt or many: several answers to each prompt grow side by side, and the best stay.

The score of an answer is the sum of its tokens' log-probabilities, divided by its length to the power of a penalty once
it has ended. Notation: B prompts of T tokens, K answers to each (the beams), C candidates for them, V vocabulary
entries, n new tokens. The rows of a batch are B·K, the answers to one prompt next to each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from plait.errors import GenerationError
from plait.generate.loop import RESERVED_TOKENS, check_prompt, decode, prefill
from plait.generate.processors import LogitNormalization, Processor
from plait.generate.protocol import LanguageModel
from plait.generate.sampling import Chooser, highest
from plait.generate.stopping import Stop

# The score of a place that nothing real holds. It is finite, so that softmax and division stay numbers.
EMPTY = -1e9


@dataclass(frozen=True, kw_only=True)
class BeamRules:
    """How many answers grow, what ends them, how they are ranked, and when a better one is no longer looked for.

    `ends` are the end tokens. `early_stopping`: True ends with the first `beams` answers; False when the best growing
    answer, were it to end now, is behind all of them; "never" when it is behind even at its most favourable length.
    """

    beams: int
    ends: Sequence[int] = ()
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    @property
    def candidates(self) -> int:
        """Continuations that are looked at for each prompt.

        All end tokens may be among those of a beam, and one more goes on.
        """
        return self.beams * max(2, 1 + len(self.ends))

    def ranked(self, scores: Tensor, length: int) -> Tensor:
        """The scores of answers that end with `length` tokens."""
        return scores / math.pow(length, self.length_penalty)

    def best_hope(self, scores: Tensor, length: int, longest: int) -> Tensor:
        """What growing answers of `length` tokens are taken to reach, of at most `longest`."""
        grows = self.early_stopping == "never" and self.length_penalty > 0  # then a longer answer is ranked higher
        return self.ranked(scores, longest if grows else length)


@dataclass(frozen=True)
class Answers:
    """Answers to B prompts, K or C to each, with what is known of each of them.

    `tokens` (B, K, T + n), the prompt first, padded; `origins` (B, K, n), the row that scored each new token, -1 where
    there is none yet; `scores` (B, K); `ended` (B, K).
    """

    tokens: Tensor
    origins: Tensor
    scores: Tensor
    ended: Tensor

    @classmethod
    def to(cls, prompts: Tensor, *, beams: int, room: int, padding: int) -> Answers:
        """`beams` answers without a token to each of the prompts (B, T); only the first of them counts."""
        batch, width = prompts.shape
        tokens = prompts.new_full((batch, beams, width + room), padding)
        tokens[:, :, :width] = prompts[:, None]
        scores = torch.full((batch, beams), EMPTY, device=prompts.device)
        scores[:, 0] = 0  # or all of them would be the same answer for ever
        return cls(
            tokens, prompts.new_full((batch, beams, room), -1), scores, torch.zeros_like(scores, dtype=torch.bool)
        )

    def take(self, places: Tensor) -> Answers:
        """Those at `places` (B, N) of each prompt, in that order."""
        deep = places[..., None]
        return Answers(
            self.tokens.take_along_dim(deep, dim=1),
            self.origins.take_along_dim(deep, dim=1),
            self.scores.take_along_dim(places, dim=1),
            self.ended.take_along_dim(places, dim=1),
        )

    def best(self, count: int) -> Answers:
        """The `count` of each prompt with the highest scores, the best first."""
        return self.take(self.scores.topk(count, dim=-1).indices)

    def beside(self, others: Answers) -> Answers:
        """These and others, of the same prompts."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return Answers(*(torch.cat(pair, dim=1) for pair in pairs))

    def rows(self, length: int) -> Tensor:
        """The first `length` tokens of every answer, (B·K, length)."""
        return self.tokens.flatten(0, 1)[:, :length]  # (B, K, T + n) -> (B·K, T + n)


class Beams(NamedTuple):
    """A search after one step: what grows (B, K), and the best that have ended (B, K), the best first in both."""

    growing: Answers
    ended: Answers


@torch.no_grad()
def search(
    model: LanguageModel,
    tokens: Tensor,
    *,
    valid: Tensor | None = None,
    processors: Sequence[Processor] = (LogitNormalization(),),
    choose: Chooser = highest,
    stop: Stop | None = None,
    rules: BeamRules,
    max_new_tokens: int,
    pad_token_id: int = 0,
) -> Iterator[Beams]:
    """Yield the search for answers to `tokens` (B, T) after each step; the last one holds the answers.

    `processors` make of the model's logits (B·K, V) the log-probabilities that are summed. `choose` takes candidates
    from the sums (B, K·V). `stop` ends answers in other ways than the end tokens: it sees all candidates, (B·C, t) and
    (B·C, V). The model's cache must offer `select(rows, memory=…)`. Raises GenerationError for a prompt that cannot be
    continued.
    """
    if max_new_tokens < 1:
        raise GenerationError(f"`max_new_tokens` must be at least 1, but is {max_new_tokens}.")
    valid = check_prompt(tokens, valid)
    batch, width = tokens.shape
    growing = Answers.to(tokens, beams=rules.beams, room=max_new_tokens, padding=pad_token_id)
    ended = replace(growing, scores=torch.full_like(growing.scores, EMPTY))
    searched = torch.ones(batch, dtype=torch.bool, device=tokens.device)  # the prompts whose search goes on
    cache = model.new_cache(batch, capacity=width + min(max_new_tokens, RESERVED_TOKENS))
    if not hasattr(cache, "select"):
        raise GenerationError(
            f"Beam search needs a cache whose rows can be chosen, but the model's, a {type(cache).__name__}, has no "
            "select(rows, *, memory). Say num_beams=1, or use_cache=False."
        )
    logits, positions = _spread(*prefill(model, tokens, cache=cache, valid=valid), cache, rules.beams)
    for count in range(1, max_new_tokens + 1):
        scores = logits
        for process in processors:
            scores = process(growing.rows(width + count - 1), scores)
        candidates = _continued(growing, scores, count, choose=choose, rules=rules)
        halted = _halted(candidates, scores, count, ends=rules.ends, stop=stop) | (count == max_new_tokens)
        candidates = replace(candidates, ended=halted)
        growing = replace(candidates, scores=candidates.scores.masked_fill(halted, EMPTY)).best(rules.beams)
        ended = _ranked(ended, candidates, count, searched=searched, rules=rules)
        yield Beams(growing, ended)
        searched = searched & _may_improve(growing, ended, count, longest=max_new_tokens, rules=rules)
        if bool(halted.all()) or not bool(searched.any()):
            return
        origins = growing.origins[:, :, count - 1].flatten()  # (B, K) -> (B·K,)
        if not origins.equal(torch.arange(len(origins), device=origins.device)):
            cache.select(origins, memory=False)  # an answer's source is its neighbours' as well
        newest = growing.tokens[:, :, width + count - 1].flatten()  # (B, K) -> (B·K,)
        logits = decode(model, newest, cache=cache, positions=positions)
        positions = None if positions is None else positions + 1


def _spread(logits: Tensor, positions: Tensor | None, cache: Any, beams: int) -> tuple[Tensor, Tensor | None]:
    """What a prompt left behind, once for each of its answers: B rows become B·K."""
    rows = torch.arange(logits.shape[0], device=logits.device).repeat_interleave(beams)
    cache.select(rows, memory=True)
    return logits[rows], None if positions is None else positions[rows]


def _continued(growing: Answers, scores: Tensor, count: int, *, choose: Chooser, rules: BeamRules) -> Answers:
    """The chosen continuations of all answers by their `count`th new token, scored with (B·K, V): C of each prompt."""
    batch, beams = growing.scores.shape
    vocabulary = scores.shape[-1]
    if rules.candidates > beams * vocabulary:
        raise GenerationError(
            f"{rules.candidates} candidates cannot be taken from {beams} beams and {vocabulary} tokens: say fewer end "
            "tokens."
        )
    # (B·K, V) -> (B, K, V) -> (B, K·V)
    sums = (scores.view(batch, beams, vocabulary) + growing.scores[:, :, None]).view(batch, -1)
    places = choose(sums, rules.candidates)
    parents = places // vocabulary
    candidates = replace(growing.take(parents), scores=sums.take_along_dim(places, dim=1))
    width = growing.tokens.shape[2] - growing.origins.shape[2]
    candidates.tokens[:, :, width + count - 1] = places % vocabulary
    candidates.origins[:, :, count - 1] = parents + beams * torch.arange(batch, device=parents.device)[:, None]
    return candidates


def _halted(candidates: Answers, scores: Tensor, count: int, *, ends: Sequence[int], stop: Stop | None) -> Tensor:
    """Which candidates (B, C) end with their `count`th new token; `scores` (B·K, V) are those it was chosen by."""
    length = candidates.tokens.shape[2] - candidates.origins.shape[2] + count
    newest = candidates.tokens[:, :, length - 1]  # (B, C)
    halted = torch.isin(newest, newest.new_tensor(ends))
    if stop is not None:
        rows = candidates.origins[:, :, count - 1].flatten()  # (B, C) -> (B·C,)
        halted = halted | stop(candidates.rows(length), scores[rows]).view_as(halted)  # (B·C,) -> (B, C)
    return halted


def _ranked(ended: Answers, candidates: Answers, count: int, *, searched: Tensor, rules: BeamRules) -> Answers:
    """The best of those that had ended and the candidates that do now.

    A candidate counts only among the first K, for the others are there to go on, and only while its prompt is searched.
    """
    counts = candidates.ended & searched[:, None]
    counts[:, rules.beams :] = False
    scores = rules.ranked(candidates.scores, count).masked_fill(~counts, EMPTY)
    return ended.beside(replace(candidates, scores=scores, ended=counts)).best(rules.beams)


def _may_improve(growing: Answers, ended: Answers, count: int, *, longest: int, rules: BeamRules) -> Tensor:
    """(B,) bool: whether the search for answers to a prompt goes on."""
    full = ended.ended.all(dim=-1)
    if rules.early_stopping is True:
        return ~full
    hope = rules.best_hope(growing.scores[:, 0], count, longest)
    return ~full | (hope > ended.scores[:, -1])


def found(beams: Beams, *, prompt: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` best answers to each prompt of `prompt` tokens, cut to the longest.

    Token ids (B·count, T + n), scores (B·count,), and the rows that scored each new token (B·count, n), -1 behind an
    answer's end.
    """
    best = beams.ended.take(
        torch.arange(count, device=beams.ended.scores.device).expand(len(beams.ended.scores), count)
    )
    # (B, count, …) -> (B·count, …)
    tokens, origins, scores = (part.flatten(0, 1) for part in (best.tokens, best.origins, best.scores))
    longest = int((origins >= 0).sum(dim=-1).max())
    return tokens[:, : prompt + longest], scores, origins[:, :longest]
