"""Evaluation that writes answers: ids as `generate` gives them, padded into one array, beside the same loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plait import GenerationConfig
from plait.errors import GenerationError, OptionError
from plait.models.auto import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from plait.models.seq2seq import Seq2SeqModel
from plait.train import EvalPrediction, Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer

START, END, PAD = 1, 2, 0


def small() -> Seq2SeqModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 12}
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1, "hidden_dropout_prob": 0.0}
    return AutoModelForSeq2SeqLM.from_config({"model_type": "transformer", **sizes, **layers})


def rows(count: int = 6) -> list[dict[str, list[int]]]:
    """Sources of 2 to 4 words; the answer is the first word as often as there are words, and the end."""
    sources = [[3 + index, *range(4, 4 + index % 3 + 1)] for index in range(count)]
    return [
        {"input_ids": [*text, *[PAD] * (4 - len(text))], "attention_mask": [1] * len(text) + [0] * (4 - len(text)),
         "labels": [*[text[0]] * len(text), END, *[-100] * (4 - len(text))]}
        for text in sources
    ]  # fmt: skip


def trainer_of(model: Any, folder: Path, **options: Any) -> Seq2SeqTrainer:
    kept = {name: options.pop(name) for name in ("compute_metrics",) if name in options}
    given: dict[str, Any] = {
        "predict_with_generate": True, "generation_max_length": 8, "per_device_train_batch_size": 6,
        "per_device_eval_batch_size": 4, "save_strategy": "no", "report_to": "none", "use_cpu": True,
    }  # fmt: skip
    arguments = Seq2SeqTrainingArguments(folder, **{**given, **options})
    return Seq2SeqTrainer(model, arguments, train_dataset=rows(), eval_dataset=rows(), **kept)


def alone(model: Seq2SeqModel, row: dict[str, list[int]], length: int) -> list[int]:
    """The answer of one row, padded."""
    source = torch.tensor([row["input_ids"]]), torch.tensor([row["attention_mask"]])
    ids = model.eval().generate(source[0], attention_mask=source[1], max_length=length)[0].tolist()
    return [*ids, *[PAD] * (length - len(ids))]


def test_predictions_are_what_the_model_writes(tmp_path: Path) -> None:
    model = small()
    trainer = trainer_of(model, tmp_path)
    found = trainer.predict(rows())
    assert found.predictions.tolist() == [alone(model, row, 8) for row in rows()]
    assert found.label_ids.tolist() == [row["labels"] for row in rows()]
    # The loss is that of the labels, which the answers do not touch.
    plain = Trainer(small(), trainer.args, eval_dataset=rows()).evaluate()
    assert found.metrics["test_loss"] == pytest.approx(plain["eval_loss"], abs=1e-6)
    shorter = trainer.predict(rows(), max_length=5).predictions
    assert shorter.tolist() == [alone(model, row, 5) for row in rows()]
    assert trainer.predict(rows(2), max_new_tokens=2).predictions.shape == (2, 3)
    assert trainer.predict(rows(2)).predictions.shape == (2, 8)  # an option of one call stays with it


def test_beams_are_those_of_the_argument_or_of_the_configuration(tmp_path: Path) -> None:
    model = small().eval()
    with torch.no_grad():
        for part in model.parameters():
            part.add_(torch.randn(part.shape) * 0.3)  # a new one says the same word for ever, with any number of beams
    options = {"max_length": 8, "eos_token_id": END}
    expected = {
        beams: [
            [*ids, *[PAD] * (8 - len(ids))]
            for row in rows()
            for ids in model.generate(
                torch.tensor([row["input_ids"]]),
                attention_mask=torch.tensor([row["attention_mask"]]),
                num_beams=beams,
                **options,
            ).tolist()
        ]
        for beams in (1, 4)
    }
    assert expected[1] != expected[4]
    said = trainer_of(model, tmp_path, generation_num_beams=4)
    assert said.predict(rows()).predictions.tolist() == expected[4]
    assert said.predict(rows(), num_beams=1).predictions.tolist() == expected[1]
    own = trainer_of(model, tmp_path, generation_config=GenerationConfig(num_beams=4, **options))
    assert own.predict(rows()).predictions.tolist() == expected[4]


def test_a_metric_sees_answers_become_right(tmp_path: Path) -> None:
    def exact(answers: EvalPrediction) -> dict[str, float]:
        said = [[token for token in row if token not in (START, END, PAD)] for row in answers.predictions.tolist()]
        true = [[token for token in row if token not in (END, -100)] for row in answers.label_ids.tolist()]
        return {"exact": float(np.mean([one == other for one, other in zip(said, true, strict=True)]))}

    trainer = trainer_of(small(), tmp_path, compute_metrics=exact, max_steps=120, learning_rate=1e-2)
    assert trainer.evaluate()["eval_exact"] == 0.0
    trainer.train()
    assert trainer.evaluate()["eval_exact"] == 1.0
    assert trainer.evaluate(max_length=2)["eval_exact"] == 0.0  # the start, and one word of two or more


def test_without_the_option_predictions_are_scores(tmp_path: Path) -> None:
    assert trainer_of(small(), tmp_path, predict_with_generate=False).predict(rows()).predictions.shape == (6, 5, 12)


def test_the_limit_is_the_configurations_where_no_argument_is(tmp_path: Path) -> None:
    model = small()
    own = GenerationConfig(max_new_tokens=5, decoder_start_token_id=START, eos_token_id=END)
    trainer = trainer_of(model, tmp_path, generation_max_length=None, generation_config=own)
    assert trainer.predict(rows(2)).predictions.shape == (2, 6)
    assert trainer.args.to_dict()["generation_config"] == own.to_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predict_with_generate": "yes"}, "predict_with_generate must be True or False, but is 'yes'"),
        ({"generation_max_length": 1}, "generation_max_length must be a whole number, 2 or more, but is 1"),
        ({"generation_num_beams": 0}, "generation_num_beams must be a whole number, 1 or more, but is 0"),
        ({"generation_config": {"max_length": 3}}, "generation_config must be a GenerationConfig, but is a dict"),
        ({"generation_max_lenght": 3}, "Did you mean 'generation_max_length'"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Seq2SeqTrainingArguments(tmp_path, **options)


def test_what_cannot_be_written_is_said_before_training(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    decoder = AutoModelForCausalLM.from_config({"model_type": "llama", "vocab_size": 12, **sizes})
    with pytest.raises(OptionError, match="predict_with_generate=True needs a model with an encoder that generates"):
        trainer_of(decoder, tmp_path)
    groups = GenerationConfig(num_beam_groups=2)
    with pytest.raises(GenerationError, match="`num_beam_groups=2` is not supported"):
        trainer_of(small(), tmp_path, generation_config=groups)
    with pytest.raises(GenerationError, match="`num_beams` must be a whole number, 1 or more, but is 0"):
        trainer_of(small(), tmp_path).predict(rows(1), num_beams=0)
