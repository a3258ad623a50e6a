"""The ModelScope protocol as a source, complete: listings and addresses of modelscope.cn and servers like it.

ModelScope has no commit to pin, so the commit of a listing is a digest of the listing itself: of every file's name,
size and sha256. The same files are the same commit, and a changed file is another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from plait.errors import IntegrityError
from plait.hub.listing import Kind, Listing, RemoteFile, checked
from plait.hub.names import path_problem
from plait.hub.session import Session
from plait.hub.trail import NotHere

_TRUNCATED = 3000  # a listing of exactly so many entries was cut
_PAGE = 200
_PAGES = 50_000


@dataclass(frozen=True)
class ModelScope:
    """One hub that speaks the protocol."""

    endpoint: str
    token: str | None = None
    key: str = "modelscope"
    title: str = "ModelScope"
    default_revision: str = "master"

    def headers(self) -> dict[str, str]:
        """What identifies the user: the protocol wants the token as a cookie, too."""
        return {"Authorization": f"Bearer {self.token}", "Cookie": f"m_session_id={self.token}"} if self.token else {}

    def listing(self, session: Session, name: str, revision: str, kind: Kind) -> Listing:
        """All files of a revision. Raises `NotHere`, `IntegrityError`."""
        revision = "master" if revision == "main" else revision
        api = f"{self.endpoint}/api/v1/{kind}s/{quote(name)}"
        walk = self._models if kind == "model" else self._datasets
        files = [
            self._file(api, revision, entry) for entry in walk(session, api, revision) if entry.get("Type") == "blob"
        ]
        content = sorted((file.path, file.size, file.digest) for file in files)
        commit = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:40]
        return checked(commit, files, f"{name} at {self.endpoint}")

    def _models(self, session: Session, api: str, revision: str, root: str = "") -> Iterator[dict[str, Any]]:
        entries = _entries(session, f"{api}/repo/files", Revision=revision, Recursive="True", Root=root)
        if len(entries) != _TRUNCATED:
            yield from entries
            return
        entries = _entries(session, f"{api}/repo/files", Revision=revision, Recursive="False", Root=root)
        if len(entries) == _TRUNCATED:
            reason = f"lists no more than {_TRUNCATED} files of one folder, and {root or 'the topmost'!r} has more"
            raise NotHere(reason, sure=False)
        for entry in entries:
            path = str(entry.get("Path"))
            if entry.get("Type") != "tree":
                yield entry
            elif path_problem(path) or not path.startswith(f"{root}/" if root else ""):
                raise IntegrityError(f"The listing of {api} is refused: {path!r} is not a folder in {root!r}.")
            else:
                yield from self._models(session, api, revision, path)

    def _datasets(self, session: Session, api: str, revision: str) -> Iterator[dict[str, Any]]:
        for number in range(1, _PAGES + 1):
            query = {"Revision": revision, "Recursive": "True", "PageNumber": str(number), "PageSize": str(_PAGE)}
            entries = _entries(session, f"{api}/repo/tree", **query)
            yield from entries
            if len(entries) < _PAGE:
                return
        raise NotHere("answered with a listing that does not end", sure=False)

    def _file(self, api: str, revision: str, entry: dict[str, Any]) -> RemoteFile:
        path = str(entry.get("Path"))
        address = f"{api}/repo?{urlencode({'Revision': revision, 'FilePath': path}, errors='replace')}"
        return RemoteFile(path, entry.get("Size"), str(entry.get("Sha256") or "").lower() or None, address)


def _entries(session: Session, address: str, **query: str) -> list[dict[str, Any]]:
    answer, _ = session.json(f"{address}?{urlencode({key: value for key, value in query.items() if value})}")
    data = answer.get("Data") if isinstance(answer, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("Files"), list):
        message = answer.get("Message") if isinstance(answer, dict) else None
        raise NotHere(f"answered without a list of files ({message or 'no message'})", sure=bool(message))
    if not all(isinstance(entry, dict) for entry in data["Files"]):
        raise NotHere("answered with a list of files that are none", sure=False)
    return list(data["Files"])
