"""Small functions that only scripts for the other libraries use, complete for what they mean here."""

from __future__ import annotations

from typing import Any

from plait.hub import resolve


def snapshot_download(model_id: str, revision: str | None = None, **options: Any) -> str:
    """The folder of a model, fetched when no cache holds it; `options` are those of `plait.hub.resolve`."""
    return str(resolve(model_id, revision=revision, need="all", **options).folder)


def is_torch_available() -> bool:
    """Torch is what plait computes with."""
    return True


def is_tf_available() -> bool:
    """There are no TensorFlow models here."""
    return False


def is_flax_available() -> bool:
    """There are no JAX models here."""
    return False
