"""Worker processes, complete: started afresh, watched while they work, ended with the one who asked.

Each worker is a new interpreter, not a fork: no lock, thread or GPU context of this process is in it, and a script
needs no `if __name__ == "__main__"`. Functions travel by reference where they can be imported, else by value. A worker
that is killed, cannot start or fails ends the work with an error that names it; one whose parent is gone ends itself.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from plait import settings
from plait.console import Bar, logger
from plait.errors import OptionError, WorkerError, require

if TYPE_CHECKING:
    from plait.data.shares import Job, Share

log = logger("data")

START_SECONDS = 120  # within which a worker must be ready
SILENCE_SECONDS = 300  # without a finished block, after which the log names the worker
_LOOK_SECONDS = 1.0  # between two looks at workers that say nothing
_TELL_SECONDS = 0.1  # between two messages of a worker about its progress
_MAIN = "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from plait.data.workers import main; main(sys.argv)"


@dataclass
class _Worker:
    """One process as seen from outside."""

    number: int
    process: subprocess.Popen[bytes]
    connection: Any
    ready: bool = False
    done: bool = False  # it was told that there is nothing more to do
    piece: int | None = None
    since: float = field(default_factory=time.monotonic)
    named: bool = False

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"


def packed(job: Job, title: str) -> bytes:
    """A job as bytes; raises `OptionError` when something that the function holds cannot travel."""
    cloudpickle = require("cloudpickle", extra="all", purpose="send functions to workers")
    try:
        data: bytes = cloudpickle.dumps(job)
    except Exception as error:  # whatever an object raises when it is to be copied
        raise OptionError(
            f"{title} cannot be sent to workers: {type(error).__name__}: {error}. Make what cannot be copied inside "
            f"the function, or leave out num_proc."
        ) from error
    return data


def shares(
    job: Job, parts: list[range], workers: int, folder: Path, title: str, progress: Bar
) -> Generator[Share, None, None]:
    """The shares of all pieces in order; every worker has ended when this has."""
    (folder / "job").write_bytes(packed(job, title))
    pool = _Pool(title, parts, folder, progress, by_rank=workers if job.call.with_rank else None)
    try:
        for number in range(workers):
            pool.start(number, workers)
        yield from pool.work()
        pool.dismiss()
    finally:
        pool.end()


class _Pool:
    """The workers of one map or filter, and the pieces that they do. `by_rank`: each has neighbouring pieces."""

    def __init__(self, title: str, parts: list[range], folder: Path, progress: Bar, *, by_rank: int | None) -> None:
        self.title = title
        self.parts = parts
        self.workers: list[_Worker] = []
        self._folder = folder
        self._progress = progress
        self._by_rank = by_rank
        self._waiting = list(range(len(parts)))
        self._done: dict[int, Share] = {}

    def start(self, number: int, workers: int) -> None:
        """Start one more worker."""
        here, there = Pipe()
        arguments = [str(there.fileno()), json.dumps(sys.path), str(self._folder), str(number)]
        threads = max(1, (os.cpu_count() or 1) // workers)  # together they use the machine once, not once each
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN, *arguments],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                env=settings.worker_environment(threads),
            )
        except OSError as error:
            here.close()
            raise WorkerError(f"{self.title}: worker {number} could not start: {error}.") from error
        finally:
            there.close()
        self.workers.append(_Worker(number, process, here))

    def work(self) -> Generator[Share, None, None]:
        """Hand out the pieces; yields the shares in order."""
        due = 0
        while due < len(self.parts):
            working = [worker for worker in self.workers if not worker.done]
            heard = wait([worker.connection for worker in working], timeout=_LOOK_SECONDS)
            for worker in working:
                if worker.connection in heard:
                    self._listen(worker)
                elif worker.process.poll() is not None:
                    self._lost(worker)
                else:
                    self._watch(worker)
            while due in self._done:
                yield self._done.pop(due)
                due += 1

    def _listen(self, worker: _Worker) -> None:
        from plait.data.shares import owner

        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            self._lost(worker)
        worker.since, worker.named = time.monotonic(), False
        if kind == "started":
            worker.ready = True
            return
        if kind == "rows":
            self._progress.advance(content)
            return
        if kind == "error":
            failed(f"{self.title}: {worker}", None if worker.piece is None else self.parts[worker.piece], *content)
        if kind == "share":
            assert worker.piece is not None
            self._done[worker.piece] = content
        worker.piece = None
        mine = [
            piece
            for piece in self._waiting
            if self._by_rank is None or owner(piece, len(self.parts), self._by_rank) == worker.number
        ]
        if not mine:
            self._let_go(worker)
            return
        worker.piece = mine[0]
        self._waiting.remove(mine[0])
        with suppress(OSError):  # it is gone: the next look says so
            worker.connection.send((mine[0], self.parts[mine[0]]))

    def _watch(self, worker: _Worker) -> None:
        """A worker that says nothing: too late in starting, or long at one block."""
        silent = time.monotonic() - worker.since
        if not worker.ready and silent > START_SECONDS:
            raise WorkerError(f"{self.title}: {worker} could not start within {START_SECONDS} seconds.")
        if worker.piece is not None and silent > SILENCE_SECONDS and not worker.named:
            worker.named = True
            log.warning("%s: %s has finished no block of %s for %d s", self.title, worker, self._rows(worker), silent)

    def _rows(self, worker: _Worker) -> str:
        assert worker.piece is not None
        return _named(self.parts[worker.piece])

    def _lost(self, worker: _Worker) -> NoReturn:
        """A worker is gone without a word."""
        try:
            status = worker.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            raise WorkerError(f"{self.title}: {worker} closed its connection and does not answer.") from None
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if not worker.ready:
            raise WorkerError(f"{self.title}: {worker} could not start: it {how}; what it printed says why.")
        at = f" at {self._rows(worker)}" if worker.piece is not None else ""
        advice = ""
        if status == -signal.SIGKILL:
            advice = " The system kills processes when memory runs out; fewer workers or smaller batches need less."
        raise WorkerError(f"{self.title}: {worker} {how}{at}.{advice}")

    def dismiss(self) -> None:
        """Let the workers end by themselves; kill those still starting, which hold nothing of the function yet."""
        for worker in self.workers:
            if not worker.ready:
                worker.process.kill()
            elif not worker.done:
                self._let_go(worker)
        for worker in self.workers:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(timeout=5)

    def _let_go(self, worker: _Worker) -> None:
        """Let one worker end, while others may go on."""
        worker.done = True
        with suppress(OSError):
            worker.connection.send(None)

    def end(self) -> None:
        """End all workers, whatever they do."""
        for worker in self.workers:
            worker.connection.close()
            if worker.process.poll() is None:
                worker.process.kill()
        for worker in self.workers:
            worker.process.wait()


def _named(rows: range) -> str:
    return f"row {rows.start}" if len(rows) == 1 else f"rows {rows.start} to {rows.stop - 1}"


def failed(who: str, rows: range | None, data: bytes | None, notes: list[str], text: str) -> NoReturn:
    """Raise what a function raised in a worker: its own error, with the worker's traceback as the cause."""
    at = "before it began" if rows is None else f"at {_named(rows)}"
    cause = WorkerError(f"{who} failed {at}:\n{text}")
    if data is None:
        raise cause
    error: BaseException = require("cloudpickle", extra="all", purpose="read what workers send").loads(data)
    for note in notes[len(getattr(error, "__notes__", [])) :]:  # some errors lose them on the way
        error.add_note(note)
    raise error from cause


# --- inside a worker --------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """What a worker process does: its job, piece by piece, until it is told that there are no more."""
    descriptor, folder, number = int(arguments[1]), Path(arguments[3]), int(arguments[4])
    os.set_inheritable(descriptor, False)  # what the function starts must not keep the connection open
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    connection = Connection(descriptor)
    pieces: queue.SimpleQueue[tuple[int, range] | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, pieces), daemon=True).start()
    try:
        _do(folder, number, connection, pieces)
    except BaseException as error:  # sys.exit() of a function too is told to the parent
        connection.send(("error", described(error)))
        pieces.get()  # until the parent has read it and ends this process


def _receive(connection: Any, pieces: queue.SimpleQueue[Any]) -> None:
    """Pass on what the parent sends; without a parent nobody needs this process."""
    parent = os.getppid()
    try:
        while True:
            if connection.poll(_LOOK_SECONDS):
                pieces.put(connection.recv())
            elif os.getppid() != parent:
                break
    except (EOFError, OSError):
        pass
    os._exit(1)


def _do(folder: Path, number: int, connection: Any, pieces: queue.SimpleQueue[Any]) -> None:
    gc.disable()  # all that is imported here stays, so nobody looks for garbage in it, now and at the end
    from plait.data.asynchronous import gathering
    from plait.data.shares import Job

    cloudpickle = require("cloudpickle", extra="all", purpose="read what the parent sends")
    gc.freeze()
    gc.enable()
    connection.send(("started", None))  # what follows may take long: a function may hold a whole model
    job = cloudpickle.loads((folder / "job").read_bytes())  # the parent wrote it a moment ago
    assert isinstance(job, Job)
    connection.send(("ready", None))
    progress = _Told(connection)
    with gathering(job.call.function) as gather:
        call = replace(job.call, rank=number, gather=gather)
        while (given := pieces.get()) is not None:
            piece, rows = given
            share = job.run(call, rows, folder / f"share-{piece}", progress)
            progress.tell()
            connection.send(("share", share))


class _Told:
    """A progress bar that is in the parent."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._rows = 0.0
        self._last = time.monotonic()

    def advance(self, steps: float = 1) -> None:
        """Move on by some rows."""
        self._rows += steps
        if time.monotonic() - self._last >= _TELL_SECONDS:
            self.tell()

    def note(self, text: str) -> None:
        """Bars of workers show no text."""

    def tell(self) -> None:
        """Tell the parent about rows that it does not know of."""
        if self._rows:
            self._connection.send(("rows", self._rows))
        self._rows, self._last = 0, time.monotonic()


def described(error: BaseException) -> tuple[bytes | None, list[str], str]:
    """An error of a function for the parent: itself if it can travel, its notes, and its traceback as text."""
    return travelling(error), getattr(error, "__notes__", []), "".join(traceback.format_exception(error))


def travelling(error: BaseException) -> bytes | None:
    """An error as bytes; `None` when it is none of the kind that can be raised anew elsewhere."""
    if not isinstance(error, Exception):
        return None
    cloudpickle = require("cloudpickle", extra="all", purpose="send errors of workers")
    try:
        data: bytes = cloudpickle.dumps(error)
        return data if isinstance(cloudpickle.loads(data), type(error)) else None
    except Exception:  # an error class may do anything when it is copied; its traceback travels as text
        return None
