"""Padding is left out of the computation where a model allows it, and nothing but the zeros at padding shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_guard_rails import CONFIGS, TINY
from torch import Tensor, nn

from plait import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification
from plait.errors import OptionError
from plait.models.config import Config
from plait.models.files import new_model
from plait.nn.packing import Packing
from plait.nn.topology import EncoderDecoderModel
from plait.train import Trainer, TrainingArguments

LENGTHS = [3, 12, 1, 5, 5]
MASK = (torch.arange(12) < torch.tensor(LENGTHS)[:, None]).long()
IDS = torch.randint(5, 90, MASK.shape, generator=torch.Generator().manual_seed(0)) * MASK
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "vocab_size": 90}
# Sums of some tens of products of order 1, in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[Packing]:
    """Every packing that a stack is given from now on."""
    from plait.nn.stack import Stack

    seen: list[Packing] = []
    forward = Stack.forward

    def noting(self: Stack, *arguments: Any, packing: Packing | None = None, **named: Any) -> Tensor:
        if packing is not None:
            seen.append(packing)
        return forward(self, *arguments, packing=packing, **named)

    monkeypatch.setattr(Stack, "forward", noting)
    return seen


def bert(loader: Any = AutoModel, **changes: Any) -> Any:
    torch.manual_seed(0)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return loader.from_config({"model_type": "bert", "initializer_range": 0.2, **SMALL, **none, **changes}).eval()


def llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        {"model_type": "llama", "initializer_range": 0.2, "num_key_value_heads": 2, **SMALL, **changes}
    ).eval()


def test_a_published_encoder_packs_by_itself(minilm: Path, packings: list[Packing]) -> None:
    model = AutoModel.from_pretrained(minilm)
    with torch.no_grad():
        packed, padded = model(IDS, MASK), model(IDS, MASK, packed=False)
    assert [packing.count for packing in packings] == [sum(LENGTHS)]
    # States of order 1 behind six layers of width 384.
    torch.testing.assert_close(packed.last_hidden_state[MASK.bool()], padded.last_hidden_state[MASK.bool()], **CLOSE)
    torch.testing.assert_close(packed.pooler_output, padded.pooler_output, **CLOSE)
    assert packed.last_hidden_state[MASK == 0].abs().max() == 0.0
    assert packed.hidden_states[-1][MASK == 0].abs().min() > 0.0


def test_a_decoder_packs_without_a_cache(packings: list[Packing]) -> None:
    model, labels = llama(), IDS.masked_fill(MASK == 0, -100)
    for mask, ids in ((MASK, IDS), (MASK.flip(1), IDS.flip(1))):
        packed, padded = (model(ids, mask, use_cache=False, packed=packed) for packed in (None, False))
        torch.testing.assert_close(packed.logits[mask.bool()], padded.logits[mask.bool()], **CLOSE)
    losses = [model(IDS, MASK, labels=labels, use_cache=False, packed=packed).loss for packed in (None, False)]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)
    assert len(packings) == 3
    with torch.no_grad():
        model(IDS, MASK)
    assert len(packings) == 3  # a cache was filled


def test_an_encoder_of_a_pair_packs(packings: list[Packing]) -> None:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_ff": 24, "d_kv": 4, "num_heads": 4, "num_layers": 2, "vocab_size": 90}
    model = AutoModelForSeq2SeqLM.from_config({"model_type": "t5", "decoder_start_token_id": 0, **sizes}).eval()
    alone = [model(IDS[i : i + 1, :n], labels=IDS[i : i + 1, :n]).logits for i, n in enumerate(LENGTHS)]
    assert packings == []
    batch = model(IDS, MASK, labels=IDS).logits
    assert len(packings) == 1
    for i, n in enumerate(LENGTHS):
        torch.testing.assert_close(batch[i : i + 1, :n], alone[i], **CLOSE)
    assert torch.equal(model.encode(IDS, MASK).last_hidden_state[MASK == 0], torch.zeros(1).expand(34, 16))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_packs_or_says_why_not(
    name: str, packings: list[Packing], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    values = {**TINY, **CONFIGS[name]}
    values |= {"initializer_range": 0.2} if "initializer_range" in Config(values).known() else {}
    model: Any = new_model(Config(values), task="base").eval()
    ids = (IDS % 26 + 3) * MASK
    if isinstance(model.network, EncoderDecoderModel):
        with torch.no_grad():
            packed = model(ids, MASK, decoder_input_ids=ids[:, :4]).last_hidden_state
            monkeypatch.setattr(Packing, "pays", lambda valid: False)
            padded = model(ids, MASK, decoder_input_ids=ids[:, :4]).last_hidden_state
        assert len(packings) == 1
    elif not model.network.stack.packable:
        assert name in ("deberta-v2-convolution", "tapas")
        with pytest.raises(OptionError, match="`packed=True` is impossible: this model reads rows as wholes"):
            model(ids, MASK, packed=True)
        return
    else:
        with torch.no_grad():
            packed, padded = (model(ids, MASK, packed=flag).last_hidden_state[MASK.bool()] for flag in (True, False))
        assert len(packings) == 1
    torch.testing.assert_close(packed, padded, rtol=0, atol=1e-5 * float(padded.abs().max()))


def test_asked_to_pack(packings: list[Packing]) -> None:
    model, mask = bert(), torch.ones(2, 6, dtype=torch.long)
    mask[0, 5] = 0
    model(IDS[:2, :6], mask)  # too little padding to be worth it
    assert packings == []
    model(IDS[:2, :6], mask, packed=True)
    assert len(packings) == 1
    model(IDS[:2, :6], packed=True)  # nothing to leave out
    assert len(packings) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"output_hidden_states": True}, "hidden states and attention weights are those of padded rows"),
        ({"use_cache": True}, "a cache holds padded rows (use_cache=False goes without one)"),
        ({"position_ids": torch.arange(12)}, "`position_ids` were given, and packing counts them itself"),
        (
            {"attention_mask": torch.tensor([[1] * 4 + [0] + [1] * 7] * 5)},
            "a row has padding between its tokens, or none has any",
        ),
    ],
)
def test_what_cannot_be_packed(arguments: dict[str, Any], reason: str) -> None:
    given = {"input_ids": IDS, "attention_mask": MASK, "use_cache": False, **arguments}
    with pytest.raises(OptionError) as error:
        llama()(**given, packed=True)
    assert str(error.value) == f"`packed=True` is impossible: {reason}. Leave it out to compute with padding."
    llama()(**given)


def test_convolutions_read_whole_rows(packings: list[Packing]) -> None:
    model = AutoModel.from_config(
        {
            "model_type": "deberta-v2",
            **SMALL,
            "relative_attention": True,
            "pos_att_type": "p2c|c2p",
            "share_att_key": True,
            "position_biased_input": False,
            "conv_kernel_size": 3,
        }
    ).eval()
    model(IDS, MASK)
    assert packings == []
    with pytest.raises(OptionError, match="this model reads rows as wholes"):
        model(IDS, MASK, packed=True)


class Padded(nn.Module):
    """The same model, computing its padding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Any:
        return self.model(input_ids, attention_mask, labels=labels, packed=False)


@pytest.mark.parametrize("labels", [1, 3])
def test_training_packs_and_learns_the_same(tmp_path: Path, labels: int, packings: list[Packing]) -> None:
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": float(i) if labels == 1 else i % labels}
        for i, (ids, mask) in enumerate(zip(IDS.tolist(), MASK.tolist(), strict=True))
    ]
    histories, weights = [], []
    for packs in (True, False):
        model = bert(AutoModelForSequenceClassification, num_labels=labels)
        options = {"per_device_train_batch_size": 5, "num_train_epochs": 4, "learning_rate": 1e-3, "logging_steps": 1}
        args = TrainingArguments(output_dir=str(tmp_path / str(len(histories))), report_to="none", **options)
        trained = model if packs else Padded(model)
        before = len(packings)
        trainer = Trainer(trained, args, train_dataset=rows)
        trainer.train()
        assert (len(packings) > before) is packs
        histories.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        weights.append(torch.cat([part.detach().flatten() for part in model.parameters()]))
    assert len(histories[0]) == 4
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)
    # AdamW moves each number by up to 1e-3 a step whatever the size of its gradient, so one that is zero but for
    # rounding may go either way. All others go the same way.
    apart = (weights[0] - weights[1]).abs()
    assert float((apart < 1e-5).float().mean()) > 0.95
    assert float(apart.max()) < 4e-3


def test_a_loss_that_reads_padding_is_computed_with_it(packings: list[Packing]) -> None:
    model, left = llama(), MASK.flip(1)
    words = IDS.masked_fill(MASK == 0, -100)
    # Right of a text nothing counts; left of it, the score of the first word is that of a slot of padding.
    for mask, labels, packs in (
        (MASK, words, True),
        (MASK, IDS, False),
        (left, words.flip(1), False),
        (left, words.flip(1).masked_fill(left.cumsum(1) == 1, -100), True),
    ):
        packings.clear()
        ids = IDS if mask is MASK else IDS.flip(1)
        found, padded = model(ids, mask, labels=labels).loss, model(ids, mask, labels=labels, packed=False).loss
        assert bool(packings) is packs
        torch.testing.assert_close(found, padded, **CLOSE)
    with pytest.raises(OptionError, match="labels count scores at padding"):
        model(IDS, MASK, labels=IDS, packed=True)
    with pytest.raises(OptionError, match=r"`labels` must have the shape \(5, 12\), but has \(\)"):
        model(IDS, MASK, labels=torch.tensor(3))


def test_scalings_read_the_length_of_padded_rows() -> None:
    torch.manual_seed(0)
    factors = {"short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0]}
    lengths = {"max_position_embeddings": 64, "original_max_position_embeddings": 16, "pad_token_id": 0}
    values = {"model_type": "phi3", "initializer_range": 0.2, **SMALL, **lengths}
    values |= {"rope_scaling": {"rope_type": "longrope", **factors}}
    model = AutoModel.from_config(values).eval()
    # Texts of 12 at most, in rows of 20: the rows are beyond the original length, the texts are not.
    ids, mask = (torch.nn.functional.pad(part, (0, 8)) for part in (IDS, MASK))
    with torch.no_grad():
        packed, padded = (model(ids, mask, packed=way).last_hidden_state[mask.bool()] for way in (True, False))
    torch.testing.assert_close(packed, padded, **CLOSE)


def test_one_row_of_segments_is_that_of_all(packings: list[Packing]) -> None:
    model, row = bert(), (torch.arange(12) > 3).long()[None]
    with torch.no_grad():
        packed = model(IDS, MASK, token_type_ids=row).last_hidden_state
        padded = model(IDS, MASK, token_type_ids=row.expand(5, -1), packed=False).last_hidden_state
    assert len(packings) == 1
    torch.testing.assert_close(packed[MASK.bool()], padded[MASK.bool()], **CLOSE)
    with pytest.raises(OptionError) as error:
        model(IDS, MASK, token_type_ids=row[:, :7])
    assert str(error.value) == "`token_type_ids` must have the shape (5, 12), but has (1, 7)."
