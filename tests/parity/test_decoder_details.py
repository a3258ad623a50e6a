"""Decoder families, where the general comparison does not reach: generation from a padded batch, half precision, and
texts that outgrow their original length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from decoder_cases import DECODERS
from parity_harness import CASES, TOKENS, TOLERANCE, batch, difference, load, masks, reference


@pytest.mark.parametrize("name", ["gemma2", "gemma3"])
def test_scaled_embeddings_and_offset_norms_in_bfloat16(name: str, tmp_path: Path) -> None:
    """The scale sqrt(32) = 5.6569 is 5.6562 in bfloat16, and 1 + weight is taken in float32."""
    theirs = reference(CASES[name], "base").to(torch.bfloat16)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path, "base")
    assert ours.dtype == torch.bfloat16
    tokens = torch.arange(53)[None]
    with torch.no_grad():
        mine = ours(tokens, output_hidden_states=True).hidden_states[0]
        other = theirs(tokens, output_hidden_states=True).hidden_states[0]
        assert torch.equal(mine, other)
        mine, other = ours.network.stack.norm(mine), theirs.norm(other)
    # Both round one float32 value, whose own last bit may differ: 1 in 2^16 such values then rounds to a neighbour.
    assert (mine != other).sum() <= 2
    torch.testing.assert_close(mine, other, rtol=2**-7, atol=0)


@pytest.mark.parametrize(("first", "same"), [(16, False), (17, True), (23, True)])
def test_the_length_of_a_call_chooses_the_factors(first: int, same: bool, tmp_path: Path) -> None:
    """The original length is 16. From 17 tokens on the long factors hold, and a cache may be continued; keys of a
    shorter call keep the rotation of the short ones, as the specification says."""
    reference(CASES["phi3-long-partial"], "base").save_pretrained(tmp_path)
    ours = load(tmp_path, "base")
    tokens = batch(CASES["phi3-long-partial"], "base", None)["input_ids"]
    with torch.no_grad():
        whole = ours(tokens).last_hidden_state
        begun = ours(tokens[:, :first], use_cache=True)
        rest = ours(tokens[:, first:], past_key_values=begun.past_key_values).last_hidden_state
    assert rest.shape[1] == TOKENS - first
    apart = difference(rest, whole[:, first:])
    assert apart <= TOLERANCE if same else apart > 1000 * TOLERANCE


@pytest.mark.parametrize("name", [name for name, (_, _, tasks) in DECODERS.items() if "causal_lm" in tasks])
def test_greedy_words_behind_a_padded_batch(name: str, tmp_path: Path) -> None:
    """Rows of 14, 13 and 6 words, padded on the left, each go on with the reference's words."""
    theirs = reference(CASES[name], "causal_lm")
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path, "causal_lm")
    padding = masks()["left"]
    ids = batch(CASES[name], "causal_lm", padding)["input_ids"][:, 10:]
    assert padding is not None
    options = {"attention_mask": padding[:, 10:], "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    mine = ours.generate(ids, eos_token_id=None, **options)
    assert mine.shape[1] == ids.shape[1] + 8
    assert mine.tolist() == theirs.generate(ids, eos_token_id=None, **options).tolist()
