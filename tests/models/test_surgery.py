"""Every part is called, whatever way a forward takes: who watches, prunes or replaces one is never passed over."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_guard_rails import CONFIGS, TINY
from torch import Tensor, nn
from torch.nn.utils import prune

from plait.models.config import Config
from plait.models.files import new_model
from plait.nn.norm import Norm
from plait.nn.topology import EncoderDecoderModel

IDS = torch.randint(3, 29, (2, 9), generator=torch.Generator().manual_seed(0))
# Its vectors are read all at once, as a matrix.
WHOLE = "stack.relative_vectors.table"


def made(name: str) -> Any:
    torch.manual_seed(0)
    model: Any = new_model(Config({**TINY, **CONFIGS[name]}), task="base")
    with torch.no_grad():
        for each, parameter in model.named_parameters():
            if each.endswith("bias"):
                parameter.normal_(std=0.3)
    # Nothing learns, so that the shortest way is taken wherever there is one.
    return model.eval().requires_grad_(False)


@torch.no_grad()
def states(model: Any, *, steps: bool) -> Tensor:
    """Of all tokens at once, or where that is possible of all but the last first, and then of that one alone."""
    both = {"decoder_input_ids": IDS} if isinstance(model.network, EncoderDecoderModel) else {}
    if not steps or not (both or model.causal):
        return model(IDS, **both).last_hidden_state  # type: ignore[no-any-return]
    if both:
        memory = model.encode(IDS)
        cache = model(encoder_outputs=memory, decoder_input_ids=IDS[:, :-1], use_cache=True).past_key_values
        last = model(encoder_outputs=memory, decoder_input_ids=IDS[:, -1:], past_key_values=cache)
    else:
        last = model(IDS[:, -1:], past_key_values=model(IDS[:, :-1], use_cache=True).past_key_values)
    return last.last_hidden_state  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", CONFIGS)
def test_whoever_watches_a_part_sees_it_called(name: str) -> None:
    model = made(name)
    called: set[str] = set()
    parts = {
        each: part
        for each, part in model.network.named_modules()
        if isinstance(part, nn.Linear | nn.Embedding | Norm) and each != WHOLE
    }
    for each, part in parts.items():
        part.register_forward_hook(lambda *_, each=each: called.add(each))
    for steps in (False, True):
        called.clear()
        states(model, steps=steps)
        # A shared table is one part with two names.
        assert {id(part) for part in parts.values()} == {id(parts[each]) for each in called}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_pruned_part_counts_as_it_is_now(name: str) -> None:
    model = made(name)
    linear = [part for part in model.network.modules() if isinstance(part, nn.Linear)]
    for part in linear:
        prune.l1_unstructured(part, "weight", amount=0.3)
        part.weight_orig.mul_(1.5)  # as a step of training would: the next call alone makes the weight of it
    found = [states(model, steps=steps) for steps in (False, True)]
    for part in linear:
        prune.remove(part, "weight")
    for one, steps in zip(found, (False, True), strict=True):
        expected = states(model, steps=steps)
        # Sums of some tens of products, in another order.
        torch.testing.assert_close(one, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
