"""What `load_dataset` is asked for, complete: from its arguments to a format, the files of each split, and the options.

A name is looked up in this order: a format (csv, json, …), a file or folder here, an address, a repository at the hubs
of PLAIT_HUBS.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait.console import logger
from plait.data.card import Configuration
from plait.data.features import Features
from plait.data.fetch import Fetcher
from plait.data.info import DatasetInfo
from plait.data.locate import data_files_of, missing_path
from plait.data.published import Access, Chooser, NoDataFiles, Published, card_of, open_folder, open_name
from plait.data.readers.base import Reader
from plait.data.reading import reader_class, reader_of
from plait.data.remote import is_address
from plait.data.suffixes import READERS, format_named, format_of, has_format, is_data_file, main_format, plain_suffix
from plait.data.unpack import unpacked
from plait.disk import left_behind
from plait.errors import DataError, HubError, OptionError, nearest

log = logger("data")

# a format, if it is known before the files are seen; the files of each split; what a README says of them
Found = tuple[str | None, dict[str, list[Path]], Configuration]

# options that change which columns there are, so that the features of a README no longer fit
_OTHER_COLUMNS = {"names", "column_names", "usecols", "index_col", "columns", "header", "drop_labels", "drop_metadata"}


@dataclass(kw_only=True)
class Plan:
    """What is read: a format, the files of each split, the options of its reader, and the features, if declared."""

    format: str
    files: dict[str, list[Path]]
    features: Features | None = None
    options: dict[str, Any] = field(default_factory=dict)
    info: DatasetInfo = field(default_factory=DatasetInfo)
    declared_by: str | None = None  # the README that declares the features, where the person does not

    def reader(self, split: str) -> Reader:
        """The reader of one split."""
        return reader_of(self.format, self.files[split], self.features, self.options, also=ARGUMENTS)


# arguments of load_dataset, to name the nearest of a misspelt one
ARGUMENTS = (
    *("name", "data_dir", "data_files", "split", "cache_dir", "features", "download_mode", "verification_mode"),
    *("keep_in_memory", "revision", "token", "streaming", "num_proc", "storage_options"),
)


def plan_of(
    path: str,
    name: str | None = None,
    *,
    data_dir: Any = None,
    data_files: Any = None,
    split: Any = None,
    features: Features | None = None,
    options: Mapping[str, Any] | None = None,
    access: Access | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Plan:
    """What `load_dataset(path, name, …)` reads. Files elsewhere are fetched, archives unpacked."""
    if not path.strip():
        raise OptionError(f"Say what to load: a format ({', '.join(READERS)}), a file, a folder, or a name at a hub.")
    access = access or Access()
    home = None if access.cache_dir is None else Path(access.cache_dir).expanduser()
    fetch = Fetcher(access=access, storage_options=storage_options, home=home)
    data_dir = None if data_dir is None else os.fspath(data_dir)
    files_follow = data_files is not None or data_dir is not None
    named = format_named(path, suffix=files_follow and not Path(path).expanduser().exists())
    found: Found
    if named:
        found = (named, _of_format(named, name, data_dir, data_files, fetch), Configuration(name=name or "default"))
    else:
        found = _of_place(Chooser(path, name, data_dir, data_files, split), fetch)
    known, packed, configuration = found
    format, files = _opened(known, packed, home)
    for several in files.values():
        _refuse_pointers(several)
    plan = Plan(format=format, files=files, features=features, options=dict(options or {}))
    _add_configuration(plan, configuration, path)
    every = [file for several in files.values() for file in several]
    tabs = bool(named) and path.lower() == "tsv" or {plain_suffix(file) for file in every} == {".tsv"}
    if format == "csv" and tabs and "delimiter" not in plan.options:
        plan.options.setdefault("sep", "\t")
    plan.features = reader_class(format).common(every, plan.features, plan.options)
    return plan


def _of_place(asked: Chooser, fetch: Fetcher) -> Found:
    """What a file, an address, a folder or a repository holds."""
    path = asked.place
    if Path(path).expanduser().is_file() or (is_address(path) and not _is_page(path)):
        for argument in ("name", "data_dir", "data_files"):
            if (value := getattr(asked, argument)) is not None:
                raise OptionError(f"{path} is a file, so {argument}={value!r} means nothing: leave it out.")
        return None, data_files_of({"train": path}, fetch=fetch), Configuration()
    if not Path(path).expanduser().is_dir():
        return _of_hub(asked, fetch)
    if not path.startswith((".", "/", "~")) and path.count("/") < 2:
        log.info("%r is the folder here, and wins over a hub's (write hf:%s or ms:%s for the hub)", *[path] * 3)
    return _of_folder(asked, fetch)


def _of_format(
    format: str, name: str | None, data_dir: str | None, data_files: Any, fetch: Fetcher
) -> dict[str, list[Path]]:
    if not reader_class(format).of_files:
        if data_files is not None or data_dir is not None:
            raise OptionError(f"load_dataset({format!r}) reads no files: leave data_files and data_dir out.")
        return {"train": []}
    if name is not None and data_files is None and data_dir is None:
        raise OptionError(f"Say which files to read: load_dataset({format!r}, data_files={name!r}).")
    beside = format in ("imagefolder", "audiofolder")  # metadata of any format lies there
    suffixes = None if beside else READERS[format][2]
    return data_files_of(data_files, data_dir=data_dir, suffixes=suffixes, fetch=fetch)


def _of_folder(asked: Chooser, fetch: Fetcher) -> Found:
    folder = Path(asked.place).expanduser()
    if asked.data_files is not None:  # paths may be absolute, or lead out of the folder: the person names them
        card = card_of([item.name for item in folder.iterdir()], folder.joinpath, asked.place)
        files = data_files_of(asked.data_files, data_dir=folder / (asked.data_dir or ""), fetch=fetch)
        named = asked.name is not None or card.default()
        return None, files, card.configuration(asked.name, asked.place) if named else Configuration()
    if asked.data_dir is not None and not (folder / asked.data_dir).is_dir():
        raise missing_path(folder / asked.data_dir)
    found = open_folder(folder, asked)
    return found.choice.format, _paths(found, asked, fetch), found.choice.configuration


def _of_hub(asked: Chooser, fetch: Fetcher) -> Found:
    path = asked.place
    # org/name/file.csv is a file of a hub, unless a folder `org` is here
    of_hub = path.count("/") > 1 and not Path(path.partition("/")[0]).is_dir()
    if path.startswith((".", "/", "~")) or "\\" in path or (is_data_file(path) and not of_hub):
        raise missing_path(Path(path).expanduser())
    try:
        found = open_name(path, asked, fetch.access)
    except NoDataFiles:
        raise
    except HubError as error:
        formats, hint = ", ".join(READERS), nearest(path, READERS)
        error.args = (f"{path!r} is neither a format ({formats}) nor a file or folder here.{hint} {error}",)
        raise
    return found.choice.format, _paths(found, asked, fetch), found.choice.configuration


def _opened(
    format: str | None, files: Mapping[str, list[Path]], home: Path | None
) -> tuple[str, dict[str, list[Path]]]:
    """The files of each split with archives unpacked, and their format, which they say when nobody else does."""
    archives = any(plain_suffix(file) == ".zip" for several in files.values() for file in several)
    opened = {split: unpacked(several, format, home) for split, several in files.items()}
    if format is not None:
        return format, opened
    format = _format_of([file for several in opened.values() for file in several], archives=archives)
    if archives:
        opened = {split: [file for file in several if has_format(file, format)] for split, several in opened.items()}
    return format, opened


def _format_of(files: list[Path], *, archives: bool) -> str:
    """The format of files that a person named; of what came out of archives, that of most files."""
    if not archives:
        return format_of(files)
    format = main_format(str(file) for file in files)
    if format is None:
        shown = ", ".join(file.name for file in files[:10])
        raise DataError(f"The archives hold no data files of a known format, but {shown}.")
    return format


def _paths(found: Published, asked: Chooser, fetch: Fetcher) -> dict[str, list[Path]]:
    """The files of each split, here; addresses that a README names are fetched without the person's token."""
    if asked.data_files is None:
        fetch = fetch.untrusted()
    return {
        split: [path for name in names for path in (fetch(name) if is_address(name) else [found.folder / name])]
        for split, names in found.choice.names.items()
    }


def _is_page(address: str) -> bool:
    """Whether an address is the page of a repository at a hub."""
    from plait.hub import parse_reference

    if not address.startswith(("https://", "http://")):
        return False
    reference = parse_reference(address)
    return reference.scheme in ("hf", "ms") and reference.file is None


def _refuse_pointers(files: Iterable[Path]) -> None:
    for file in files:
        if told := left_behind(file):
            raise DataError(f"{file} {told}")


def _add_configuration(plan: Plan, configuration: Configuration, path: str) -> None:
    """The options and features of a README, below those that the person gives."""
    known = reader_class(plan.format).option_names()
    for option, value in configuration.options.items():
        if option in known:
            plan.options.setdefault(option, value)
        else:
            log.info("%r of configuration %r of %s has no effect", option, configuration.name, path)
    if plan.features is None and configuration.features and not set(plan.options) & _OTHER_COLUMNS:
        plan.features, plan.declared_by = configuration.features, f"README.md of {path}"

    def told(key: str) -> str:
        value = configuration.described.get(key)
        return value if isinstance(value, str) else ""

    plan.info = DatasetInfo(
        description=told("description"),
        citation=told("citation"),
        homepage=told("homepage"),
        license=told("license"),
        builder_name=plan.format,
        dataset_name=_short(path),
        config_name=configuration.name,
    )


def _short(path: str) -> str:
    """What a data set is called: `name` of `org/name@revision`, `a` of `folder/a.csv`."""
    if is_data_file(path):
        return Path(path).stem
    return path.partition("@")[0].rstrip("/").replace(":", "/").rpartition("/")[2]
