"""A Python function as the JSON schema that chat templates show a model, complete.

Types come from the annotations, descriptions from the docstring: its first paragraph describes the function, and the
section `Args:` (Google style) each parameter. `(choices: ["a", "b"])` at the end of a description lists its only
values.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
import typing
from collections import abc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from plait.errors import TokenizerError

_NAMES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_ARRAYS = (list, set, frozenset, abc.Sequence, abc.Collection, abc.Iterable, abc.Set)
_OBJECTS = (dict, abc.Mapping, abc.MutableMapping)
_CHOICES = re.compile(r"\(choices:\s*(\[.*\])\)\s*$", re.IGNORECASE | re.DOTALL)


def schema(function: Callable[..., Any]) -> dict[str, Any]:
    """{"type": "function", "function": {name, description, parameters}} of a function.

    Raises `TokenizerError` for a function without a docstring, and for a parameter without a description or without an
    annotation that JSON schema can express. What is returned is left out when it has none.
    """
    name = getattr(function, "__name__", repr(function))
    text = inspect.getdoc(function)
    if not text:
        raise TokenizerError(f"The tool {name}() has no docstring, so a model cannot be told what it does. Add one.")
    description, arguments, returns = _docstring(text)
    hints = typing.get_type_hints(function)
    properties: dict[str, Any] = {}
    required = []
    for place, parameter in enumerate(inspect.signature(function).parameters.values()):
        if place == 0 and parameter.name in ("self", "cls") and parameter.name not in hints:
            continue  # the object that a method belongs to
        if parameter.name not in hints:
            raise TokenizerError(f"The tool {name}() has no annotation for {parameter.name!r}; write its type.")
        if parameter.name not in arguments:
            raise TokenizerError(
                f"The docstring of the tool {name}() does not describe {parameter.name!r}. "
                f"Add a line under 'Args:': {parameter.name}: …"
            )
        try:
            kind, note = _type(hints[parameter.name]), arguments[parameter.name]
        except _NoSchemaError as error:
            raise TokenizerError(
                f"The parameter {parameter.name!r} of the tool {name}() is annotated with {error}, which JSON schema "
                "does not express. Use str, int, float, bool, list, tuple, dict, Literal, an Enum or unions of them, "
                "or pass the tool as a dict with its schema."
            ) from None
        if found := _CHOICES.search(note):
            kind["enum"], note = json.loads(found.group(1)), note[: found.start()].strip()
        properties[parameter.name] = {**kind, "description": note}
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    made: dict[str, Any] = {"name": name, "description": description, "parameters": parameters}
    if "return" in hints and hints["return"] is not type(None):
        with suppress(_NoSchemaError):
            made["return"] = {**_type(hints["return"]), **({"description": returns} if returns else {})}
    return {"type": "function", "function": made}


def _docstring(text: str) -> tuple[str, dict[str, str], str]:
    """Description, parameter descriptions and the description of what is returned, from a Google-style docstring."""
    parts = re.split(r"^(Args|Arguments|Parameters|Returns|Raises|Examples?):\s*$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], map(inspect.cleandoc, parts[2::2]), strict=True))
    listed = next((sections[key] for key in ("Args", "Arguments", "Parameters") if key in sections), "")
    arguments: dict[str, str] = {}
    # "name: text" or "name (type): text"; lines further in continue the one before
    for item in re.split(r"\n(?=\S)", listed):
        if found := re.match(r"(\w+)\s*(?:\([^)]*\))?:\s*(.*)", item, flags=re.DOTALL):
            arguments[found.group(1)] = " ".join(found.group(2).split())
    return parts[0].strip(), arguments, " ".join(sections.get("Returns", "").split())


class _NoSchemaError(Exception):
    """An annotation that JSON schema does not express."""


def _type(hint: Any) -> dict[str, Any]:
    """A type annotation as JSON schema."""
    if hint is Any:
        return {}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    kind = origin or hint
    if kind is typing.Literal:
        return _one_of(hint, list(arguments))
    if kind in (typing.Union, types.UnionType):
        return _union([kind for kind in arguments if kind is not type(None)], nullable=type(None) in arguments)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _one_of(hint, [member.value for member in kind])
    if kind in _NAMES:
        return {"type": _NAMES[kind]}
    if kind is tuple and arguments and Ellipsis not in arguments:
        return {"type": "array", "prefixItems": [_type(item) for item in arguments]}
    if kind is tuple or kind in _ARRAYS:
        return {"type": "array", **({"items": _type(arguments[0])} if arguments else {})}
    if kind in _OBJECTS:
        return {"type": "object", **({"additionalProperties": _type(arguments[1])} if len(arguments) == 2 else {})}
    raise _NoSchemaError(inspect.formatannotation(hint))


def _one_of(hint: Any, values: list[Any]) -> dict[str, Any]:
    """One of some values, of the types that they have."""
    if not values or any(type(value) not in _NAMES for value in values):
        raise _NoSchemaError(inspect.formatannotation(hint))
    names = list(dict.fromkeys(_NAMES[type(value)] for value in values))
    return {"type": names[0] if len(names) == 1 else names, "enum": values}


def _union(kinds: list[Any], *, nullable: bool) -> dict[str, Any]:
    parts = [_type(kind) for kind in kinds]
    if len(parts) == 1:
        made = parts[0]
    elif all(set(part) == {"type"} and isinstance(part["type"], str) for part in parts):
        names = sorted({part["type"] for part in parts})
        made = {"type": names[0] if len(names) == 1 else names}
    else:
        made = {"anyOf": parts}
    return {**made, "nullable": True} if nullable else made
