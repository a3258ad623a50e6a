"""What a repository offers, complete: the names of its configurations and splits, without fetching its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from plait.data.published import Access, Chooser, Published, open_folder, open_name


def get_dataset_config_names(
    path: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    data_dir: str | None = None,
    data_files: Any = None,
) -> list[str]:
    """The names of the configurations of a repository at a hub or of a folder; ["default"] when it names none.

    Raises what `load_dataset` raises for a repository that is not there or holds no data.
    """
    chooser = Chooser(path, None, data_dir, data_files, look="configurations")
    return _offered(chooser, revision, token).configurations


def get_dataset_default_config_name(
    path: str, *, revision: str | None = None, token: str | bool | None = None
) -> str | None:
    """The configuration that is read when none is named; `None` when one must be."""
    found = _offered(Chooser(path, look="configurations"), revision, token)
    name = found.choice.configuration.name
    return name if found.choice.configuration.default or name == "default" or len(found.configurations) == 1 else None


def get_dataset_split_names(
    path: str,
    config_name: str | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    data_dir: str | None = None,
    data_files: Any = None,
) -> list[str]:
    """The names of the splits of a configuration (by default the default one) of a repository or a folder.

    Raises `OptionError` for an unknown configuration, and where several are there and none is the default.
    """
    look: Literal["splits"] = "splits"
    chooser = Chooser(path, config_name, data_dir, data_files, look=look)
    return list(_offered(chooser, revision, token).choice.names)


def _offered(chooser: Chooser, revision: str | None, token: str | bool | None) -> Published:
    folder = Path(chooser.place).expanduser()
    if folder.is_dir():
        return open_folder(folder, chooser)
    return open_name(chooser.place, chooser, Access(revision=revision, token=token))
