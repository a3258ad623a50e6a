"""One file at a web address as a source, complete: `https://host/file.gguf`, pinned with `#sha256=<digest>` or not."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from plait import console
from plait.disk import write_json
from plait.hub.cache import Cache, read_json, slug
from plait.hub.download import download
from plait.hub.listing import RemoteFile
from plait.hub.reference import Reference
from plait.hub.repository import show
from plait.hub.session import Session
from plait.hub.snapshot import Snapshot
from plait.hub.trail import NotHere, Trail


def open_address(
    reference: Reference,
    cache: Cache,
    *,
    force_download: bool,
    offline: bool,
    proxies: Mapping[str, str] | None,
    token: str | bool | None,
) -> Snapshot:
    """The snapshot of one file; cached, it is opened without a request. Only a `token` that is a text is sent."""
    assert reference.file is not None
    trail = Trail(reference=reference, offline=offline)
    entry = cache.root / "addresses" / slug(str(reference))
    folder = entry / "files"
    path = folder / reference.file
    if path.is_file() and (offline or not force_download):
        return Snapshot(
            folder=folder, reference=reference, origin="https", revision=read_json(entry / "record.json"), file=path
        )
    trail.add(f"plait cache {entry}", NotHere("does not hold it"))
    parts = urlsplit(reference.name)
    if offline:
        trail.add(str(parts.hostname), NotHere("not asked: offline"))
        raise trail.error("")
    headers = {"Authorization": f"Bearer {token}"} if isinstance(token, str) else {}
    remote = RemoteFile(reference.file, None, reference.revision, reference.name)
    try:
        with (
            Session(f"{parts.scheme}://{parts.netloc}", headers=headers, proxies=proxies) as session,
            console.bar(reference.file, unit="bytes") as bar,
        ):
            blob = download(session, remote, cache, recheck=force_download, advance=bar.advance)
    except NotHere as miss:
        trail.add(str(parts.hostname), miss)
        raise trail.error("Open the address in a browser to see what is there.") from None
    write_json(entry / "record.json", blob.name)
    show(blob, path)
    return Snapshot(folder=folder, reference=reference, origin="https", revision=blob.name, file=path)
