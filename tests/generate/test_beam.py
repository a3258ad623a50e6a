"""Beam search on models of a few numbers: by hand, against every sequence there is, and against the naive search."""

from __future__ import annotations

import itertools
import logging
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mock_model import BagModel, LetterTokenizer
from torch import Tensor

from plait.errors import GenerationError
from plait.generate import GenerationConfig, TextStreamer, generate
from plait.generate.beam import BeamRules, search
from plait.generate.naive import search_naively
from plait.generate.stopping import StopStringCriteria
from plait.generate.text import generate_text


class MarkovModel:
    """The probabilities of the next token, a row for each token that may stand before it."""

    def __init__(self, table: list[list[float]]) -> None:
        self.table = torch.tensor(table)

    def new_cache(self, batch: int, *, capacity: int) -> MarkovModel:
        return self

    def select(self, rows: Tensor, *, memory: bool) -> None:
        """It remembers nothing."""

    def next_logits(
        self, tokens: Tensor, *, cache: Any, valid: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        return self.table[tokens[:, -1]].log()


END = 3
# After 0 the likely token is 1, which leads nowhere; after 2 the end is nearly certain.
FORKED = [[0.0, 0.6, 0.4, 0.0], [0.3, 0.25, 0.25, 0.2], [0.05, 0.05, 0.0, 0.9], [0.25] * 4]
START = torch.tensor([[0]])


def test_two_beams_find_what_greedy_decoding_passes_by() -> None:
    model = MarkovModel(FORKED)
    options = {"eos_token_id": END, "max_new_tokens": 2, "pad_token_id": 0}
    assert generate(model, START, **options).tolist() == [[0, 1, 0]]  # 0.6 · 0.3 = 0.18
    out = generate(
        model, START, num_beams=2, num_return_sequences=2, return_dict_in_generate=True, output_scores=True, **options
    )
    assert out.sequences.tolist() == [[0, 2, 3], [0, 1, 0]]  # 0.4 · 0.9 = 0.36
    expected = torch.tensor([math.log(0.36) / 2, math.log(0.18) / 2])
    torch.testing.assert_close(out.sequences_scores, expected, rtol=0, atol=1e-6)  # a few roundings of numbers near 1
    # The second token of both was scored by the beam that they come from: 1 was first, 2 second.
    assert out.beam_indices.tolist() == [[0, 1], [0, 0]]
    assert [tuple(scores.shape) for scores in out.scores] == [(2, 4), (2, 4)]


@pytest.mark.parametrize(("penalty", "best"), [(0.0, [2, 3]), (1.0, [1, 2, 3]), (3.0, [1, 1, 2, 3])])
def test_a_penalty_of_length_ranks_answers_that_have_ended(penalty: float, best: list[int]) -> None:
    """Of 0.36, 0.27 and 0.135, whose logarithms are -1.02, -1.31 and -2.00, each is the best under some penalty."""
    table = [[0.0, 0.6, 0.4, 0.0], [0.0, 0.5, 0.5, 0.0], [0.1, 0.0, 0.0, 0.9], [0.25] * 4]
    out = generate(
        MarkovModel(table), START, num_beams=4, length_penalty=penalty, early_stopping="never", eos_token_id=END,
        max_new_tokens=4, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    assert out.sequences[0, 1:].tolist() == best
    chance = {2: 0.4 * 0.9, 3: 0.6 * 0.5 * 0.9, 4: 0.6 * 0.5 * 0.5 * 0.9}[len(best)]
    assert out.sequences_scores.item() == pytest.approx(math.log(chance) / len(best) ** penalty, abs=1e-6)


def slow(after_two: list[float], after_four: list[float]) -> MarkovModel:
    """The end at once has 0.35, [1, end] 0.33 · 0.3; what follows 2 and 4 is another matter."""
    start, one = [0.0, 0.33, 0.32, 0.35, 0.0, 0.0, 0.0, 0.0], [0.1, 0.1, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1]
    end = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    return MarkovModel([start, one, after_two, end, after_four, end, end, end])


def test_an_answer_that_would_overtake_later_is_waited_for_if_it_is_said() -> None:
    model = slow([0.1, 0.1, 0.1, 0.05, 0.2, 0.15, 0.15, 0.15], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    options = {"num_beams": 2, "eos_token_id": END, "max_new_tokens": 6}
    # Two have ended after two steps: log(0.35) = -1.05 and log(0.099) / 2 = -1.16. What grows, [2, 4], is at
    # log(0.064) / 2 = -1.37, but goes on for certain: with four tokens it is at log(0.064) / 4 = -0.69.
    assert generate(model, START, early_stopping=False, **options).tolist() == [[0, 3]]
    assert generate(model, START, early_stopping="never", **options).tolist() == [[0, 2, 4, 5, 3]]


def test_longer_answers_are_no_hope_where_length_counts_against_them() -> None:
    model = slow([0.02, 0.02, 0.02, 0.02, 0.9, 0.02, 0.0, 0.0], [0.02, 0.02, 0.02, 0.9, 0.02, 0.02, 0.0, 0.0])
    out = generate(
        model, START, num_beams=2, num_return_sequences=2, eos_token_id=END, max_new_tokens=6, early_stopping="never",
        length_penalty=-1.0, return_dict_in_generate=True, output_scores=True, pad_token_id=0,
    )  # fmt: skip
    # [1, end] had ended with 2 · log(0.099) = -4.6; [2, 4] at 2 · log(0.288) = -2.5 ends with 3 · log(0.2592) = -4.1.
    assert out.sequences.tolist() == [[0, 3, 0, 0], [0, 2, 4, 3]]
    expected = torch.tensor([math.log(0.35), 3 * math.log(0.2592)])
    torch.testing.assert_close(out.sequences_scores, expected, rtol=0, atol=1e-5)


def test_enough_beams_find_the_best_of_all_sequences() -> None:
    model, size, length = BagModel(size=5, seed=3), 5, 3
    chances = {}
    for answer in itertools.product(range(size), repeat=length):
        row, total = [1, 2], 0.0
        for token in answer:
            total += float(model.next_logits(torch.tensor([row]), cache=None).log_softmax(-1)[0, token])
            row = [*row, token]
        chances[answer] = total / length
    best = sorted(chances, key=lambda answer: -chances[answer])[:25]
    out = generate(
        model, torch.tensor([[1, 2]]), num_beams=25, num_return_sequences=25, max_new_tokens=length,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    # 25 beams hold every beginning of two tokens, so none of the 125 sequences is lost.
    assert [tuple(row[2:]) for row in out.sequences.tolist()] == best
    expected = torch.tensor([chances[answer] for answer in best], dtype=torch.float64)
    torch.testing.assert_close(out.sequences_scores, expected, rtol=0, atol=1e-9)


class UnsureModel(BagModel):
    """Never so sure of a token that another beam could not overtake: what decides when to end matters."""

    def __init__(self, seed: int) -> None:
        super().__init__(size=8, seed=seed)

    def next_logits(self, tokens: Tensor, **options: Any) -> Tensor:
        return super().next_logits(tokens, **options).tanh()


rows_of_tokens = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=6), min_size=1, max_size=3)
rules = st.fixed_dictionaries(
    {
        "beams": st.integers(2, 4),
        "length_penalty": st.sampled_from([-0.5, 0.0, 1.0, 2.0]),
        "early_stopping": st.sampled_from([True, False, "never"]),
    }
)


@settings(deadline=None, max_examples=150)
@given(rows=rows_of_tokens, rules=rules, count=st.integers(1, 9), seed=st.integers(0, 9))
def test_padded_batches_equal_the_naive_search_row_by_row(
    rows: list[list[int]], rules: dict[str, Any], count: int, seed: int
) -> None:
    width = max(map(len, rows))
    tokens = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    valid = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    options = {"num_beams": rules["beams"], "num_return_sequences": rules["beams"], **rules}
    del options["beams"]
    for cached in (True, False):
        out = generate(
            UnsureModel(seed), tokens, attention_mask=valid, eos_token_id=[3, 5], pad_token_id=7, use_cache=cached,
            max_new_tokens=count, return_dict_in_generate=True, output_scores=True, **options,
        )  # fmt: skip
        got = [
            (score, [token for token, origin in zip(row, origins, strict=True) if origin >= 0])
            for row, origins, score in zip(
                out.sequences[:, width:].tolist(), out.beam_indices.tolist(), out.sequences_scores.tolist(), strict=True
            )
        ]
        assert bool((out.sequences[:, width:][out.beam_indices < 0] == 7).all())
        for place, row in enumerate(rows):
            expected = search_naively(
                UnsureModel(seed), torch.tensor(row), eos_token_ids=(3, 5), max_new_tokens=count, **rules
            )
            found = got[place * rules["beams"] :][: rules["beams"]]
            assert [answer for _, answer in found] == [answer for _, answer in expected]
            # Sums of float64, in whatever order: 1e-9 is a million roundings.
            assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-9)


def test_scores_add_up_to_those_of_the_sequences() -> None:
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6, "eos_token_id": [3, 5]}
    out = generate(
        BagModel(), torch.tensor([[1, 2], [8, 4]]), length_penalty=0.7, repetition_penalty=1.3, output_scores=True,
        output_logits=True, return_dict_in_generate=True, **options,
    )  # fmt: skip
    for row, origins, score in zip(out.sequences[:, 2:], out.beam_indices, out.sequences_scores, strict=True):
        chosen = [
            float(out.scores[step][origin, token])
            for step, (origin, token) in enumerate(zip(origins.tolist(), row.tolist(), strict=True))
            if origin >= 0
        ]
        assert sum(chosen) / len(chosen) ** 0.7 == pytest.approx(float(score), abs=1e-9)
    # Logits are the model's own; the processors see their log-softmax.
    raw = BagModel().next_logits(torch.tensor([[1, 2], [8, 4]]), cache=None).repeat_interleave(3, dim=0)
    torch.testing.assert_close(out.logits[0], raw)
    plain = generate(BagModel(), torch.tensor([[1, 2]]), return_dict_in_generate=True, **options)
    assert sorted(plain) == ["beam_indices", "sequences"]
    assert plain.sequences.equal(generate(BagModel(), torch.tensor([[1, 2]]), **options))


def test_a_prompt_is_read_once_for_all_its_beams() -> None:
    model, rows = BagModel(), []
    told = model.next_logits

    def counted(tokens: Tensor, **options: Any) -> Tensor:
        rows.append(tuple(tokens.shape))
        return told(tokens, **options)

    model.next_logits = counted  # type: ignore[method-assign]
    generate(model, torch.tensor([[1, 2, 3], [4, 5, 6]]), num_beams=3, max_new_tokens=4)
    assert rows == [(2, 3), (6, 1), (6, 1), (6, 1)]


def test_every_step_can_be_seen_and_the_last_is_the_answer() -> None:
    rules = BeamRules(beams=2, ends=[END], early_stopping=True)
    steps = list(search(MarkovModel(FORKED), START, rules=rules, max_new_tokens=9))
    assert steps[0].growing.tokens[0, :, 1].tolist() == [1, 2]
    assert not bool(steps[0].ended.ended.any())
    assert steps[1].ended.ended.tolist() == [[True, False]]
    assert steps[1].ended.tokens[0, 0, 1:3].tolist() == [2, 3]
    assert len(steps) < 9
    assert steps[-1].ended.ended.tolist() == [[True, True]]
    left = search(BagModel(), START, rules=rules, max_new_tokens=1000)
    next(left)
    left.close()


def test_text_and_stops_of_ones_own_end_an_answer_as_an_end_token_does() -> None:
    prompts = torch.tensor([[1, 2], [8, 4]])
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 8, "pad_token_id": 0}
    expected = generate(BagModel(), prompts, eos_token_id=3, **options)  # token 3 is the letter d
    assert bool((expected == 3).any())
    tokenizer = LetterTokenizer()
    assert generate(BagModel(), prompts, stop_strings="d", tokenizer=tokenizer, **options).equal(expected)
    own = [StopStringCriteria(tokenizer, ["d"])]  # keeps a state per row, which beams do not
    assert generate(BagModel(), prompts, stopping_criteria=own, **options).equal(expected)
    seen = []

    def stop(tokens: Tensor, logits: Tensor) -> Tensor:
        seen.append((tokens.shape, logits.shape))
        return tokens[:, -1] == 3

    assert generate(BagModel(), prompts, stopping_criteria=[stop], **options).equal(expected)
    assert seen[0] == ((12, 3), (12, 13))  # 2 prompts of 2 · 3 candidates
    assert generate(BagModel(), prompts, max_time=0.0, **options).shape == (6, 3)


def test_draws_are_repeatable_and_differ() -> None:
    options = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 8, "do_sample": True, "temperature": 2.0}
    first, again, other = (generate(BagModel(), START, seed=seed, **options) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_options_of_ranking_without_beams_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "plait.generate"):
        generate(BagModel(), START, max_new_tokens=1, early_stopping=True, length_penalty=2.0)
    assert "length_penalty, early_stopping: no effect without num_beams above 1" in caplog.text
    caplog.clear()
    generate(BagModel(), START, max_new_tokens=1, num_beams=2, early_stopping=True)
    assert "no effect" not in caplog.text


def test_the_models_own_beams_are_the_default_and_can_be_switched_off() -> None:
    model = MarkovModel(FORKED)
    model.generation_config = GenerationConfig(num_beams=2, max_new_tokens=2, eos_token_id=END)
    assert generate(model, START).tolist() == [[0, 2, 3]]
    assert generate(model, START, num_beams=1).tolist() == [[0, 1, 0]]
    assert generate(model, START, num_beams=None).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_beams": 0}, "`num_beams` must be a whole number, 1 or more, but is 0"),
        ({"num_beams": 2.5}, "`num_beams` must be a whole number, 1 or more, but is 2.5"),
        ({"num_beams": 2, "early_stopping": "sometimes"}, '`early_stopping` must be True, False or "never", but is'),
        ({"num_beams": 2, "length_penalty": math.inf}, "`length_penalty` must be a number .* but is inf"),
        (
            {"num_beams": 2, "num_return_sequences": 3},
            "`num_return_sequences=3` is more than `num_beams=2`, .* Raise num_beams, or",
        ),
        ({"num_return_sequences": 2}, "`num_return_sequences` above 1 needs do_sample=True or as many num_beams"),
        (
            {"num_beams": 2, "streamer": TextStreamer(LetterTokenizer())},
            "`num_beams=2` cannot be streamed, .* Say num_",
        ),
        ({"num_beams": 2, "eos_token_id": list(range(14))}, "30 candidates cannot be taken from 2 beams and 13 tokens"),
    ],
)
def test_what_cannot_be_met_is_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(GenerationError, match=text):
        generate(BagModel(), START, max_new_tokens=2, **options)


def test_text_cannot_be_streamed_from_beams() -> None:
    with pytest.raises(GenerationError, match="`num_beams=2` cannot be streamed, .* or generate without a streamer"):
        next(generate_text(BagModel(), LetterTokenizer(), START, num_beams=2))


def test_a_search_wants_a_token_to_make_and_a_cache_that_can_choose_rows() -> None:
    with pytest.raises(GenerationError, match="`max_new_tokens` must be at least 1, but is 0"):
        next(search(BagModel(), START, rules=BeamRules(beams=2), max_new_tokens=0))
    model = BagModel()
    model.new_cache = lambda batch, *, capacity: object()  # type: ignore[method-assign]
    with pytest.raises(
        GenerationError, match=r"the model's, a object, has no select\(rows, \*, memory\). Say num_beams=1"
    ):
        generate(model, START, num_beams=2, max_new_tokens=2)
    assert generate(model, START, num_beams=2, max_new_tokens=2, use_cache=False).shape == (1, 3)
