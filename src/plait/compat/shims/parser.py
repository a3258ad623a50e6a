"""Arguments of a script as objects, complete: fields of dataclasses become options of its command line.

    parser = HfArgumentParser((ModelArguments, TrainingArguments))
    model_arguments, training_arguments = parser.parse_args_into_dataclasses()

A script may also be given one file: `parser.parse_json_file("run.json")`, `parse_yaml_file`, or `parse_dict`.
"""

from __future__ import annotations

import dataclasses
import json
import types
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from plait.errors import OptionError, nearest, require
from plait.train.arguments import TrainingArguments
from plait.train.names import CONVERTED, IGNORED, SYNONYMS

_YES, _NO = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


class HfArgumentParser(ArgumentParser):
    """An `ArgumentParser` whose options are the fields of dataclasses, `TrainingArguments` among them."""

    def __init__(self, dataclass_types: Any, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})
        kinds = list(dataclass_types) if isinstance(dataclass_types, Iterable) else [dataclass_types]
        self._options: dict[type, list[str]] = {kind: self._add(kind) for kind in kinds}

    def parse_args_into_dataclasses(
        self, args: Sequence[str] | None = None, return_remaining_strings: bool = False
    ) -> tuple[Any, ...]:
        """One object per dataclass, then what other options the script added, and with
        `return_remaining_strings` a list of what is no option."""
        found, rest = self.parse_known_args(args)
        if rest and not return_remaining_strings:
            hint = nearest(rest[0].lstrip("-"), [name for names in self._options.values() for name in names])
            raise OptionError(f"These are no options of the script: {' '.join(rest)}.{hint}")
        values = vars(found)
        made = [
            kind(**{name: values.pop(name) for name in names if name in values})
            for kind, names in self._options.items()
        ]
        others = [found] if values else []
        return (*made, *others, *([rest] if return_remaining_strings else []))

    def parse_dict(self, args: Mapping[str, Any], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """One object per dataclass from a table of values; raises OptionError for a name that no dataclass has."""
        known = [name for names in self._options.values() for name in names]
        unknown = [name for name in args if name not in known]
        if unknown and not allow_extra_keys:
            raise OptionError(f"These are no options of the script: {', '.join(unknown)}.{nearest(unknown[0], known)}")
        return tuple(
            kind(**{name: args[name] for name in names if name in args}) for kind, names in self._options.items()
        )

    def parse_json_file(self, json_file: str | Path, allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """`parse_dict` of a JSON file."""
        return self.parse_dict(json.loads(Path(json_file).read_text(encoding="utf-8")), allow_extra_keys)

    def parse_yaml_file(self, yaml_file: str | Path, allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """`parse_dict` of a YAML file."""
        yaml = require("yaml", extra="data", purpose="read a YAML file of arguments")
        return self.parse_dict(yaml.safe_load(Path(yaml_file).read_text(encoding="utf-8")), allow_extra_keys)

    def _add(self, kind: type) -> list[str]:
        """The options of one dataclass; returns the names that it takes."""
        hints, names = get_type_hints(kind), []
        for field in dataclasses.fields(kind):
            if field.init:
                self._add_field(field, hints[field.name])
                names.append(field.name)
        if issubclass(kind, TrainingArguments):  # every other spelling that the class understands
            for name in (*SYNONYMS, *CONVERTED, *IGNORED):
                self.add_argument(*_flags(name), nargs="?", const=True, type=_plain, default=SUPPRESS, help=SUPPRESS)
                names.append(name)
        return names

    def _add_field(self, field: dataclasses.Field[Any], hint: Any) -> None:
        """One option. What is not given is left to the dataclass, whose default the help shows."""
        missing = dataclasses.MISSING
        default = field.default if field.default_factory is missing else field.default_factory()
        shown = "" if default is missing else f" (default: {default})"
        options: dict[str, Any] = {"default": SUPPRESS, "help": f"{field.metadata.get('help', '')}{shown}".strip()}
        options["required"] = default is missing
        kinds = _alternatives(hint)
        if bool in kinds:
            options |= {"nargs": "?", "const": True, "type": _boolean}
            if default is True:
                self.add_argument(*_flags(f"no_{field.name}"), dest=field.name, action="store_false", default=SUPPRESS)
        elif lists := [kind for kind in kinds if get_origin(kind) is list or kind is list]:
            options |= {"nargs": "+", "type": _reader(_alternatives(next(iter(get_args(lists[0])), str)))}
        else:
            options["type"] = _reader(kinds)
            options["choices"] = _choices(kinds)
        self.add_argument(*_flags(field.name), dest=field.name, **options)


def _flags(name: str) -> list[str]:
    """--a_name, and --a-name where that is another text."""
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))


def _alternatives(hint: Any) -> list[Any]:
    """The types that a hint allows, without None."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [part for part in parts if part is not type(None)]


def _choices(kinds: Sequence[Any]) -> list[Any] | None:
    if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        return list(get_args(kinds[0]))
    if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], Enum):
        return list(kinds[0])
    return None


def _reader(kinds: Sequence[Any]) -> Callable[[str], Any]:
    """What turns the text of an option into a value of one of the types."""
    if choices := _choices(kinds):
        by_text = {str(getattr(choice, "value", choice)): choice for choice in choices}
        return lambda text: by_text.get(text, text)  # argparse names what is allowed
    if any(kind is dict or get_origin(kind) is dict for kind in kinds):
        return json.loads
    numbers = [kind for kind in (int, float) if kind in kinds]
    return numbers[-1] if numbers and str not in kinds else str


def _boolean(text: str) -> bool:
    if text.lower() in (*_YES, *_NO):
        return text.lower() in _YES
    raise ArgumentTypeError(f"{text!r} is neither true nor false")


def _plain(text: str) -> Any:
    """A number, truth value, list or table as JSON writes it, else the text."""
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text
