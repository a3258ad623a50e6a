"""The arguments of an encoding call, complete: what padding, truncation and lengths mean, checked once, and windows.

Nothing here is state. A `Plan` is made for each call from the call's own arguments and the tokenizer's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Literal, NoReturn, TypeVar

from plait.errors import OptionError, TokenizerError, nearest
from plait.text.frame import Window

T = TypeVar("T")
Padding = Literal["longest", "max_length"]
Truncation = Literal["longest_first", "only_first", "only_second"]
Side = Literal["left", "right"]

PADDINGS: dict[object, Padding | None] = {
    True: "longest",
    "longest": "longest",
    "max_length": "max_length",
    False: None,
    None: None,
    "do_not_pad": None,
}
TRUNCATIONS: dict[object, Truncation | None] = {
    True: "longest_first",
    "longest_first": "longest_first",
    "only_first": "only_first",
    "only_second": "only_second",
    False: None,
    None: None,
    "do_not_truncate": None,
}
NO_LIMIT = 10**20  # a model_max_length above this stands for "not known"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one call truncates and pads; `max_length` counts special tokens too, `budget` does not."""

    padding: Padding | None = None
    truncation: Truncation | None = None
    max_length: int | None = None
    budget: int | None = None
    stride: int = 0
    overflow: bool = False
    multiple: int | None = None
    padding_side: Side = "right"
    truncation_side: Side = "right"

    def width(self, longest: int) -> int:
        """The padded length of a batch whose longest row has `longest` tokens; max_length pads no row beyond itself."""
        width = self.max_length if self.padding == "max_length" and self.max_length is not None else longest
        return width if self.multiple is None else -(-width // self.multiple) * self.multiple


def choose(option: str, value: object, choices: Mapping[object, T]) -> T:
    """The meaning of an option's value, or an `OptionError` with the nearest one."""
    try:
        return choices[value]
    except (KeyError, TypeError):
        names = [name for name in choices if isinstance(name, str)]
        raise OptionError(
            f"{option}={value!r} is not a choice. Choose one of {', '.join(names)}, True or False."
            f"{nearest(str(value), names)}"
        ) from None


def side(option: str, value: str) -> Side:
    """A checked side."""
    if value in ("left", "right"):
        return value  # type: ignore[return-value]
    raise OptionError(f"{option}={value!r} is not a side. Choose 'right' or 'left'.")


def count(option: str, value: object, *, least: int) -> int:
    """A checked whole number."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise OptionError(f"{option}={value!r} is not a whole number; it counts tokens.")
    number = value.__index__()
    if number < least:
        raise OptionError(f"{option}={number} is below {least}.")
    return int(number)


def plan(**arguments: Any) -> Plan:
    """The plan of a call; see `checked` for the arguments. Calls in a loop share one, since plans never change."""
    try:
        return _kept_plan(**arguments)
    except TypeError as error:
        if isinstance(error, OptionError):
            raise
        return checked(**arguments)  # an argument that cannot be hashed is no choice either, and is named there


def checked(
    *,
    padding: object,
    truncation: object,
    max_length: object,
    stride: object,
    overflow: bool,
    pad_to_multiple_of: object,
    padding_side: str,
    truncation_side: str,
    model_max_length: int,
    special: int,
) -> Plan:
    """Check the arguments of a call; `special` is the number of special tokens that each row gets.

    As in transformers, a `max_length` alone (neither padding nor truncation stated) truncates, and padding or
    truncation without `max_length` take the model's. Where the model has none, truncation=True cuts nothing.
    padding="do_not_pad" is a statement, padding=False is not.

    Raises `OptionError` for a value that is not a choice and `TokenizerError` for a combination that cannot be met.
    """
    pads: Padding | None = choose("padding", padding, PADDINGS)
    cuts: Truncation | None = choose("truncation", truncation, TRUNCATIONS)
    limit = None if max_length is None else count("max_length", max_length, least=0)
    multiple = None if pad_to_multiple_of is None else count("pad_to_multiple_of", pad_to_multiple_of, least=1)
    if limit is not None and truncation is None and not padding:
        cuts = "longest_first"
    if limit is None and (cuts or pads == "max_length") and model_max_length <= NO_LIMIT:
        limit = model_max_length
    if pads == "max_length" and limit is None:
        raise TokenizerError(
            "padding='max_length' has no length to pad to: this tokenizer has no model_max_length. "
            "Pass max_length=…, or padding='longest'."
        )
    if limit is None:
        cuts = None
    if cuts and limit is not None:
        if limit < special:
            raise TokenizerError(
                f"max_length={limit} is less than the {special} special tokens that each row gets. "
                f"Pass max_length={special + 1} or more, or add_special_tokens=False."
            )
        if pads and multiple and limit % multiple:
            raise TokenizerError(
                f"max_length={limit} is not a multiple of pad_to_multiple_of={multiple}, so truncated rows could not "
                f"be padded to it. Pass max_length={limit // multiple * multiple or multiple}."
            )
    return Plan(
        padding=pads,
        truncation=cuts,
        max_length=limit,
        budget=None if limit is None else limit - special,
        stride=count("stride", stride, least=0),
        overflow=overflow,
        multiple=multiple if pads else None,
        padding_side=side("padding_side", padding_side),
        truncation_side=side("truncation_side", truncation_side),
    )


_kept_plan = lru_cache(maxsize=256, typed=True)(checked)


def kept(lengths: Sequence[int], budget: int, strategy: Truncation) -> tuple[int, ...]:
    """How many tokens of each sequence stay when all together may be `budget`.

    longest_first shortens the longer of two until both are equal, then both alike; the second keeps the odd token.
    The rule is that of the tokenizers library, so that ids agree.
    """
    surplus = sum(lengths) - budget
    if surplus <= 0:
        return tuple(lengths)
    if budget == 0:  # special tokens alone, whatever the strategy
        return (0,) * len(lengths)
    if strategy == "longest_first":
        if len(lengths) == 1:
            return (budget,)
        short, long = sorted(lengths)
        long = short if short > budget else max(short, budget - short)
        if short + long > budget:
            short, long = budget // 2, budget // 2 + budget % 2
        return (short, long) if lengths[0] <= lengths[1] else (long, short)
    target = 0 if strategy == "only_first" else 1
    if target >= len(lengths):
        raise TokenizerError(
            "truncation='only_second' needs a pair, but there is no text_pair. Use truncation='longest_first'."
        )
    if lengths[target] <= surplus:
        _too_short(lengths, budget, strategy, target)
    return tuple(length - surplus if place == target else length for place, length in enumerate(lengths))


def _too_short(lengths: Sequence[int], budget: int, strategy: str, target: int) -> NoReturn:
    name = ("first", "second")[target]
    raise TokenizerError(
        f"truncation={strategy!r} cannot bring {sum(lengths)} tokens down to {budget}: the {name} text has only "
        f"{lengths[target]}. Raise max_length, or use truncation='longest_first'."
    )


def split(length: int, keep: int, *, stride: int, side: Side) -> list[Window]:
    """The windows over `length` tokens, the kept one first: `keep` tokens each, neighbours sharing `stride`."""
    if keep >= length:
        return [(0, length)]
    if keep == 0:
        return [(0, 0), (0, length)]
    if stride >= keep:
        raise TokenizerError(
            f"stride={stride} must be smaller than the {keep} tokens that a window has left for this text. "
            "Pass a smaller stride or a larger max_length."
        )
    step = keep - stride
    windows: list[Window] = []
    if side == "right":
        for start in range(0, length, step):
            windows.append((start, min(start + keep, length)))
            if windows[-1][1] == length:
                break
    else:
        for stop in range(length, 0, -step):
            windows.append((max(stop - keep, 0), stop))
            if windows[-1][0] == 0:
                break
    return windows


def windows(lengths: Sequence[int], plan: Plan) -> list[tuple[Window, ...]]:
    """The rows that one sample becomes: one, or with overflow every combination of its windows, the kept one first."""
    if plan.truncation is None or plan.budget is None or sum(lengths) <= plan.budget:
        return [tuple((0, length) for length in lengths)]
    keeps = kept(lengths, plan.budget, plan.truncation)
    if not plan.overflow:
        if plan.truncation_side == "right":
            return [tuple((0, keep) for keep in keeps)]
        return [tuple((length - keep, length) for length, keep in zip(lengths, keeps, strict=True))]
    choices = [
        split(length, keep, stride=plan.stride, side=plan.truncation_side)
        for length, keep in zip(lengths, keeps, strict=True)
    ]
    rows = list(product(*choices))
    # The order of the tokenizers library: the kept row, the rows of every further first window, the kept first window
    # with every further second one.
    return rows[:1] + rows[len(choices[-1]) :] + rows[1 : len(choices[-1])] if len(choices) == 2 else rows
