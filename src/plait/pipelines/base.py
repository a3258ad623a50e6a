"""What all pipelines share, complete: options of a call, batches of texts of like length, one result per input.

Shapes: B rows of a batch, T tokens.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from plait.errors import OptionError, nearest

# Columns of a tokenizer's output that a model reads; others (offsets, masks of special tokens) are for the pipeline.
MODEL_COLUMNS = ("input_ids", "attention_mask", "token_type_ids")


class Pipeline:
    """From raw inputs to answers. A task defines `answer(items, *, …) -> one result per item`.

    One input gives one result, a list (or any other iterable) of inputs a list of results, in order. The keyword
    arguments of `answer` are the options: given at construction they are defaults, given in a call they win.
    """

    answer: Callable[..., list[Any]]

    def __init__(self, model: Any, tokenizer: Any, *, device: Any = None, batch_size: int = 8, **options: Any) -> None:
        self.model = model.to(device_of(device)) if device is not None else model
        self.model.eval()
        self.tokenizer = tokenizer
        self.batch_size = _at_least_one(batch_size)
        self.options = self._checked(options)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Answer one input or many. Raises OptionError for an option that the task does not have."""
        runner = copy.copy(self)  # so that another thread's call keeps its own batch size
        runner.batch_size = _at_least_one(options.pop("batch_size", self.batch_size))
        items, single = self.items_of(inputs)
        results = runner.answer(items, **{**self.options, **self._checked(options)}) if items else []
        return results[0] if single else results

    def items_of(self, inputs: Any) -> tuple[list[Any], bool]:
        """The inputs as a list, and whether there was one alone."""
        if isinstance(inputs, str | Mapping):
            return [inputs], True
        if isinstance(inputs, Iterable):
            return list(inputs), False
        raise OptionError(f"A pipeline takes a text or a list of texts, but got {type(inputs).__name__}.")

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        parameters = inspect.signature(self.answer).parameters.values()
        known = [item.name for item in parameters if item.kind is item.KEYWORD_ONLY]
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            for name in options.keys() - set(known):
                raise OptionError(
                    f"{type(self).__name__} has no option {name!r}.{nearest(name, [*known, 'batch_size'])}"
                )
        return options

    @torch.no_grad()
    def forward(self, rows: list[dict[str, list[int]]], **arguments: Any) -> Iterator[tuple[int, Any, int]]:
        """Run `rows`, encoded texts without padding, through the model: (index, output of its batch, row in the batch).

        Rows of like length share a batch, so that little is padded; hence the order is not that of `rows`.
        """
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
        for start in range(0, len(order), self.batch_size):
            indices = order[start : start + self.batch_size]
            outputs = self.model(**self.padded([rows[index] for index in indices]), **arguments)
            for row, index in enumerate(indices):
                yield index, outputs, row

    def padded(self, rows: list[dict[str, list[int]]], *, side: str = "right") -> dict[str, Tensor]:
        """Rows of ids as tensors (B, T) on the model's device; no mask when nothing is padded."""
        width = max(len(row["input_ids"]) for row in rows)
        fills = {"input_ids": self.tokenizer.pad_token_id or 0, "attention_mask": 0, "token_type_ids": 0}
        names = [name for name in MODEL_COLUMNS if name in rows[0]]
        if all(len(row["input_ids"]) == width for row in rows):
            names = [name for name in names if name != "attention_mask"]
        elif "attention_mask" not in names:
            rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
            names.append("attention_mask")
        tensors = {}
        for name in names:
            filled = [[fills[name]] * (width - len(row[name])) for row in rows]
            both = zip(rows, filled, strict=True)
            values = [row[name] + fill if side == "right" else fill + row[name] for row, fill in both]
            tensors[name] = torch.tensor(values, device=self.device)
        return tensors

    def encoded(self, texts: list[Any], **arguments: Any) -> list[dict[str, Any]]:
        """Each text through the tokenizer, without padding: one dict of columns per text."""
        columns = self.tokenizer(texts, **arguments)
        return [{name: columns[name][row] for name in columns} for row in range(len(texts))]


def _at_least_one(batch_size: int) -> int:
    if batch_size < 1:
        raise OptionError(f"`batch_size` must be at least 1, but is {batch_size}.")
    return batch_size


def device_of(device: Any) -> torch.device:
    """A torch device from its name, or from the number of a GPU, where -1 means the CPU.

    Raises OptionError when there is none of that name or number.
    """
    name = ("cpu" if device < 0 else f"cuda:{device}") if isinstance(device, int) else device
    try:
        found = torch.device(name)
    except (RuntimeError, TypeError) as error:
        hint = nearest(str(device), ["cpu", "cuda", "mps"])
        raise OptionError(f"device={device!r} is no device of torch: 'cpu', 'cuda', 'cuda:0', 'mps'.{hint}") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"device={device!r}, but torch sees {torch.cuda.device_count()} CUDA devices here. Use device='cpu', "
            "or another number."
        )
    return found
