"""Training on streams: the updates of the same rows in a list, and a killed run that goes on to the same bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from train_models import Counted, Regressor, numbers

from plait.data import IterableDataset
from plait.errors import OptionError, TrainingError
from plait.train import Trainer, TrainerCallback, TrainingArguments, checkpoint, default_data_collator
from plait.train.distributed import Processes
from plait.train.stream_loader import StreamLoader

ROWS = 21


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The same bits need the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def table(rows: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows that a stream can hold: a number, four features and a label."""
    return [
        {"row": number, "features": row["features"].tolist(), "labels": row["labels"]}
        for number, row in enumerate(numbers(rows, seed=seed))
    ]


class Seen:
    """A function over rows that remembers which it was called for."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self.rows.append(row["row"])
        return {"features": [value * 2 for value in row["features"]]}


def stream(seen: Any = None) -> IterableDataset:
    return IterableDataset.from_list(table(ROWS), num_shards=3).map(seen or Seen())


def trainer(folder: Path, rows: Any, *, seed: int = 0, callbacks: Any = (), **options: Any) -> Trainer:
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "loss": "huber",
        "max_steps": 9,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 0.02,
        "logging_steps": 2,
        "save_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        **options,
    }
    return Trainer(Regressor(seed=seed), TrainingArguments(**arguments), train_dataset=rows, callbacks=callbacks)


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


class StopAt(TrainerCallback):
    """Ends a run the hard way before some step, as a kill does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_a_stream_trains_as_its_rows_in_a_list(tmp_path: Path) -> None:
    """One pass: 6 batches, 3 updates. The parameters are equal to the bit; only the clock of epochs differs."""
    collected = [{**row, "features": torch.tensor(row["features"])} for row in stream()]
    of_list = trainer(tmp_path / "a", Counted(collected), max_steps=3, train_sampling_strategy="sequential")
    of_list.train()
    of_stream = trainer(tmp_path / "b", stream(), max_steps=3)
    output = of_stream.train()
    assert output.global_step == 3
    for a, b in zip(of_list.model.parameters(), of_stream.model.parameters(), strict=True):
        assert torch.equal(a, b)
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (of_list, of_stream)]
    assert losses[0] == losses[1]


def test_a_stream_begins_anew_in_its_next_order(tmp_path: Path) -> None:
    seen = Seen()
    rows = IterableDataset.from_list(table(ROWS), num_shards=3).shuffle(seed=4, buffer_size=10).map(seen)
    # 9 updates of 2 batches: three passes of 6 batches
    trainer(tmp_path, rows, save_strategy="no").train()
    passes = [seen.rows[start : start + ROWS] for start in range(0, 3 * ROWS, ROWS)]
    assert [Counter(part) for part in passes] == [Counter(range(ROWS))] * 3
    assert len({tuple(part) for part in passes}) == 3
    assert rows.epoch == 0  # the stream of the caller is left alone


@pytest.mark.parametrize("killed", range(1, 9))
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, killed: int) -> None:
    def rows() -> IterableDataset:
        return stream().shuffle(seed=4, buffer_size=10)

    whole = trainer(tmp_path / "whole", rows(), save_strategy="no")
    whole.train()
    broken = trainer(tmp_path / "run", rows(), callbacks=[StopAt(killed)])
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    other = trainer(tmp_path / "run", rows(), seed=99)
    other.train(resume_from_checkpoint=True)
    assert_same_bits(whole, other)
    # and once more from a later checkpoint of the resumed run, which may be prolonged
    longer = trainer(tmp_path / "run", rows(), seed=7, max_steps=10, lr_scheduler_type="constant")
    assert longer.train(resume_from_checkpoint=True).global_step == 10


def test_a_checkpoint_of_a_data_set_is_none_of_a_stream(tmp_path: Path) -> None:
    of_list = [{**row, "features": torch.tensor(row["features"])} for row in table(ROWS)]
    trainer(tmp_path, of_list, max_steps=2).train()
    with pytest.raises(TrainingError, match="its run was on a data set, and this one is on a stream"):
        trainer(tmp_path, stream()).train(resume_from_checkpoint=True)
    assert len(checkpoint.checkpoints(tmp_path)) == 2


def test_evaluation_and_prediction_on_a_stream(tmp_path: Path) -> None:
    run = trainer(tmp_path, stream())
    collected = [{**row, "features": torch.tensor(row["features"])} for row in stream()]
    of_list, of_stream = run.evaluate(collected), run.evaluate(stream())
    assert of_stream["eval_loss"] == of_list["eval_loss"]
    a, b = run.predict(collected), run.predict(stream())
    assert a.predictions.shape == (ROWS,)
    assert (a.predictions == b.predictions).all()
    assert (a.label_ids == b.label_ids).all()


def test_processes_share_every_batch() -> None:
    """Three processes with 2 rows each: the batches of one process with 6, cut in three; the last has 3 rows."""

    def batches(rank: int, count: int, size: int) -> list[list[int]]:
        loader = StreamLoader(
            IterableDataset.from_list(table(ROWS)),
            batch=size,
            collate=default_data_collator,
            keep=None,
            seed=0,
            processes=Processes(rank, count),
        )
        return [[] if batch is None else batch["row"].tolist() for batch in loader]

    whole = batches(0, 1, 6)
    parts = [batches(rank, 3, 2) for rank in range(3)]
    assert [sum(shares, []) for shares in zip(*parts, strict=True)] == whole
    assert [len(shares[3]) for shares in parts] == [1, 1, 1]


def test_the_last_batch_can_be_left_out(tmp_path: Path) -> None:
    seen: list[int] = []

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        seen.append(len(rows))
        return dict(default_data_collator(rows))

    run = trainer(tmp_path, stream(), max_steps=5, dataloader_drop_last=True, save_strategy="no")
    run.data_collator = collate
    run.train()
    assert seen == [4] * 10


def test_what_a_stream_cannot_do_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="whose length is not known: say how long to train with max_steps"):
        trainer(tmp_path, stream(), max_steps=-1).train()
    with pytest.raises(OptionError, match="group_by_length needs all lengths beforehand"):
        trainer(tmp_path, stream(), train_sampling_strategy="group_by_length").train()
    with pytest.raises(TrainingError, match="train_dataset is a stream that has no rows"):
        trainer(tmp_path, stream().filter(lambda row: False)).train()
