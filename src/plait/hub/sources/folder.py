"""Paths of this computer as a source, complete: a folder, or one file."""

from __future__ import annotations

from pathlib import Path

from plait.hub.reference import Reference
from plait.hub.snapshot import Snapshot


def open_path(reference: Reference) -> Snapshot:
    """The snapshot of an existing folder or file; nothing is copied."""
    path = Path(reference.name).absolute()
    if path.is_dir():
        return Snapshot(folder=path, reference=reference, origin="folder")
    return Snapshot(folder=path.parent, reference=reference, origin="file", file=path)
