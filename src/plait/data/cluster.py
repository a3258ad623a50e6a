"""Work on a Ray cluster, complete: workers on all its machines, and data sets to and from Ray.

The data set, the shares of the workers and the results lie in files below PLAIT_HOME, so that must be a folder which
all machines see. A Ray that is running already is used and left running; otherwise one is started on this machine, or
connected to at RAY_ADDRESS, for the time of the call.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from plait import settings
from plait.console import Bar, logger
from plait.data.encode import natural
from plait.data.features import Features
from plait.data.schema import features_of, schema_of
from plait.data.table import Table
from plait.data.workers import START_SECONDS, described, failed, packed
from plait.data.writer import ColumnWriter, finish_all
from plait.errors import DataError, OptionError, WorkerError, require

if TYPE_CHECKING:
    from plait.data.dataset import Dataset
    from plait.data.shares import Share

log = logger("data")

_BLOCK_ROWS = 1 << 16  # of a data set that goes to Ray


def _ray() -> Any:
    return require("ray", extra="ray", purpose="work on a Ray cluster")


def workers() -> int:
    """How many workers a cluster has room for: one per CPU, of this machine when no cluster is known."""
    ray = _ray()
    if ray.is_initialized():
        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return os.cpu_count() or 1


@contextlib.contextmanager
def connected(count: int) -> Iterator[Any]:
    """Ray, running: as it is, or started for `count` workers and ended again."""
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    # the paths of Ray's sockets are limited to some hundred characters, and a user's folder for such files may be deep
    folder = tempfile.mkdtemp(prefix="plait-ray-", dir="/tmp" if os.path.isdir("/tmp") else None)
    try:
        _start(ray, count, folder)
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _start(ray: Any, count: int | None, folder: str | None) -> None:
    """Connect to the cluster at RAY_ADDRESS, or start Ray here: without its dashboard and its statistics of use."""
    options: dict[str, Any] = {"logging_level": logging.WARNING, "configure_logging": False}
    if settings.ray_address():
        log.info("connecting to the Ray cluster at %s", settings.ray_address())
    else:
        count = count or os.cpu_count() or 1
        log.info("no Ray cluster is running, so one with %d CPUs is started here", count)
        options |= {"num_cpus": count, "include_dashboard": False, "_temp_dir": folder}
    with settings.changed(RAY_USAGE_STATS_ENABLED="0"):
        ray.init(**options)


class _Member:
    """A worker of the cluster: an actor, which keeps what the function sets up between its pieces."""

    def __init__(self, data: bytes, folder: str, number: int, path: list[str]) -> None:
        sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
        self._data = data
        self._folder = Path(folder)
        self._number = number
        self._open = contextlib.ExitStack()

    def start(self) -> tuple[str, Any]:
        """Unpack the job; returns what a worker process would send."""
        if not self._folder.is_dir():
            return (
                "error",
                (
                    None,
                    [],
                    f"{self._folder} is not there on {platform.node()}. PLAIT_HOME must be a folder that all machines "
                    f"of the cluster share.",
                ),
            )
        return self._told(self._unpack)

    def run(self, piece: int, rows: range) -> tuple[str, Any]:
        """Do one piece; returns what a worker process would send."""
        return self._told(lambda: self._job.run(self._call, rows, self._folder / f"share-{piece}", _Quiet()))

    def _unpack(self) -> None:
        from plait.data.asynchronous import gathering

        cloudpickle = require("cloudpickle", extra="ray", purpose="read what the driver sends")
        self._job = cloudpickle.loads(self._data)
        gather = self._open.enter_context(gathering(self._job.call.function))
        self._call = replace(self._job.call, rank=self._number, gather=gather)

    def _told(self, work: Any) -> tuple[str, Any]:
        try:
            return "share", work()
        except BaseException as error:  # sys.exit() of a function too is told
            return "error", described(error)


class _Quiet:
    """The driver advances its bar by whole pieces."""

    def advance(self, steps: float = 1) -> None:
        """Rows are counted when their piece is done."""

    def note(self, text: str) -> None:
        """Bars of workers show no text."""


def shares(
    job: Any, parts: list[range], workers: int, folder: Path, title: str, progress: Bar
) -> Generator[Share, None, None]:
    """The shares of all pieces in order, done by actors with one CPU each."""
    from plait.data.shares import owner

    data = packed(job, title)
    with connected(workers) as ray:
        workers = min(workers, max(1, int(ray.cluster_resources().get("CPU", 1))))  # more would wait for ever
        make = ray.remote(num_cpus=1, max_restarts=0)(_Member)
        payload = ray.put(data)
        members = [make.remote(payload, str(folder), number, sys.path) for number in range(workers)]
        busy: dict[Any, tuple[int, int | None]] = {
            member.start.remote(): (number, None) for number, member in enumerate(members)
        }
        waiting, done, due = list(range(len(parts))), {}, 0
        seconds: float | None = START_SECONDS  # until the first of them is there
        try:
            while due < len(parts):
                ready, _ = ray.wait(list(busy), num_returns=1, timeout=seconds)
                if not ready:
                    raise WorkerError(f"{title}: the Ray cluster gave no worker a CPU within {START_SECONDS} seconds.")
                seconds = None
                number, piece = busy.pop(ready[0])
                share = _heard(ray, ready[0], f"{title}: Ray worker {number}", None if piece is None else parts[piece])
                if piece is not None:
                    done[piece] = share
                    progress.advance(len(parts[piece]))
                mine = [p for p in waiting if not job.call.with_rank or owner(p, len(parts), workers) == number]
                if mine:
                    waiting.remove(mine[0])
                    busy[members[number].run.remote(mine[0], parts[mine[0]])] = (number, mine[0])
                while due in done:
                    yield done.pop(due)
                    due += 1
        finally:
            for member in members:
                ray.kill(member)


def _heard(ray: Any, reference: Any, who: str, rows: range | None) -> Any:
    try:
        kind, content = ray.get(reference)
    except ray.exceptions.RayError as error:
        at = "" if rows is None else f" at rows {rows.start} to {rows.stop - 1}"
        raise WorkerError(f"{who} is gone{at}: {error}") from error
    if kind == "error":
        failed(who, rows, *content)
    return content


# --- data sets --------------------------------------------------------------------------------------------------------


def to_ray(self: Dataset) -> Any:
    """The rows as a `ray.data.Dataset`, with the features in the schema of its blocks.

    Starts Ray on this machine, and leaves it running, when it is not running yet.
    """
    ray = _ray()
    if not ray.is_initialized():
        _start(ray, None, None)
    data = require("ray.data", extra="ray", purpose="give data sets to Ray")
    schema = schema_of(self.features)
    blocks = [
        pa.table(list(arrays.values()), schema=schema)
        for _, arrays in self.table.blocks(size=self.table.block_rows(limit=_BLOCK_ROWS))
    ]
    return data.from_arrow(blocks or [schema.empty_table()])


def from_ray(cls: type[Dataset], dataset: Any, /, *, split: str | None = None) -> Dataset:
    """A data set from a `ray.data.Dataset`, block by block: in memory, and in files without a name beyond 64 MB."""
    if type(dataset).__module__.partition(".")[0] != "ray":
        raise OptionError(f"from_ray takes a ray.data.Dataset, but got a {type(dataset).__name__}.")
    writers: dict[str, ColumnWriter] = {}
    features: Features | None = None
    for block in dataset.iter_batches(batch_format="pyarrow", batch_size=None):
        if not writers:
            features = features_of(block.schema)
            writers = {name: ColumnWriter(name, wanted=features[name]) for name in features}
        if set(block.column_names) != set(writers):
            raise DataError(f"Blocks of the Ray data set differ: {list(writers)} and {block.column_names}.")
        for name, writer in writers.items():
            writer.append(natural(block.column(name)))
    made = finish_all(writers)
    table = Table({name: column for name, (column, _) in made.items()})
    return cls(table, split=split, features=Features({name: feature for name, (_, feature) in made.items()}))
