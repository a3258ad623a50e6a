"""Tasks that read a text with both stacks, or with the encoder alone, against the reference library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity_harness import TOLERANCE, difference
from test_seq2seq_parity import CASES, SOURCE, WORDS
from torch import Tensor

from plait.errors import OptionError
from plait.models import auto
from plait.models.seq2seq import Seq2SeqModel

LENGTHS = torch.tensor([SOURCE, 6, 3])
MASK = (torch.arange(SOURCE) < LENGTHS[:, None]).long()
TASKS = [("AutoModelForQuestionAnswering", name) for name in ("bart", "mbart", "t5", "t5-gated", "mt5")]
TASKS += [("AutoModelForMaskedLM", name) for name in ("bart", "mbart")]
TASKS += [("AutoModelForTokenClassification", name) for name in ("t5", "t5-gated", "mt5")]


def source() -> Tensor:
    ids = torch.randint(3, WORDS, (3, SOURCE), generator=torch.Generator().manual_seed(1))
    ids[torch.arange(3), LENGTHS - 1] = 2
    return ids.masked_fill(MASK == 0, 0)


def reference(task: str, name: str) -> Any:
    """A random model of the reference library, all of whose numbers matter."""
    changes = {"num_labels": 3} if "Token" in task else {}
    model = getattr(transformers, task).from_config(CASES[name].build(**changes)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part_name, part in sorted([*model.named_parameters(), *model.named_buffers()]):
            if part.is_floating_point() and (part.requires_grad or part_name == "final_logits_bias"):
                part.copy_(torch.randn(part.shape, generator=generator) * 0.2)
    return model


def answers(task: str) -> dict[str, Tensor]:
    if "Question" in task:
        return {"start_positions": torch.tensor([1, 5, 0]), "end_positions": torch.tensor([7, 5, 2])}
    words = torch.randint(3, 3 + 40, (3, SOURCE), generator=torch.Generator().manual_seed(2))
    return {"labels": (words if "Masked" in task else words % 3).masked_fill(MASK == 0, -100)}


def real(values: Tensor) -> Tensor:
    """Those of tokens: what stands at padding is nobody's."""
    return values[MASK.bool()]


@pytest.mark.parametrize(("task", "name"), TASKS)
def test_outputs_losses_and_files(task: str, name: str, tmp_path: Path) -> None:
    theirs = reference(task, name)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = getattr(auto, task).from_pretrained(tmp_path / "theirs")
    inputs = {"input_ids": source(), "attention_mask": MASK}
    outputs = ("start_logits", "end_logits") if "Question" in task else ("logits",)
    with torch.no_grad():
        mine, other = ours(**inputs), theirs(**inputs)
        for output in outputs:
            assert difference(real(mine[output]), real(other[output])) <= TOLERANCE, output
        # Padding is no answer here, so the losses are those of the same scores: of each text alone, over all texts.
        losses = []
        for row, length in enumerate(LENGTHS):
            cut = {key: value[row : row + 1] for key, value in answers(task).items()}
            cut = {key: value[:, :length] if value.dim() == 2 else value for key, value in cut.items()}
            alone = {key: value[row : row + 1, :length] for key, value in inputs.items()}
            losses.append((ours(**alone, **cut).loss, theirs(**alone, **cut).loss))
    for pair in losses:
        assert difference(*pair) <= TOLERANCE
    ours.save_pretrained(tmp_path / "ours")
    again, report = getattr(transformers, task).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    state = again.state_dict()
    assert all(torch.equal(state[key], value) for key, value in theirs.state_dict().items())
    reread = getattr(auto, task).from_pretrained(tmp_path / "ours")
    assert all(torch.equal(part, ours.get_parameter(key)) for key, part in reread.named_parameters())


@pytest.mark.parametrize("name", ["t5", "mt5", "bart"])
def test_new_heads_on_the_weights_of_a_language_model(name: str, tmp_path: Path) -> None:
    language = transformers.AutoModelForSeq2SeqLM.from_config(CASES[name].build())
    language.save_pretrained(tmp_path)
    tasks = ["QuestionAnswering", "SequenceClassification", *([] if name == "bart" else ["TokenClassification"])]
    for task in tasks:
        model = getattr(auto, f"AutoModelFor{task}").from_pretrained(tmp_path, num_labels=2)
        table = model.get_input_embeddings().weight
        assert torch.equal(table, language.get_input_embeddings().weight)
        last = model.network.head.projection.weight
        # Drawn with 16^-0.5 = 0.25 for T5 and 0.02 for BART; 32 numbers, whose deviation is known to a quarter.
        assert (0.1 < last.std() < 0.5) if name != "bart" else (0.01 < last.std() < 0.04)
        model.freeze()
        head = {key.split(".")[0] for key, part in model.named_parameters() if part.requires_grad}
        assert (
            head
            == {
                "QuestionAnswering": {"qa_outputs"},
                "SequenceClassification": {"classification_head"},
                "TokenClassification": {"classifier"},
            }[task]
        )


def test_the_encoder_alone_labels_tokens(tmp_path: Path) -> None:
    theirs = reference("AutoModelForTokenClassification", "t5")
    theirs.save_pretrained(tmp_path)
    ours = auto.AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert not isinstance(ours, Seq2SeqModel)
    assert ours.num_parameters() == theirs.num_parameters()
    # Packed, as other encoders.
    with torch.no_grad():
        inputs = {"input_ids": source(), "attention_mask": MASK}
        packed, padded = (ours(**inputs, packed=flag).logits for flag in (True, False))
    torch.testing.assert_close(real(packed), real(padded), rtol=0, atol=1e-5)


def test_an_answer_has_two_ends(tmp_path: Path) -> None:
    reference("AutoModelForQuestionAnswering", "bart").save_pretrained(tmp_path)
    model = auto.AutoModelForQuestionAnswering.from_pretrained(tmp_path)
    with pytest.raises(OptionError) as error:
        model(source(), MASK, start_positions=torch.tensor([0, 0, 0]))
    assert str(error.value) == (
        "`start_positions` was given alone: the answer needs start_positions and end_positions."
    )
