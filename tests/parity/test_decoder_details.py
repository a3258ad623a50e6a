"""Decoder families, where the general comparison does not reach: generation from a padded batch, half precision, and
texts that outgrow their original length."""

from __future__ import annotations

from dataclasses import replace
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


# Its own length is 16, and texts have 24 tokens. No case of the others' tests: the reference remembers what it read.
_SCALED = {"rope_type": "dynamic", "factor": 3.0, "rope_theta": 100.0}
DYNAMIC = replace(
    CASES["llama"], values={**CASES["llama"].values, "max_position_embeddings": 16, "rope_parameters": _SCALED}
)


def test_a_theta_for_the_length_of_a_call_does_not_depend_on_earlier_calls(tmp_path: Path) -> None:
    """24 tokens have a theta of their own, 20 have another one, 16 the plain one. The reference keeps that of its
    longest text for all that are longer than 16."""
    theirs = reference(DYNAMIC, "base")
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path, "base")
    tokens = batch(DYNAMIC, "base", None)["input_ids"]
    with torch.no_grad():
        alone = {count: ours(tokens[:, :count]).last_hidden_state for count in (16, 20, 24)}
        for count in (24, 20, 16):
            assert torch.equal(ours(tokens[:, :count]).last_hidden_state, alone[count])
        for count in (16, 20, 24):  # growing, the reference is right as well
            assert difference(alone[count], theirs(tokens[:, :count]).last_hidden_state) <= TOLERANCE
        assert difference(alone[20], theirs(tokens[:, :20]).last_hidden_state) > 1000 * TOLERANCE
        for change in ({"max_position_embeddings": 14}, {"rope_parameters": {**_SCALED, "factor": 2.0}}):
            mutated = reference(DYNAMIC, "base", **change)(tokens).last_hidden_state
            assert difference(alone[24], mutated) > 10 * TOLERANCE


def test_words_beyond_the_length_of_a_dynamic_scaling_equal_the_reference(tmp_path: Path) -> None:
    """A prompt of 12 tokens grows beyond 16: keys in the cache keep the rotation they got, there as well."""
    theirs = reference(DYNAMIC, "causal_lm")
    theirs.save_pretrained(tmp_path)
    tokens = batch(DYNAMIC, "causal_lm", None)["input_ids"][:, :12]
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mine = load(tmp_path, "causal_lm").generate(tokens, **options)
    assert mine.shape[1] == 24
    assert mine.tolist() == theirs.generate(tokens, attention_mask=torch.ones_like(tokens), **options).tolist()


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
