"""What scripts print and keep of a run: the numbers on the screen and in the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from train_models import Regressor, numbers

from plait.errors import TrainingError
from plait.train import Trainer, TrainingArguments


def trainer_in(folder: Path) -> Trainer:
    arguments = TrainingArguments(folder, max_steps=2, save_strategy="no", report_to="none", loss="mse", use_cpu=True)
    return Trainer(Regressor(), arguments, train_dataset=numbers(20), eval_dataset=numbers(6, seed=1))


def test_metrics_are_printed_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"eval_runtime": 3725.5, "eval_loss": 0.123456, "eval_samples": 6}
    trainer_in(tmp_path).log_metrics("eval", metrics)
    assert capsys.readouterr().out == (
        "***** eval metrics *****\n"
        "  eval_loss    = 0.1235\n"
        "  eval_runtime = 1:02:05.50\n"
        "  eval_samples = 6\n"
    )  # fmt: skip


def test_metrics_are_kept_apart_and_together(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path / "new")
    trainer.save_metrics("train", {"train_loss": 0.5, "epoch": 1.0})
    trainer.save_metrics("eval", {"eval_loss": 0.25, "epoch": 2.0})
    trainer.save_metrics("test", {"test_loss": 0.125}, combined=False)
    found = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "new").iterdir()}
    assert found == {
        "train_results.json": {"train_loss": 0.5, "epoch": 1.0},
        "eval_results.json": {"eval_loss": 0.25, "epoch": 2.0},
        "test_results.json": {"test_loss": 0.125},
        "all_results.json": {"train_loss": 0.5, "eval_loss": 0.25, "epoch": 2.0},
    }


def test_the_state_and_the_counts_of_a_run(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    with pytest.raises(TrainingError, match="there is no optimizer before train"):
        trainer.get_learning_rates()
    trainer.train()
    trainer.save_state()
    state = json.loads((tmp_path / "trainer_state.json").read_text(encoding="utf-8"))
    assert (state["global_step"], state["max_steps"]) == (2, 2)
    assert trainer.get_learning_rates() == [0.0, 0.0]  # linear: the last step leaves nothing
    # 4·8 + 8 in the first layer, 8 + 8 in the norm, 8 + 1 in the last
    assert trainer.get_num_trainable_parameters() == 40 + 16 + 9
    assert trainer.num_examples(trainer.get_train_dataloader()) == 20
    assert trainer.num_examples(trainer.get_eval_dataloader()) == 6


def test_a_page_about_the_model(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path / "solar")
    trainer.train()
    score = trainer.evaluate()["eval_loss"]
    trainer.create_model_card(finetuned_from="org/base", tasks="regression", dataset="太阳能", language="zh")
    assert (tmp_path / "solar" / "README.md").read_text(encoding="utf-8") == (
        '---\nlanguage: "zh"\nbase_model: "org/base"\ntags: ["regression"]\ndatasets: ["太阳能"]\n---\n\n'
        "# solar\n\nTrained from org/base.\n\nTrained on 太阳能.\n\n"
        "## Training\n\n| argument | value |\n|---|---|\n| loss | mse |\n| max_steps | 2 |\n"
        "| save_strategy | no |\n| use_cpu | True |\n\n"
        f"## Evaluations\n\n| step | eval_loss | epoch |\n| --- | --- | --- |\n| 2 | {score:.4g} | 0.6667 |\n"
    )
