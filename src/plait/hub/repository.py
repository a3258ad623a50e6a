"""One repository of a hub in plait's cache, complete: its known revisions, their listings, and their files.

<root>/blobs/<digest>                                  every file once, whatever repository it came from
<root>/hubs/<hub>/<endpoint>/<kind>s/<org>/<name>/
    refs/<revision>.json     the commit that a branch or tag had when the hub was last asked
    listings/<commit>.json   all files of the commit, with size and digest
    snapshots/<commit>/…     the files that were fetched: links to blobs (copies where there are no links)
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from plait.disk import write_json
from plait.hub.cache import Cache, read_json, slug
from plait.hub.listing import Kind, Listing, RemoteFile


@dataclass(frozen=True)
class Repository:
    """The cache's folder for one repository."""

    folder: Path

    @classmethod
    def of(cls, cache: Cache, hub: str, endpoint: str, kind: Kind, name: str) -> Repository:
        """The folder of `name`; the endpoint is part of it, so no hub's answer stands in for another's."""
        # no organisation can be called "-", so `name` and `org/name` never meet
        return cls(cache.root / "hubs" / hub / slug(endpoint) / f"{kind}s" / (name if "/" in name else f"-/{name}"))

    def commit(self, revision: str) -> str | None:
        """The commit of a revision, as far as is known here."""
        if self._listing(revision).is_file():
            return revision
        ref = read_json(self.folder / "refs" / f"{quote(revision, safe='')}.json")
        return ref["commit"] if ref else None

    def listing(self, commit: str) -> Listing:
        """The stored listing of a commit."""
        stored = read_json(self._listing(commit)) or {}
        files = {path: RemoteFile(path, each["size"], each["digest"], "") for path, each in stored.items()}
        return Listing(commit, files)

    def remember(self, revision: str, listing: Listing) -> None:
        """Store a listing, and that `revision` is its commit."""
        stored = {file.path: {"size": file.size, "digest": file.digest} for file in listing.files.values()}
        write_json(self._listing(listing.commit), stored)
        if revision != listing.commit:
            write_json(self.folder / "refs" / f"{quote(revision, safe='')}.json", {"commit": listing.commit})

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit's files."""
        return self.folder / "snapshots" / commit

    def has(self, commit: str, file: RemoteFile) -> bool:
        """Whether a file is here, with the size of the listing."""
        path = self.snapshot(commit) / file.path
        return path.is_file() and file.size in (None, path.stat().st_size)

    def place(self, commit: str, path: str, blob: Path) -> None:
        """Show a blob as a file of a commit."""
        show(blob, self.snapshot(commit) / path)

    def _listing(self, commit: str) -> Path:
        return self.folder / "listings" / f"{quote(commit, safe='')}.json"


def show(blob: Path, target: Path) -> None:
    """Make a blob visible as `target` in one step: a relative link, or a copy where links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=blob.parent) as scratch:
        made = Path(scratch) / "file"
        try:
            os.symlink(os.path.relpath(blob, target.parent), made)
        except (OSError, NotImplementedError):  # Windows without the right to make links, some network disks
            shutil.copyfile(blob, made)
        os.replace(made, target)
