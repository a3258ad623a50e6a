"""A run that was killed goes on to the same bits: parameters, optimizer, order of rows, logged losses; and in O(1)."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from train_models import Counted, Regressor, numbers

from plait.errors import TrainingError
from plait.train import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments, checkpoint


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The same bits need the same number of threads, in the processes that are killed too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


ROWS, EPOCHS = 21, 3  # batches of 4, two per update: 6 batches, the last of one row, so 3 updates per epoch
STEPS = 9


class Noisy(Counted):
    """Rows with random augmentation, drawn from all three generators."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = super().__getitem__(index)
        return {**row, "features": row["features"] + 0.1 * torch.rand(4) + 0.1 * random.random()}


class StopAt(TrainerCallback):
    """Ends a run the hard way after some step, as a kill does: no further event, nothing is saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def trainer(folder: Path, *, seed: int = 0, callbacks: Iterable[TrainerCallback] = (), **options: Any) -> Trainer:
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "loss": "huber",
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 0.02,
        "weight_decay": 0.1,
        "warmup_steps": 2,
        "lr_scheduler_type": "cosine",
        "logging_steps": 2,
        "save_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "metric_for_best_model": "loss",
        "report_to": "none",
        "use_cpu": True,
        **options,
    }
    return Trainer(
        Regressor(seed=seed),
        TrainingArguments(**arguments),
        train_dataset=Noisy(numbers(ROWS)),
        eval_dataset=Counted(numbers(9, seed=1)),
        callbacks=callbacks,
    )


def logged(run: Trainer) -> list[dict[str, Any]]:
    """The history without what a clock measured."""
    return [
        {name: value for name, value in entry.items() if not name.endswith(("_runtime", "_per_second"))}
        for entry in run.state.log_history
    ]


def assert_same_bits(one: Trainer, other: Trainer) -> None:
    assert logged(one) == logged(other)
    for (name, a), b in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    ours, theirs = one.optimizer.state_dict(), other.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for index, state in ours["state"].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, theirs["state"][index][name]), (index, name)
    assert one.lr_scheduler.get_last_lr() == other.lr_scheduler.get_last_lr()
    assert (one.state.best_metric, one.state.best_global_step) == (
        other.state.best_metric,
        other.state.best_global_step,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """The run that nobody interrupted; its folder holds a checkpoint of every step."""
    run = trainer(tmp_path_factory.mktemp("whole"))
    run.train()
    return run


def test_the_whole_run(whole: Trainer) -> None:
    assert whole.state.global_step == STEPS
    assert len(checkpoint.checkpoints(Path(whole.args.output_dir))) == STEPS
    assert sorted(whole.train_dataset.read) == sorted([*range(ROWS)] * EPOCHS)
    losses = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
    assert len(losses) == 5
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("killed", range(1, STEPS + 1))
def test_killed_at_every_step(whole: Trainer, tmp_path: Path, killed: int) -> None:
    name = f"checkpoint-{killed}"
    shutil.copytree(Path(whole.args.output_dir) / name, tmp_path / name)
    run = trainer(tmp_path, seed=99)  # other weights: everything must come from the checkpoint
    result = run.train(resume_from_checkpoint=True)
    assert_same_bits(whole, run)
    assert result.global_step == STEPS
    # O(1): no row before the checkpoint is read again, and the rest in the same order.
    done = (killed // 3) * ROWS + min(killed % 3 * 8, ROWS)
    assert run.train_dataset.read == whole.train_dataset.read[done:]


def test_a_resume_of_a_resume(whole: Trainer, tmp_path: Path) -> None:
    read: list[int] = []
    for stop in (2, 5, 7, None):
        run = trainer(tmp_path, seed=0 if stop == 2 else 9, callbacks=[] if stop is None else [StopAt(stop)])
        if stop is None:
            run.train(resume_from_checkpoint=True)
        else:
            with pytest.raises(KeyboardInterrupt):
                run.train(resume_from_checkpoint=stop != 2)
        read += run.train_dataset.read
    assert_same_bits(whole, run)
    assert read == whole.train_dataset.read


def test_the_same_run_twice_and_with_workers(whole: Trainer, tmp_path: Path) -> None:
    again = trainer(tmp_path / "again")
    again.train()
    assert_same_bits(whole, again)
    # Workers fetch ahead and in processes of their own; not one number changes, augmentation included.
    apart = trainer(tmp_path / "workers", dataloader_num_workers=2)
    apart.train()
    assert_same_bits(whole, apart)


def test_resume_with_workers(whole: Trainer, tmp_path: Path) -> None:
    shutil.copytree(Path(whole.args.output_dir) / "checkpoint-4", tmp_path / "checkpoint-4")
    run = trainer(tmp_path, seed=5, dataloader_num_workers=2)
    run.train(resume_from_checkpoint=tmp_path / "checkpoint-4")
    assert_same_bits(whole, run)


class Slow(TrainerCallback):
    """Takes 40 ms per step, so that a run lasts long enough to be killed several times."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        time.sleep(0.04)


def _train(folder: str) -> None:
    run = trainer(Path(folder), callbacks=[Slow()])
    run.train(resume_from_checkpoint=bool(checkpoint.checkpoints(Path(folder))) or None)


def test_sigkill_at_random_moments(whole: Trainer, tmp_path: Path) -> None:
    """A process is killed again and again, some moments after it has saved, until one comes through."""
    context, moments, kills = multiprocessing.get_context("fork"), random.Random(1), 0
    while kills < 5:
        known = len(checkpoint.checkpoints(tmp_path))
        process = context.Process(target=_train, args=(str(tmp_path),))
        process.start()
        while process.is_alive() and len(checkpoint.checkpoints(tmp_path)) == known:
            time.sleep(0.001)
        process.join(moments.uniform(0, 0.06))
        if process.exitcode is not None:
            break
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert kills >= 1  # more, unless this process had to wait for a third of a second
    run = trainer(tmp_path, seed=3)
    run.train(resume_from_checkpoint=True)
    assert_same_bits(whole, run)


def test_early_stopping_goes_on_counting(tmp_path: Path) -> None:
    def run(folder: Path, *more: TrainerCallback) -> Trainer:
        return trainer(folder, eval_steps=1, learning_rate=1e-9, callbacks=[EarlyStoppingCallback(4, 1.0), *more])

    whole = run(tmp_path / "whole")
    whole.train()
    assert whole.state.global_step == 5  # the first evaluation is an improvement, the four after it are none
    broken = run(tmp_path / "broken", StopAt(3))
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = run(tmp_path / "broken")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 5
    assert_same_bits(whole, resumed)


def test_epochs_that_a_callback_cuts_short(tmp_path: Path) -> None:
    """The place in the data is not the number of steps divided by those of an epoch."""

    class Short(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_epoch_stop = state.global_step in (2, 4)

    whole = trainer(tmp_path, callbacks=[Short()])
    whole.train()
    assert whole.state.global_step == 7  # 2, 2 and 3 updates
    assert len(whole.train_dataset.read) == 16 + 16 + ROWS
    for step in (1, 2, 3, 4, 6):
        run = trainer(tmp_path / str(step), seed=1, callbacks=[Short()])
        run.train(resume_from_checkpoint=tmp_path / f"checkpoint-{step}")
        assert_same_bits(whole, run)
        assert run.train_dataset.read == whole.train_dataset.read[-len(run.train_dataset.read) :]


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path: Path) -> None:
    trainer(tmp_path, num_train_epochs=1, lr_scheduler_type="constant").train()
    run = trainer(tmp_path, num_train_epochs=2, lr_scheduler_type="constant")
    run.train(resume_from_checkpoint=True)
    alone = trainer(tmp_path / "alone", num_train_epochs=2, lr_scheduler_type="constant")
    alone.train()
    assert run.state.global_step == 6
    for a, b in zip(run.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"per_device_train_batch_size": 3}, "in its run, batches was 6, now it is 7, so other rows would come next."),
        ({"gradient_accumulation_steps": 3}, "gradient_accumulation_steps was 2, now it is 3"),
        ({"data_seed": 7}, "seed was 42, now it is 7"),
        ({"train_sampling_strategy": "sequential"}, "train_sampling_strategy was 'random', now it is 'sequential'"),
    ],
)
def test_another_order_of_rows_is_refused(whole: Trainer, tmp_path: Path, options: dict[str, Any], text: str) -> None:
    source = Path(whole.args.output_dir) / "checkpoint-4"
    with pytest.raises(TrainingError) as caught:
        trainer(tmp_path, **options).train(resume_from_checkpoint=source)
    assert f"cannot resume from {source}: in its run, " in str(caught.value)
    assert text in str(caught.value)


def test_other_parameters_are_refused(whole: Trainer, tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.model.layers[0].weight.requires_grad_(False)
    with pytest.raises(TrainingError) as caught:
        run.train(resume_from_checkpoint=Path(whole.args.output_dir) / "checkpoint-4")
    assert "the checkpoint's optimizer holds 6 parameters, this run's 5; they differ in layers.0.weight." in str(
        caught.value
    )
    other = trainer(tmp_path)
    other.model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(
        TrainingError, match=r"does not fit Regressor: it lacks extra.weight, extra.bias, and holds nothing"
    ):
        other.train(resume_from_checkpoint=Path(whole.args.output_dir) / "checkpoint-4")


def test_no_pickle_and_a_readable_state(whole: Trainer) -> None:
    folder = Path(whole.args.output_dir) / "checkpoint-3"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    state = checkpoint.read_json(folder / "trainer_state.json")
    assert (state["global_step"], state["epoch"], state["max_steps"]) == (3, 1.0, STEPS)
    assert [entry["step"] for entry in state["log_history"]] == [2, 3]
    theirs = transformers.TrainerState.load_from_json(str(folder / "trainer_state.json"))
    assert (theirs.global_step, theirs.best_global_step, len(theirs.log_history)) == (3, 3, 2)


def test_a_used_folder_is_noticed(whole: Trainer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(Path(whole.args.output_dir) / "checkpoint-4", tmp_path / "checkpoint-4")
    trainer(tmp_path, max_steps=1).train()
    assert (
        f"{tmp_path} holds checkpoint-4 of an earlier run; train(resume_from_checkpoint=True) goes on from it."
        in caplog.text
    )
