"""What an upload writes into the README of a repository, complete: `configs` and `dataset_info` of its YAML.

Everything else that the README holds stays: other keys, other configurations, the text below. The YAML is that of
datasets 5.x; `card.py` reads it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from plait.data.card import features_of_yaml
from plait.data.features import Features, FeatureType
from plait.data.schema import feature_to_json
from plait.errors import DataError, require

_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?\r?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_SHARD = re.compile(r"data/(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}.*\.parquet")
_SNAKES = {
    "ClassLabel": "class_label",
    "TranslationVariableLanguages": "translation_variable_languages",
    **{f"Array{rank}D": f"array{rank}_d" for rank in range(2, 6)},
}


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """One split of an upload: its rows, the bytes of its rows and files, and those of the files that it replaces."""

    rows: int
    bytes_of_rows: int
    bytes_of_files: int
    bytes_replaced: int = 0


@dataclass(frozen=True, kw_only=True)
class Update:
    """What an upload changes. `whole`: the splits are all that the configuration has from now on."""

    config_name: str
    data_dir: str
    features: Features
    splits: Mapping[str, Uploaded]
    set_default: bool = False
    whole: bool = False
    files: Iterable[str] = field(default_factory=tuple)


def updated_card(text: str | None, update: Update) -> str:
    """The README with what the upload changes. Raises `DataError` for YAML that cannot be read, and contradictions."""
    yaml = require("yaml", extra="data", purpose="write the YAML at the top of a README")
    front = _FRONT.match(text or "")
    try:
        found = yaml.safe_load(front[1]) if front else {}
    except yaml.YAMLError as error:
        raise DataError(f"The YAML at the top of the repository's README.md cannot be read: {error}") from error
    if found is not None and not isinstance(found, Mapping):
        raise DataError("The YAML at the top of the repository's README.md is no mapping of names to values.")
    content = dict(found or {})
    _describe(content, update)
    _configure(content, update)
    body = (text or "")[front.end() if front else 0 :]
    # as wide as a line may be: a folded line reads badly in a diff
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10**6)}---\n{body}"


def _describe(content: dict[str, Any], update: Update) -> None:
    """Bring `dataset_info` up to date: one entry bare, several in a list, by name."""
    given = content.get("dataset_info") or []
    listed = [given] if isinstance(given, Mapping) else list(given)
    infos = {str(item.get("config_name", "default")): dict(item) for item in listed}
    old = infos.get(update.config_name)
    new: dict[str, Any] = {} if old is None or update.whole else copy.deepcopy(old)
    splits = {item["name"]: dict(item) for item in new.get("splits") or ()}
    kept = [name for name in splits if name not in update.splits]
    if kept and new.get("features") is not None and (other := features_of_yaml(new["features"])) != update.features:
        raise DataError(
            f"The columns differ from those of the split {kept[0]!r}, which is there already: {dict(update.features)} "
            f"against {dict(other)}. Cast them, or upload under another config_name."
        )
    download, size = new.get("download_size") or 0, new.get("dataset_size") or 0
    for name, split in update.splits.items():
        if name in splits:
            download -= split.bytes_replaced
            size -= splits.pop(name).get("num_bytes") or 0
        splits[name] = {"name": name, "num_bytes": split.bytes_of_rows, "num_examples": split.rows}
        download += split.bytes_of_files
        size += split.bytes_of_rows
    others = {key: value for key, value in new.items() if key not in _DESCRIBED}
    infos[update.config_name] = {
        **others,
        "features": features_to_yaml(update.features),
        "splits": list(splits.values()),
        "download_size": download,
        "dataset_size": size,
    }
    named = [
        {"config_name": name, **{key: value for key, value in info.items() if key != "config_name"}}
        for name, info in sorted(infos.items())
    ]
    if len(named) == 1 and named[0]["config_name"] == "default":
        del named[0]["config_name"]
    content["dataset_info"] = named[0] if len(named) == 1 else named


_DESCRIBED = ("config_name", "features", "splits", "download_size", "dataset_size")


def _configure(content: dict[str, Any], update: Update) -> None:
    """Bring `configs` up to date: where the files of each split lie."""
    configs = {str(item["config_name"]): dict(item) for item in content.get("configs") or ()}
    if not configs:  # files that were uploaded before there were configurations
        splits = dict.fromkeys(match["split"] for match in map(_SHARD.fullmatch, update.files) if match)
        if splits:
            configs["default"] = {"data_files": [{"split": name, "path": f"data/{name}-*"} for name in splits]}
    config = configs.get(update.config_name, {})
    files = {} if update.whole else _patterns(config.get("data_files"))
    files |= {name: f"{update.data_dir}/{name}-*" for name in update.splits}
    new: dict[str, Any] = {"data_files": [{"split": name, "path": path} for name, path in files.items()]}
    if config.get("default"):
        new["default"] = True
    if update.set_default and update.config_name != "default":
        if "default" in configs:
            raise DataError(
                f"There is a configuration called 'default', so {update.config_name!r} cannot be the default one. "
                f"Rename that first."
            )
        for other in configs.values():
            other.pop("default", None)
        new["default"] = True
    configs[update.config_name] = new
    content["configs"] = [
        {"config_name": name, **{key: value for key, value in item.items() if key != "config_name"}}
        for name, item in sorted(configs.items())
    ]


def _patterns(data_files: Any) -> dict[str, Any]:
    """The files of each split of a configuration, from any of the spellings of `data_files`."""
    if data_files is None:
        return {}
    if isinstance(data_files, Mapping):
        return dict(data_files)
    if isinstance(data_files, list) and all(isinstance(item, Mapping) for item in data_files):
        return {str(item["split"]): item["path"] for item in data_files}
    return {"train": data_files}


def features_to_yaml(features: Features) -> list[dict[str, Any]]:
    """Features as the list that a README holds: `[{name: a, dtype: int64}, {name: b, list: string}, …]`."""
    return [{"name": name, **_entry(feature)} for name, feature in features.items()]


def _entry(feature: FeatureType) -> dict[str, Any]:
    if isinstance(feature, dict):
        return {"struct": features_to_yaml(Features(feature))}
    found = dict(feature_to_json(feature))
    kind = found.pop("_type")
    if kind in ("List", "LargeList"):
        inner = _entry(feature.feature)  # type: ignore[attr-defined]
        # what stands alone is written without its key: list: string
        short = next(iter(inner.values())) if len(inner) == 1 and set(inner) <= {"dtype", "struct"} else inner
        found.pop("feature")
        return {"list" if kind == "List" else "large_list": short, **found}
    if kind == "Value":
        return found
    if kind == "ClassLabel":
        found = {"names": {str(number): name for number, name in enumerate(found["names"])}}
    found = {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}
    snake = _SNAKES.get(kind, kind.lower())
    return {"dtype": {snake: found} if found else snake}
