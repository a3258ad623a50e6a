"""What the parameters of a model are called from outside, complete: as in the files that it is saved to.

So `name.startswith("classifier")`, `"LayerNorm" in name` and the like choose what they choose elsewhere. Within the
model, below `network`, parts have the same names in every family; a parameter that no file knows, such as one that was
added, keeps that name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from plait.errors import WeightsError, nearest
from plait.models.config import Config
from plait.models.family import prefixed, rules_for
from plait.models.registry import family_of

_INSIDE = "network."


class Names:
    """The names of one task of one family, each looked up once."""

    def __init__(self, config: Config, task: str) -> None:
        family = family_of(config.model_type, label=config.label)
        self._rules, self._prefixed = rules_for(family, task, config), prefixed(family, task)
        self._known: dict[str, str] = {}

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the names of all but the head begin with."""
        return self._rules.prefixes if self._prefixed else ()

    def outer(self, name: str) -> str:
        """The name from outside of the parameter or buffer `name` of a model."""
        if name not in self._known:
            own = name.startswith(_INSIDE)
            found = self._rules.name_of(name.removeprefix(_INSIDE), prefixed=self._prefixed) if own else None
            self._known[name] = found or name
        return self._known[name]

    def inner(self, state: Mapping[str, Any], known: Iterable[str]) -> OrderedDict[str, Any]:
        """A state under the names within, of those that are `known` there; others keep theirs."""
        names = {self.outer(name): name for name in known}
        return OrderedDict((names.get(name, name), value) for name, value in state.items())


def check_keys(missing: list[str], unexpected: list[str], *, title: str, known: Iterable[str]) -> None:
    """Raise WeightsError when a state lacks or exceeds what a model holds."""
    if missing or unexpected:
        listed = {"lacks": missing, "holds in excess": unexpected}
        parts = [f"it {verb} {', '.join(names[:5])} ({len(names)})" for verb, names in listed.items() if names]
        hint = nearest(unexpected[0], known) if unexpected else ""
        raise WeightsError(
            f"The state does not fit {title}: {', and '.join(parts)}.{hint} The folder of a checkpoint is read with "
            "from_pretrained or load_weights."
        )
