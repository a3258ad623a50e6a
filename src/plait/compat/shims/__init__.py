"""Small functions that only scripts for the other libraries use, complete for what they mean here."""

from __future__ import annotations

from pathlib import Path

from plait.train.checkpoint import checkpoints


def is_torch_available() -> bool:
    """Torch is what plait computes with."""
    return True


def is_tf_available() -> bool:
    """There are no TensorFlow models here."""
    return False


def is_flax_available() -> bool:
    """There are no JAX models here."""
    return False


def get_last_checkpoint(folder: str) -> str | None:
    """The newest complete checkpoint in a folder; None when there is none."""
    found = checkpoints(Path(folder))
    return str(found[-1]) if found else None


def check_min_version(version: str) -> None:
    """Nothing to check: plait does not follow the versions of the library that a script asks for."""


def require_version(requirement: str, hint: str | None = None) -> None:
    """Nothing to check: what plait needs is installed with it, and a missing extra is named when it is used."""


def send_example_telemetry(*names: object, **options: object) -> None:
    """Nothing is sent."""
