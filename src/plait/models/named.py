"""A module whose parameters go by the names of its family's files, complete: listed, looked up, saved and filled so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from plait.models.config import Config
from plait.models.names import Names, check_keys


class Named(nn.Module):
    """What a model of one task of one family calls its parameters, and takes and gives them by."""

    def __init__(self, config: Config, *, task: str) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self._names: Names | None = None

    @property
    def names(self) -> Names:
        """What parameters are called from outside: as in the files of the family."""
        if self._names is None:
            self._names = Names(self.config, self.task)
        return self._names

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Every parameter once; no name is made."""
        return (parameter for _, parameter in super().named_parameters(recurse=recurse))

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter with its name in the files of the family, such as "bert.embeddings.LayerNorm.weight".

        Of a tensor that is one there and several here, each part has its word in the name: "attn.c_attn.query.weight".
        """
        start = f"{prefix}." if prefix else ""
        for name, parameter in super().named_parameters(recurse=recurse, remove_duplicate=remove_duplicate):
            yield start + self.names.outer(name), parameter

    def get_parameter(self, target: str) -> nn.Parameter:
        """The parameter of a name of `named_parameters`, or of one within, such as "network.stack.norm.weight"."""
        found = dict(self.named_parameters(remove_duplicate=False)).get(target)
        return super().get_parameter(target) if found is None else found

    def state_dict(self, *arguments: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """The tensors under the names of `named_parameters`; as a part of another module, under those within."""
        state: dict[str, Any] = super().state_dict(*arguments, **options)
        if arguments or options.get("destination") is not None or options.get("prefix"):
            return state
        outer = OrderedDict((self.names.outer(name), tensor) for name, tensor in state.items())
        outer._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]  # torch keeps versions there
        return outer

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Fill the parameters with what `state_dict` gave, of this model or one alike; with `assign`, take its tensors
        in their place. Weights that are shared stay shared.

        Raises WeightsError when something is missing or in excess, unless `strict` is False.
        """
        within = list(super().state_dict())
        owners = list(self._shared()) if assign else []
        found = super().load_state_dict(self.names.inner(state_dict, within), strict=False, assign=assign)
        for (first, name), *others in owners:
            for owner, leaf in others:
                owner._parameters[leaf] = first._parameters[name]
        for keys in found:
            keys[:] = map(self.names.outer, keys)
        if strict:
            known = map(self.names.outer, within)
            check_keys(found.missing_keys, found.unexpected_keys, title=type(self).__name__, known=known)
        return found

    def _shared(self) -> Iterable[list[tuple[nn.Module, str]]]:
        """Of each parameter that several modules share, all of them with their names of it."""
        owners: dict[int, list[tuple[nn.Module, str]]] = {}
        for module in self.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    owners.setdefault(id(parameter), []).append((module, name))
        return (found for found in owners.values() if len(found) > 1)
