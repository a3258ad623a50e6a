"""Data sets in repositories, complete: a hub's, or a folder that is a clone of one; only files that are needed come.

The README's configurations say which files belong to which split; without them the names of the files do. Code in a
repository is not run: of one that holds a script in place of data, the Parquet branch is read where a hub offers it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from plait.console import logger
from plait.data.card import Card, Configuration, read_card
from plait.data.locate import matching, patterns_of, plain_names, split_by_name
from plait.data.remote import is_address
from plait.data.splits import wanted
from plait.data.suffixes import format_of, has_format, is_data_file, main_format, plain_suffix
from plait.errors import DataError, HubError, NotFoundError
from plait.hub import parse_reference, resolve
from plait.hub.reference import Reference

log = logger("data")

_PARQUET_BRANCH = "refs/convert/parquet"


class NoDataFiles(DataError, NotFoundError):
    """A repository without a file of a known format."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How hubs are asked: see `plait.hub.resolve`."""

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    force_download: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is read of a repository: a configuration, its format (`None`: as the archives will show), and the names (or
    addresses) of each split."""

    configuration: Configuration
    format: str | None
    names: Mapping[str, list[str]]


def _named_format(names: list[str]) -> str | None:
    """The format of files that a person named; of zip archives, as they will show."""
    return None if all(plain_suffix(name) == ".zip" for name in names) else format_of(names)


@dataclass
class Chooser:
    """What decides which files of a repository are needed, once their names are known."""

    place: str
    name: str | None = None
    data_dir: str | None = None
    data_files: Any = None
    split: Any = None  # what is asked for of it, so that other splits need not come
    of_hub: bool = False
    look: Literal["configurations", "splits"] | None = None  # only see what there is: no data come
    configurations: list[str] = field(default_factory=list)
    choice: Choice | None = None

    def __call__(self, names: Collection[str], read: Callable[[str], Path]) -> list[str]:
        """The names to bring; `choice` keeps what they are."""
        card = self._card(list(names), read)
        self.configurations = card.names or ["default"]
        if self.look == "configurations" and self.name is None and card.default() is None and card.names:
            self.name = card.names[0]
        choice = self._choose(list(names), card)
        if choice.format not in ("imagefolder", "audiofolder"):  # their labels are those of all splits
            kept = wanted(self.split, choice.names)
            choice = replace(choice, names={split: choice.names[split] for split in kept})
        self.choice = choice
        if self.look is not None:
            return []
        chosen = [name for several in choice.names.values() for name in several]
        return list(dict.fromkeys(name for name in chosen if not is_address(name)))

    def _card(self, names: list[str], read: Callable[[str], Path]) -> Card:
        return card_of(names, read, self.place)

    def _choose(self, names: list[str], card: Card) -> Choice:
        if self.data_files is None and not card.configurations:
            data = any(is_data_file(name) for name in plain_names(names))
            if not data or (self.of_hub and self._script(names)):
                raise self._nothing(names)
        configuration = card.configuration(self.name, self.place)
        if self.data_files is not None:
            files = self._matched(patterns_of(self.data_files), self.data_dir, names)
            return Choice(
                configuration=configuration,
                format=_named_format([name for several in files.values() for name in several]),
                names=files,
            )
        if self.data_dir is None and configuration.data_files is not None:
            patterns = patterns_of(configuration.data_files)
            for each in (each for several in patterns.values() for each in several):
                if is_address(each) and not each.startswith(("https://", "hf://")):
                    raise DataError(
                        f"The README.md of {self.place} names {each!r}; a README may name files of its repository, and "
                        f"addresses that begin with https:// or hf://."
                    )
            files = self._matched(patterns, configuration.data_dir, names)
        else:
            files = self._by_name(names, self.data_dir or configuration.data_dir)
        format = main_format(name for several in files.values() for name in several)
        if format is None and not any(plain_suffix(name) == ".zip" for several in files.values() for name in several):
            raise self._nothing(names)
        kept = {split: [name for name in several if has_format(name, format)] for split, several in files.items()}
        left_out = [name for split, several in files.items() for name in several if name not in kept[split]]
        if left_out:
            log.info("%s: read as %s; left out: %s", self.place, format, ", ".join(left_out[:5]))
        kept = {split: several for split, several in kept.items() if several}
        return Choice(configuration=configuration, format=format, names=kept)

    def _matched(
        self, patterns: Mapping[str, list[str]], data_dir: str | None, names: list[str]
    ) -> dict[str, list[str]]:
        base = f"{data_dir.strip('/')}/" if data_dir else ""
        found: dict[str, list[str]] = {}
        for split, several in patterns.items():
            found[split] = []
            for pattern in several:
                here = is_address(pattern)
                found[split] += [pattern] if here else matching(names, f"{base}{pattern}", place=self.place)
        return found

    def _by_name(self, names: list[str], data_dir: str | None) -> dict[str, list[str]]:
        base = f"{data_dir.strip('/')}/" if data_dir else ""
        if base:
            matching(names, base, place=self.place)
        inside = plain_names(name.removeprefix(base) for name in names if name.startswith(base))
        return {split: [base + name for name in several] for split, several in split_by_name(inside).items()}

    def _script(self, names: list[str]) -> str | None:
        """The script in a repository, which is called like it."""
        script = f"{self.place.rstrip('/').rsplit('/', 1)[-1].partition('@')[0].rpartition(':')[2]}.py"
        return script if script in names else None

    def _nothing(self, names: list[str]) -> NoDataFiles:
        if script := self._script(names):
            return NoDataFiles(
                f"{self.place} is read by a script of its own, {script}. No code comes with a data set here, so it is "
                f"not run. Name the files to read with data_files=…, of the repository or at the addresses that the "
                f"script names, or ask its authors for Parquet files."
            )
        shown = ", ".join(plain_names(names)[:10]) or "nothing"
        return NoDataFiles(f"{self.place} holds no data files of a known format. It holds {shown}.")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A choice, and where its files are."""

    choice: Choice
    folder: Path
    configurations: list[str]
    revision: str | None = None


def card_of(names: Collection[str], read: Callable[[str], Path], place: str) -> Card:
    """The card of a repository."""
    if "README.md" not in names:
        return Card()
    return read_card(read("README.md").read_text(encoding="utf-8", errors="replace"), place)


def open_folder(folder: Path, chooser: Chooser) -> Published:
    """What is read of a folder here."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if not plain_names(names):
        raise NotFoundError(f"There are no data files below {folder}.")
    chooser(names, folder.joinpath)
    assert chooser.choice is not None
    return Published(choice=chooser.choice, folder=folder, configurations=chooser.configurations)


def open_name(path: str, chooser: Chooser, access: Access) -> Published:
    """What is read of a repository at a hub. Raises `HubError`s, which list the places tried."""
    reference = parse_reference(path)
    if reference.file is not None:  # the page of a file at a hub, or org/name/file.csv
        chooser.data_files, reference = reference.file, replace(reference, file=None)
    chooser.of_hub = True
    try:
        return _fetched(reference, chooser, access)
    except NoDataFiles as nothing:
        if access.revision or reference.revision or reference.scheme not in ("hub", "hf") or chooser.data_files:
            raise
        try:
            branch = replace(access, revision=_PARQUET_BRANCH)
            return _fetched(replace(reference, scheme="hf"), _ParquetBranch.of(chooser), branch)
        except HubError as error:
            log.debug("%s has no Parquet branch: %s", reference, error)
            raise nothing from error


def _fetched(reference: Reference, chooser: Chooser, access: Access) -> Published:
    snapshot = resolve(
        reference,
        kind="dataset",
        need=chooser,
        revision=access.revision,
        token=access.token,
        cache_dir=access.cache_dir,
        force_download=access.force_download,
    )
    if chooser.choice is None:  # a Python package comes whole, so nothing was asked of the chooser
        chooser([name for name in snapshot.files() if ".dist-info/" not in name], snapshot.path)
    assert chooser.choice is not None
    return Published(
        choice=chooser.choice,
        folder=snapshot.folder,
        configurations=chooser.configurations,
        revision=snapshot.revision,
    )


class _ParquetBranch(Chooser):
    """The branch in which a hub keeps a data set as Parquet: `<configuration>/<split>/0000.parquet`."""

    @classmethod
    def of(cls, chooser: Chooser) -> _ParquetBranch:
        return cls(chooser.place, chooser.name, split=chooser.split, look=chooser.look)

    def _card(self, names: list[str], read: Callable[[str], Path]) -> Card:
        found: dict[str, dict[str, list[str]]] = {}
        for name in sorted(names):
            match PurePosixPath(name).parts:
                case (part, split, file) if file.endswith(".parquet"):
                    split = re.sub(r"^partial-", "", split)
                    found.setdefault(part, {}).setdefault(split, []).append(name)
        if not found:
            raise self._nothing(names)
        log.info("%s: a script, so its branch %s is read", self.place, _PARQUET_BRANCH)
        return Card(tuple(Configuration(name=name, data_files=splits) for name, splits in found.items()))
