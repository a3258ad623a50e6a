"""The one downloader, complete: a file of a listing becomes a verified blob, or nothing lands.

One lock and one `.part` per digest, so a killed download goes on where it stopped, in whichever process; the digest is
computed while the bytes arrive; size and digest are checked before the rename that makes the blob visible.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx

from plait import console
from plait.disk import sync
from plait.errors import IntegrityError
from plait.hub.cache import Cache, require_space
from plait.hub.listing import RemoteFile
from plait.hub.session import Session
from plait.hub.trail import NotHere

_CHUNK = 1 << 20
_STALLS = 5  # tries in a row that bring no byte
Advance = Callable[[float], None]


class Hash(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def download(session: Session, file: RemoteFile, cache: Cache, *, recheck: bool = False, advance: Advance) -> Path:
    """The verified blob of `file`, fetched unless it is there. `recheck` hashes what is there before trusting it.

    Raises `IntegrityError` when the bytes do not match the listing, twice; `NotHere` when the hub does not give them.
    """
    blobs = cache.root / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    key = file.digest or hashlib.sha256(file.address.encode()).hexdigest()
    with cache.lock(f"blob:{key}"):
        blob = blobs / key
        if file.digest and blob.is_file():
            if not recheck or _hashed(blob, file).hexdigest() == file.digest:
                advance(blob.stat().st_size)
                return blob
            console.logger("hub").warning("%s is damaged; fetching it again", blob)
            os.chmod(blob, 0o644)  # Windows removes nothing that is read-only
            blob.unlink()
        part = blobs / f"{key}.part"
        if file.digest is None:  # nothing tells whether old bytes belong to the new ones
            part.unlink(missing_ok=True)
            console.logger("hub").warning("%s gives no digest for %s: it is not verified", session.endpoint, file.path)
        for last in (False, True):
            found = _fetch(session, file, part, advance)
            if file.digest in (None, found):
                sync(part)
                os.chmod(part, 0o444)
                blob = blobs / found
                os.replace(part, blob)
                sync(blobs)
                return blob
            advance(-part.stat().st_size)
            part.unlink()
            if last:
                break
            console.logger("hub").warning("%s: the bytes do not match their digest; fetching them again", file.path)
    raise IntegrityError(
        f"{file.path} from {session.endpoint} does not match its digest: expected {file.digest}, got {found}, twice. "
        "Nothing was kept. The hub or something on the way changes the file; try another hub or mirror."
    )


def _fetch(session: Session, file: RemoteFile, part: Path, advance: Advance) -> str:
    """Bring `part` to the full size, going on from what it holds; its digest."""
    have = part.stat().st_size if part.exists() else 0
    if file.size is not None and have > file.size:
        part.unlink()
        have = 0
    require_space(part.parent, (file.size or 0) - have, file.path)
    digest = _hashed(part, file)
    part.touch()
    advance(have)
    furthest, stalls, reason = have, 0, "no more bytes"
    while have != file.size:
        try:
            with session.get(file.address, offset=have) as response, part.open("ab") as out:
                if have and not _continues(response, have):  # it cannot resume: from the start again
                    advance(-have)
                    have, digest = 0, fresh_hash(file.digest, file.size)
                    out.truncate(0)
                if response.status_code == (206 if have else 200):
                    # as they come: gathering a larger chunk would lose what a cut connection had already brought
                    for chunk in response.iter_bytes():
                        have += len(chunk)
                        if file.size is not None and have > file.size:
                            raise _too_long(session, file, part)
                        out.write(chunk)
                        digest.update(chunk)
                        advance(len(chunk))
                    if file.size is None:
                        break
        except httpx.RequestError as error:  # the connection was cut while the bytes came
            reason = f"{type(error).__name__}, {error}"
        stalls = 0 if have > furthest else stalls + 1
        furthest = max(have, furthest)
        if stalls >= _STALLS:
            raise NotHere(f"broke off at byte {furthest} of {file.size}, {stalls} times: {reason}", sure=False)
    return digest.hexdigest()


def _too_long(session: Session, file: RemoteFile, part: Path) -> IntegrityError:
    part.unlink()
    return IntegrityError(
        f"{file.path} from {session.endpoint} is longer than the {file.size} bytes of its listing. Nothing was kept."
    )


def _continues(response: httpx.Response, offset: int) -> bool:
    match = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
    return response.status_code == 206 and match is not None and int(match[1]) == offset


def fresh_hash(digest: str | None, size: int | None) -> Hash:
    """The hash whose value `digest` is: sha256, or git's sha1 of a blob (which begins with the size)."""
    if digest is not None and len(digest) == 40:
        return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    return hashlib.sha256()


def _hashed(path: Path, file: RemoteFile) -> Hash:
    """That hash, fed with what a file holds already."""
    hashed = fresh_hash(file.digest, file.size)
    if path.exists():
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK):
                hashed.update(chunk)
    return hashed
