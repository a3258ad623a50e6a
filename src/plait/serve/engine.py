"""One model at work for many clients, complete: a bounded queue in order of arrival, and one thread that generates.

A job delivers what happens to it through a callback, on the worker's thread. Cancelled jobs leave the queue at once, or
stop at the next token.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from plait.console import logger
from plait.errors import PlaitError, RequestError
from plait.generate import GenerationConfig, LanguageModel
from plait.generate.text import Piece, generate_text

Event = Piece | Exception


@dataclass(eq=False)
class Job:
    """One generation: the prompt's ids, its options, and who hears of each piece or of the error that ends it."""

    tokens: list[int]
    config: GenerationConfig
    deliver: Callable[[Event], None]
    seed: int | None = None
    splitter: Any = None  # sets thinking apart from the answer; see `generate_text`
    cancelled: threading.Event = field(default_factory=threading.Event)


class Engine:
    """Answers jobs one after another. `waiting` jobs may queue behind the running one; more are refused.

    `close` stops after the current token. Raises RequestError with status 429 when the queue is full.
    """

    def __init__(self, model: LanguageModel, tokenizer: Any, *, waiting: int = 32) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.waiting = waiting
        self.running: Job | None = None
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 1.0  # a running mean of what a job takes, for Retry-After
        self._thread = threading.Thread(target=self._work, name="plait-engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job:
        """Put a job into the queue."""
        with self._changed:
            if self._closed:
                raise self._closing()
            if len(self._queue) >= self.waiting:
                raise RequestError(
                    f"{len(self._queue)} requests are waiting, which is the limit. Try again later.",
                    status=429,
                    code="queue_full",
                )
            self._queue.append(job)
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Nobody waits for this job any more."""
        job.cancelled.set()
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)

    def retry_after(self) -> int:
        """Seconds until the queue is likely to have room, at least 1."""
        return max(1, round(self._seconds))

    def close(self) -> None:
        """Refuse new jobs, cancel all others, and wait for the thread."""
        with self._changed:
            self._closed = True
            if self.running is not None:
                self.running.cancelled.set()
            self._changed.notify()
        self._thread.join()
        for job in self._queue:
            job.deliver(self._closing())
        self._queue.clear()

    def _closing(self) -> RequestError:
        return RequestError("The server is shutting down.", status=503, code="shutting_down")

    def _work(self) -> None:
        while (job := self._next()) is not None:
            start = time.monotonic()
            try:
                self._run(job)
            except Exception as error:  # whatever it was, this client hears of it and the next one is served
                if not isinstance(error, PlaitError):
                    logger("serve").exception("a generation failed")
                job.deliver(error)
            self._seconds = 0.7 * self._seconds + 0.3 * (time.monotonic() - start)

    def _next(self) -> Job | None:
        with self._changed:
            self.running = None
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return None
            self.running = self._queue.popleft()
            return self.running

    def _run(self, job: Job) -> None:
        if job.cancelled.is_set():
            return
        device = getattr(self.model, "device", None)
        tokens = torch.tensor([job.tokens], dtype=torch.long, device=device)
        pieces = generate_text(
            self.model, self.tokenizer, tokens, generation_config=job.config, seed=job.seed, splitter=job.splitter
        )
        for piece in pieces:
            if job.cancelled.is_set():
                pieces.close()
                break
            job.deliver(piece)
        if job.cancelled.is_set() and self._closed:
            job.deliver(self._closing())
