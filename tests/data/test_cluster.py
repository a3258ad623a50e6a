"""A local Ray of two workers: the same results as one process, errors that name who failed, nothing left behind."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from plait.data import ClassLabel, Dataset, Features, Value
from plait.errors import OptionError, WorkerError

pytestmark = pytest.mark.usefixtures("home")


def left() -> set[str]:
    return {path.name for path in Path("/tmp").glob("plait-ray-*")}


@pytest.mark.slow
def test_a_cluster_does_what_one_process_does(
    stored: Dataset, home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = left()
    factor = 3

    def times(row: dict[str, Any]) -> dict[str, Any]:
        return {"b": row["a"] * factor, "process": os.getpid()}

    with caplog.at_level(logging.INFO, logger="plait.data"):
        made = stored.map(times, engine="ray", num_proc=2)
    assert "no Ray cluster is running, so one with 2 CPUs is started here" in caplog.messages
    assert made["b"][:] == [3 * a for a in range(500)]
    assert os.getpid() not in made["process"][:]
    assert len(set(made["process"][:])) == 2
    assert not ray.is_initialized()
    assert left() == before
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ
    # the same key: one process finds the result of the cluster
    assert stored.map(times)["process"][:] == made["process"][:]
    assert not list((home / "data" / "making").iterdir())

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = tempfile.mkdtemp(prefix="ray-test-", dir="/tmp")  # paths of its sockets must be short
    ray.init(num_cpus=2, include_dashboard=False, _temp_dir=folder, logging_level="warning", configure_logging=False)
    try:
        with_a_running_ray(stored)
        assert ray.is_initialized()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def with_a_running_ray(stored: Dataset) -> None:
    # in memory, in batches of another length, with ranks: each worker has neighbouring rows
    memory = Dataset.from_dict({"a": list(range(47))})

    def some(batch: dict[str, Any], rank: int) -> dict[str, Any]:
        return {"a": batch["a"][::2], "rank": [rank] * len(batch["a"][::2])}

    options: dict[str, Any] = {"batched": True, "batch_size": 5, "with_rank": True}
    made = memory.map(some, engine="ray", num_proc=2, **options)
    assert made["a"][:] == memory.map(some, **options)["a"][:]
    assert sorted(set(made["rank"][:])) == [0, 1]
    assert made["rank"][:] == sorted(made["rank"][:])
    odd = stored.filter(lambda row: row["a"] % 2 == 1, engine="ray")
    assert odd["a"][:] == list(range(1, 500, 2))

    async def answer(row: dict[str, Any]) -> dict[str, Any]:
        return {"n": len(row["t"])}

    assert stored.map(answer, engine="ray")["n"][:] == [len(t) for t in stored["t"][:]]

    with pytest.raises(ZeroDivisionError) as found:
        stored.map(lambda row: {"b": 1 / (row["a"] - 433)}, engine="ray", num_proc=2)
    assert found.value.__notes__ == ["The function was called for row 433."]
    assert str(found.value.__cause__).startswith("map: Ray worker ")
    assert " failed at rows 407 to 437:\nTraceback" in str(found.value.__cause__)
    with pytest.raises(WorkerError, match=r"^map: Ray worker \d is gone at rows \d+ to \d+: The actor died"):
        memory.map(lambda row: os._exit(3), engine="ray", num_proc=2)

    # to Ray and back
    label = ClassLabel(names=["even", "odd"])
    features = Features({"a": Value("int32"), "label": label})
    columns = {"a": list(range(10)), "label": [i % 2 for i in range(10)]}
    dataset = Dataset.from_dict(columns, features=features).select(range(2, 9))
    there = dataset.to_ray()
    assert type(there).__module__.startswith("ray.data")
    assert there.sum("a") == sum(range(2, 9))
    back = Dataset.from_ray(there)
    assert (back.to_dict(), back.features) == (dataset.to_dict(), dataset.features)
    doubled = Dataset.from_ray(there.map_batches(lambda batch: {"b": batch["a"] * 2}, batch_format="numpy"))
    assert sorted(doubled["b"][:]) == [2 * a for a in range(2, 9)]


class NotStarted:
    """Notes how Ray would be started."""

    def init(self, **options: Any) -> None:
        self.options = {**options, "statistics": os.environ.get("RAY_USAGE_STATS_ENABLED")}


def test_a_cluster_at_an_address_is_connected_to_and_not_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from plait.data.cluster import _start

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    fake = NotStarted()
    always = {"logging_level": logging.WARNING, "configure_logging": False, "statistics": "0"}
    with caplog.at_level(logging.INFO, logger="plait.data"):
        _start(fake, 3, "/tmp/x")
        assert fake.options == {**always, "num_cpus": 3, "include_dashboard": False, "_temp_dir": "/tmp/x"}
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
        _start(fake, 3, "/tmp/x")
        assert fake.options == always  # Ray reads the address itself
    assert caplog.messages[-1] == "connecting to the Ray cluster at 10.0.0.1:6379"
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ


def test_what_is_no_ray_data_set_is_refused() -> None:
    with pytest.raises(OptionError) as found:
        Dataset.from_ray([1, 2])
    assert str(found.value) == "from_ray takes a ray.data.Dataset, but got a list."


def test_a_folder_that_is_not_shared_is_named(tmp_path: Path) -> None:
    from plait.data.cluster import _Member
    from plait.data.workers import failed

    kind, content = _Member(b"", str(tmp_path / "absent"), 1, []).start()
    assert kind == "error"
    with pytest.raises(
        WorkerError,
        match=r"^map: Ray worker 1 failed before it began:\n/.*/absent is not there on .*\. PLAIT_HOME must be a "
        r"folder that all machines of the cluster share\.$",
    ):
        failed("map: Ray worker 1", None, *content)


@pytest.fixture(autouse=True)
def no_ray_stays() -> Iterator[None]:
    yield
    assert not ray.is_initialized()
