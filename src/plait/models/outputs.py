"""What a model's forward returns, complete: values read by attribute, by name and by place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plait.errors import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from plait.nn.loss import LossTerms

# Called with a field's name: computes what the forward did not keep.
Recall = Callable[[str], "tuple[Tensor, ...]"]


class Output(dict[str, Any]):
    """A dictionary of the values that are there, in a fixed order; `output.logits`, `output["logits"]` and `output[0]`
    are one.

    `fields` are the names that this kind of output may hold. One that is None is left out: its attribute is None, it
    has no place and no key. `loss_terms` is the loss as a sum and a count, for whoever adds up over parts of a batch.

    `hidden_states` and `attentions` are kept when the forward was asked for them. Otherwise their attribute, when read,
    computes them with one more forward through `recall`; without it they are None.
    """

    loss_terms: LossTerms | None

    def __init__(
        self,
        fields: Sequence[str],
        values: dict[str, Any],
        *,
        loss_terms: LossTerms | None = None,
        recall: Recall | None = None,
    ) -> None:
        super().__init__((name, values[name]) for name in fields if values.get(name) is not None)
        self.__dict__.update(loss_terms=loss_terms, _fields=tuple(fields), _recall=recall)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.__dict__.get("_fields", ()):
            raise AttributeError(f"This output has no {name!r}; it holds {', '.join(self)}.{nearest(name, self)}")
        if name in self:
            return super().__getitem__(name)
        if name in ("hidden_states", "attentions") and self.__dict__["_recall"] is not None:
            return self.__dict__["_recall"](name)
        return None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__["_fields"]:
            self[name] = value
        else:
            super().__setattr__(name, value)

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __reduce__(self) -> Any:
        return Output, (self.__dict__["_fields"], dict(self))

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are there, in order."""
        return tuple(self.values())

    def __repr__(self) -> str:
        return f"Output({', '.join(f'{name}={value!r}' for name, value in self.items())})"
