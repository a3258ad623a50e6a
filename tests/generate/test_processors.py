"""Every processor by hand, and against transformers' of the same name on random input."""

from __future__ import annotations

import inspect

import pytest
import torch
import transformers.generation.logits_process as theirs

from plait.errors import OptionError
from plait.generate import processors as ours

NONE = torch.zeros(1, 0, dtype=torch.long)
GONE = -float("inf")


def log(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def test_temperature() -> None:
    assert ours.TemperatureLogitsWarper(0.5)(NONE, torch.tensor([[1.0, -2.0]])).tolist() == [[2.0, -4.0]]


def test_top_k_keeps_ties_with_the_last() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0, 2.0, 0.0]])
    assert ours.TopKLogitsWarper(2)(NONE, logits).tolist() == [[GONE, 4.0, 2.0, 2.0, GONE]]
    assert ours.TopKLogitsWarper(99)(NONE, logits).equal(logits)


def test_top_p_keeps_the_token_that_crosses_the_line() -> None:
    kept = ours.TopPLogitsWarper(0.7)(NONE, log(0.1, 0.5, 0.3, 0.1)).isfinite()
    assert kept.tolist() == [[False, True, True, False]]  # 0.5 < 0.7, and 0.5 + 0.3 crosses it
    assert ours.TopPLogitsWarper(0.0)(NONE, log(0.4, 0.6)).isfinite().tolist() == [[False, True]]


def test_min_p_is_relative_to_the_best() -> None:
    kept = ours.MinPLogitsWarper(0.25)(NONE, log(0.6, 0.2, 0.14, 0.06)).isfinite()
    assert kept.tolist() == [[True, True, False, False]]  # 0.25 × 0.6 = 0.15


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    tokens, logits = torch.tensor([[0, 1, 1]]), torch.tensor([[4.0, -4.0, 4.0]])
    assert ours.RepetitionPenaltyLogitsProcessor(2.0)(tokens, logits).tolist() == [[2.0, -8.0, 4.0]]
    assert ours.RepetitionPenaltyLogitsProcessor(2.0, 1)(tokens, logits).tolist() == [[4.0, -8.0, 4.0]]


def test_no_repeat_ngram_forbids_what_completes_one() -> None:
    tokens = torch.tensor([[1, 2, 3, 1, 2], [4, 4, 4, 0, 1]])
    processed = ours.NoRepeatNGramLogitsProcessor(3)(tokens, torch.zeros(2, 5))
    assert processed.isinf().nonzero().tolist() == [[0, 3]]  # 1 2 was followed by 3
    single = ours.NoRepeatNGramLogitsProcessor(1)(tokens, torch.zeros(2, 5))
    assert single.isfinite().nonzero().tolist() == [[0, 0], [0, 4], [1, 2], [1, 3]]


def test_bad_words_wait_for_their_beginning() -> None:
    processor = ours.NoBadWordsLogitsProcessor([[3], [1, 2]], eos_token_id=[3])
    processed = processor(torch.tensor([[0, 1], [1, 0]]), torch.zeros(2, 4))
    assert processed.isinf().nonzero().tolist() == [[0, 2]]  # 3 is the end token and stays allowed


def test_lengths_forbid_the_end() -> None:
    logits = torch.zeros(1, 3)
    for processor in (ours.MinLengthLogitsProcessor(4, 2), ours.MinNewTokensLengthLogitsProcessor(1, 3, [2])):
        assert processor(torch.zeros(1, 3).long(), logits).tolist() == [[0, 0, GONE]]
        assert processor(torch.zeros(1, 4).long(), logits).tolist() == [[0, 0, 0]]


def test_suppressed_and_forced_tokens() -> None:
    logits, one, two = torch.ones(1, 3), torch.zeros(1, 1).long(), torch.zeros(1, 2).long()
    assert ours.SuppressTokensLogitsProcessor([0, 2])(two, logits).tolist() == [[GONE, 1, GONE]]
    assert ours.SuppressTokensAtBeginLogitsProcessor([0], 1)(one, logits).tolist() == [[GONE, 1, 1]]
    assert ours.SuppressTokensAtBeginLogitsProcessor([0], 1)(two, logits).equal(logits)
    assert ours.ForcedBOSTokenLogitsProcessor(1)(one, logits).tolist() == [[GONE, 0, GONE]]
    assert ours.ForcedBOSTokenLogitsProcessor(1)(two, logits).equal(logits)
    assert ours.ForcedEOSTokenLogitsProcessor(3, [0, 1])(two, logits).tolist() == [[0, 0, GONE]]
    assert ours.ForcedEOSTokenLogitsProcessor(3, 0)(one, logits).equal(logits)


def test_bad_numbers_and_log_probabilities() -> None:
    processed = ours.InfNanRemoveLogitsProcessor()(NONE, torch.tensor([[float("nan"), GONE, 1.0]]))
    assert processed.tolist() == [[0.0, torch.finfo(torch.float32).min, 1.0]]
    # log(1 / (1 + e^0)) = -log 2, to the rounding of float32
    assert ours.LogitNormalization()(NONE, torch.zeros(1, 2)).tolist() == [[pytest.approx(-0.6931472)] * 2]


def test_a_list_applies_in_order_and_the_tutorial_spellings_exist() -> None:
    processors = ours.LogitsProcessList([ours.TemperatureLogitsWarper(0.5), lambda tokens, logits: logits + 1])
    assert processors(NONE, torch.tensor([[1.0]])).tolist() == [[3.0]]
    assert ours.LogitsProcess is ours.LogitsProcessor
    assert ours.LogitsProcessList is ours.LogitsProcessorList


CASES = [
    ("TemperatureLogitsWarper", (0.7,)),
    ("TopKLogitsWarper", (5,)),
    ("TopPLogitsWarper", (0.8,)),
    ("TopPLogitsWarper", (0.05,)),
    ("MinPLogitsWarper", (0.1,)),
    ("RepetitionPenaltyLogitsProcessor", (1.3,)),
    ("RepetitionPenaltyLogitsProcessor", (1.3, 4)),
    ("RepetitionPenaltyLogitsProcessor", (0.6, torch.tensor([0, 3, 11, 12]))),
    ("NoRepeatNGramLogitsProcessor", (1,)),
    ("NoRepeatNGramLogitsProcessor", (2,)),
    ("NoRepeatNGramLogitsProcessor", (3,)),
    ("NoBadWordsLogitsProcessor", ([[3], [1, 2], [4, 5, 6]], [3])),
    ("MinLengthLogitsProcessor", (13, 2)),
    ("MinNewTokensLengthLogitsProcessor", (6, 3, 2)),
    ("SuppressTokensLogitsProcessor", ([1, 5],)),
    ("SuppressTokensAtBeginLogitsProcessor", ([1, 5], 12)),
    ("ForcedBOSTokenLogitsProcessor", (3,)),
    ("ForcedEOSTokenLogitsProcessor", (13, 3)),
    ("LogitNormalization", ()),
    ("InfNanRemoveLogitsProcessor", ()),
]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_equal_to_transformers(name: str, arguments: tuple) -> None:
    generator = torch.Generator().manual_seed(7)
    for length in (1, 2, 5, 12):
        # Few tokens, so that n-grams and bad words do occur.
        tokens = torch.randint(0, 7, (4, length), generator=generator)
        logits = torch.randn(4, 7, generator=generator) * 3
        before = logits.clone()
        got = getattr(ours, name)(*arguments)(tokens, logits)
        assert logits.equal(before), "the arguments are left as they are"
        torch.testing.assert_close(got, getattr(theirs, name)(*arguments)(tokens, logits), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: ours.TemperatureLogitsWarper(0), r"`temperature` must be above 0 .*do_sample=False.* but is 0"),
        (lambda: ours.TopKLogitsWarper(0), "`top_k` must be at least 1, but is 0"),
        (lambda: ours.TopPLogitsWarper(1.5), "`top_p` must be between 0 and 1, but is 1.5"),
        (lambda: ours.MinPLogitsWarper(-1), "`min_p` must be between 0 and 1, but is -1"),
        (lambda: ours.RepetitionPenaltyLogitsProcessor(0), "`repetition_penalty` must be above 0 .* but is 0"),
        (lambda: ours.NoRepeatNGramLogitsProcessor(0), "`no_repeat_ngram_size` must be at least 1, but is 0"),
        (lambda: ours.NoBadWordsLogitsProcessor([[]]), r"`bad_words_ids` must be .*, but is \[\[\]\]"),
        (lambda: ours.MinLengthLogitsProcessor(-1, 0), "`min_length` must be at least 0, but is -1"),
        (lambda: ours.MinNewTokensLengthLogitsProcessor(0, -1, 0), "`min_new_tokens` must be at least 0, but is -1"),
    ],
)
def test_values_out_of_range_are_named(build, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        build()


@pytest.mark.parametrize("index", [-1, 7, 99])
def test_ids_beyond_the_vocabulary(index: int) -> None:
    """They cannot be chosen, so to forbid them changes nothing; to force one is an error."""
    tokens, logits = torch.tensor([[1, 2]]), torch.zeros(1, 7)
    for build in (
        lambda: ours.SuppressTokensLogitsProcessor([index]),
        lambda: ours.NoBadWordsLogitsProcessor([[2, index]]),
        lambda: ours.MinLengthLogitsProcessor(5, index),
    ):
        assert build()(tokens, logits).equal(logits)
    with pytest.raises(OptionError, match=f"`forced_eos_token_id` must be one of the 7 tokens, but is {index}"):
        ours.ForcedEOSTokenLogitsProcessor(3, index)(tokens, logits)


def test_base_classes_say_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match=r"LogitsProcessor must define __call__\(tokens, logits\)"):
        ours.LogitsProcessor()(NONE, NONE)


def test_every_processor_is_short() -> None:
    for name, value in vars(ours).items():
        if inspect.isclass(value) and issubclass(value, ours.LogitsProcessor):
            assert len(inspect.getsource(value.__call__).splitlines()) <= 25, name
