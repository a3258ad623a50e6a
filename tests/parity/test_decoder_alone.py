"""Decoders of encoder-decoders as language models of their own, against the reference library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity_harness import TOLERANCE, difference
from safetensors.torch import load_file
from test_seq2seq_parity import CASES, WORDS
from torch import Tensor
from torch.nn import functional

from plait.models import auto

NAMES = ["bart", "bart-scaled", "mbart", "marian", "pegasus"]
LENGTH = 9


def reference(name: str) -> Any:
    """A random decoder of the reference library, all of whose numbers matter."""
    return _drawn(transformers.AutoModelForCausalLM.from_config(CASES[name].build()))


def _drawn(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, part in sorted(model.named_parameters()):
            if part.requires_grad:
                part.copy_(torch.randn(part.shape, generator=generator) * 0.2)
    return model.eval()


def words(rows: int = 3) -> Tensor:
    return torch.randint(3, WORDS, (rows, LENGTH), generator=torch.Generator().manual_seed(1))


def both(name: str, folder: Path) -> tuple[Any, Any]:
    theirs = reference(name)
    theirs.save_pretrained(folder)
    return auto.AutoModelForCausalLM.from_pretrained(folder), theirs


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_the_loss_of_the_next_word(name: str, tmp_path: Path) -> None:
    ours, theirs = both(name, tmp_path)
    mask = (torch.arange(LENGTH) < torch.tensor([[LENGTH], [6], [3]])).long()
    labels = words().masked_fill(mask == 0, -100)
    with torch.no_grad():
        mine, other = (model(words(), attention_mask=mask) for model in (ours, theirs))
        loss = ours(words(), attention_mask=mask, labels=labels).loss
    assert difference(mine.logits[mask.bool()], other.logits[mask.bool()]) <= TOLERANCE
    # The reference compares a position with the label in its own place, which teaches a decoder to repeat what it
    # reads; here labels are the words read, as for every causal language model.
    expected = functional.cross_entropy(other.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert difference(loss, expected) <= TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_changes_nothing_and_answers_are_the_same(name: str, tmp_path: Path) -> None:
    ours, theirs = both(name, tmp_path)
    with torch.no_grad():
        whole = ours(words()).logits
        first = ours(words()[:, :4], use_cache=True)
        rest = ours(words()[:, 4:], past_key_values=first.past_key_values).logits
    assert difference(torch.cat([first.logits, rest], dim=1), whole) <= TOLERANCE
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": WORDS + 1}
    assert torch.equal(ours.generate(words(), **options), theirs.generate(words(), **options))


@pytest.mark.parametrize("name", NAMES)
def test_padding_on_the_left_changes_no_answer(name: str, tmp_path: Path) -> None:
    ours, _ = both(name, tmp_path)
    mask = (torch.arange(LENGTH) >= torch.tensor([[0], [3], [6]])).long()
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": WORDS + 1}
    together = ours.generate(words() * mask, attention_mask=mask, **options)[:, LENGTH:]
    for row, start in enumerate((0, 3, 6)):
        alone = ours.generate(words()[row : row + 1, start:], **options)[:, LENGTH - start :]
        assert torch.equal(together[row : row + 1], alone)


@pytest.mark.parametrize("name", NAMES)
def test_files_keep_what_attends_to_nothing(name: str, tmp_path: Path) -> None:
    ours, theirs = both(name, tmp_path / "theirs")
    with torch.no_grad():
        before = ours(words()).logits
        for part_name, part in ours.named_parameters():
            if "encoder_attn" in part_name:
                part.add_(torch.randn(part.shape))
        assert torch.equal(ours(words()).logits, before)
    ours = auto.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    saved, given = (load_file(tmp_path / side / "model.safetensors") for side in ("ours", "theirs"))
    computed = {"model.decoder.embed_positions.weight"} if name in ("marian", "pegasus") else set()
    assert any("encoder_attn" in key for key in saved)
    assert set(given) - set(saved) <= computed
    assert all(torch.equal(value, given[key]) for key, value in saved.items())
    again, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert set(report["missing_keys"]) <= computed
    assert not report["unexpected_keys"]
    with torch.no_grad():
        assert difference(again.eval()(words()).logits, before) <= TOLERANCE


@pytest.mark.parametrize("name", [*NAMES, "marian-two-vocabularies"])
def test_the_decoder_of_a_whole_model(name: str, tmp_path: Path) -> None:
    whole = _drawn(transformers.AutoModelForSeq2SeqLM.from_config(CASES[name].build()))
    whole.save_pretrained(tmp_path)
    ours = auto.AutoModelForCausalLM.from_pretrained(tmp_path)
    count = int(CASES[name].values.get("decoder_vocab_size", WORDS))
    ids = words() % (count - 3) + 3
    # The reference draws the embedding anew here, whose name in the file is the one of both stacks. So its parts are
    # put together by hand: the decoder without an encoder, and the scores without the bias of answers.
    with torch.no_grad():
        states = whole.get_decoder()(ids).last_hidden_state
        expected = states @ whole.lm_head.weight.T
        assert difference(ours(ids).logits, expected) <= TOLERANCE
