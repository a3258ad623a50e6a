"""Names that come from outside, complete: which repository names, file names, revisions and digests may touch the disk.

Everything that a person, a hub's listing or an archive names passes one of these before it becomes part of a path.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

SHA256 = re.compile(r"[0-9a-f]{64}")
SHA1 = re.compile(r"[0-9a-f]{40}")

_PART = re.compile(r"\w[\w.-]{0,95}")
_REVISION = re.compile(r"[\w][\w./+-]{0,199}")
WINDOWS = os.name == "nt"
CASELESS = sys.platform in ("win32", "darwin")  # `A` and `a` are one file

# Reserved on Windows, with any suffix: opening "aux.json" there talks to a device.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(1, 10))}


def repository_problem(name: str) -> str | None:
    """What is wrong with `name` or `org/name`, or None."""
    parts = name.split("/")
    if len(parts) > 2:
        return "a repository is `name` or `org/name`"
    for part in parts:
        if not _PART.fullmatch(part) or ".." in part or part.endswith("."):
            return f"{part!r} is not a name: at most 96 letters, digits, '_', '-' and single dots, none of '-.' first"
    return None


def revision_problem(revision: str) -> str | None:
    """What is wrong with a branch, tag, commit or version, or None."""
    if not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision or revision.endswith("/"):
        return f"{revision!r} is not a revision: letters, digits and '_./+-'"
    return None


def path_problem(path: str) -> str | None:
    """What is wrong with a file's path inside a repository or archive (always written with '/'), or None.

    What would lead out of its folder or hide there is refused everywhere; what only Windows cannot write, there.
    """
    if not path:
        return "it is empty"
    if any("\ud800" <= character <= "\udfff" for character in path):
        return "it has half of a character (a lone surrogate)"
    if len(path) > 1024 or any(len(part.encode()) > 255 for part in path.split("/")):
        return "it is too long"
    if any(ord(character) < 32 or character in "\\\x7f" for character in path):
        return "it has a backslash or a control character"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "it is absolute"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return f"it has the component {part!r}"
        if part.casefold() == ".git":
            return "it is inside '.git'"
        if WINDOWS and (
            part.endswith((" ", ".")) or set(part) & set(':<>"|?*') or part.split(".")[0].casefold() in _DEVICES
        ):
            return f"{part!r} cannot be written on Windows"
    return None


def listing_problem(paths: Iterable[str]) -> str | None:
    """What is wrong with a whole listing of files: a bad path, two paths that are one file here, a file that is also
    a folder; or None."""
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        if problem := path_problem(path):
            return f"the file name {path!r} is unsafe: {problem}"
        one = path.casefold() if CASELESS else path
        if one in files:
            return f"the file {path!r} is listed twice" + (" (upper and lower case are one here)" if CASELESS else "")
        files.add(one)
        parts = one.split("/")
        folders.update("/".join(parts[:end]) for end in range(1, len(parts)))
    clash = files & folders
    return f"{min(clash)!r} is both a file and a folder" if clash else None
