"""Going through a data set without training, complete: loss, streaming metrics, predictions if something needs them.

Memory is flat: each batch adds to a few sums, unless predictions are kept; these wait on the CPU, in full precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plait.nn.loss import LossTerms
from plait.train.distributed import Processes
from plait.train.metrics import Metric

IGNORED = -100


@dataclass
class Scored:
    """What a model said about one batch: its loss (None without labels), predictions and labels as tensors."""

    terms: LossTerms | None
    predictions: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]


@dataclass
class Evaluation:
    """What a data set gave: `loss` None without labels; arrays (rows, …), in the order of the rows, None unless kept.

    Several predictions or labels per row are a tuple of arrays.
    """

    loss: float | None = None
    batches: int = 0
    predictions: Any = None
    labels: Any = None
    metrics: dict[str, Any] = field(default_factory=dict)


def evaluate(
    batches: Iterable[dict[str, Any] | None],
    score: Callable[[dict[str, Any]], Scored],
    *,
    keep: bool,
    metrics: Sequence[Metric] = (),
    processes: Processes | None = None,
    after_batch: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Score every batch; `keep` predictions and labels, and feed `metrics` as it goes."""
    processes = processes or Processes()
    result = Evaluation()
    sums = torch.zeros(2, dtype=torch.float64)
    predictions, labels = _Columns(), _Columns()
    for metric in metrics:
        metric.reset()
    for batch in batches:
        scored = None if batch is None else score(batch)
        if scored is not None and scored.terms is not None:
            sums += torch.stack([scored.terms.total.detach().cpu().double(), scored.terms.count.cpu().double()])
        if keep or metrics:
            said = _gathered(processes, () if scored is None else scored.predictions)
            true = _gathered(processes, () if scored is None else scored.labels)
            if keep:
                predictions.add(said)
                labels.add(true)
            for metric in metrics if said and true else ():
                for part, truth in zip(said[0], true[0], strict=True):
                    metric.add_scores(part, truth)
        result.batches += 1
        after_batch()
    total, count = processes.sum(sums.to(processes.device)).tolist()
    result.loss = total / count if count else None
    result.predictions, result.labels = predictions.joined(), labels.joined()
    for metric in metrics:
        result.metrics |= metric.compute()
    return result


def _gathered(processes: Processes, tensors: tuple[Tensor, ...]) -> list[list[np.ndarray]]:
    """Per tensor, its parts on all processes as arrays; half precision, which NumPy or metrics lose, as float32."""
    plain = [t.detach().float() if t.dtype in (torch.bfloat16, torch.float16) else t.detach() for t in tensors]
    if processes.count == 1:
        return [[tensor.cpu().numpy()] for tensor in plain]
    # A process without rows does not know how many tensors the others have.
    columns = max(int(number) for number in processes.gather(torch.tensor([len(plain)])))
    gathered = [processes.gather(plain[i] if i < len(plain) else None) for i in range(columns)]
    return [[part.numpy() for part in parts] for parts in gathered]


class _Columns:
    """Arrays that grow by batches, joined once at the end."""

    def __init__(self) -> None:
        self.columns: list[list[np.ndarray]] = []

    def add(self, parts: list[list[np.ndarray]]) -> None:
        while len(self.columns) < len(parts):
            self.columns.append([])
        for column, arrays in zip(self.columns, parts, strict=True):
            column.extend(arrays)

    def joined(self) -> Any:
        arrays = tuple(_concatenated(column) for column in self.columns)
        return None if not arrays else arrays[0] if len(arrays) == 1 else arrays


def _concatenated(parts: list[np.ndarray]) -> np.ndarray:
    """(rows₁, T₁, …), (rows₂, T₂, …) … -> (Σ rows, longest T, …), the gaps filled with -100."""
    shapes = [part.shape[1:] for part in parts]
    if len(set(shapes)) == 1:
        return np.concatenate(parts)
    largest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    whole = np.full((sum(map(len, parts)), *largest), IGNORED, dtype=parts[0].dtype)
    start = 0
    for part in parts:
        whole[(slice(start, start + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        start += len(part)
    return whole
