"""The table that relates a checkpoint's tensors to a model's, complete: one table, read in both directions.

    RULES = Rules(
        rename("bert.encoder.layer.{i}.attention.self.query.{wb}", "stack.layers.{i}.attention.query.{wb}"),
        tied("cls.predictions.decoder.weight", "head.projection.weight"),
        ignore("bert.embeddings.position_ids", "counted, not learned"),
        prefixes=("bert.",),                        # a file may lack it
        old={"gamma": "weight", "beta": "bias"},    # read, never written
    )

Templates match whole names (see `template.py`), the order of rules has no meaning, and a name that two rules match is
an error. "Theirs" is the checkpoint, "ours" is the model. No torch here: what a rule does to tensors is in
`operations.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from plait.errors import OptionError, WeightsError, nearest
from plait.weights.rule import (
    Rule,
    concat,
    ignore,
    permute_rope,
    read_only,
    rename,
    row,
    shift,
    split,
    stack,
    tied,
    transpose,
)
from plait.weights.template import Binding

if TYPE_CHECKING:
    from torch import Tensor

M = TypeVar("M", bound=tuple[Any, ...])

# What every name begins with in a file that was written from within DataParallel or torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")

__all__ = [
    "Plan",
    "Rule",
    "Rules",
    "Step",
    "concat",
    "ignore",
    "permute_rope",
    "read_only",
    "rename",
    "row",
    "shift",
    "split",
    "stack",
    "tied",
    "transpose",
]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A rule applied to actual names.

    `found` holds, for each name in `theirs`, the names under which the checkpoint has the tensor: as a rule itself, an
    old name, or both; none when it is absent.
    """

    rule: Rule
    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    found: tuple[tuple[str, ...], ...]

    @property
    def absent(self) -> list[str]:
        """Those of `theirs` that the checkpoint lacks."""
        return [name for name, found in zip(self.theirs, self.found, strict=True) if not found]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What becomes of a checkpoint's names: the steps, those ignored and why, and those that no rule knows."""

    steps: tuple[Step, ...]
    ignored: Mapping[str, str]
    unexpected: tuple[str, ...]


class Rules:
    """A table of rules.

    `prefixes` are beginnings of their names that a checkpoint may lack; `old` maps last parts of names, as old files
    have them, to what they are now. Raises `OptionError` when two rules overlap.
    """

    def __init__(self, *rules: Rule, prefixes: Sequence[str] = (), old: Mapping[str, str] | None = None) -> None:
        if isinstance(prefixes, str):
            raise OptionError(f"prefixes must be a tuple such as ({prefixes!r},), but is the text {prefixes!r}.")
        self.rules, self.prefixes, self.old = rules, tuple(prefixes), dict(old or {})
        for rule in rules:
            for example in rule.examples_of_theirs():
                for prefix in ("", *self.prefixes):
                    self._match_theirs(example.removeprefix(prefix))
            for example in rule.examples_of_ours():
                self._match_ours(example)

    def plus(self, *rules: Rule) -> Rules:
        """A table with more rules and the same prefixes and old names."""
        return Rules(*self.rules, *rules, prefixes=self.prefixes, old=self.old)

    def plan(self, names: Iterable[str]) -> Plan:
        """Sort a checkpoint's names by rule. Raises `OptionError` when two rules match a name."""
        groups: dict[tuple[int, tuple[tuple[str, str], ...]], dict[int, list[str]]] = {}
        ignored: dict[str, str] = {}
        unexpected: list[str] = []
        for name in names:
            match = self._match_theirs(name)
            if match is None:
                unexpected.append(name)
                continue
            index, binding, position = match
            reason = self.rules[index].reason
            if reason is not None:
                ignored[name] = reason
                continue
            found = groups.setdefault((index, tuple(binding.items())), {})
            found.setdefault(position, []).append(name)
        steps = []
        for (index, items), positions in groups.items():
            rule, binding = self.rules[index], dict(items)
            theirs = rule.theirs.names(binding)
            found_names = tuple(tuple(positions.get(position, ())) for position in range(len(theirs)))
            steps.append(Step(rule=rule, theirs=theirs, ours=rule.ours.names(binding), found=found_names))
        return Plan(steps=tuple(steps), ignored=ignored, unexpected=tuple(unexpected))

    def to_ours(self, names: Iterable[str]) -> list[str]:
        """The model's names for a checkpoint's.

        Raises `WeightsError` for a name without a rule or a rule without all its names.
        """
        plan = self.plan(names)
        if plan.unexpected:
            raise WeightsError(f"No rule knows the checkpoint's tensor {plan.unexpected[0]!r}.")
        for step in plan.steps:
            if step.absent:
                raise WeightsError(
                    f"{step.ours[0]!r} is made of {len(step.theirs)} tensors; {step.absent[0]!r} is absent."
                )
        return [name for step in plan.steps for name in step.ours]

    def to_theirs(self, names: Iterable[str], *, prefixed: bool = True) -> list[str]:
        """The checkpoint's names for a model's; without the optional prefix when `prefixed` is False.

        Raises `WeightsError` for a name without a rule or a rule without all its names.
        """
        steps = self._steps_to_theirs(names)
        return [self._written(name, prefixed) for step in steps for name in step.theirs]

    def export(self, state: Mapping[str, Tensor], *, prefixed: bool = True) -> dict[str, Tensor]:
        """The checkpoint's tensors for a model's, views where torch can; a tied one is left out when it is shared.

        Raises `WeightsError` for a name without a rule or a shape that no rule can have made.
        """
        kept = dict(state)
        for name, tensor in state.items():
            match = self._match_ours(name)
            shared = (other for key, other in kept.items() if key != name)
            if match and self.rules[match[0]].tied and any(_same_memory(tensor, other) for other in shared):
                del kept[name]
        exported: dict[str, Tensor] = {}
        for step in self._steps_to_theirs(kept):
            try:
                tensors = step.rule.to_theirs([kept[name] for name in step.ours])
            except WeightsError as error:
                raise WeightsError(f"Our tensor {step.ours[0]!r} cannot become {step.theirs[0]!r}: {error}.") from error
            exported |= {
                self._written(name, prefixed): tensor for name, tensor in zip(step.theirs, tensors, strict=True)
            }
            if step.rule.copies and (found := step.rule.theirs.match(step.theirs[0])):
                # Memory of their own, or a writer would take them for one tensor.
                exported |= {
                    self._written(copy.fill(found[0]), prefixed): tensors[0].clone() for copy in step.rule.copies
                }
        return exported

    def theirs_of(self, name: str) -> tuple[str, ...]:
        """The checkpoint's names of which the model's tensor `name` is made; empty when no rule knows it."""
        match = self._match_ours(name)
        return self.rules[match[0]].theirs.names(match[1]) if match else ()

    def name_of(self, name: str, *, prefixed: bool = True) -> str | None:
        """One name in the checkpoint's words for the model's tensor `name`; None when no rule knows it.

        Where the two correspond it is the checkpoint's own. A part of one of theirs has its own word in that name
        ("c_attn.query.weight"), and what several of theirs are joined to has the name that they share, or the first.
        """
        match = self._match_ours(name)
        if match is None:
            return None
        rule, binding = self.rules[match[0]], match[1]
        found, ours = self._written(rule.theirs.shared(binding), prefixed), rule.ours.names(binding)
        if len(ours) == 1:
            return found
        words = zip(name.split("."), *(each.split(".") for each in ours), strict=True)
        own = next(word for word, *others in words if len({*others}) > 1)
        stem, _, leaf = found.rpartition(".")
        return f"{stem}.{own}.{leaf}" if leaf in ("weight", "bias") else f"{found}.{own}"

    def _steps_to_theirs(self, names: Iterable[str]) -> list[Step]:
        groups: dict[tuple[int, tuple[tuple[str, str], ...]], set[str]] = {}
        for name in names:
            match = self._match_ours(name)
            if match is None:
                known = [example for rule in self.rules for example in rule.examples_of_ours()]
                raise WeightsError(f"No rule knows the model's tensor {name!r}.{nearest(name, known)}")
            groups.setdefault((match[0], tuple(match[1].items())), set()).add(name)
        steps = []
        for (index, items), present in groups.items():
            rule, binding = self.rules[index], dict(items)
            theirs, ours = rule.theirs.names(binding), rule.ours.names(binding)
            absent = [name for name in ours if name not in present]
            if absent:
                raise WeightsError(
                    f"{theirs[0]!r} is made of {len(ours)} tensors of the model; {absent[0]!r} is absent."
                )
            steps.append(Step(rule=rule, theirs=theirs, ours=ours, found=tuple((name,) for name in theirs)))
        return steps

    def _written(self, name: str, prefixed: bool) -> str:
        if prefixed:
            return name
        prefix = next((prefix for prefix in self.prefixes if name.startswith(prefix)), "")
        return name.removeprefix(prefix)

    def _match_theirs(self, name: str) -> tuple[int, Binding, int] | None:
        """The rule, placeholders and position of a checkpoint's name, whatever prefix it lacks, or old name or wrapper
        it has."""
        inner = name
        while wrapper := next((wrapper for wrapper in _WRAPPERS if inner.startswith(wrapper)), ""):
            inner = inner.removeprefix(wrapper)
        stem, _, last = inner.rpartition(".")
        spellings = [inner]
        if last in self.old:
            spellings.append(f"{stem}.{self.old[last]}" if stem else self.old[last])
        spellings += [prefix + spelling for prefix in self.prefixes for spelling in spellings]
        matches = [
            (index, *match)
            for index, rule in enumerate(self.rules)
            for spelling in spellings
            if (match := rule.match_theirs(spelling)) is not None
        ]
        return self._only(name, [match for match in matches if self.rules[match[0]].first] or matches)

    def _match_ours(self, name: str) -> tuple[int, Binding] | None:
        matches = [
            (index, match[0])
            for index, rule in enumerate(self.rules)
            if not rule.read_only and (match := rule.ours.match(name)) is not None
        ]
        return self._only(name, matches)

    def _only(self, name: str, matches: list[M]) -> M | None:
        first = matches[0] if matches else None
        other = next((match for match in matches if match != first), None)
        if first and other:
            raise OptionError(
                f"Two rules match {name!r}: {self.rules[first[0]]} and {self.rules[other[0]]}. "
                "Make them exclude each other."
            )
        return first


def _same_memory(tensor: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one parameter under two names."""
    return (
        tensor.device == other.device
        and not tensor.is_meta
        and tensor.data_ptr() == other.data_ptr()
        and tensor.shape == other.shape
        and tensor.stride() == other.stride()
        and tensor.dtype == other.dtype
    )
