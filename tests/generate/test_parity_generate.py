"""Real tiny decoders: ids equal to transformers' generate, batches equal to single rows, cached equal to naive."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from plait.generate import LanguageModel, generate
from plait.generate.naive import generate_naively
from plait.models.auto import AutoModelForCausalLM

transformers.utils.logging.disable_progress_bar()

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    # Large weights make every token matter; with the usual 0.02 all sequences would be the same loop.
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
CASES = {
    "llama": transformers.LlamaConfig(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 200.0}),
    "qwen2": transformers.Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen2-window": transformers.Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=6, max_window_layers=1),
}
Pair = tuple[transformers.PreTrainedModel, LanguageModel]


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The reference model, and plait's of the same files."""
    torch.manual_seed(3)
    folder: Path = tmp_path_factory.mktemp(request.param)
    reference = transformers.AutoModelForCausalLM.from_config(CASES[request.param]).eval()
    reference.save_pretrained(folder)
    return reference, AutoModelForCausalLM.from_pretrained(folder)


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """Four prompts of 9, 4, 1 and 7 tokens, padded on the left."""
    tokens = torch.randint(3, 61, (4, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    for row, padding in enumerate((0, 5, 8, 2)):
        tokens[row, :padding], mask[row, :padding] = 0, 0
    return tokens, mask


OPTIONS = [
    {},
    {"eos_token_id": [2, 7, 11, 30]},
    {"repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 6, "eos_token_id": [5, 9, 20]},
    {"suppress_tokens": [3, 4, 5], "begin_suppress_tokens": [7], "bad_words_ids": [[8], [9, 10]]},
    {"forced_eos_token_id": 2, "max_new_tokens": 5},
    {"max_length": 12, "max_new_tokens": None},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "greedy")
def test_greedy_ids_equal_transformers(pair: Pair, options: dict) -> None:
    reference, ours = pair
    tokens, mask = prompts()
    options = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **options}
    expected = reference.generate(tokens, attention_mask=mask, **options)
    assert generate(ours, tokens, attention_mask=mask, **options).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7, "top_p": 0.8}, {"top_k": 5}, {"top_k": 0, "min_p": 0.1, "temperature": 1.5}]
)
def test_sampled_ids_equal_transformers_from_the_same_random_state(pair: Pair, options: dict) -> None:
    """Both draw once per step from torch's global state, so equal distributions give equal ids."""
    reference, ours = pair
    tokens, mask = prompts()
    options = {"max_new_tokens": 16, "do_sample": True, "pad_token_id": 0, **options}
    torch.manual_seed(11)
    expected = reference.generate(tokens, attention_mask=mask, **options)
    torch.manual_seed(11)
    assert generate(ours, tokens, attention_mask=mask, **options).tolist() == expected.tolist()


def test_scores_equal_transformers(pair: Pair) -> None:
    reference, ours = pair
    tokens, mask = prompts()
    options = {
        "max_new_tokens": 6, "do_sample": False, "output_scores": True, "output_logits": True,
        "repetition_penalty": 1.2, "return_dict_in_generate": True, "eos_token_id": None,
    }  # fmt: skip
    expected = reference.generate(tokens, attention_mask=mask, **options)
    got = generate(ours, tokens, attention_mask=mask, **options)
    for name in ("scores", "logits"):
        # Logits reach 30; a relative 1e-5 is a hundred roundings of float32.
        torch.testing.assert_close(torch.stack(got[name]), torch.stack(expected[name]), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.4, "no_repeat_ngram_size": 3}])
def test_batched_rows_equal_single_rows(pair: Pair, options: dict) -> None:
    _, ours = pair
    tokens, mask = prompts()
    batch = generate(ours, tokens, attention_mask=mask, max_new_tokens=20, eos_token_id=[2, 17], **options)
    for row, padding in enumerate((0, 5, 8, 2)):
        alone = generate(ours, tokens[row : row + 1, padding:], max_new_tokens=20, eos_token_id=[2, 17], **options)[0]
        assert batch[row, padding : padding + len(alone)].tolist() == alone.tolist()


def test_the_cache_changes_nothing(pair: Pair) -> None:
    _, ours = pair
    tokens, mask = prompts()
    cached = generate(ours, tokens, attention_mask=mask, max_new_tokens=20, eos_token_id=None)
    assert generate(ours, tokens, attention_mask=mask, max_new_tokens=20, eos_token_id=None, use_cache=False).equal(
        cached
    )
    for row, padding in enumerate((0, 5, 8, 2)):
        naive = generate_naively(ours, tokens[row, padding:], max_new_tokens=20)
        assert cached[row, padding:].tolist() == naive.tolist()


def test_a_loaded_model_satisfies_the_protocol_and_generates(pair: Pair) -> None:
    reference, ours = pair
    assert isinstance(ours, LanguageModel)
    tokens, mask = prompts()
    assert ours.generation_config.eos_token_ids() == [2]
    expected = reference.generate(input_ids=tokens, attention_mask=mask, max_new_tokens=30)
    assert ours.generate(input_ids=tokens, attention_mask=mask, max_new_tokens=30).tolist() == expected.tolist()


def test_more_tokens_than_the_cache_reserves(pair: Pair) -> None:
    """The cache is made with room for 256 tokens to come; the 257th makes it grow."""
    _, ours = pair
    long = generate(ours, torch.tensor([[5, 6]]), max_new_tokens=300, eos_token_id=None)
    naive = generate_naively(ours, long[0, :290], max_new_tokens=12)
    assert long[0, 290:].tolist() == naive[290:].tolist()
