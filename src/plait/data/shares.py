"""Rows shared out to workers, complete: what a worker is sent, what it hands back, and how that becomes one result.

A worker gets a `Job` (the columns, which it maps from their files, and the function) and pieces of neighbouring rows.
Of every piece it hands back a `Share`: the new and changed columns, block by block, in an Arrow file, or for a filter
the numbers of the rows that stay. The process that asked takes the shares in the order of the rows, through the same
`Outcome` as if it had called the function itself; so the result does not depend on who did it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from plait.console import Bar, logger
from plait.data import cache
from plait.data.apply import Call, Shown, run_batches, run_rows, test_rows
from plait.data.features import Features
from plait.data.files import open_arrow
from plait.data.formats import Format
from plait.data.lazy import Block
from plait.data.outcome import Outcome, Ready, Taker, stored
from plait.data.table import Store, Table, View
from plait.errors import OptionError, nearest

log = logger("data")

ENGINES = ("processes", "ray")
_PIECES = 8  # per worker, so that one that has slow rows does not keep the others waiting
_PIECE_ROWS = 100_000  # at most, so that results come in steadily


class Sharing(NamedTuple):
    """Who does the work: worker processes of this machine, or a Ray cluster; `workers` is `None` for all of it."""

    engine: str = "processes"
    workers: int | None = 1


def sharing_of(engine: str | None, num_proc: int | None) -> Sharing:
    """The engine and number of workers that were asked for; raises `OptionError` for unknown ones."""
    if num_proc is not None and num_proc < 1:
        raise OptionError(f"num_proc must be at least 1, but is {num_proc}.")
    if engine is not None and engine not in ENGINES:
        raise OptionError(f"There is no engine {engine!r}.{nearest(engine, ENGINES)} Engines are {list(ENGINES)}.")
    return Sharing("ray", num_proc) if engine == "ray" else Sharing(workers=num_proc or 1)


@dataclass(frozen=True)
class Columns:
    """What functions are shown, on its way to a worker, which so imports nothing else of data sets."""

    table: Table
    features: Features
    format_: Format


@dataclass(frozen=True)
class Job:
    """A map or filter, ready to travel to a worker."""

    operation: str
    dataset: Shown
    call: Call
    batch_size: int | None = None
    removed: tuple[str, ...] = ()
    declared: Features | None = None
    mixed: bool = False

    def run(self, call: Call, rows: range, file: Path, progress: Bar) -> Share:
        """Do one piece; the columns of a map go to `file`."""
        if self.operation == "filter":
            return Share(rows, chosen=test_rows(self.dataset, call, self.batch_size, rows, progress))
        with _Record(self, file) as record:
            returned = self.fill(record, call, rows, progress)
        return Share(rows, returned=returned, file=file, blocks=record.blocks)

    def fill(self, taker: Taker, call: Call, rows: range, progress: Bar) -> bool:
        """Call the function of a map for some rows; returns whether it returned anything."""
        removed = list(self.removed)
        if self.batch_size is None:
            return run_rows(self.dataset, call, taker, rows, removed, progress)
        return run_batches(self.dataset, call, taker, rows, self.batch_size, removed, progress)


class Taken(NamedTuple):
    """What a function did to one block. `given` says how each column came: "same" as before, "new", or as "json"."""

    rows: range
    num_rows: int  # that came out of them
    given: dict[str, str]
    gone: list[str]
    replaced: bool
    length: int  # bytes of the new columns in the file


@dataclass
class Share:
    """The result of one piece."""

    rows: range
    returned: bool = False
    file: Path | None = None
    blocks: list[Taken] | None = None
    chosen: Any = None


class _Record:
    """Takes what a function returned, as an `Outcome` would, and writes it down for the one who asked."""

    def __init__(self, job: Job, file: Path) -> None:
        self.table = job.dataset.table
        self.kept = [name for name in self.table.columns if name not in job.removed]
        self.blocks: list[Taken] = []
        self._job = job
        self._sink = pa.OSFile(str(file), "wb")

    def __enter__(self) -> _Record:
        return self

    def __exit__(self, *error: object) -> None:
        self._sink.close()

    def add(
        self,
        block: Block,
        given: Mapping[str, Any],
        *,
        count: int,
        unchanged: Iterable[str] = (),
        gone: Iterable[str] = (),
        replaced: bool = False,
    ) -> None:
        """Write down the outcome of one block; see `Outcome.add`."""
        unchanged, gone = set(unchanged), list(gone)
        arrays, ways = {}, {}
        for name, values in given.items():
            if name in unchanged:
                ways[name] = "same"
                continue
            job = self._job
            ready = stored(name, values, job.dataset.features, job.declared, mixed=job.mixed, first_row=block.start)
            arrays[name], ways[name] = ready.array, "json" if ready.mixed else "new"
        before = self._sink.tell()
        if arrays:
            batch = pa.record_batch(list(arrays.values()), names=list(arrays))
            with pa.ipc.new_stream(self._sink, batch.schema) as stream:
                stream.write_batch(batch)
        length = self._sink.tell() - before
        self.blocks.append(Taken(range(block.start, block.stop), count, ways, gone, replaced, length))


def take_in(share: Share, dataset: Shown, outcome: Outcome) -> None:
    """Take the share of a map, as if the function had been called here; its file is removed."""
    assert share.file is not None
    assert share.blocks is not None
    # what is mapped stays readable when the file has lost its name
    source = pa.memory_map(str(share.file)) if share.file.stat().st_size else pa.BufferReader(b"")
    for taken in share.blocks:
        given: dict[str, Any] = dict.fromkeys(taken.given)
        if taken.length:
            batch = pa.ipc.open_stream(source.read_buffer(taken.length)).read_next_batch()
            given |= {
                name: Ready(array, taken.given[name] == "json")
                for name, array in zip(batch.schema.names, batch.columns, strict=True)
            }
        outcome.add(
            Block(dataset.table, dataset.features, taken.rows.start, taken.rows.stop),
            given,
            count=taken.num_rows,
            unchanged=[name for name, way in taken.given.items() if way == "same"],
            gone=taken.gone,
            replaced=taken.replaced,
        )
    share.file.unlink()


def shared_out(job: Job, rows: int, sharing: Sharing, title: str, progress: Bar) -> Generator[Share, None, None] | None:
    """The shares of all pieces, in order, as workers finish them; `None` when one process does it as well."""
    run, workers = _engine(sharing)
    units = -(-rows // (job.batch_size or 1))
    if workers > units:
        log.info("%s: %d workers instead of %d, because there is no more work to share out", title, units, workers)
        workers = units
    if workers < 1 or (workers == 1 and sharing.engine == "processes"):
        return None
    return _in_folder(run, job, pieces(rows, job.batch_size or 1, workers), workers, title, progress)


def _engine(sharing: Sharing) -> tuple[Any, int]:
    if sharing.engine == "ray":
        from plait.data import cluster

        return cluster.shares, cluster.workers() if sharing.workers is None else sharing.workers
    from plait.data import workers

    return workers.shares, sharing.workers or 1


def _in_folder(
    run: Any, job: Job, parts: list[range], workers: int, title: str, progress: Bar
) -> Generator[Share, None, None]:
    with cache.scratch() as folder:
        portable = replace(job, dataset=_in_files(job.dataset, folder))
        with closing(run(portable, parts, workers, folder, title, progress)) as found:
            yield from found


def pieces(rows: int, unit: int, workers: int) -> list[range]:
    """All rows in pieces of whole batches of `unit` rows, about equally long, in order."""
    units = -(-rows // unit)
    count = max(1, min(units, max(_PIECES * workers, rows // _PIECE_ROWS)))
    # the first pieces are one batch longer where the batches do not divide evenly
    size, longer = divmod(units, count)
    bounds = [unit * (size * index + min(index, longer)) for index in range(count)] + [rows]
    return [range(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)]


def owner(piece: int, count: int, workers: int) -> int:
    """The worker that does a piece when the function sees its rank: each has neighbouring pieces."""
    return piece * workers // count


def _in_files(dataset: Shown, folder: Path) -> Columns:
    """What functions are shown, with every column in a file, so that workers map it instead of getting a copy each."""
    moved: dict[int, Store] = {}
    columns = {}
    for name, (store, rows) in dataset.table.columns.items():
        if store.sources is None and id(store) not in moved:
            moved[id(store)] = _written(store, folder / f"column-{len(moved)}.arrow")
        columns[name] = View(moved.get(id(store), store), rows)
    return Columns(Table(columns, dataset.table.num_rows), dataset.features, dataset.format_)


def _written(store: Store, path: Path) -> Store:
    schema = pa.schema([pa.field("column", store.type)])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for chunk in store.chunks:
            stream.write_batch(pa.record_batch([chunk], schema=schema))
    (column,) = open_arrow(path).columns.values()
    return column.store
