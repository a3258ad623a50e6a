"""Files at addresses, complete: `https://…`, `hf://datasets/org/name/…`, and whatever fsspec opens, as files here.

Web addresses and hubs go through plait's own downloader and cache. Other places are copied once per state of a file, as
their file system tells it (ETag, size, time), below `data/fetched` of the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from plait import disk, settings
from plait.console import bar, logger
from plait.data import cache
from plait.data.fingerprint import digest
from plait.data.locate import matching
from plait.data.published import Access
from plait.data.remote import filesystem
from plait.errors import DataError, NotFoundError, OfflineError
from plait.hub import Reference, parse_reference, resolve
from plait.hub.names import path_problem

log = logger("data")

_HERE = ("file", "local", "memory")  # places that need no network


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """What brings files from addresses to this computer."""

    access: Access
    storage_options: Mapping[str, Any] | None = None
    home: Path | None = None

    def __call__(self, address: str) -> list[Path]:
        """The files that an address (or a pattern of addresses) names, fetched.

        Raises `NotFoundError` when there is none, `OfflineError` when the network is switched off.
        """
        scheme, _, rest = address.partition("://")
        if scheme == "hf":
            return self._of_hub(address, rest)
        if scheme in ("http", "https"):
            return [self._of_web(address)]
        if scheme == "file":
            path = Path(url2pathname(urlsplit(address).path))
            if path.is_file():
                return [path]
        if scheme not in _HERE and settings.offline():
            raise OfflineError(f"{address} is not on this computer, and the network is switched off.")
        return self._of_filesystem(address)

    def untrusted(self) -> Fetcher:
        """The same without the person's token and options, for addresses that a README names."""
        return replace(self, access=replace(self.access, token=None), storage_options=None)

    def _of_web(self, address: str) -> Path:
        kind: Any = "dataset" if "/datasets/" in address else "model"
        reference = parse_reference(address)
        if self.storage_options:
            log.info("storage_options have no effect on %s: web addresses are not opened by fsspec", address)
        found = resolve(
            reference,
            kind=kind,
            token=self.access.token if reference.scheme in ("hf", "ms") else None,  # it belongs to a hub
            cache_dir=self.access.cache_dir,
            force_download=self.access.force_download,
        )
        if found.file is None:
            raise DataError(f"{address} is the page of a repository; name a file in it, or load_dataset({address!r}).")
        return found.file

    def _of_hub(self, address: str, rest: str) -> list[Path]:
        """`hf://datasets/org/name@revision/path/*.csv`; a revision's own '/' is written %2F."""
        parts = rest.removeprefix("datasets/").split("/")
        if not rest.startswith("datasets/") or len(parts) < 3:
            raise DataError(f"{address} is written hf://datasets/org/name/path, with @revision behind the name.")
        name, _, revision = parts[1].partition("@")
        chosen: list[str] = []

        def choose(names: Collection[str], read: Callable[[str], Path]) -> list[str]:
            chosen[:] = matching(names, "/".join(parts[2:]), place=f"{parts[0]}/{name}")
            return chosen

        reference = Reference(scheme="hf", name=f"{parts[0]}/{name}", revision=unquote(revision) or None)
        snapshot = resolve(
            reference,
            kind="dataset",
            need=choose,
            token=self.access.token,
            cache_dir=self.access.cache_dir,
            force_download=self.access.force_download,
        )
        return [snapshot.folder / each for each in chosen]

    def _of_filesystem(self, address: str) -> list[Path]:
        system, inner = filesystem(address, self.storage_options)
        try:
            if system.isdir(inner):
                found = sorted(system.find(inner))
            else:
                found = sorted(system.glob(inner)) if any(mark in inner for mark in "*?[") else [inner]
            found = [path for path in found if system.isfile(path)]
        except FileNotFoundError:
            found = []
        if not found:
            raise NotFoundError(f"There is no file {address}.")
        return [self._copy(system, path) for path in found]

    def _copy(self, system: Any, path: str) -> Path:
        """A file of another file system, as it is now, copied here unless it is here already."""
        name = PurePosixPath(path).name
        if problem := path_problem(name):
            raise DataError(f"{path} cannot be stored here: {problem}.")
        key = digest([str(type(system)), path, str(system.ukey(path))])
        target = cache.folder(self.home) / "fetched" / key / name
        if not target.is_file() or self.access.force_download:
            target.parent.mkdir(parents=True, exist_ok=True)
            size = system.info(path).get("size")
            with (
                bar(f"fetch {name}", total=size, unit="bytes") as progress,
                disk.replaced(target) as aside,
                system.open(path, "rb") as source,
                aside.open("wb") as out,
            ):
                while data := source.read(1 << 20):
                    out.write(data)
                    progress.advance(len(data))
        return target
