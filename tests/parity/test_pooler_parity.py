"""The base network of an encoder without its pooler, against the reference library."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from parity_harness import CASES, TOLERANCE, batch, difference, masks, reference

from plait.errors import OptionError
from plait.models import auto
from plait.weights.checkpoint import open_checkpoint

FAMILIES = ["bert", "roberta", "xlm-roberta", "albert", "mpnet"]


@pytest.mark.parametrize("name", FAMILIES)
def test_left_out_of_a_checkpoint_that_holds_it(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    reference(case, "base").save_pretrained(tmp_path / "theirs")
    assert any("pooler" in entry for entry in open_checkpoint(tmp_path / "theirs").entries())
    ours = auto.AutoModel.from_pretrained(tmp_path / "theirs", add_pooling_layer=False)
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "theirs", add_pooling_layer=False).eval()
    assert ours.num_parameters() == theirs.num_parameters()
    mask = masks()["right"]
    assert mask is not None
    inputs = batch(case, "base", mask)
    with torch.no_grad():
        mine, other = ours(**inputs), theirs(**inputs)
    valid = mask.bool()
    assert difference(mine.last_hidden_state[valid], other.last_hidden_state[valid]) <= TOLERANCE
    assert mine.pooler_output is None
    assert other.pooler_output is None
    # Saved without it, and read here and there: nothing missing, nothing in excess, the same numbers.
    ours.save_pretrained(tmp_path / "ours")
    again, report = transformers.AutoModel.from_pretrained(
        tmp_path / "ours", add_pooling_layer=False, output_loading_info=True
    )
    assert not any(report.values()), report
    state = again.state_dict()
    assert all(torch.equal(state[key], value) for key, value in theirs.state_dict().items())
    reread = auto.AutoModel.from_pretrained(tmp_path / "ours", add_pooling_layer=False)
    assert all(torch.equal(part, ours.get_parameter(key)) for key, part in reread.named_parameters())


def test_a_new_network_without_it() -> None:
    config = CASES["bert"].build().to_dict()
    with_pooler = auto.AutoModel.from_config(config, add_pooling_layer=True)
    without = auto.AutoModel.from_config(config, add_pooling_layer=False)
    width = config["hidden_size"]
    assert with_pooler.num_parameters() - without.num_parameters() == width * width + width
    assert without(torch.tensor([[5, 6, 7]])).pooler_output is None


def test_where_there_is_none_to_ask_for(tmp_path: Path) -> None:
    reference(CASES["llama"], "base").save_pretrained(tmp_path)
    with pytest.raises(OptionError) as error:
        auto.AutoModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert str(error.value) == (
        f"`add_pooling_layer` was given, but this network has no pooler (config.json of {tmp_path}). Leave it out."
    )
    with pytest.raises(OptionError) as error:
        auto.AutoModelForCausalLM.from_pretrained(tmp_path, add_pooling_layer=True)
    assert str(error.value) == (
        "`add_pooling_layer` was given, but the network of text generation is as its head needs it. Leave it out, or "
        "load AutoModel."
    )
