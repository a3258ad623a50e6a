"""What is said about a data set, complete: the fields of dataset_info.json, and the names of splits.

The files of datasets 5.x are the same: `version` is `{"version_str": "1.0.0", "major": 1, …}` there, and `splits` are
objects `{"name", "num_bytes", "num_examples"}` by name. Keys that are not known here are kept as they are.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from plait.data.features import Features
from plait.data.remote import is_address, reading, writing
from plait.errors import DataError

FILE = "dataset_info.json"
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
# fields that are written even when nothing is said
_ALWAYS = ("citation", "description", "homepage", "license")


class NamedSplit(str):
    """The name of a split: a text that prints as `NamedSplit('train')`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"NamedSplit({str(self)!r})"


class Split:
    """The usual names of splits."""

    TRAIN = NamedSplit("train")
    TEST = NamedSplit("test")
    VALIDATION = NamedSplit("validation")
    ALL = NamedSplit("all")


class SupervisedKeys(NamedTuple):
    """Which column a model reads, and which it predicts."""

    input: str = ""
    output: str = ""


@dataclass
class SplitInfo:
    """A split as its data set was published: its name, bytes and rows."""

    name: str = ""
    num_bytes: int = 0
    num_examples: int = 0
    shard_lengths: list[int] | None = None
    original_shard_lengths: list[int] | None = None
    dataset_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the split."""
        found = dataclasses.asdict(self)
        return {name: value for name, value in found.items() if value is not None or name == "dataset_name"}


@dataclass(repr=False)
class DatasetInfo:
    """A description, a citation, where the data come from, the features, and the sizes as published, in bytes.

    `version` is a text such as "1.0.0"; `splits` are `SplitInfo`s by name. Raises `DataError` for another version.
    """

    description: str = ""
    citation: str = ""
    homepage: str = ""
    license: str = ""
    features: Features | None = None
    post_processed: Any = None
    supervised_keys: SupervisedKeys | None = None
    builder_name: str | None = None
    dataset_name: str | None = None
    config_name: str | None = None
    version: str | None = None
    splits: dict[str, SplitInfo] | None = None
    download_checksums: dict[str, Any] | None = None
    download_size: int | None = None
    post_processing_size: int | None = None
    dataset_size: int | None = None
    size_in_bytes: int | None = None
    others: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # every spelling that files and people use becomes the one of the fields
        given: Any = self.features
        if given is not None and not isinstance(given, Features):
            self.features = Features.from_dict(given)
        self.version = _version(self.version)
        keys: Any = self.supervised_keys
        if isinstance(keys, Mapping):
            self.supervised_keys = SupervisedKeys(keys.get("input", ""), keys.get("output", ""))
        elif keys is not None:
            self.supervised_keys = SupervisedKeys(*keys)
        if self.splits is not None:
            splits: Any = self.splits
            listed = splits.items() if isinstance(splits, Mapping) else ((item["name"], item) for item in splits)
            self.splits = {str(name): _split(str(name), item) for name, item in listed}

    def to_json(self, features: Features | None = None) -> dict[str, Any]:
        """The JSON object that stands beside the data; fields without a value are left out."""
        found: dict[str, Any] = dict(self.others)
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name not in ("features", "others") and (value is not None or item.name in _ALWAYS):
                found[item.name] = value
        if self.version is not None:
            major, minor, patch = (int(part) for part in self.version.split("."))
            found["version"] = {"version_str": self.version, "major": major, "minor": minor, "patch": patch}
        if self.supervised_keys is not None:
            found["supervised_keys"] = self.supervised_keys._asdict()
        if self.splits is not None:
            found["splits"] = {name: split.to_json() for name, split in self.splits.items()}
        features = self.features if features is None else features
        return found if features is None else {**found, "features": features.to_dict()}

    @classmethod
    def from_dict(cls, dataset_info_dict: Mapping[str, Any]) -> DatasetInfo:
        """The description in a JSON object."""
        known = {item.name for item in dataclasses.fields(cls)} - {"others"}
        given = {name: value for name, value in dataset_info_dict.items() if name in known and value is not None}
        return cls(**given, others={name: value for name, value in dataset_info_dict.items() if name not in known})

    from_json = from_dict

    @classmethod
    def from_directory(
        cls, dataset_info_dir: str | Path, storage_options: Mapping[str, Any] | None = None
    ) -> DatasetInfo:
        """The description in the dataset_info.json of a folder."""
        with reading(_within(dataset_info_dir, FILE), storage_options) as stream:
            return cls.from_dict(json.loads(stream.read()))

    def write_to_directory(
        self,
        dataset_info_dir: str | Path,
        pretty_print: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Write dataset_info.json to a folder, and the licence, if there is one, to LICENSE."""
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=4 if pretty_print else None)
        with writing(_within(dataset_info_dir, FILE), storage_options) as stream:
            stream.write(text.encode())
        if self.license:
            with writing(_within(dataset_info_dir, "LICENSE"), storage_options) as stream:
                stream.write(self.license.encode())

    @classmethod
    def from_merge(cls, dataset_infos: Iterable[DatasetInfo | None]) -> DatasetInfo:
        """One description of several: the one that all have, or their texts below each other."""
        infos = [info for info in dataset_infos if info is not None]
        if infos and all(info == infos[0] for info in infos):
            return infos[0].copy()
        merged = cls()
        for name in _ALWAYS:
            setattr(merged, name, "\n\n".join(dict.fromkeys(getattr(info, name) for info in infos)).strip())
        return merged

    def update(self, other_dataset_info: DatasetInfo, ignore_none: bool = True) -> None:
        """Take over the fields of another description: those with a value, or all with `ignore_none=False`."""
        for item in dataclasses.fields(self):
            value = getattr(other_dataset_info, item.name)
            if value is not None or not ignore_none:
                setattr(self, item.name, copy.deepcopy(value))

    def copy(self) -> DatasetInfo:
        """A copy that can be changed on its own."""
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        values = ((item.name, getattr(self, item.name)) for item in dataclasses.fields(self) if item.name != "others")
        return f"DatasetInfo({', '.join(f'{name}={value!r}' for name, value in values if value)})"


class Described:
    """What a data set says about itself, read from its `info`."""

    info: DatasetInfo

    @property
    def description(self) -> str:
        """What the data set is."""
        return self.info.description

    @property
    def citation(self) -> str:
        """How to cite it."""
        return self.info.citation

    @property
    def homepage(self) -> str:
        """Where it lives."""
        return self.info.homepage

    @property
    def license(self) -> str:
        """Its licence."""
        return self.info.license

    @property
    def builder_name(self) -> str | None:
        """The format or the script that it was made by."""
        return self.info.builder_name

    @property
    def config_name(self) -> str | None:
        """Which of the configurations of its repository it is."""
        return self.info.config_name

    @property
    def version(self) -> str | None:
        """Its version, such as "1.0.0"."""
        return self.info.version

    @property
    def supervised_keys(self) -> SupervisedKeys | None:
        """Which column a model reads and which it predicts, where the data set says so."""
        return self.info.supervised_keys

    @property
    def download_checksums(self) -> dict[str, Any] | None:
        """Sizes and digests of the files that it was made of, as published."""
        return self.info.download_checksums

    @property
    def download_size(self) -> int | None:
        """Bytes of the files that it was made of, as published."""
        return self.info.download_size

    @property
    def size_in_bytes(self) -> int | None:
        """Bytes of the files and of the rows together, as published."""
        return self.info.size_in_bytes


def _within(folder: str | Path, name: str) -> str | Path:
    return f"{str(folder).rstrip('/')}/{name}" if is_address(folder) else Path(folder).expanduser() / name


def _split(name: str, found: Any) -> SplitInfo:
    if isinstance(found, SplitInfo):
        return found
    known = {item.name for item in dataclasses.fields(SplitInfo)}
    return SplitInfo(**{"name": name, **{key: value for key, value in dict(found).items() if key in known}})


def _version(given: Any) -> str | None:
    """ "1.0.0" from a text, or from the object that files hold."""
    if given is None:
        return None
    text = str(given["version_str"] if isinstance(given, Mapping) else given)
    match = _VERSION.fullmatch(text)
    if match is None:
        raise DataError(f"The version of a data set is written like '1.0.0', not {text!r}.")
    return ".".join(str(int(part)) for part in match.groups())
