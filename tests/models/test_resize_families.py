"""Another size of vocabulary on every family that scores words: what is saved loads, old words keep their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_guard_rails import CONFIGS, TINY

from plait.models import auto
from plait.models.config import Config
from plait.models.files import new_model
from plait.models.registry import family_of
from plait.nn.topology import EncoderDecoderModel

CLASSES = {
    "causal_lm": auto.AutoModelForCausalLM,
    "masked_lm": auto.AutoModelForMaskedLM,
    "seq2seq_lm": auto.AutoModelForSeq2SeqLM,
}
PAIRS = [
    (name, task)
    for name, values in CONFIGS.items()
    for task in CLASSES
    if task in family_of(values["model_type"], label="x").HEADS
]


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_every_family_grows_and_loads(name: str, task: str, mean: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    heads = family_of(CONFIGS[name]["model_type"], label="x").HEADS
    decoder = {"is_decoder": True} if task == "causal_lm" and "masked_lm" in heads else {}
    model: Any = new_model(Config({**TINY, **CONFIGS[name], **decoder}), task=task).eval()
    ids = torch.randint(3, 29, (2, 9), generator=torch.Generator().manual_seed(1))
    more = {"decoder_input_ids": ids.flip(1)} if isinstance(model.network, EncoderDecoderModel) else {}
    with torch.no_grad():
        before = model(ids, **more).logits
        model.resize_token_embeddings(35, mean_resizing=mean)
        after = model(ids, **more).logits
    # The same products, in kernels of another width: a few roundings of 6e-8.
    torch.testing.assert_close(after[..., :29], before, rtol=1e-5, atol=1e-5)
    assert after.shape[-1] == 35
    new = model.get_input_embeddings().weight.detach()[29:]
    assert bool(new.isfinite().all())
    assert (float(new.std(dim=0).max()) < 1e-6) == mean  # one mean, or six draws
    model.save_pretrained(tmp_path)
    again = CLASSES[task].from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(ids, **more).logits, after)
