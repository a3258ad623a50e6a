"""Head masks on every family: the same as weights of the output projection that are scaled, or zero."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from test_guard_rails import CONFIGS, TINY
from torch import Tensor

from plait.errors import OptionError
from plait.models.config import Config
from plait.models.files import new_model
from plait.models.head_mask import heads_multiplied
from plait.models.registry import FAMILIES
from plait.nn.topology import EncoderDecoderModel

# float32 rounds at 6e-8 of a value; the two ways multiply in another order, and norms of two layers come behind.
TOLERANCE = 1e-5


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    return new_model(Config({**TINY, **CONFIGS[name]}), task="base").eval()


def ids() -> Tensor:
    return torch.randint(3, 29, (2, 9), generator=torch.Generator().manual_seed(1))


def scale(layer: Any, factors: Tensor, part: str = "attention") -> None:
    """Multiply the columns of the output projection that read each head."""
    attention = getattr(layer, part)
    with torch.no_grad():
        attention.output.weight *= factors.repeat_interleave(attention.spec.head_dim)


def test_every_family_is_here() -> None:
    assert {CONFIGS[name]["model_type"] for name in CONFIGS} | {"gpt2"} >= set(FAMILIES)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_head_mask_is_a_scaled_projection(name: str) -> None:
    model, cut = model_of(name), model_of(name)
    two = isinstance(model.network, EncoderDecoderModel)
    more = {"decoder_input_ids": ids().flip(1)} if two else {}
    layers = model.network.encoder.layers if two else model.layers
    heads = layers[0].attention.spec.heads
    mask = torch.ones(len(layers), heads)
    mask[0, 1], mask[-1, 0] = 0.0, 0.5
    for layer, factors in zip(cut.network.encoder.layers if two else cut.layers, mask, strict=True):
        scale(layer, factors)
    field = "encoder_last_hidden_state" if two else "last_hidden_state"
    with torch.no_grad():
        found = model(ids(), head_mask=mask, **more)[field]
        expected, plain = cut(ids(), **more)[field], model(ids(), **more)[field]
        shown = model(ids(), head_mask=mask, output_attentions=True, **more)
    assert float((found - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))
    assert float((found - plain).abs().max()) > 100 * TOLERANCE
    attentions = shown["encoder_attentions" if two else "attentions"]
    assert float(attentions[0][:, 1].abs().max()) == 0
    with torch.no_grad():
        assert torch.equal(model(ids(), **more)[field], plain)  # nothing stays behind


def test_the_masks_of_a_decoder_and_of_what_it_attends_to() -> None:
    for which, part, name in (
        ("decoder_head_mask", "attention", "decoder_attentions"),
        ("cross_attn_head_mask", "cross", "cross_attentions"),
    ):
        model, cut = model_of("t5"), model_of("t5")
        layers = cut.network.decoder.layers
        mask = torch.ones(len(layers), layers[0].attention.spec.heads)
        mask[1, 2], mask[0, 0] = 0.0, 0.3
        for layer, factors in zip(layers, mask, strict=True):
            scale(layer, factors, part)
        with torch.no_grad():
            found = model(ids(), decoder_input_ids=ids().flip(1), output_attentions=True, **{which: mask})
            expected = cut(ids(), decoder_input_ids=ids().flip(1)).last_hidden_state
            plain = model(ids(), decoder_input_ids=ids().flip(1), output_attentions=True)
        largest = max(1.0, float(expected.abs().max()))
        assert float((found.last_hidden_state - expected).abs().max()) <= TOLERANCE * largest
        assert float((found.last_hidden_state - plain.last_hidden_state).abs().max()) > 100 * TOLERANCE
        assert float(found[name][1][:, 2].abs().max()) == 0
        torch.testing.assert_close(found[name][0][:, 0], 0.3 * plain[name][0][:, 0])
        with pytest.raises(OptionError, match=rf"`{which}` names 3 heads, but the layers have 4"):
            model(ids(), decoder_input_ids=ids(), **{which: torch.ones(3)})
        with pytest.raises(
            OptionError, match=rf"`{which}` must have the shape \(heads,\) or \(2, heads\), but has \(5, 4\)"
        ):
            model(ids(), decoder_input_ids=ids(), **{which: torch.ones(5, 4)})


def test_other_threads_do_not_see_the_mask_of_one() -> None:
    model, found = model_of("bert"), []
    with torch.no_grad():
        plain = model(ids()).last_hidden_state
        with heads_multiplied(model.layers, torch.zeros(4)):
            other = threading.Thread(target=lambda: found.append(model(ids()).last_hidden_state.detach()))
            other.start()
            other.join()
            own = model(ids()).last_hidden_state
    assert torch.equal(found[0], plain)
    assert float((own - plain).abs().max()) > 100 * TOLERANCE


def test_a_mask_is_not_there_when_layers_are_computed_again() -> None:
    for name, more in (("bert", {}), ("t5", {"decoder_input_ids": ids()})):
        model = model_of(name).train()
        heads = (model.network.encoder if name == "t5" else model.network.stack).layers[0].attention.spec.heads
        model.gradient_checkpointing_enable()
        with pytest.raises(OptionError) as error:
            model(ids(), head_mask=torch.ones(heads), **more)
        assert str(error.value) == (
            "A mask of heads is not there when the backward pass computes layers again. Leave it out, or call "
            "gradient_checkpointing_disable()."
        )
        with torch.no_grad():
            model(ids(), head_mask=torch.ones(heads), **more)
