"""What only scripts for ModelScope use, complete: folders, files and data sets.

A name is looked for at the hubs in the order of PLAIT_HUBS; `ms:org/name` means ModelScope alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plait.data import load_dataset
from plait.hub import resolve


class MsDataset:
    """Loads data sets; what is loaded is plait's."""

    @staticmethod
    def load(
        dataset_name: str, *, subset_name: str | None = None, split: str | None = None, version: str | None = None,
        namespace: str | None = None, use_streaming: bool = False, **options: Any,
    ) -> Any:  # fmt: skip
        """`load_dataset(dataset_name, subset_name, split=…)`; formats, files and folders are read as there."""
        name = f"{namespace}/{dataset_name}" if namespace and "/" not in dataset_name else dataset_name
        given = {"split": split, "revision": version, "streaming": use_streaming, **options}
        return load_dataset(name, subset_name, **given)


def snapshot_download(
    model_id: str,
    revision: str | None = None,
    *,
    cache_dir: str | None = None,
    local_dir: str | None = None,
    allow_patterns: str | Sequence[str] | None = None,
    allow_file_pattern: str | Sequence[str] | None = None,
    repo_type: str = "model",
    **options: Any,
) -> str:
    """The folder of a model, fetched when no cache holds it, or a copy of it in `local_dir`.

    `allow_patterns` (or `allow_file_pattern`) name what is wanted of it; `options` are those of `plait.hub.resolve`.
    """
    wanted = allow_patterns or allow_file_pattern or "all"
    need = [wanted] if isinstance(wanted, str) and wanted != "all" else wanted
    kind: Any = repo_type
    found = resolve(model_id, revision=revision, need=need, kind=kind, cache_dir=cache_dir, **options)
    if local_dir is None:
        return str(found.folder)
    shutil.copytree(found.folder, local_dir, dirs_exist_ok=True)
    return local_dir


def dataset_snapshot_download(dataset_id: str, revision: str | None = None, **options: Any) -> str:
    """The folder of a data set; see `snapshot_download`."""
    return snapshot_download(dataset_id, revision, repo_type="dataset", **options)


def model_file_download(model_id: str, file_path: str, revision: str | None = None, **options: Any) -> str:
    """One file of a model; see `snapshot_download`."""
    return str(Path(snapshot_download(model_id, revision, allow_patterns=[file_path], **options)) / file_path)
