"""The loop on models of a few numbers: equality with the naive loop, padding, stopping, and the count of calls."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mock_model import BagModel, ScriptModel

from plait.errors import GenerationError
from plait.generate import StoppingCriteriaList, generate, generate_tokens
from plait.generate.naive import generate_naively
from plait.generate.stopping import EosTokenCriteria, MaxLengthCriteria


def left_pad(rows: list[list[int]], pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    tokens = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    valid = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return tokens, valid


rows_of_tokens = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=9), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(rows=rows_of_tokens, count=st.integers(1, 12), seed=st.integers(0, 5))
def test_padded_batches_equal_the_naive_loop_row_by_row(rows: list[list[int]], count: int, seed: int) -> None:
    tokens, valid = left_pad(rows)
    out = generate(
        BagModel(seed=seed), tokens, attention_mask=valid, max_new_tokens=count, eos_token_id=[3, 5], pad_token_id=0
    )
    for row, answer in zip(rows, out, strict=True):
        expected = generate_naively(
            BagModel(seed=seed), torch.tensor(row), eos_token_ids=(3, 5), max_new_tokens=count
        ).tolist()
        got = answer.tolist()[tokens.shape[1] - len(row) :]
        assert got[: len(expected)] == expected
        assert set(got[len(expected) :]) <= {0}


@settings(deadline=None, max_examples=30)
@given(rows=rows_of_tokens, count=st.integers(1, 8))
def test_constraints_do_not_see_the_padding(rows: list[list[int]], count: int) -> None:
    """Repetition penalty and n-grams look at history; a padded row must still equal the row alone."""
    options = {"max_new_tokens": count, "repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "pad_token_id": 0}
    tokens, valid = left_pad(rows)
    out = generate(BagModel(), tokens, attention_mask=valid, **options)
    for row, answer in zip(rows, out, strict=True):
        alone = generate(BagModel(), torch.tensor([row]), **options)
        assert answer[tokens.shape[1] - len(row) :].tolist() == alone[0].tolist()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_n_tokens_take_one_prefill_and_n_minus_1_decodes(count: int) -> None:
    model = BagModel()
    generate(model, torch.tensor([[1, 2, 3]]), max_new_tokens=count)
    assert model.widths == [3] + [1] * (count - 1)


def test_without_a_cache_the_answer_is_the_same_and_everything_is_read_again() -> None:
    tokens, valid = left_pad([[4, 4, 1], [2]])
    cached = generate(BagModel(), tokens, attention_mask=valid, max_new_tokens=5)
    model = BagModel()
    assert generate(model, tokens, attention_mask=valid, max_new_tokens=5, use_cache=False).equal(cached)
    assert model.widths == [3, 4, 5, 6, 7]


def test_a_finished_row_is_padded_while_others_go_on() -> None:
    model = ScriptModel([[1, 9, 2, 2], [1, 1, 1, 9], [9, 1, 1, 1], [1, 1, 9, 3]])
    out = generate(model, torch.full((4, 1), 5), max_new_tokens=10, eos_token_id=9, pad_token_id=7)
    assert out[:, 1:].tolist() == [[1, 9, 7, 7], [1, 1, 1, 9], [9, 7, 7, 7], [1, 1, 9, 7]]
    assert model.calls == 4


@pytest.mark.parametrize(
    ("script", "limit", "expected", "calls"),
    [
        ([1, 2, 9], 3, [1, 2, 9], 3),  # the end token at the last step allowed
        ([1, 2, 9], 2, [1, 2], 2),  # the limit one step before the end token
        ([9, 1, 1], 3, [9], 1),  # at once
        ([1, 2, 3], 3, [1, 2, 3], 3),  # never
        ([1], 1, [1], 1),
        ([9], 1, [9], 1),
    ],
)
def test_end_token_and_limit_coincide_in_every_way(
    script: list[int], limit: int, expected: list[int], calls: int
) -> None:
    model = ScriptModel([script])
    out = generate(model, torch.tensor([[0, 0]]), max_new_tokens=limit, eos_token_id=9)
    assert out[0, 2:].tolist() == expected
    assert model.calls == calls


def test_stops_compose_and_may_be_plain_functions() -> None:
    stop = StoppingCriteriaList([EosTokenCriteria(9), MaxLengthCriteria(5)])
    steps = list(
        generate_tokens(ScriptModel([[1, 9, 1], [1, 1, 1]]), torch.zeros(2, 2).long(), stop=stop, max_new_tokens=9)
    )
    assert torch.stack(steps, dim=1).tolist() == [[1, 9, 0], [1, 1, 1]]
    out = generate(
        ScriptModel([[1, 2, 3, 4]]),
        torch.tensor([[0]]),
        max_new_tokens=4,
        stopping_criteria=[lambda tokens, logits: tokens[0, -1].item() == 2],
    )
    assert out.tolist() == [[0, 1, 2]]


def test_processors_and_stops_see_views_of_one_history() -> None:
    pointers, seen = set(), []

    def watch(tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        pointers.add(tokens.data_ptr())
        seen.append(tokens[0].tolist())
        return logits

    generate(ScriptModel([[1, 2, 3]]), torch.tensor([[0]]), max_new_tokens=3, logits_processor=[watch])
    assert len(pointers) == 1
    assert seen == [[0], [0, 1], [0, 1, 2]]


def test_the_iteration_can_be_left_at_any_token() -> None:
    model = BagModel()
    steps = generate_tokens(model, torch.tensor([[1]]), max_new_tokens=1000)
    next(steps)
    steps.close()
    assert model.calls == 1


def test_gradients_are_off_inside_and_untouched_outside() -> None:
    model = BagModel()
    model.weights.requires_grad_()
    steps = generate_tokens(model, torch.tensor([[1]]), max_new_tokens=3)
    for _ in steps:
        assert torch.is_grad_enabled()
    out = generate(model, torch.tensor([[1]]), max_new_tokens=3)
    assert not out.is_inference()


@pytest.mark.parametrize(
    ("tokens", "mask", "options", "text"),
    [
        (torch.tensor([1, 2]), None, {}, r"shape \(rows, tokens\) .* but has \(2,\)"),
        (torch.zeros(1, 0).long(), None, {}, r"at least one token, but has \(1, 0\)"),
        (
            torch.tensor([[1, 2]]),
            torch.ones(1, 3),
            {},
            r"attention mask has the shape \(1, 3\), but the prompt \(1, 2\)",
        ),
        (torch.tensor([[1, 2], [1, 0]]), torch.tensor([[1, 1], [1, 0]]), {}, "Row 1 .* padding_side='left'"),
        (torch.tensor([[1, 2]]), None, {"max_new_tokens": None, "max_length": 2}, "2 tokens, which leaves none of"),
    ],
)
def test_prompts_that_cannot_be_continued_say_why(
    tokens: torch.Tensor, mask: torch.Tensor | None, options: dict, text: str
) -> None:
    with pytest.raises(GenerationError, match=text):
        generate(BagModel(), tokens, attention_mask=mask, **{"max_new_tokens": 2, **options})


def test_the_loop_itself_wants_a_token_to_make() -> None:
    with pytest.raises(GenerationError, match="`max_new_tokens` must be at least 1, but is 0"):
        next(generate_tokens(BagModel(), torch.tensor([[1]]), max_new_tokens=0))
