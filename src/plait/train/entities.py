"""The metric of tagged entities, complete: spans that are found whole and of the right type, as CoNLL counts them.

    load_metric("seqeval").compute(predictions=[["B-PER", "I-PER", "O"]], references=[["B-PER", "I-PER", "O"]])
    {"PER": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "number": 1}, "overall_precision": 1.0, …}

Tags are O, or B- or I- and a type, also E- (the last of several) and S- (alone). An I- without a beginning begins one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from plait.errors import TrainingError
from plait.train.metrics import Metric

_PREFIXES = ("B", "I", "E", "S")


class Entities(Metric):
    """Precision, recall and F1 of whole entities, of each type and over all, and the accuracy of tags."""

    name = "seqeval"

    def reset(self) -> None:
        """Forget everything that was added."""
        self.found: dict[str, list[int]] = {}  # type -> right ones, those predicted, those there are
        self.right = self.tags = 0

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        """Take in the tags of some sentences; raises `TrainingError` for tags of another form, or another number."""
        for index, (said, true) in enumerate(zip(predictions, references, strict=True)):
            if len(said) != len(true):
                raise TrainingError(f"sentence {index} has {len(said)} predicted tags, but {len(true)} references.")
            ours, theirs = set(spans(said)), set(spans(true))
            for kind in {kind for kind, _, _ in ours | theirs}:
                counts = self.found.setdefault(kind, [0, 0, 0])
                for place, some in enumerate((ours & theirs, ours, theirs)):
                    counts[place] += sum(1 for span in some if span[0] == kind)
            self.right += sum(one == other for one, other in zip(said, true, strict=True))
            self.tags += len(said)

    def add_scores(self, scores: Any, labels: Any) -> None:
        """Numbers have no types: raises `TrainingError` with the remedy."""
        raise TrainingError(
            "seqeval compares tags by their names, which scores do not have: pass a function as compute_metrics that "
            "calls load_metric('seqeval').compute(predictions=…, references=…) with lists of tags."
        )

    def compute(self, *, predictions: Any = None, references: Any = None, **options: Any) -> dict[str, Any]:
        """The values over what is given here and what was added before; then start afresh."""
        if options:
            raise TrainingError(f"seqeval has no option {next(iter(options))!r}: entities are counted as CoNLL does.")
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references)
        result: dict[str, Any] = {kind: _scores(*self.found[kind]) for kind in sorted(self.found)}
        totals = [sum(counts) for counts in zip(*self.found.values(), strict=True)] or [0, 0, 0]
        overall = _scores(*totals)
        result |= {f"overall_{name}": overall[name] for name in ("precision", "recall", "f1")}
        result["overall_accuracy"] = self.right / self.tags if self.tags else 0.0
        self.reset()
        return result


def spans(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """The entities of a sentence: (type, first tag, last tag)."""
    parts = [("O", ""), *(_parted(tag) for tag in tags), ("O", "")]
    start = 0
    for place, ((before, kind), (here, other)) in enumerate(pairwise(parts)):
        if before in ("O", "E", "S") or here in ("O", "B", "S") or kind != other:  # an entity ends, or none is open
            if before != "O":
                yield kind, start, place - 1
            start = place


def _parted(tag: str) -> tuple[str, str]:
    prefix, dash, kind = str(tag).partition("-")
    if tag == "O" or (dash and prefix in _PREFIXES):
        return prefix, kind
    raise TrainingError(
        f"{tag!r} is no tag of an entity: those are 'O', or 'B-', 'I-', 'E-', 'S-' and a type, such as 'B-PER'. "
        "Numbers become tags by the names of their ClassLabel."
    )


def _scores(right: int, predicted: int, there: int) -> dict[str, Any]:
    precision, recall = right / predicted if predicted else 0.0, right / there if there else 0.0
    both = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / both if both else 0.0,
        "number": there,
    }
