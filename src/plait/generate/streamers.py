"""Text while it is generated, complete: printed, or iterated over from another thread.

A streamer has `put(ids)`, called with the prompt (B, T) first and then with each next id (B,), and `end()`. The
tokenizer's streaming detokenizer turns ids into whole characters, so no piece ever ends inside one.
"""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from plait.errors import GenerationError


class BaseStreamer:
    """The usual base class of a streamer; it is not required."""

    def put(self, value: Tensor) -> None:
        """Take the prompt, then each next id."""
        raise NotImplementedError(f"{type(self).__name__} must define put(value).")

    def end(self) -> None:
        """The generation is over."""
        raise NotImplementedError(f"{type(self).__name__} must define end().")


class TextStreamer(BaseStreamer):
    """Print the text of one sequence as it grows; override `on_finalized_text` to send it elsewhere.

    `skip_prompt` leaves out the prompt; `options` go to the tokenizer's detokenizer (`skip_special_tokens=True`).
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **options: Any) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.options = options
        self._start()

    def _start(self) -> None:
        self._detokenizer = self.tokenizer.detokenizer(**self.options)
        self._is_prompt = True

    def put(self, value: Tensor) -> None:
        """Take the prompt (1, T), then each next id (1,). Raises GenerationError for more than one row."""
        ids = value.reshape(-1).tolist() if value.dim() < 2 or value.shape[0] == 1 else None
        if ids is None or (not self._is_prompt and len(ids) > 1):
            raise GenerationError(f"A text streamer follows one sequence, but got the shape {tuple(value.shape)}.")
        skipped, self._is_prompt = self._is_prompt and self.skip_prompt, False
        if not skipped and (text := "".join(self._detokenizer.add(token) for token in ids)):
            self.on_finalized_text(text)

    def end(self) -> None:
        """Send what is left and be ready for another sequence."""
        self.on_finalized_text(self._detokenizer.finish(), stream_end=True)
        self._start()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Called with each new piece of text; the last time with `stream_end=True`."""
        sys.stdout.write(text + ("\n" if stream_end else ""))
        sys.stdout.flush()


class TextIteratorStreamer(TextStreamer):
    """Iterate over the pieces while `generate` runs in another thread.

    `timeout` is how many seconds to wait for a piece before GenerationError; None waits for ever.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **options: Any) -> None:
        self.text_queue: queue.Queue[str | None] = queue.Queue()
        self.timeout = timeout
        super().__init__(tokenizer, skip_prompt, **options)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand the piece to the iterating thread."""
        self.text_queue.put(text)
        if stream_end:
            self.text_queue.put(None)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            text = self.text_queue.get(timeout=self.timeout)
        except queue.Empty:
            raise GenerationError(f"No text came from the generating thread for {self.timeout} seconds.") from None
        if text is None:
            raise StopIteration
        return text
