"""The trainer as users meet it: what it accepts, what it returns, what it says."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset
from train_models import Answer, Counted, Regressor, Tagger, numbers, pad_rows, tokens

from plait.data import Dataset, DatasetDict
from plait.errors import DataError, OptionError, TrainingError
from plait.nn.loss import LossTerms
from plait.train import (
    AdamW,
    EarlyStoppingCallback,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    get_scheduler,
    load_metric,
)
from plait.train.loss import named_loss

ROWS = numbers(30)


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    given = {
        "loss": "mse",
        "report_to": "none",
        "use_cpu": True,
        "learning_rate": 0.02,
        "save_strategy": "no",
        **options,
    }
    return TrainingArguments(str(folder), **given)


def losses(trainer: Trainer, name: str = "loss") -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


# -- training and evaluating -------------------------------------------------------------------------------------------


def test_it_learns_evaluates_and_predicts(tmp_path: Path) -> None:
    args = arguments(tmp_path, num_train_epochs=40, logging_steps=20, lr_scheduler_type="constant")
    trainer = Trainer(Regressor(dropout=0.0), args, train_dataset=ROWS, eval_dataset=numbers(50, seed=1))
    before = trainer.evaluate()
    result = trainer.train()
    after = trainer.evaluate()
    assert (result.global_step, result.metrics["epoch"]) == (160, 40.0)
    assert losses(trainer)[-1] < 0.1 < 2 < losses(trainer)[0]
    assert after["eval_loss"] < 0.1 * before["eval_loss"]
    assert {*after} == {"eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "epoch"}
    assert {*result.metrics} == {
        "train_runtime",
        "train_samples_per_second",
        "train_steps_per_second",
        "train_loss",
        "epoch",
    }
    output = trainer.predict(numbers(50, seed=1))
    predictions, labels, metrics = output
    assert predictions.shape == labels.shape == (50,)
    assert float(np.square(predictions - labels).mean()) == pytest.approx(metrics["test_loss"], rel=1e-5)
    assert metrics["test_loss"] == pytest.approx(after["eval_loss"], rel=1e-6)
    with torch.no_grad():
        direct = trainer.model.eval()(torch.stack([row["features"] for row in numbers(50, seed=1)]))
    assert np.abs(direct.numpy() - predictions).max() < 1e-6


@pytest.mark.parametrize("terms", [True, False])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_logged_losses_do_not_depend_on_the_split(tmp_path: Path, terms: bool, accumulation: int) -> None:
    """Rows with differing numbers of labels: 6 rows at once, or 2 and 2 and 2; the model gives sums, or means."""

    def run(batch: int, steps: int, folder: str) -> Trainer:
        args = arguments(
            tmp_path / folder,
            loss=None,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
            logging_steps=1,
            num_train_epochs=2,
            train_sampling_strategy="sequential",
        )
        trainer = Trainer(Tagger(terms=terms), args, train_dataset=tokens(20), data_collator=pad_rows)
        trainer.train()
        return trainer

    whole, split = run(6, 1, "whole"), run(6 // accumulation, accumulation, "split")
    # Adam divides by the size of the gradient, so rounding of 1e-7 grows in the few steps of the run.
    assert losses(split) == pytest.approx(losses(whole), rel=1e-5)
    assert losses(split, "grad_norm") == pytest.approx(losses(whole, "grad_norm"), rel=1e-4)
    assert losses(split, "train_loss") == pytest.approx(losses(whole, "train_loss"), rel=1e-5)


def test_logged_loss_is_that_of_all_labels_since_the_last_line(tmp_path: Path) -> None:
    """Not the mean of the means of steps with few and many labels. The rate is zero, so every step sees one model."""
    args = arguments(tmp_path, loss=None, learning_rate=0.0, logging_steps=4, num_train_epochs=1)
    trainer = Trainer(Tagger(), args, train_dataset=tokens(29), data_collator=pad_rows)
    trainer.train()
    batch = pad_rows(tokens(29))
    expected = float(trainer.model(**batch)["loss"].detach())
    assert losses(trainer) == [pytest.approx(expected, rel=1e-6)]
    assert trainer.evaluate(tokens(29))["eval_loss"] == pytest.approx(expected, rel=1e-6)


def test_the_mode_of_a_model_is_given_back(tmp_path: Path) -> None:
    model = Regressor().eval()
    trainer = Trainer(model, arguments(tmp_path, max_steps=1), train_dataset=ROWS, eval_dataset=ROWS)
    trainer.train()
    assert not model.training
    model.train()
    trainer.evaluate()
    assert model.training


def test_runs_repeat_and_seeds_matter(tmp_path: Path) -> None:
    def run(**options: Any) -> list[float]:
        trainer = Trainer(Regressor(), arguments(tmp_path, logging_steps=1, **options), train_dataset=ROWS)
        trainer.train()
        return losses(trainer)

    first = run()
    assert run() == first
    assert run(seed=1) != first
    assert run(data_seed=1) != first
    trainer = Trainer(Regressor(), arguments(tmp_path, logging_steps=1), train_dataset=ROWS)
    torch.rand(100)  # what was drawn before does not matter
    trainer.train()
    assert losses(trainer) == first


def test_bfloat16_scores_in_float32(tmp_path: Path) -> None:
    """A loss under autocast stays float32, and the step is that of float32 to the precision of bfloat16 products."""

    def gradient(**options: Any) -> Tensor:
        model = Regressor(dropout=0.0)
        before = model.layers[4].weight.detach().clone()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        args = arguments(
            tmp_path,
            max_steps=1,
            max_grad_norm=0,
            per_device_train_batch_size=30,
            lr_scheduler_type="constant",
            **options,
        )
        Trainer(model, args, train_dataset=ROWS, optimizers=(optimizer, None)).train()
        return before - model.layers[4].weight.detach()

    exact, rounded = gradient(), gradient(bf16=True)
    assert not torch.equal(exact, rounded)
    assert ((exact - rounded).abs().max() / exact.abs().max()) < 1e-2


# -- data --------------------------------------------------------------------------------------------------------------


class SolarDataset(TorchDataset[dict[str, Tensor]]):
    """As articles write it: arrays inside, tensors out."""

    def __init__(self) -> None:
        self.features = np.array([row["features"].numpy() for row in ROWS], dtype=np.float64)
        self.targets = np.array([row["labels"] for row in ROWS])

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "features": torch.tensor(self.features[index], dtype=torch.float32),
            "labels": torch.tensor(self.targets[index], dtype=torch.float32),
        }


def test_every_kind_of_data_set_gives_the_same_run(tmp_path: Path) -> None:
    import datasets

    columns = {"features": [row["features"].tolist() for row in ROWS], "label": [row["labels"] for row in ROWS]}
    kinds = [
        ROWS,
        SolarDataset(),
        Dataset.from_dict({**columns, "text": ["x"] * len(ROWS)}),
        Dataset.from_dict(columns).with_format("torch"),
        datasets.Dataset.from_dict(columns),
        Counted([{**row, "text": "x"} for row in ROWS]),
    ]
    runs = []
    for rows in kinds:
        trainer = Trainer(Regressor(), arguments(tmp_path, logging_steps=1), train_dataset=rows)
        trainer.train()
        runs.append(losses(trainer))
    assert all(run == runs[0] for run in runs)


def test_a_table_by_length_and_with_workers(tmp_path: Path) -> None:
    rows = tokens(40)
    table = Dataset.from_dict({name: [row[name] for row in rows] for name in ("input_ids", "labels")})
    runs = []
    for data, workers in ((rows, 0), (table, 0), (table, 2)):
        args = arguments(tmp_path, loss=None, group_by_length=True, logging_steps=1, dataloader_num_workers=workers)
        trainer = Trainer(Tagger(), args, train_dataset=data, data_collator=pad_rows)
        trainer.train()
        runs.append(losses(trainer))
    assert runs[0] == runs[1] == runs[2]


def test_a_split_data_set_must_be_named(tmp_path: Path) -> None:
    both = DatasetDict({"train": Dataset.from_dict({"features": [[0.0] * 4], "label": [1.0]})})
    with pytest.raises(
        TrainingError, match=r"train_dataset is a DatasetDict of 'train'; pass one of them, for example"
    ):
        Trainer(Regressor(), arguments(tmp_path), train_dataset=both).train()


def test_unused_columns_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{**row, "text": "hello", "idx": 3} for row in ROWS]
    with caplog.at_level(logging.INFO, "plait.train"):
        trainer = Trainer(Regressor(), arguments(tmp_path, max_steps=2), train_dataset=rows, eval_dataset=rows)
        trainer.train()
        trainer.evaluate()
    said = [message for message in caplog.messages if "left out" in message]
    assert said == ["columns that Regressor.forward does not take are left out: text, idx"]


def test_columns_reach_the_collator_when_asked(tmp_path: Path) -> None:
    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        features = torch.tensor([[float(len(row["text"])), 1.0, 2.0, 3.0] for row in rows])
        return {"features": features, "labels": torch.zeros(len(rows))}

    rows = [{"text": "a" * n} for n in range(1, 9)]
    args = arguments(tmp_path, remove_unused_columns=False, max_steps=1)
    Trainer(Regressor(), args, train_dataset=rows, data_collator=collate).train()
    with pytest.raises(DataError) as caught:
        Trainer(Regressor(), arguments(tmp_path), train_dataset=rows, data_collator=collate).train()
    assert (
        "train_dataset has no column that Regressor.forward takes: the columns are text; forward takes features. "
        "Rename a column, or set remove_unused_columns=False" in str(caught.value)
    )


def test_loaders_know_their_size(tmp_path: Path) -> None:
    args = arguments(tmp_path, per_device_train_batch_size=8, per_device_eval_batch_size=7)
    trainer = Trainer(Regressor(), args, train_dataset=ROWS, eval_dataset={"a": ROWS, "b": ROWS[:5]})
    loader = trainer.get_train_dataloader()
    assert (len(loader), loader.num_batches, loader.num_examples) == (4, 4, 30)
    assert [len(batch["labels"]) for batch in loader] == [8, 8, 8, 6]
    assert len(trainer.get_eval_dataloader("a")) == 5
    dropping = Trainer(Regressor(), arguments(tmp_path, dataloader_drop_last=True), train_dataset=ROWS)
    assert len(dropping.get_train_dataloader()) == 3
    optimizer = AdamW(trainer.model.parameters(), lr=2e-5)
    schedule = get_scheduler(
        name="linear",
        optimizer=optimizer,
        num_warmup_steps=0,
        num_training_steps=trainer.get_train_dataloader().num_batches * trainer.args.num_train_epochs,
    )
    for _ in range(6):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-5)


def test_rows_by_length(tmp_path: Path) -> None:
    seen: list[int] = []

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = pad_rows(rows)
        seen.append(int(batch["labels"].numel()))
        return batch

    args = arguments(tmp_path, loss=None, group_by_length=True, num_train_epochs=1)
    Trainer(Tagger(), args, train_dataset=tokens(64), data_collator=collate).train()
    whole = sum(len(row["input_ids"]) for row in tokens(64))
    assert sum(seen) < 1.15 * whole  # one window of sorted rows: little padding
    with pytest.raises(
        DataError, match="group_by_length needs a column 'length' or 'input_ids'; the columns are features, labels"
    ):
        Trainer(Regressor(), arguments(tmp_path, group_by_length=True), train_dataset=ROWS).train()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (None, "training needs a train_dataset."),
        ([], "train_dataset has no rows."),
        (
            {"train": ROWS},
            "train_dataset is a dict of 'train'; pass one of them, for example train_dataset=dataset['train'].",
        ),
        (iter(ROWS), "train_dataset is a list_iterator, which has no length or no [index]."),
    ],
)
def test_data_sets_that_cannot_be_used(tmp_path: Path, rows: Any, text: str) -> None:
    with pytest.raises(TrainingError) as caught:
        Trainer(Regressor(), arguments(tmp_path), train_dataset=rows).train()
    assert text in str(caught.value)


def test_a_loader_of_the_user(tmp_path: Path) -> None:
    class Mine(Trainer):
        def get_train_dataloader(self) -> Any:
            batches = [{"features": torch.full((2, 4), float(i)), "labels": torch.zeros(2)} for i in range(3)]
            return torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]

    trainer = Mine(Regressor(), arguments(tmp_path, gradient_accumulation_steps=2))
    assert trainer.train().global_step == 6


# -- losses ------------------------------------------------------------------------------------------------------------


def test_losses_of_the_user_agree(tmp_path: Path) -> None:
    """By name, by function of sums or of a mean, and by a method: one and the same run."""

    class Method(Trainer):
        def compute_loss(
            self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            labels = inputs.pop("labels")
            output = model(**inputs)
            loss = nn.functional.huber_loss(output, labels)
            return (loss, output) if return_outputs else loss

    class Scaled(Trainer):
        def compute_loss(
            self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            return super().compute_loss(model, inputs, return_outputs)

    huber = named_loss("huber")
    kinds: list[tuple[type[Trainer], dict[str, Any], dict[str, Any]]] = [
        (Trainer, {"loss": "huber"}, {}),
        (Trainer, {"loss": None}, {"compute_loss_func": huber}),
        (
            Trainer,
            {"loss": None},
            {"compute_loss_func": lambda output, labels: (huber(output, labels).total, len(labels))},
        ),
        (Trainer, {"loss": None}, {"compute_loss_func": nn.functional.huber_loss}),
        (Method, {"loss": None}, {}),
        (Scaled, {"loss": "huber"}, {}),
    ]
    runs = []
    for kind, options, more in kinds:
        args = arguments(
            tmp_path, logging_steps=1, per_device_train_batch_size=3, gradient_accumulation_steps=3, **options
        )
        trainer = kind(Regressor(), args, train_dataset=ROWS, eval_dataset=ROWS, **more)
        trainer.train()
        runs.append([*losses(trainer), trainer.evaluate()["eval_loss"]])
    for run in runs[1:]:
        assert run == pytest.approx(runs[0], rel=1e-5)


def test_label_smoothing(tmp_path: Path) -> None:
    args = arguments(tmp_path, loss=None, label_smoothing_factor=0.2, learning_rate=0.0)
    trainer = Trainer(Tagger(), args, eval_dataset=tokens(20), data_collator=pad_rows)
    batch = pad_rows(tokens(20))
    logits = trainer.model(batch["input_ids"])["logits"]
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=0.2)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(expected.detach()), rel=1e-6)


def test_a_model_without_a_loss(tmp_path: Path) -> None:
    trainer = Trainer(Regressor(), arguments(tmp_path, loss=None), train_dataset=ROWS)
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    assert "Regressor gave no loss." in str(caught.value)
    assert "TrainingArguments(loss='mse|mae|huber|pinball|" in str(caught.value)
    with pytest.raises(
        TrainingError, match=r"the batch has no labels: it holds features, and labels are called labels"
    ):
        Trainer(Regressor(), arguments(tmp_path), train_dataset=[{"features": [0.0] * 4}]).train()


def test_several_labels(tmp_path: Path) -> None:
    class Span(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 6)

        def forward(
            self, x: Tensor, start_positions: Tensor | None = None, end_positions: Tensor | None = None
        ) -> Answer:
            start, end = self.head(x).split(3, -1)
            output = Answer(start_logits=start, end_logits=end)
            if start_positions is not None and end_positions is not None:
                cross = nn.functional.cross_entropy
                output["loss"] = (cross(start, start_positions) + cross(end, end_positions)) / 2
            return output

    rows = [
        {"x": row["features"], "start_positions": i % 3, "end_positions": (i + 1) % 3} for i, row in enumerate(ROWS)
    ]
    trainer = Trainer(Span(), arguments(tmp_path, loss=None, max_steps=3), train_dataset=rows)
    trainer.train()
    (start, end), (first, last), metrics = trainer.predict(rows)
    assert start.shape == end.shape == (30, 3)
    assert first.tolist() == [i % 3 for i in range(30)]
    assert last.tolist() == [(i + 1) % 3 for i in range(30)]
    expected = sum(
        float(nn.functional.cross_entropy(torch.tensor(scores), torch.tensor(labels)))
        for scores, labels in ((start, first), (end, last))
    )
    assert metrics["test_loss"] == pytest.approx(expected / 2, rel=1e-5)


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_compute_metrics_of_the_article(tmp_path: Path) -> None:
    metric = load_metric("accuracy")
    shapes: list[Any] = []

    def compute_metrics(eval_pred: EvalPrediction) -> dict[str, float]:
        logits, labels = eval_pred
        shapes.append((logits.shape, labels.shape))
        counted = labels != -100
        return metric.compute(predictions=np.argmax(logits, axis=-1)[counted], references=labels[counted])

    args = arguments(tmp_path, loss=None, per_device_eval_batch_size=4)
    rows = tokens(21)
    trainer = Trainer(Tagger(), args, eval_dataset=rows, data_collator=pad_rows, compute_metrics=compute_metrics)
    result = trainer.evaluate()
    longest = max(len(row["input_ids"]) for row in rows)
    assert shapes == [((21, longest, 3), (21, longest))]  # batches of differing lengths, filled up with -100
    batch = pad_rows(rows)
    guesses = trainer.model(batch["input_ids"])["logits"].argmax(-1)
    right = (guesses == batch["labels"])[batch["labels"] != -100].double().mean()
    assert result["eval_accuracy"] == pytest.approx(float(right), abs=1e-12)
    streamed = Trainer(
        Tagger(), args, eval_dataset=rows, data_collator=pad_rows, compute_metrics=["accuracy"]
    ).evaluate()
    assert streamed["eval_accuracy"] == pytest.approx(result["eval_accuracy"], abs=1e-12)
    one = Trainer(Tagger(), args, eval_dataset=rows, data_collator=pad_rows, compute_metrics=metric).evaluate()
    assert one["eval_accuracy"] == streamed["eval_accuracy"]


def test_preprocess_logits_for_metrics(tmp_path: Path) -> None:
    def compute_metrics(prediction: EvalPrediction) -> dict[str, Any]:
        assert prediction.predictions.dtype == np.int64
        return {"shape": prediction.predictions.ndim, "eval_given": np.float32(0.5)}

    trainer = Trainer(
        Tagger(),
        arguments(tmp_path, loss=None),
        eval_dataset=tokens(9),
        data_collator=pad_rows,
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )
    result = trainer.evaluate(metric_key_prefix="eval")
    assert (result["eval_shape"], result["eval_given"]) == (2, 0.5)
    assert type(result["eval_given"]) is float


def test_streaming_numbers(tmp_path: Path) -> None:
    trainer = Trainer(Regressor(), arguments(tmp_path), eval_dataset=ROWS, compute_metrics=["mae", "rmse", "r2"])
    result = trainer.evaluate()
    predictions, labels, _ = trainer.predict(ROWS)
    predictions, labels = predictions.astype(float), labels.astype(float)
    error = predictions - labels
    assert result["eval_mae"] == pytest.approx(np.abs(error).mean())
    assert result["eval_rmse"] == pytest.approx(result["eval_loss"] ** 0.5, rel=1e-6)
    assert result["eval_r2"] == pytest.approx(1 - (error**2).sum() / ((labels - labels.mean()) ** 2).sum())


def test_several_evaluation_sets(tmp_path: Path) -> None:
    trainer = Trainer(Regressor(), arguments(tmp_path), eval_dataset={"near": ROWS, "far": numbers(9, seed=4)})
    result = trainer.evaluate()
    assert {"eval_near_loss", "eval_far_loss"} <= {*result}
    assert result["eval_far_loss"] == pytest.approx(trainer.evaluate(numbers(9, seed=4))["eval_loss"])


def test_predicting_without_labels(tmp_path: Path) -> None:
    output = Trainer(Regressor(), arguments(tmp_path)).predict([{"features": row["features"]} for row in ROWS])
    assert output.predictions.shape == (30,)
    assert output.label_ids is None
    assert "test_loss" not in output.metrics


MEMORY = """
import sys
import numpy as np, psutil
from torch import nn
from plait import Trainer, TrainerCallback, TrainingArguments

class Wide(nn.Module):
    def forward(self, x):
        return x.repeat(1, 20_000)

class Memory(TrainerCallback):
    def __init__(self):
        self.bytes = []

    def on_prediction_step(self, *args, **context):
        self.bytes.append(psutil.Process().memory_info().rss)

rows = [{"x": [0.5], "labels": np.zeros(20_000, np.float32)}] * 3000
metrics = {"streams": ["mae"], "none": None, "keeps": lambda prediction: {"rows": len(prediction.predictions)}}
memory = Memory()
args = TrainingArguments(output_dir=sys.argv[2], report_to="none", loss="mse")
Trainer(Wide(), args, compute_metrics=metrics[sys.argv[1]], callbacks=[memory]).evaluate(rows)
print(max(memory.bytes) - memory.bytes[20])  # after a warm-up of the allocator
"""


@pytest.mark.parametrize("metrics", ["streams", "none", "keeps"])
def test_evaluation_memory_is_flat(tmp_path: Path, metrics: str) -> None:
    """Resident memory while 240 MB of predictions go by: nothing of them stays, unless a metric needs them all.

    In a process of its own: in a long-lived one the predictions may fit into memory that earlier work left behind.
    """
    command = [sys.executable, "-c", MEMORY, metrics, str(tmp_path)]
    growth = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert growth > 200_000_000 if metrics == "keeps" else growth < 40_000_000


# -- optimizers, callbacks, the best model -----------------------------------------------------------------------------


def test_optimizers_of_the_user(tmp_path: Path) -> None:
    model = Regressor()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    args = arguments(tmp_path, logging_steps=1, max_steps=6)
    trainer = Trainer(model, args, train_dataset=ROWS, optimizers=(optimizer, schedule))
    trainer.train()
    assert losses(trainer, "learning_rate") == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    with pytest.raises(TrainingError, match="the optimizer holds 6 tensors that are no parameters of Regressor"):
        Trainer(Regressor(), args, train_dataset=ROWS, optimizers=(optimizer, None)).train()


def test_a_fresh_model_for_every_run(tmp_path: Path) -> None:
    trainer = Trainer(model_init=lambda: nn.Sequential(), args=arguments(tmp_path))
    assert isinstance(trainer.model, nn.Sequential)
    trainer = Trainer(model_init=Regressor, args=arguments(tmp_path, logging_steps=1), train_dataset=ROWS)
    trainer.train()
    first = losses(trainer)
    trainer.train()
    assert losses(trainer) == first


def test_everything_may_be_frozen_but_the_head(tmp_path: Path) -> None:
    model = Regressor()
    model.layers[:4].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Trainer(model, arguments(tmp_path), train_dataset=ROWS).train()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"layers.4.weight", "layers.4.bias"}


class Recorder(TrainerCallback):
    def __init__(self) -> None:
        self.events: list[str] = []


for event in [name for name in vars(TrainerCallback) if name.startswith("on_")]:
    setattr(Recorder, event, lambda self, args, state, control, event=event, **context: self.events.append(event))


def test_the_order_of_events(tmp_path: Path) -> None:
    recorder = Recorder()
    args = arguments(
        tmp_path, per_device_train_batch_size=8, gradient_accumulation_steps=2, num_train_epochs=1, logging_steps=1
    )
    args.eval_strategy = args.save_strategy = "epoch"
    Trainer(Regressor(), args, train_dataset=ROWS, eval_dataset=ROWS[:8], callbacks=[recorder]).train()
    step = [
        "on_step_begin",
        "on_substep_end",
        "on_substep_end",
        "on_pre_optimizer_step",
        "on_optimizer_step",
        "on_step_end",
    ]
    assert recorder.events == [
        "on_init_end",
        "on_train_begin",
        "on_epoch_begin",
        *step,
        "on_log",
        *step,
        "on_epoch_end",
        "on_log",
        "on_prediction_step",
        "on_log",
        "on_evaluate",
        "on_save",
        "on_log",
        "on_train_end",
    ]


def test_callbacks_steer(tmp_path: Path) -> None:
    class Early(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> Any:
            assert {"model", "optimizer", "lr_scheduler", "processing_class"} <= {*context}
            control.should_evaluate = state.global_step == 2
            control.should_training_stop = state.global_step == 3
            return control

    trainer = Trainer(Regressor(), arguments(tmp_path), train_dataset=ROWS, eval_dataset=ROWS)
    trainer.add_callback(Early)
    assert trainer.train().global_step == 3
    assert [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry] == [2]
    assert isinstance(trainer.pop_callback(Early), Early)
    assert trainer.pop_callback(Early) is None
    assert trainer.train().global_step == 12


def test_a_misspelled_event_is_refused(tmp_path: Path) -> None:
    class Wrong(TrainerCallback):
        def on_step_ended(self, *args: Any, **kwargs: Any) -> None: ...

    with pytest.raises(OptionError, match=r"Wrong.on_step_ended is no event. Did you mean 'on_step_end'\?"):
        Trainer(Regressor(), arguments(tmp_path), callbacks=[Wrong])


def test_the_best_model_comes_back(tmp_path: Path) -> None:
    """Rates that rise: the first epochs are the best, and one checkpoint may be kept."""
    args = arguments(
        tmp_path,
        num_train_epochs=6,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="rmse",
        max_grad_norm=0,
    )
    model = Regressor(dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 8 else 40.0)
    trainer = Trainer(
        model,
        args,
        train_dataset=ROWS,
        eval_dataset=numbers(20, seed=1),
        compute_metrics=["rmse"],
        optimizers=(optimizer, schedule),
    )
    trainer.train()
    seen = {entry["step"]: entry["eval_rmse"] for entry in trainer.state.log_history if "eval_rmse" in entry}
    best = min(seen, key=seen.__getitem__)
    assert best < 24
    assert trainer.state.best_metric == seen[best]
    assert trainer.state.best_global_step == best
    assert trainer.evaluate()["eval_rmse"] == seen[best]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"checkpoint-{best}", "checkpoint-24"])


def test_saving_only_the_best(tmp_path: Path) -> None:
    args = arguments(tmp_path, num_train_epochs=4, eval_strategy="epoch", save_strategy="best", learning_rate=0.0)
    Trainer(Regressor(), args, train_dataset=ROWS, eval_dataset=ROWS).train()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]  # never better than after the first epoch


def test_a_metric_that_is_not_there(tmp_path: Path) -> None:
    args = arguments(tmp_path, eval_strategy="epoch", metric_for_best_model="f1")
    with pytest.raises(
        TrainingError, match="metric_for_best_model is 'f1', but the evaluation gave eval_loss, eval_runtime"
    ):
        Trainer(Regressor(), args, train_dataset=ROWS, eval_dataset=ROWS).train()


def test_early_stopping(tmp_path: Path) -> None:
    args = arguments(tmp_path, learning_rate=0.0, eval_strategy="steps", eval_steps=1, metric_for_best_model="loss")
    trainer = Trainer(
        Regressor(),
        args,
        train_dataset=ROWS,
        eval_dataset=ROWS,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
    )
    assert trainer.train().global_step == 4
    assert trainer.train().global_step == 4  # a new run counts anew
    with pytest.raises(TrainingError, match="early stopping needs evaluations and a metric"):
        Trainer(Regressor(), arguments(tmp_path), train_dataset=ROWS, callbacks=[EarlyStoppingCallback()]).train()
    with pytest.raises(
        OptionError, match="a patience of 1 or more evaluations and a threshold of 0 or more, but they are 0"
    ):
        EarlyStoppingCallback(0)


# -- steps and strategies ----------------------------------------------------------------------------------------------


def test_counting_steps(tmp_path: Path) -> None:
    def steps(**options: Any) -> tuple[int, float]:
        trainer = Trainer(Regressor(), arguments(tmp_path, **options), train_dataset=ROWS)
        result = trainer.train()
        return result.global_step, result.metrics["epoch"]

    assert steps() == (12, 3.0)
    assert steps(num_train_epochs=0.5) == (2, 0.5)
    assert steps(num_train_epochs=1.5) == (6, 1.5)
    assert steps(max_steps=5) == (5, 1.25)
    assert steps(gradient_accumulation_steps=3) == (6, 3.0)  # of 4 batches: 3 and 1
    assert steps(dataloader_drop_last=True) == (9, 3.0)


def test_when_things_are_logged_and_saved(tmp_path: Path) -> None:
    def logged(**options: Any) -> list[int]:
        trainer = Trainer(Regressor(), arguments(tmp_path, max_steps=10, **options), train_dataset=ROWS)
        trainer.train()
        return [entry["step"] for entry in trainer.state.log_history if "loss" in entry]

    assert logged(logging_steps=4) == [4, 8, 10]
    assert logged(logging_steps=4, logging_first_step=True) == [1, 4, 8, 10]
    assert logged(logging_steps=0.3) == [3, 6, 9, 10]
    assert logged(logging_strategy="epoch") == [4, 8, 10]
    assert logged(logging_strategy="no") == []
    assert logged(save_strategy="steps", save_steps=4, save_total_limit=2) == [10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-8"]


def test_a_loss_that_is_not_a_number_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"features": [float("nan")] * 4, "labels": 1.0}] * 4
    Trainer(Regressor(), arguments(tmp_path, max_steps=1), train_dataset=rows).train()
    assert "the loss is nan at step 1: look for NaN in inputs and labels, or lower learning_rate." in caplog.text


# -- saving ------------------------------------------------------------------------------------------------------------


def test_save_model_and_load(tmp_path: Path) -> None:
    from plait.train.saving import load_model

    model = Tagger()
    model.tied = model.head  # a module under two names
    Trainer(model, arguments(tmp_path)).save_model(tmp_path / "final")
    other = Tagger(seed=5)
    other.tied = other.head
    load_model(other, tmp_path / "final")
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert json.loads((tmp_path / "final" / "training_args.json").read_text())["learning_rate"] == 0.02
    wrong = Tagger(vocabulary=12)
    wrong.tied = wrong.head
    with pytest.raises(TrainingError, match=r"embedding.weight has shape \(11, 8\) there and \(12, 8\) here"):
        load_model(wrong, tmp_path / "final")


def test_what_a_trainer_needs(tmp_path: Path) -> None:
    for options in ({}, {"model": Regressor(), "model_init": Regressor}):
        with pytest.raises(OptionError, match="Trainer needs either model or model_init, and not both"):
            Trainer(**options)
    with pytest.raises(OptionError, match="tokenizer and processing_class are two names of one argument"):
        Trainer(Regressor(), arguments(tmp_path), tokenizer="a", processing_class="b")
    with pytest.raises(OptionError, match="optimizers belong to one model, but model_init makes a new one"):
        Trainer(model_init=Regressor, optimizers=(AdamW(Regressor().parameters()), None))
    with pytest.raises(
        TrainingError, match="gradient_checkpointing=True, but Regressor has no gradient_checkpointing_enable"
    ):
        Trainer(Regressor(), arguments(tmp_path, gradient_checkpointing=True), train_dataset=ROWS).train()
    with pytest.raises(TrainingError, match="evaluation needs an eval_dataset"):
        Trainer(Regressor(), arguments(tmp_path)).evaluate()
    with pytest.raises(TrainingError, match="eval_strategy='epoch' needs an eval_dataset"):
        Trainer(Regressor(), arguments(tmp_path, eval_strategy="epoch"), train_dataset=ROWS).train()
    tokenizer = object()
    assert Trainer(Regressor(), arguments(tmp_path), tokenizer=tokenizer).processing_class is tokenizer


def test_terms_are_read_from_an_output(tmp_path: Path) -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
            output = Answer(logits=self.weight * x)
            output.loss_terms = LossTerms(self.weight * 6, torch.tensor(3.0))
            output["loss"] = self.weight * 1000  # not what is used
            return output

    trainer = Trainer(Sums(), arguments(tmp_path, loss=None), eval_dataset=[{"x": 1.0, "labels": 0.0}] * 4)
    assert trainer.evaluate()["eval_loss"] == 2.0


def test_remaining_refusals(tmp_path: Path) -> None:
    import plait.train

    with pytest.raises(AttributeError, match=r"plait.train has no public name 'Trianer'. Did you mean 'Trainer'\?"):
        plait.train.Trianer  # noqa: B018

    class Pair(nn.Module):
        def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
            return features, features

    with pytest.raises(TrainingError) as caught:
        Trainer(Pair(), arguments(tmp_path), eval_dataset=ROWS).evaluate()
    assert "Pair must return predictions as one tensor, or as `logits`, for a loss by name; it returned tuple." in str(
        caught.value
    )

    class Empty(Trainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader([])  # type: ignore[arg-type]

    with pytest.raises(TrainingError, match="the training loader has no batches"):
        Empty(Regressor(), arguments(tmp_path)).train()

    (tmp_path / "trainer_state.json").write_text('{"colour": "red"}')
    with pytest.raises(TrainingError, match=r"trainer_state.json is not the state of a plait training run"):
        TrainerState.load_from_json(tmp_path / "trainer_state.json")
