"""The Hugging Face protocol as a source, complete: listings and addresses of huggingface.co, its mirrors, OpenCSG.

An endpoint may carry a path prefix. Any 401, 403 or 404 means "not here", whatever a mirror makes of error headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from plait.hub.listing import Kind, Listing, RemoteFile, checked
from plait.hub.names import SHA1
from plait.hub.session import Session
from plait.hub.trail import NotHere

_PAGES = 10_000  # of 1,000 files


@dataclass(frozen=True)
class HuggingFace:
    """One hub that speaks the protocol."""

    endpoint: str
    token: str | None = None
    key: str = "huggingface"
    title: str = "Hugging Face"
    default_revision: str = "main"

    def headers(self) -> dict[str, str]:
        """What identifies the user."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def listing(self, session: Session, name: str, revision: str, kind: Kind) -> Listing:
        """All files of a revision, at the commit that it has now. Raises `NotHere`, `IntegrityError`."""
        api = f"{self.endpoint}/api/{kind}s/{quote(name)}"
        commit = revision
        if not SHA1.fullmatch(revision):
            answer, _ = session.json(f"{api}/revision/{quote(revision, safe='')}")
            commit = str(answer.get("sha")) if isinstance(answer, dict) else ""
        files: list[RemoteFile] = []
        page: str | None = f"{api}/tree/{quote(commit, safe='')}?recursive=true&expand=false"
        for _ in range(_PAGES):
            if page is None:
                return checked(commit, files, f"{name} at {self.endpoint}")
            entries, page = session.json(page)
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise NotHere("answered with a listing that is no list", sure=False)
            files += [self._file(name, commit, kind, entry) for entry in entries if entry.get("type") == "file"]
        raise NotHere("answered with a listing that does not end", sure=False)

    def _file(self, name: str, commit: str, kind: Kind, entry: dict[str, Any]) -> RemoteFile:
        large = entry.get("lfs")
        large = large if isinstance(large, dict) else {}
        digest = str(large.get("oid") or large.get("sha256") or entry.get("oid") or "").removeprefix("sha256:") or None
        size = large.get("size", entry.get("size"))
        prefix = "datasets/" if kind == "dataset" else ""
        path = str(entry.get("path"))
        address = f"{self.endpoint}/{prefix}{quote(name)}/resolve/{commit}/{quote(path, errors='replace')}"
        return RemoteFile(path, size, digest, address)
