"""A small GPT and a small BERT learn a batch by heart: the loss goes to zero, and every word comes back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from plait import AutoModelForCausalLM, AutoModelForMaskedLM

WORDS, MASK = 50, 1
GPT = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "vocab_size": WORDS}
GPT |= {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
BERT = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": WORDS}
BERT |= {"intermediate_size": 64, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def texts() -> Tensor:
    """Eight rows of twelve random words: nothing in one says anything about another."""
    return torch.randint(2, WORDS, (8, 12), generator=torch.Generator().manual_seed(3))


def batches() -> dict[str, tuple[Any, dict[str, Any], Tensor, Tensor]]:
    """By name: the class, its configuration, what is read, and what is to be said, -100 where nothing."""
    whole = texts()
    hidden = (torch.arange(12) % 3 == 1).expand_as(whole)
    return {
        "GPT": (AutoModelForCausalLM, GPT, whole, whole),
        "BERT": (AutoModelForMaskedLM, BERT, whole.masked_fill(hidden, MASK), whole.masked_fill(~hidden, -100)),
    }


@pytest.mark.parametrize("name", ["GPT", "BERT"])
def test_a_batch_is_learned_by_heart(name: str) -> None:
    loader, config, read, said = batches()[name]
    if name == "GPT":
        said = said.clone()
        said[:, :2] = -100  # the first word is not known from anything, and tells the row apart from the others
    torch.manual_seed(0)
    model = loader.from_config(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    losses = []
    for _ in range(200):
        loss = model(read, labels=said).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    # At first every word is as likely as another, ln 50 = 3.9.
    assert 3.5 < losses[0] < 4.6
    assert losses[-1] < 0.005
    with torch.no_grad():
        guesses = model.eval()(read).logits.argmax(dim=-1)
    if name == "GPT":
        guesses, said = guesses[:, :-1], said[:, 1:]
    assert torch.equal(guesses[said != -100], said[said != -100])
