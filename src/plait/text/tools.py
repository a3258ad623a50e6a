"""A Python function as the JSON schema that chat templates show a model, complete.

Types come from the annotations, descriptions from the docstring: its first paragraph describes the function, and the
section `Args:` (Google style) each parameter. `(choices: ["a", "b"])` at the end of a description lists its only
values.
"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from plait.errors import TokenizerError

_NAMES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_CHOICES = re.compile(r"\(choices:\s*(\[.*\])\)\s*$", re.IGNORECASE | re.DOTALL)


def schema(function: Callable[..., Any]) -> dict[str, Any]:
    """{"type": "function", "function": {name, description, parameters}} of a function.

    Raises `TokenizerError` for a function without a docstring, or a parameter without annotation or description.
    """
    name = getattr(function, "__name__", repr(function))
    text = inspect.getdoc(function)
    if not text:
        raise TokenizerError(f"The tool {name}() has no docstring, so a model cannot be told what it does. Add one.")
    description, arguments, returns = _docstring(text)
    hints = typing.get_type_hints(function)
    properties: dict[str, Any] = {}
    required = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in hints:
            raise TokenizerError(f"The tool {name}() has no annotation for {parameter.name!r}; write its type.")
        if parameter.name not in arguments:
            raise TokenizerError(
                f"The docstring of the tool {name}() does not describe {parameter.name!r}. "
                f"Add a line under 'Args:': {parameter.name}: …"
            )
        kind, note = _type(hints[parameter.name]), arguments[parameter.name]
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


def _type(hint: Any) -> dict[str, Any]:
    """A type annotation as JSON schema."""
    if hint in _NAMES:
        return {"type": _NAMES[hint]}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union([kind for kind in arguments if kind is not type(None)], nullable=type(None) in arguments)
    if origin is typing.Literal:
        kinds = {type(value) for value in arguments}
        return {**_type(kinds.pop() if len(kinds) == 1 else Any), "enum": list(arguments)}
    if hint in (list, tuple, set) or origin in (list, tuple, set):
        items = [kind for kind in arguments if kind is not Ellipsis]
        return {"type": "array", **({"items": _type(items[0])} if items else {})}
    if hint is dict or origin is dict:
        return {"type": "object", **({"additionalProperties": _type(arguments[1])} if len(arguments) == 2 else {})}
    return {}  # any type


def _union(kinds: list[Any], *, nullable: bool) -> dict[str, Any]:
    parts = [_type(kind) for kind in kinds]
    if len(parts) == 1:
        made = parts[0]
    elif all(set(part) == {"type"} for part in parts):
        made = {"type": sorted(part["type"] for part in parts)}
    else:
        made = {"anyOf": parts}
    return {**made, "nullable": True} if nullable else made
