"""What the README of a repository says about its data, complete: the configurations in its YAML, and their features.

---
configs:
  - config_name: default
    data_files: [{split: train, path: "train/*.csv"}, {split: test, path: test.csv}]
    sep: ";"
dataset_info:
  features: [{name: text, dtype: string}, {name: label, dtype: {class_label: {names: {'0': neg, '1': pos}}}}]
---
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plait.data.features import Features
from plait.data.schema import features_from_json
from plait.errors import DataError, OptionError, nearest, require

_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?\r?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_NODES = 1_000_000  # values in a README at most
_CAMEL = {"class_label": "ClassLabel", "array2_d": "Array2D", "array3_d": "Array3D", "array4_d": "Array4D"} | {
    "array5_d": "Array5D",
    "translation_variable_languages": "TranslationVariableLanguages",
}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One way to read a repository: which files, with which options and features; `None`: as the files say."""

    name: str = "default"
    data_files: Any = None
    data_dir: str | None = None
    default: bool = False
    features: Features | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    described: Mapping[str, Any] = field(default_factory=dict)  # dataset_info: licence, version, …


@dataclass(frozen=True)
class Card:
    """The configurations of a repository, in order; none when its README names none."""

    configurations: tuple[Configuration, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of the configurations."""
        return [each.name for each in self.configurations]

    def default(self) -> Configuration | None:
        """The one to read when none is named: that marked so, that called "default", or the only one."""
        marked = [each for each in self.configurations if each.default]
        marked = marked or [each for each in self.configurations if each.name == "default"]
        marked = marked or (list(self.configurations) if len(self.configurations) == 1 else [])
        return marked[0] if marked else None

    def configuration(self, name: str | None, place: str) -> Configuration:
        """The configuration called `name`, or the default. Raises `OptionError` with the names there are."""
        if name is None:
            if not self.configurations:
                return Configuration()
            if (found := self.default()) is None:
                first = self.names[0]
                raise OptionError(
                    f"{place} has the configurations {self.names}. Name one: load_dataset({place!r}, {first!r})."
                )
            return found
        for each in self.configurations:
            if each.name == name:
                return each
        if not self.configurations and name == "default":
            return Configuration()
        known = self.names or ["default"]
        raise OptionError(f"{place} has no configuration {name!r}.{nearest(name, known)} It has {known}.")


def read_card(text: str, place: str) -> Card:
    """The card in the text of a README. Raises `DataError` for YAML that cannot be read."""
    found = _FRONT.match(text)
    if found is None:
        return Card()
    yaml = require("yaml", extra="data", purpose="read the YAML at the top of a README")
    try:
        content = yaml.safe_load(found[1])
        _check_size(content, {})
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-01
        raise DataError(f"The YAML at the top of README.md of {place} cannot be read: {error}") from error
    except RecursionError as error:
        raise DataError(f"The YAML at the top of README.md of {place} goes too deep to be read.") from error
    if not isinstance(content, Mapping):
        return Card()
    infos = content.get("dataset_info") or []
    infos = [infos] if isinstance(infos, Mapping) else infos
    described = {str(each.get("config_name", "default")): each for each in infos if isinstance(each, Mapping)}
    configs = content.get("configs") or []
    named = isinstance(configs, list) and all(isinstance(each, Mapping) and "config_name" in each for each in configs)
    if not named:
        raise DataError(
            f"configs in README.md of {place} must be a list of entries with config_name, not {configs!r:.200}."
        )
    if not configs and len(described) == 1:  # features alone
        ((name, _),) = described.items()
        configs = [{"config_name": name}]
    return Card(tuple(_configuration(each, described, place) for each in configs))


def _check_size(node: Any, sizes: dict[int, int]) -> int:
    """How many values there are, those that aliases repeat counted every time; raises `ValueError` for too many.

    A few lines of aliases of aliases stand for billions of values; a value that holds itself, for infinitely many.
    """
    if not isinstance(node, dict | list):
        return 1
    if id(node) in sizes and sizes[id(node)] == 0:
        raise ValueError("a value holds itself")
    if id(node) not in sizes:
        sizes[id(node)] = 0
        inner = node if isinstance(node, list) else [*node, *node.values()]
        sizes[id(node)] = 1 + sum(_check_size(each, sizes) for each in inner)
    if sizes[id(node)] > _NODES:
        raise ValueError(f"its aliases stand for more than {_NODES} values")
    return sizes[id(node)]


def _configuration(entry: Mapping[str, Any], described: Mapping[str, Any], place: str) -> Configuration:
    name = str(entry["config_name"])
    info = described.get(name, {})
    listed = entry.get("features") or info.get("features")
    own = ("config_name", "data_files", "data_dir", "default", "features", "description", "version")
    try:
        features = None if listed is None else features_of_yaml(listed)
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"The features of {name!r} in README.md of {place} cannot be read: {error}") from error
    return Configuration(
        name=name,
        data_files=entry.get("data_files"),
        data_dir=entry.get("data_dir"),
        default=bool(entry.get("default", False)),
        features=features,
        options={key: value for key, value in entry.items() if key not in own},
        described={key: value for key, value in info.items() if key not in ("features", "config_name")},
    )


def features_of_yaml(entries: Any) -> Features:
    """Features from the list that a README holds: `[{name: a, dtype: int64}, {name: b, list: string}, …]`."""
    return features_from_json(_fields(entries))


def _fields(entries: Any) -> dict[str, Any]:
    if not isinstance(entries, list) or not all(isinstance(each, Mapping) and "name" in each for each in entries):
        raise DataError(f"features are a list of entries with name, not {entries!r:.200}.")
    return {
        str(each["name"]): _feature({key: value for key, value in each.items() if key != "name"}) for each in entries
    }


def _feature(entry: Any) -> Any:
    """One feature of the YAML as the JSON that dataset_info.json holds."""
    if isinstance(entry, str):
        entry = {"dtype": entry}
    if isinstance(entry, list):
        return _fields(entry)
    for kind, name in (("large_list", "LargeList"), ("list", "List"), ("sequence", "List")):
        if kind in entry:
            inner = entry[kind]
            length = {"length": entry["length"]} if "length" in entry else {}
            if kind == "sequence" and isinstance(inner, list):  # a sequence of structs is a struct of lists
                return {name: {"feature": each, **length, "_type": "List"} for name, each in _fields(inner).items()}
            return {"feature": _feature(inner), **length, "_type": name}
    if "struct" in entry:
        return _fields(entry["struct"])
    if "dtype" in entry:
        dtype = entry["dtype"]
        if not isinstance(dtype, str):
            return _feature(dtype)
        named = {"image": "Image", "audio": "Audio", "json": "Json", **_CAMEL}
        return {"_type": named[dtype]} if dtype in named else {**entry, "_type": "Value"}
    ((kind, options),) = entry.items()
    kind = _CAMEL.get(kind, "".join(part.capitalize() for part in str(kind).split("_")))
    return {**(options or {}), "_type": kind}
