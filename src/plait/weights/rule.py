"""One rule of a renaming table, complete: names of theirs, names of ours, and what happens to the tensors on the way.

"Theirs" is the checkpoint, "ours" is the model. A rule is data; nothing here needs torch. The functions below make
rules, `rules.py` puts them into a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from plait.errors import OptionError
from plait.weights.operations import Concat, Operation, PermuteRope, Row, Shift, Split, Stack, Transpose
from plait.weights.template import Binding, Template, declared_words

if TYPE_CHECKING:
    from torch import Tensor


class Side:
    """The names on one side of a rule: one template each, or one template counted by `over` from 0 to `count` - 1."""

    def __init__(self, templates: Sequence[Template], *, over: str | None = None, count: int = 1) -> None:
        self.templates, self.over, self.count = tuple(templates), over, count

    def match(self, name: str) -> tuple[Binding, int] | None:
        """The placeholders and the position of `name` among the rule's names, or None."""
        for position, template in enumerate(self.templates):
            if found := self.match_as(template, name, position=position):
                return found
        return None

    def match_as(self, template: Template, name: str, *, position: int = 0) -> tuple[Binding, int] | None:
        """The same, with `template` for the one at `position`."""
        binding = template.match(name)
        if binding is None or self.over is None:
            return None if binding is None else (binding, position)
        index = int(binding[self.over])
        rest = {key: value for key, value in binding.items() if key != self.over}
        return (rest, index) if index < self.count else None

    def names(self, binding: Binding) -> tuple[str, ...]:
        """All names of the side, for one choice of the placeholders."""
        if self.over is None:
            return tuple(template.fill(binding) for template in self.templates)
        return tuple(self.templates[0].fill({**binding, self.over: str(index)}) for index in range(self.count))

    def shared(self, binding: Binding) -> str:
        """The first of the names; of counted ones, what they share: the name without the number."""
        first = self.templates[0]
        if self.over is not None:
            first = Template(first.text.replace(f".{{{self.over}}}", ""), words=first.words)
        return first.fill(binding)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A relation between names of theirs and names of ours, and what happens to the tensors on the way.

    `also`: other names that their tensor may have in a file; read, and written only where they are in `copies`.
    `tied`: their name may be absent when ours is shared with another parameter. `read_only`: some files hold ours so,
    but it is written by another rule. `reason`: why their tensor is ignored (then `ours` has no name),
    `first` whether other rules that know its name stand back.
    """

    theirs: Side
    ours: Side
    operations: tuple[Operation, ...] = ()
    also: tuple[Template, ...] = ()
    copies: tuple[Template, ...] = ()
    tied: bool = False
    read_only: bool = False
    first: bool = False
    reason: str | None = None

    def __str__(self) -> str:
        theirs, ours = (", ".join(map(repr, side.templates)) for side in (self.theirs, self.ours))
        return f"{theirs} ↔ {ours or 'nothing'}"

    def examples_of_theirs(self) -> list[str]:
        """Names of theirs that the rule may match, to find rules that overlap."""
        return [example for template in (*self.theirs.templates, *self.also) for example in template.examples]

    def examples_of_ours(self) -> list[str]:
        """Names of ours that the rule may write, to find rules that overlap."""
        if self.read_only:
            return []
        return [example for template in self.ours.templates for example in template.examples]

    def match_theirs(self, name: str) -> tuple[Binding, int] | None:
        """The placeholders and the position of a checkpoint's name, or None."""
        if found := self.theirs.match(name):
            return found
        return next((found for template in self.also if (found := self.theirs.match_as(template, name))), None)

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The model's tensors from the checkpoint's."""
        result = list(tensors)
        for operation in self.operations:
            result = operation.to_ours(result)
        return result

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The checkpoint's tensors from the model's."""
        result = list(tensors)
        for operation in reversed(self.operations):
            result = operation.to_theirs(result)
        return result


def rename(theirs: str, ours: str, *, also: Sequence[str] = (), copies: Sequence[str] = ()) -> Rule:
    """One tensor, another name.

    `also` lists old names of it in files; `copies` names under which it is stored as well.
    """
    rule = _rule([theirs], [ours], also=[*also, *copies])
    return replace(rule, copies=rule.also[len(also) :])


def tied(theirs: str, ours: str, *, also: Sequence[str] = ()) -> Rule:
    """A parameter that a model may share with another one, such as a language head.

    When it is shared, the file may hold it or not, and it is not written. When it is not shared, this is `rename`.
    """
    return replace(_rule([theirs], [ours], also=also), tied=True)


def read_only(rule: Rule) -> Rule:
    """A second way in which files hold what another rule of the table writes."""
    return replace(rule, read_only=True)


def ignore(theirs: str, reason: str, *, first: bool = False) -> Rule:
    """A tensor of theirs that has no place in the model, and why; `first`, whatever other rules know its name."""
    return Rule(theirs=Side([Template(theirs)]), ours=Side([]), reason=reason, first=first)


def split(
    theirs: str, ours: Sequence[str], *, dim: int = 0, sizes: Sequence[int] | None = None, blocks: int = 1
) -> Rule:
    """One tensor of theirs is several of ours, cut along `dim` into equal parts or in the proportions `sizes`."""
    parts = _sizes(sizes, ours)
    return _rule([theirs], ours, Split(sizes=parts, dim=dim, blocks=blocks))


def concat(
    theirs: Sequence[str], ours: str, *, dim: int = 0, sizes: Sequence[int] | None = None, blocks: int = 1
) -> Rule:
    """Several tensors of theirs are one of ours, joined along `dim`; equal parts or the proportions `sizes`."""
    parts = _sizes(sizes, theirs)
    return _rule(theirs, [ours], Concat(sizes=parts, dim=dim, blocks=blocks))


def stack(theirs: str, ours: str, *, over: str, count: int, also: Sequence[str] = ()) -> Rule:
    """`count` tensors of theirs, told apart by the placeholder `over`, are one of ours with a first dimension more.

    `also` lists old names of them in files.
    """
    if count < 1:
        raise OptionError(f"stack({theirs!r}): count must be at least 1, but is {count}.")
    return _rule([theirs], [ours], Stack(count=count), also=also, over=over, count=count)


def transpose(theirs: str | Rule, ours: str | None = None) -> Rule:
    """Their last two dimensions are swapped. `transpose(split(…))`: their tensor is swapped, then cut."""
    return _before(Transpose(), theirs, ours)


def row(theirs: str, ours: str) -> Rule:
    """Their tensor is a matrix of one row, ours the vector."""
    return _rule([theirs], [ours], Row())


def permute_rope(theirs: str | Rule, ours: str | None = None, *, heads: int) -> Rule:
    """Their rotary pairs are neighbours, ours are halves of each of `heads` heads (llama.cpp's Llama)."""
    return _before(PermuteRope(heads=heads), theirs, ours)


def shift(theirs: str, ours: str, *, by: float) -> Rule:
    """Their numbers are ours plus `by`."""
    return _rule([theirs], [ours], Shift(by=by))


def _before(operation: Operation, theirs: str | Rule, ours: str | None) -> Rule:
    if isinstance(theirs, Rule):
        return replace(theirs, operations=(operation, *theirs.operations))
    if ours is None:
        raise OptionError(f"The rule for {theirs!r} needs our name as its second argument.")
    return _rule([theirs], [ours], operation)


def _sizes(sizes: Sequence[int] | None, names: Sequence[str]) -> tuple[int, ...]:
    parts = (1,) * len(names) if sizes is None else tuple(sizes)
    if isinstance(names, str) or len(parts) != len(names) or not parts or min(parts) < 1:
        raise OptionError(f"{names!r} needs one positive size for each of its names, but sizes is {sizes}.")
    return parts


def _rule(
    theirs: Sequence[str],
    ours: Sequence[str],
    *operations: Operation,
    also: Sequence[str] = (),
    over: str | None = None,
    count: int = 1,
) -> Rule:
    words: dict[str, tuple[str, ...]] = {}
    for text in (*theirs, *ours):  # a list of words is declared on either side
        words |= declared_words(text)
    their_side = Side([Template(text, words=words) for text in theirs], over=over, count=count)
    our_side = Side([Template(text, words=words) for text in ours])
    aliases = tuple(Template(text, words=words) for text in also)
    free = their_side.templates[0].placeholders - {over}
    if over is not None and (
        any(over not in template.placeholders for template in (*their_side.templates, *aliases))
        or over in our_side.templates[0].placeholders
    ):
        raise OptionError(
            f"stack({theirs[0]!r}, {ours[0]!r}): the placeholder {{{over}}} must be in their names alone."
        )
    for template in (*their_side.templates, *our_side.templates, *aliases):
        if template.placeholders - {over} != free or "rest" in template.placeholders:
            raise OptionError(
                f"The rule {list(theirs)} ↔ {list(ours)} cannot be inverted: all its templates must have the same "
                f"placeholders, and {{rest}} is for ignore() alone."
            )
    return Rule(theirs=their_side, ours=our_side, operations=operations, also=aliases)
