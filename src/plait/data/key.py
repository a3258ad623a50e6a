"""The key of a result, complete: a digest of the data, the operation and all that the function reaches, by parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plait.console import logger
from plait.data import cache
from plait.data.apply import Call
from plait.data.fingerprint import Unhashable, digest, digest_of, table_digest

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

log = logger("data")

VERSION = "2"  # of what map and filter do: a change makes earlier results unusable


def title_of(operation: str, function: Any) -> str:
    """An operation and its function, for people."""
    name = getattr(function, "__name__", type(function).__name__)
    return operation if name == "<lambda>" else f"{operation} {name}"


class Key:
    """The key of a result: of the data, the operation, and all that the function reaches. `value` is `None` without."""

    def __init__(self, dataset: Dataset, operation: str, call: Call, steps: dict[str, str], given: str | None) -> None:
        self.dataset = dataset
        self.operation = operation
        self.call = call
        self.steps = steps
        self.given = given
        self._value: str | None = None
        self._parts: dict[str, str] = {}
        self._made = False

    @property
    def value(self) -> str | None:
        """The key; `None` when something that the function reaches cannot be hashed (the log says what)."""
        if not self._made:
            self._made = True
            self._make()
        return self._value

    def _make(self) -> None:
        try:
            data = table_digest(self.dataset.table, self.dataset.features)
        except FileNotFoundError as error:  # what is mapped stays, but nothing says any more what it is
            log.warning(
                "%s is not cached, because a file of the data was removed: %s",
                title_of(self.operation, self.call.function),
                error.filename,
            )
            return
        format_ = self.dataset.format_
        self._parts = {"data": data, **self.steps, **self.call.steps()}
        try:
            shown_as = self._reached(dict(format_.options), "format options")  # a transform is a function
            if self.given is None:
                named = [
                    self._reached(self.call.function, "function"),
                    self._reached(self.call.options, "fn_kwargs"),
                ]
            else:
                named = [self.given]
                self._parts["new_fingerprint"] = self.given
        except Unhashable as error:
            log.warning(
                "%s is not cached, because %s. Give its class a method __fingerprint__() -> str, or pass "
                "new_fingerprint= to name the function yourself.",
                title_of(self.operation, self.call.function),
                error,
            )
            return
        shown = digest([repr(format_.kind), repr(self.dataset.shown_columns()), shown_as])
        self._parts["format"] = shown
        steps = [f"{name}={value}" for name, value in sorted({**self.steps, **self.call.steps()}.items())]
        self._value = digest([self.operation, VERSION, data, shown, *steps, *named])

    def _reached(self, value: Any, name: str) -> str:
        """The digest of a value; those of its parts are noted."""
        found, parts = digest_of(value, name)
        self._parts |= parts
        return found

    @property
    def place(self) -> str:
        """The operation and the function, by name: where to look for what changed."""
        function = self.call.function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return f"{self.operation} {getattr(function, '__module__', '')}.{name}"

    def say_why(self) -> str:
        """Log why there is no result to reuse, and return it."""
        why = cache.explain(self.place, self._parts)
        log.info("%s is computed: %s", title_of(self.operation, self.call.function), why)
        return why

    def description(self, why: str) -> dict[str, Any]:
        """What is kept beside a result: the parts of its key, why it was computed, and what it was made from."""
        return {"place": self.place, "why": why, "parts": self._parts, "parents": cache.origins(self.dataset.table)}

    def remember(self, why: str) -> None:
        """Keep the parts, to say later what changed."""
        assert self._value is not None
        cache.remember(self.place, self._value, self._parts, why)
