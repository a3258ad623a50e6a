"""Beam search against the reference library: answers, their scores and where they came from, over its options."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import parity_harness
import pytest
import torch
import transformers
from decoder_cases import DECODERS
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from parity_harness import CASES

from plait.models import auto

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

WORDS, PAD = 41, 0
pytestmark = pytest.mark.filterwarnings("ignore:Unfeasible length constraints")  # the least is above the most
_BART = {
    "vocab_size": WORDS, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 20, "decoder_ffn_dim": 24, "max_position_embeddings": 40,
    "pad_token_id": PAD, "eos_token_id": 2, "bos_token_id": 1, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
_T5 = {
    "vocab_size": WORDS, "d_model": 16, "d_kv": 6, "d_ff": 20, "num_layers": 2, "num_heads": 4,
    "pad_token_id": PAD, "eos_token_id": 2, "decoder_start_token_id": 0,
}  # fmt: skip
_LLAMA = {
    "vocab_size": WORDS, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": PAD,
}  # fmt: skip
_GPT2 = {
    "vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": PAD,
}  # fmt: skip
MODELS: dict[str, Any] = {
    "bart": ("BartConfig", _BART, "AutoModelForSeq2SeqLM"),
    "marian": (
        "MarianConfig",
        {**_BART, "scale_embedding": True, "decoder_start_token_id": 0},
        "AutoModelForSeq2SeqLM",
    ),
    "pegasus": ("PegasusConfig", {**_BART, "decoder_start_token_id": 0}, "AutoModelForSeq2SeqLM"),
    "t5": ("T5Config", _T5, "AutoModelForSeq2SeqLM"),
    "gpt2": ("GPT2Config", _GPT2, "AutoModelForCausalLM"),
    "llama": ("LlamaConfig", _LLAMA, "AutoModelForCausalLM"),
    "mistral-window": ("MistralConfig", {**_LLAMA, "sliding_window": 4}, "AutoModelForCausalLM"),
}
Pair = tuple[Any, Any]


def reference(name: str) -> Any:
    """A random model of the reference library: sure enough of itself that beams differ, not so sure that one wins."""
    config, values, made = MODELS[name]
    model = getattr(transformers, made).from_config(getattr(transformers, config)(**values)).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for label, part in sorted(model.named_parameters()):
            if not part.requires_grad:
                continue  # a computed table of positions
            noise = torch.randn(part.shape, generator=generator) * 0.25
            part.copy_(1 + noise if "norm" in label and label.endswith("weight") else noise)
    return model


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """plait's models, read from files, and the references that wrote them."""
    made = {}
    for name in MODELS:
        folder: Path = tmp_path_factory.mktemp(name)
        theirs = reference(name)
        theirs.save_pretrained(folder)
        made[name] = getattr(auto, MODELS[name][2]).from_pretrained(folder), theirs
    return made


@pytest.fixture(params=MODELS)
def pair(request: pytest.FixtureRequest, pairs: dict[str, Pair]) -> Pair:
    return pairs[request.param]


def sources(side: str) -> dict[str, torch.Tensor]:
    """Three rows of 6, 2 and 4 tokens."""
    ids = torch.randint(3, WORDS, (3, 6), generator=torch.Generator().manual_seed(2))
    counts, order = torch.tensor([[6], [2], [4]]), torch.arange(6)[None]
    mask = (order < counts if side == "right" else order >= 6 - counts).long()
    return {"input_ids": ids * mask + PAD * (1 - mask), "attention_mask": mask}


OUTPUTS = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}


def both(pair: Pair, options: dict[str, Any], changed: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """What both write with `options`, the reference with some `changed`, from the same random state."""
    ours, theirs = pair
    rows = sources("right" if theirs.config.is_encoder_decoder else "left")
    torch.manual_seed(6)
    expected = theirs.generate(**rows, **{**OUTPUTS, **options, **(changed or {})})
    torch.manual_seed(6)
    return ours.generate(**rows, **{**OUTPUTS, **options}), expected


def agree(got: Any, expected: Any) -> bool:
    """Whether the answers, their scores and their origins are the same.

    The scores are sums of up to 14 log-probabilities of order 10, whose roundings stay below 1e-5. Behind an end there
    is the padding token; the reference puts the end token there if the padding is 0.
    """
    if got.beam_indices.shape != expected.beam_indices.shape:
        return False
    written = expected.beam_indices >= 0
    prompt = got.sequences.shape[1] - written.shape[1]
    same = [
        got.beam_indices.equal(expected.beam_indices.long()),
        got.sequences[:, :prompt].equal(expected.sequences[:, :prompt]),
        got.sequences[:, prompt:][written].equal(expected.sequences[:, prompt:][written]),
        bool((got.sequences[:, prompt:][~written] == PAD).all()),
        len(got.scores) == len(expected.scores),
        torch.allclose(got.sequences_scores, expected.sequences_scores, rtol=1e-5, atol=1e-5),
    ]
    return all(same)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    beams = draw(st.integers(2, 5))
    options: dict[str, Any] = {
        "num_beams": beams,
        "num_return_sequences": draw(st.integers(1, beams)),
        "length_penalty": draw(st.sampled_from([-1.0, 0.0, 0.6, 1.0, 2.0])),
        "early_stopping": draw(st.sampled_from([True, False, "never"])),
        "eos_token_id": draw(st.sampled_from([2, [5, 9], [2, 7, 11, 30], None])),
        "max_new_tokens": draw(st.integers(1, 14)),
    }
    more: dict[str, Any] = {
        "min_new_tokens": 4, "min_length": 5, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2,
        "bad_words_ids": [[8], [9, 10]], "suppress_tokens": [3, 4, 5], "begin_suppress_tokens": [7],
        "forced_bos_token_id": 6, "forced_eos_token_id": 2, "renormalize_logits": True, "use_cache": False,
    }  # fmt: skip
    for name in draw(st.lists(st.sampled_from(sorted(more)), unique=True, max_size=3)):
        options[name] = more[name]
    if "no_repeat_ngram_size" in options:
        options["suppress_tokens"] = [PAD]  # n-grams of the padding in front are not counted here
    return options


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@seed(5)
@given(options=cases())
def test_answers_equal_the_references(pair: Pair, options: dict[str, Any]) -> None:
    if options["eos_token_id"] is None:  # a configuration's own end token cannot be taken away there
        pair[1].generation_config.eos_token_id = None
    try:
        got, expected = both(pair, options)
    finally:
        pair[1].generation_config.eos_token_id = 2
    assert agree(got, expected), options


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7, "top_p": 0.8},
        {"top_k": 3, "eos_token_id": [2, 7, 11, 30], "early_stopping": True},
        {"top_k": 0, "min_p": 0.1, "temperature": 1.5, "length_penalty": 0.0, "renormalize_logits": True},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_drawn_answers_equal_the_references(pair: Pair, options: dict[str, Any]) -> None:
    """Both draw the candidates of a step at once and in the same order, so equal sums give equal answers."""
    options = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 10, "do_sample": True, **options}
    assert agree(*both(pair, options))


BASE: dict[str, Any] = {
    "num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 12, "eos_token_id": [2, 7, 11, 30],
    "length_penalty": 1.0, "early_stopping": False, "repetition_penalty": 1.2,
}  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"num_beams": 5}, {"length_penalty": 0.5}, {"early_stopping": True}, {"early_stopping": "never"},
        {"eos_token_id": [2, 7, 11]}, {"max_new_tokens": 11}, {"min_new_tokens": 6}, {"repetition_penalty": 1.25},
        {"renormalize_logits": True}, {"forced_bos_token_id": 6}, {"forced_eos_token_id": 9}, {"do_sample": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_changed_option_shows(changed: dict[str, Any], pairs: dict[str, Pair]) -> None:
    """Each option moves the answers of one model at least, so equality above says something about each of them."""
    assert all(agree(*both(pair, BASE)) for pair in pairs.values())
    assert not all(agree(*both(pair, BASE, changed)) for pair in pairs.values())


# What facebook/bart-large-cnn, Helsinki-NLP/opus-mt-en-de and google/pegasus-xsum say, in the words of a small model.
PUBLISHED: dict[str, dict[str, Any]] = {
    "bart": {
        "early_stopping": True, "forced_bos_token_id": 1, "forced_eos_token_id": 2, "length_penalty": 2.0,
        "max_length": 14, "min_length": 6, "no_repeat_ngram_size": 3, "num_beams": 4,
    },
    "marian": {
        "bad_words_ids": [[PAD]], "forced_eos_token_id": 2, "max_length": 12, "num_beams": 4,
        "renormalize_logits": True,
    },
    "pegasus": {"forced_eos_token_id": 2, "length_penalty": 0.6, "max_length": 10, "num_beams": 8},
}  # fmt: skip


@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_options_need_no_argument(name: str, place: str, tmp_path: Path) -> None:
    """Also where they stand in config.json, as in files that are older than generation_config.json."""
    config, values, made = MODELS[name]
    saved = reference(name)
    saved.save_pretrained(tmp_path)
    tokens = {token: values[token] for token in values if token.endswith("_token_id")}
    (tmp_path / "generation_config.json").unlink()
    content = json.loads((tmp_path / place).read_text()) if place == "config.json" else {}
    (tmp_path / place).write_text(json.dumps({**content, **tokens, **PUBLISHED[name]}))
    theirs = getattr(transformers, made).from_pretrained(tmp_path)
    ours = getattr(auto, made).from_pretrained(tmp_path)
    assert ours.generation_config.num_beams == PUBLISHED[name]["num_beams"]
    rows = sources("right")
    expected, got = theirs.generate(**rows), ours.generate(**rows)
    assert got.shape[1] <= PUBLISHED[name]["max_length"]
    assert [row[: row.index(2, 1) + 1] for row in got.tolist()] == [
        row[: row.index(2, 1) + 1] for row in expected.tolist()
    ]
    assert ours.generate(**rows, num_beams=1).tolist() != got.tolist()


def test_behind_an_end_stands_the_padding(pairs: dict[str, Pair]) -> None:
    """Also if it is token 0, for which the reference writes the end token."""
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 9, "eos_token_id": [5, 2, 7, 11, 30]}
    got, expected = both(pairs["t5"], {**options, "pad_token_id": 0})
    behind = got.beam_indices < 0
    assert bool(behind.any())
    assert set(got.sequences[:, 1:][behind].tolist()) == {0}
    assert set(expected.sequences[:, 1:][behind].tolist()) == {5}
    got, expected = both(pairs["t5"], {**options, "pad_token_id": 1})
    assert got.sequences.equal(expected.sequences)


@pytest.mark.parametrize("options", [{"num_beams": 4, "num_return_sequences": 3}, {}, {"do_sample": True}], ids=str)
@pytest.mark.parametrize("normalize", [True, False])
def test_transition_scores_equal_the_references(pair: Pair, options: dict[str, Any], normalize: bool) -> None:
    got, expected = both(
        pair, {"max_new_tokens": 8, "eos_token_id": [2, 7, 11, 30], "repetition_penalty": 1.2, **options}
    )
    known = [
        model.compute_transition_scores(
            out.sequences, out.scores, out.get("beam_indices"), normalize_logits=normalize
        )
        for model, out in zip(pair, (got, expected), strict=True)
    ]  # fmt: skip
    written = got.beam_indices >= 0 if "beam_indices" in got else torch.ones_like(known[0], dtype=torch.bool)
    # Of a row that ended before others, the reference scores padding by whatever stands there; here it is the same.
    torch.testing.assert_close(known[0][written], known[1][written], rtol=1e-5, atol=1e-5)
    assert set(known[0][~written].tolist()) <= {0.0}
    if "num_beams" in options and not normalize:
        sums = known[0].sum(dim=1) / written.sum(dim=1)
        torch.testing.assert_close(sums, got.sequences_scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_an_answer_that_is_begun_is_gone_on_with(name: str, pairs: dict[str, Pair]) -> None:
    begun = torch.tensor([[1, 8, 9], [1, 20, 21], [1, 4, 4]])
    options = {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 8, "decoder_input_ids": begun}
    got, expected = both(pairs[name], {**options, "decoder_start_token_id": 1, "eos_token_id": [2, 7, 11]})
    assert agree(got, expected)
    assert got.sequences[::2, :3].equal(begun)


def test_scores_and_logits_of_every_step_equal_the_references(pair: Pair) -> None:
    got, expected = both(pair, {"num_beams": 3, "max_new_tokens": 6, "min_new_tokens": 6, "repetition_penalty": 1.2})
    for name in ("scores", "logits"):
        # Numbers up to 30, each a sum of some tens of products in float32.
        torch.testing.assert_close(torch.stack(got[name]), torch.stack(expected[name]), rtol=1e-5, atol=1e-4)


DECODING = sorted(name for name in DECODERS if "causal_lm" in CASES[name].tasks)


@pytest.mark.parametrize("name", DECODING)
def test_every_cache_lets_beams_change_places(name: str, tmp_path: Path) -> None:
    """Windows, latents, shared layers: the cache follows the beams as if all were read again."""
    case = copy.deepcopy(CASES[name])  # the reference writes into what it is given, and cases share it
    theirs = parity_harness.reference(case, "causal_lm")
    theirs.save_pretrained(tmp_path)
    ours = auto.AutoModelForCausalLM.from_pretrained(tmp_path)
    options = {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 9, "eos_token_id": [2, 9, 17]}
    got, expected = both((ours, theirs), {**options, "pad_token_id": PAD})
    assert agree(got, expected)
    again, _ = both((ours, ours), {**options, "pad_token_id": PAD, "use_cache": False})
    assert again.sequences.equal(got.sequences)
    # Some layers of float32 sums in another order, on scores of order 1.
    torch.testing.assert_close(again.sequences_scores, got.sequences_scores, rtol=1e-5, atol=1e-5)
