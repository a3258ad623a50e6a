"""The hubs that are asked for a name, complete: which, in which order, with which token, and what one fetch does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from plait import console, settings
from plait.errors import OptionError, nearest
from plait.hub.cache import Cache
from plait.hub.download import Advance, download
from plait.hub.listing import Kind, Listing, Request, needed
from plait.hub.neighbours import from_huggingface, from_modelscope
from plait.hub.reference import Reference
from plait.hub.repository import Repository
from plait.hub.session import Session
from plait.hub.snapshot import Snapshot
from plait.hub.sources.huggingface import HuggingFace
from plait.hub.sources.modelscope import ModelScope
from plait.hub.trail import NotHere, Trail


class Hub(Protocol):
    """One hub, whatever protocol it speaks."""

    @property
    def endpoint(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def default_revision(self) -> str: ...
    def headers(self) -> dict[str, str]: ...
    def listing(self, session: Session, name: str, revision: str, kind: Kind) -> Listing: ...


def hubs_of(reference: Reference, token: str | bool | None) -> list[Hub]:
    """The hubs to ask, in order. A `token` that is a text goes to the first of them; the others, and the first without
    one, use the environment's (False: none is sent)."""
    found: list[Hub] = []
    for name in settings.hubs() if reference.scheme == "hub" else (reference.scheme,):
        given = token if isinstance(token, str) and not found else None
        own = token is not False
        match name.lower():
            case "huggingface" | "hf":
                found.append(
                    HuggingFace(
                        settings.huggingface_endpoint(), given or (settings.huggingface_token() if own else None)
                    )
                )
            case "modelscope" | "ms":
                found.append(
                    ModelScope(settings.modelscope_endpoint(), given or (settings.modelscope_token() if own else None))
                )
            case address if address.startswith(("https://", "http://")):
                found.append(HuggingFace(name, given, title="hub"))
            case _:
                raise OptionError(
                    f"PLAIT_HUBS names the hub {name!r}, which is neither huggingface nor modelscope nor an address "
                    f"https://….{nearest(name, ['huggingface', 'modelscope'])}"
                )
    if token is True and not any(hub.headers() for hub in found):
        raise OptionError(
            "token=True, but no token is set. Set HF_TOKEN or MODELSCOPE_API_TOKEN, or run `hf auth login`."
        )
    return found


def open_name(
    request: Request,
    cache: Cache,
    *,
    force_download: bool,
    offline: bool,
    proxies: Mapping[str, str] | None,
    token: str | bool | None,
) -> Snapshot:
    """The snapshot of the first place that has a name: plait's cache, the other libraries' caches, the hubs in order.

    Raises `OfflineError`, `NotFoundError` or `HubError`, which list the places; or `IntegrityError`.
    """
    reference = request.reference
    trail = Trail(reference=reference, offline=offline)
    if reference.scheme == "hub":
        trail.add(f"folder {reference.name}", NotHere("no such folder"))
    hubs = hubs_of(reference, token)
    places: list[tuple[str, Callable[[], Snapshot]]] = []
    if offline or not force_download:
        places += [(f"plait cache of {hub.title}", partial(cached, hub, request, cache)) for hub in hubs]
        if reference.scheme != "ms":
            title = f"huggingface_hub cache {settings.huggingface_cache()}"
            places.append((title, partial(from_huggingface, request, cache)))
        if reference.scheme != "hf":
            places.append((f"modelscope cache {settings.modelscope_cache()}", partial(from_modelscope, request, cache)))
    for hub in hubs:
        asked = partial(fetch, hub, request, cache, recheck=force_download, proxies=proxies)
        places.append((f"{hub.title} ({hub.endpoint})", _not_asked if offline else asked))
    for title, place in places:
        try:
            snapshot = place()
        except NotHere as miss:
            trail.add(title, miss)
            continue
        # Another hub than the first may hold another model under the name, so that is no mere information.
        failed = [step for step in trail.steps if step[0].startswith(hubs[0].title)]
        level, why = (logging.WARNING, f"; {': '.join(failed[0])}") if failed else (logging.INFO, "")
        console.logger("hub").log(level, "%s: revision %s, from %s%s", reference, snapshot.revision, title, why)
        return snapshot
    raise trail.error(
        "Check the spelling on the hub's page; a private or gated model needs a token (token=, HF_TOKEN or "
        "MODELSCOPE_API_TOKEN); HF_ENDPOINT or PLAIT_HUBS choose another hub or mirror."
    )


def _not_asked() -> Snapshot:
    raise NotHere("not asked: offline")


def cached(hub: Hub, request: Request, cache: Cache) -> Snapshot:
    """What plait's cache holds of a hub, without a request. Raises `NotHere`."""
    reference = request.reference
    repository = Repository.of(cache, hub.key, hub.endpoint, request.kind, reference.name)
    commit = repository.commit(reference.revision or hub.default_revision)
    if commit is None:
        raise NotHere("does not hold that revision" if repository.folder.is_dir() else "does not hold it")
    listing = repository.listing(commit)

    def read(path: str) -> Path:
        if not repository.has(commit, listing.files[path]):
            raise NotHere(f"its copy is incomplete: it lacks {path}")
        return repository.snapshot(commit) / path

    paths = needed(listing.files.keys(), request, read)
    missing = [path for path in paths if not repository.has(commit, listing.files[path])]
    if missing:
        raise NotHere(f"its copy is incomplete: it lacks {', '.join(missing[:3])}")
    return Snapshot(folder=repository.snapshot(commit), reference=reference, origin=hub.key, revision=commit)


def fetch(hub: Hub, request: Request, cache: Cache, *, recheck: bool, proxies: Mapping[str, str] | None) -> Snapshot:
    """Ask a hub for its listing and bring what is missing. Raises `NotHere`, `IntegrityError`."""
    cache.require_writable()
    reference = request.reference
    repository = Repository.of(cache, hub.key, hub.endpoint, request.kind, reference.name)
    revision = reference.revision or hub.default_revision
    with Session(hub.endpoint, headers=hub.headers(), proxies=proxies) as session:
        listing = hub.listing(session, reference.name, revision, request.kind)

        def bring(path: str, advance: Advance = lambda count: None) -> Path:
            try:
                blob = download(session, listing.files[path], cache, recheck=recheck, advance=advance)
            except NotHere as miss:
                raise NotHere(f"{path}: {miss.reason}", sure=miss.sure) from miss
            repository.place(listing.commit, path, blob)
            return repository.snapshot(listing.commit) / path

        paths = needed(listing.files.keys(), request, bring)
        repository.remember(revision, listing)
        with console.bar(
            str(reference), total=sum(listing.files[path].size or 0 for path in paths), unit="bytes"
        ) as bar:
            for path in paths:
                bar.note(path)
                bring(path, bar.advance)
    folder = repository.snapshot(listing.commit)
    return Snapshot(folder=folder, reference=reference, origin=hub.key, revision=listing.commit)
