"""The caches that huggingface_hub and modelscope keep, complete: read, never written, and no request made.

A file of huggingface_hub's cache is named by its digest; it is checked once, and plait remembers that it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plait import console, settings
from plait.disk import write_json
from plait.hub.cache import Cache, read_json, slug
from plait.hub.download import fresh_hash
from plait.hub.listing import Request, complete, needed
from plait.hub.names import SHA1, SHA256
from plait.hub.snapshot import Snapshot
from plait.hub.trail import NotHere


def from_huggingface(request: Request, cache: Cache) -> Snapshot:
    """The snapshot in huggingface_hub's cache. Raises `NotHere`."""
    root, reference = settings.huggingface_cache(), request.reference
    repository = root / f"{request.kind}s--{reference.name.replace('/', '--')}"
    revision = reference.revision or "main"
    ref = repository / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    folder = repository / "snapshots" / commit
    if not SHA1.fullmatch(commit) or not folder.is_dir():
        raise NotHere("holds no snapshot of it")
    paths = _choose(folder, request, read_json(repository / "trees" / f"{commit}.json"))
    _check(root, folder, paths, cache)
    return Snapshot(folder=folder, reference=reference, origin="huggingface cache", revision=commit)


def from_modelscope(request: Request, cache: Cache) -> Snapshot:
    """The snapshot in modelscope's cache, in the layout of any of its versions; it has no digests to check."""
    for folder, revision in _modelscope_folders(request):
        if folder.is_dir():
            if any(folder.rglob("*.incomplete")):
                raise NotHere("its copy is incomplete")
            _choose(folder, request, None)
            return Snapshot(folder=folder, reference=request.reference, origin="modelscope cache", revision=revision)
    raise NotHere("holds no snapshot of it")


def _modelscope_folders(request: Request) -> Iterator[tuple[Path, str | None]]:
    reference, kind = request.reference, request.kind
    if "/" not in reference.name:
        return
    owner, name = reference.name.split("/")
    root = settings.modelscope_cache()
    revision = "master" if reference.revision in (None, "main") else reference.revision
    for base in dict.fromkeys([root, root / "hub", root.parent]):
        yield base / f"{kind}s" / f"{owner}--{name}" / "snapshots" / str(revision), revision
        if revision == "master":  # older versions of modelscope keep no revision in the path
            yield base / f"{kind}s" / owner / name.replace(".", "___"), None
            yield base / owner / name.replace(".", "___"), None


def _choose(folder: Path, request: Request, tree: Any) -> list[str]:
    """The files of the snapshot that the use needs. Raises `NotHere` when one is missing."""
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    listed = set(tree["files"]) if isinstance(tree, dict) and isinstance(tree.get("files"), dict) else None

    def read(path: str) -> Path:
        if path not in present:
            raise NotHere(f"its copy is incomplete: it lacks {path}")
        return folder / path

    chosen = callable(request.need)
    if chosen and listed is None:  # a choice among some files may differ from that among all
        if not request.offline:
            raise NotHere("it has no list of all its files")
        console.logger("hub").warning(
            "%s: no list of its files tells whether %s is complete", request.reference, folder
        )
    paths = needed(listed or present, request, read)
    missing = sorted(set(paths) - present)
    if not missing and not chosen and listed is None and request.reference.file is None:
        below = f"{request.subfolder}/" if request.subfolder else ""
        missing = _gaps(folder, paths)
        if gap := complete([path.removeprefix(below) for path in paths], request.need):
            missing.append(gap)
    if missing:
        raise NotHere(f"its copy is incomplete: it lacks {', '.join(missing[:3])}")
    return paths


def _gaps(folder: Path, paths: list[str]) -> list[str]:
    """Shards that an index, or the numbers in the shards' own names, say there should be."""
    wanted: set[str] = set()
    for path in paths:
        if path.endswith((".safetensors.index.json", ".bin.index.json")):
            index = read_json(folder / path) or {}
            parent = path.rpartition("/")[0]
            wanted |= {f"{parent}/{name}".lstrip("/") for name in index.get("weight_map", {}).values()}
        elif match := re.fullmatch(r"(.+)-\d{5}-of-(\d{5})\.(safetensors|bin|gguf)", path):
            count = int(match[2])
            wanted |= {f"{match[1]}-{number:05}-of-{count:05}.{match[3]}" for number in range(1, count + 1)}
    return sorted(name for name in wanted if not (folder / name).is_file())


def _check(root: Path, folder: Path, paths: list[str], cache: Cache) -> None:
    """Compare each file with the digest that names its blob, unless that was done before. Raises `NotHere`."""
    memory = cache.root / "checked" / f"{slug(str(folder))}.json"
    known = read_json(memory) or {}
    stale = []
    for path in paths:
        file = folder / path
        if not file.resolve().is_relative_to(root.resolve()):
            raise NotHere(f"its {path} leads out of the cache, to {file.resolve()}", sure=False)
        stat = file.stat()
        if known.get(path) != [stat.st_size, stat.st_mtime_ns]:
            stale.append((path, file, stat))
    with console.bar("checking files of another cache", total=sum(s.st_size for *_, s in stale), unit="bytes") as bar:
        for path, file, stat in stale:
            digest = file.readlink().name if file.is_symlink() else ""
            if SHA1.fullmatch(digest) or SHA256.fullmatch(digest):
                actual = fresh_hash(digest, stat.st_size)
                with file.open("rb") as source:
                    while chunk := source.read(1 << 20):
                        actual.update(chunk)
                        bar.advance(len(chunk))
                if actual.hexdigest() != digest:
                    raise NotHere(f"its {path} does not match its digest", sure=False)
            known[path] = [stat.st_size, stat.st_mtime_ns]
    try:
        if stale:
            write_json(memory, known)
    except OSError as error:  # a cache that cannot be written is no reason not to read another one
        console.logger("hub").debug("%s was not written (%s): files will be checked again", memory, error)
