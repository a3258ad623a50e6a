"""Batches from a stream, complete: rows as they come, pass after pass, and the exact place to go on from.

Every process reads the whole stream and takes its share of each batch. So the batches of several processes are those
of one, they have the same number everywhere, and one place in the stream is the place of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from plait.console import logger
from plait.errors import OptionError, TrainingError
from plait.train.arguments import TrainingArguments
from plait.train.distributed import Processes
from plait.train.loader import Batch, Collator, UsedColumns
from plait.train.randomness import derive, forked

log = logger("train")


def is_stream(rows: Any) -> bool:
    """Whether a data set is a stream, and not one with a length."""
    if hasattr(rows, "__len__"):
        return False
    from plait.data.streams.dataset import IterableDataset

    return isinstance(rows, IterableDataset)


class StreamLoader:
    """The batches of a stream: `batches` of them, beginning the stream anew as often as needed, or those of one pass.

    Each pass has the next epoch of the stream, and so another order where it is shuffled.
    """

    def __init__(
        self,
        stream: Any,
        *,
        batch: int,
        collate: Collator,
        keep: UsedColumns | None,
        seed: int,
        processes: Processes,
        batches: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.stream = stream.derive(stream.stream)  # its epoch is this loader's own
        self.batches = batches
        self._size = batch * processes.count
        self._rank, self._count = processes.rank, processes.count
        self._collate, self._keep = collate, keep
        self._seed, self._drop_last = seed, drop_last
        self._turn = 0
        self._given = 0
        self._resumed = False
        self.num_examples = 0  # rows read so far, over all processes

    def __len__(self) -> int:
        if self.batches is None:
            raise TypeError("the number of batches of a stream is not known before it is read")
        return self.batches

    @property
    def plan(self) -> dict[str, Any]:
        """What the order of the rows depends on, beside the place in the stream."""
        return {"batch size of all processes": self._size, "seed": self._seed}

    def __iter__(self) -> Iterator[Batch | None]:
        while True:
            empty = not self._resumed
            self._resumed = False
            rows = iter(self.stream)
            while self.batches is None or self._given < self.batches:
                with forked(derive("batch", self._seed, self._given, self._rank)):
                    chunk = list(islice(rows, self._size))
                    if not chunk or (self._drop_last and len(chunk) < self._size and not empty):
                        break
                    empty = False
                    self._given += 1
                    self.num_examples += len(chunk)
                    batch = self._collated(chunk)
                yield batch
            if empty and self.batches is not None:
                raise TrainingError("train_dataset is a stream that has no rows.")
            if self.batches is None or self._given >= self.batches:
                return
            self._turn += 1
            self.stream.set_epoch(self.stream.epoch + 1)

    def _collated(self, chunk: list[Any]) -> Batch | None:
        """This process's contiguous share of a batch; None when it has none of a ragged one."""
        share = [len(chunk) * part // self._count for part in (self._rank, self._rank + 1)]
        mine = chunk[share[0] : share[1]]
        if not mine:
            return None
        return dict(self._collate(mine if self._keep is None else [self._keep(row) for row in mine]))

    def state(self) -> dict[str, Any]:
        """The place behind the last batch, as JSON can hold it."""
        return {"turn": self._turn, "given": self._given, "rows": self.num_examples, "place": self.stream.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._turn, self._given, self.num_examples = state["turn"], state["given"], state["rows"]
        self.stream.load_state_dict(state["place"])
        self._resumed = True


def training_loader(stream: Any, args: TrainingArguments, **parts: Any) -> StreamLoader:
    """The batches of a training on a stream; raises `OptionError` for arguments that need its length."""
    if args.max_steps <= 0:
        raise OptionError(
            "train_dataset is a stream, whose length is not known: say how long to train with max_steps=…; the stream "
            "begins anew as often as it takes."
        )
    if args.train_sampling_strategy == "group_by_length":
        raise OptionError("group_by_length needs all lengths beforehand, and train_dataset is a stream.")
    log.info("rows come in the order of the stream; for a random one pass train_dataset=stream.shuffle(seed=…)")
    batches = args.max_steps * args.gradient_accumulation_steps
    return StreamLoader(stream, batches=batches, drop_last=args.dataloader_drop_last, **parts)
