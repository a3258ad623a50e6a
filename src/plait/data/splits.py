"""Which rows of which splits, complete: `train`, `train[:10%]`, `train[-1000:]+test`, and `ReadInstruction`.

A slice counts rows, or percent of the rows. Percents are rounded to the nearest row ("closest"), or down to a multiple
of one percent of the rows ("pct1_dropremainder", so that 5% is always five times 1%).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plait.errors import ColumnError, OptionError, nearest

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

_PART = re.compile(
    r"(?P<split>[^\[\]()+\s]+)"
    r"(?P<slice>\[(?:(?P<from>-?\d[\d_]*)(?P<from_percent>%)?)?:(?:(?P<to>-?\d[\d_]*)(?P<to_percent>%)?)?\])?"
    r"(?:\((?P<rounding>[^)]*)\))?"
)
_ROUNDINGS = ("closest", "pct1_dropremainder")


@dataclass(frozen=True)
class SplitSlice:
    """Rows `from_` … `to - 1` of one split, in rows ("abs") or percent ("%"); negative ones count from the end."""

    split: str
    from_: int | None = None
    to: int | None = None
    unit: str | None = None
    rounding: str | None = None

    def __post_init__(self) -> None:
        if self.unit not in (None, "%", "abs"):
            raise OptionError(f"unit must be '%' or 'abs', but is {self.unit!r}.")
        if self.rounding is not None and self.rounding not in _ROUNDINGS:
            hint = nearest(self.rounding, _ROUNDINGS)
            raise OptionError(f"rounding must be 'closest' or 'pct1_dropremainder', but is {self.rounding!r}.{hint}")
        if self.unit != "%" and self.rounding is not None:
            raise OptionError(f"rounding={self.rounding!r} is for percents: write for example {self.split}[:10%].")
        for value in (self.from_, self.to):
            if self.unit == "%" and value is not None and not -100 <= value <= 100:
                raise OptionError(f"{self} goes beyond the split: a percentage lies between -100 and 100.")

    def rows(self, count: int) -> range:
        """The rows meant, of a split with `count` rows."""
        start = 0 if self.from_ is None else self._row(self.from_, count)
        stop = count if self.to is None else self._row(self.to, count)
        return range(start, max(start, stop))

    def _row(self, boundary: int, count: int) -> int:
        if self.unit == "%" and self.rounding == "pct1_dropremainder":
            if count < 100:
                raise OptionError(
                    f"{self}: with pct1_dropremainder one percent of {count} rows is no row at all. "
                    f"Leave the rounding out, or count rows: {self.split}[:{max(count // 10, 1)}]."
                )
            boundary *= math.trunc(count / 100)
        elif self.unit == "%":
            boundary = round(boundary * count / 100)
        return min(max(count + boundary, 0) if boundary < 0 else boundary, count)

    def __str__(self) -> str:
        if self.from_ is None and self.to is None:
            return self.split
        unit = "%" if self.unit == "%" else ""
        start, stop = ("" if value is None else f"{value}{unit}" for value in (self.from_, self.to))
        tail = f"({self.rounding})" if self.rounding not in (None, "closest") else ""
        return f"{self.split}[{start}:{stop}]{tail}"


class ReadInstruction:
    """Rows of splits, to be read one after another: `ReadInstruction("train", from_=10, to=20, unit="%")`.

    `from_` and `to` count in `unit`, "abs" (rows) or "%"; `rounding` is that of percents. Instructions add up with `+`.
    Raises `OptionError` for an unknown unit or rounding, and for a percentage beyond 100.
    """

    def __init__(
        self,
        split_name: str,
        rounding: str | None = None,
        from_: int | None = None,
        to: int | None = None,
        unit: str | None = None,
    ) -> None:
        self.parts: tuple[SplitSlice, ...] = (SplitSlice(str(split_name), from_, to, unit, rounding),)

    @classmethod
    def of(cls, parts: Iterable[SplitSlice]) -> ReadInstruction:
        """The instruction with these parts."""
        found = cls.__new__(cls)
        found.parts = tuple(parts)
        return found

    @classmethod
    def from_spec(cls, spec: str) -> ReadInstruction:
        """The instruction that a text writes, such as `train[:10%]+test[5:]`. Raises `OptionError` for another text."""
        return cls.of(_parsed(part, str(spec)) for part in re.split(r"\s*\+\s*", str(spec).strip()))

    def to_spec(self) -> str:
        """The instruction as text."""
        return "+".join(str(part) for part in self.parts)

    def to_absolute(self, counts: Mapping[str, int]) -> list[tuple[str, range]]:
        """The split and the rows of each part, from the number of rows of all splits."""
        return [(part.split, part.rows(_known(part.split, counts))) for part in self.parts]

    def __add__(self, other: ReadInstruction) -> ReadInstruction:
        if not isinstance(other, ReadInstruction):
            raise OptionError(f"A ReadInstruction is added to another, not to {other!r}.")
        return ReadInstruction.of((*self.parts, *other.parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadInstruction) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __str__(self) -> str:
        return self.to_spec()

    def __repr__(self) -> str:
        return f"ReadInstruction.from_spec({self.to_spec()!r})"


def _parsed(text: str, spec: str) -> SplitSlice:
    found = _PART.fullmatch(text)
    if found is None:
        raise OptionError(
            f"split={spec!r} cannot be read at {text!r}. Write for example 'train', 'train[:10%]', 'train[-1000:]' or "
            f"'train+test[5:]'."
        )
    percent = bool(found["from_percent"] or found["to_percent"])
    unit = None if found["slice"] is None else "%" if percent else "abs"
    start, stop = (None if found[name] is None else int(found[name]) for name in ("from", "to"))
    return SplitSlice(found["split"], start, stop, unit, found["rounding"])


def wanted(split: Any, known: Iterable[str]) -> list[str]:
    """The names of the splits that an instruction, or a list or dict of some, reads; all of `known` for `None`."""
    known = list(known)
    if split is None:
        return known
    if isinstance(split, Mapping):
        return list(dict.fromkeys(name for item in split.values() for name in wanted(item, known)))
    if isinstance(split, list | tuple):
        return list(dict.fromkeys(name for item in split for name in wanted(item, known)))
    names = [part.split for part in instruction(split, known).parts]
    for name in names:
        _known(name, dict.fromkeys(known, 0))
    return list(dict.fromkeys(names))


def instruction(split: Any, known: Iterable[str]) -> ReadInstruction:
    """The instruction that `split=` gives: one already, or a text. "all" means all splits."""
    if isinstance(split, ReadInstruction):
        return split
    known = list(known)
    if str(split) in known:  # a name of a person's own, whatever letters it has
        return ReadInstruction.of([SplitSlice(str(split))])
    if str(split) == "all":
        return ReadInstruction.of(SplitSlice(name) for name in known)
    if not isinstance(split, str):
        raise OptionError(
            f"split= takes texts such as 'train[:10%]', ReadInstructions and lists of them, not {split!r}."
        )
    return ReadInstruction.from_spec(split)


def read_splits(split: Any, splits: Mapping[str, Dataset]) -> Any:
    """The rows that `split=` names, as a view of the splits that were read; nothing is copied."""
    from plait.data.dataset_dict import DatasetDict

    if isinstance(split, Mapping):
        return DatasetDict({str(name): read_splits(item, splits) for name, item in split.items()})
    if isinstance(split, list | tuple):
        return [read_splits(item, splits) for item in split]
    return _view(instruction(split, splits), str(split), splits)


def _view(parts: ReadInstruction, name: str, splits: Mapping[str, Dataset]) -> Dataset:
    from plait.data.combine import concatenate_datasets
    from plait.data.dataset import Dataset
    from plait.data.view import rows_of

    found = []
    for split, rows in parts.to_absolute({split: len(dataset) for split, dataset in splits.items()}):
        dataset = splits[split]
        found.append(dataset if rows == range(len(dataset)) else rows_of(dataset, rows))
    whole = concatenate_datasets(found) if len(found) > 1 else found[0]
    return Dataset(whole.table, found[0].info, split=name, features=whole.features)


def _known(split: str, counts: Mapping[str, int]) -> int:
    if split not in counts:
        raise ColumnError(f"There is no split {split!r}.{nearest(split, counts)} Splits are {list(counts)}.")
    return counts[split]
