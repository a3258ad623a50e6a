"""plait: one small Python stack for the whole life of a Transformer.

The public names, complete. They are resolved on first use from one table, so `import plait` imports nothing heavy:
no torch, no numpy, no pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from plait.errors import PlaitError, nearest

if TYPE_CHECKING:
    from plait.data import ClassLabel as ClassLabel
    from plait.data import Dataset as Dataset
    from plait.data import DatasetDict as DatasetDict
    from plait.data import Features as Features
    from plait.data import Value as Value
    from plait.data import concatenate_datasets as concatenate_datasets
    from plait.data import load_dataset as load_dataset
    from plait.data import load_from_disk as load_from_disk

__version__ = "0.1.0"

# public name -> module that defines it
_TABLE: dict[str, str] = {
    **dict.fromkeys(
        [
            "ClassLabel",
            "Dataset",
            "DatasetDict",
            "Features",
            "Value",
            "concatenate_datasets",
            "load_dataset",
            "load_from_disk",
        ],
        "plait.data",
    ),
}

__all__ = ["PlaitError", "__version__", *_TABLE]


def __getattr__(name: str) -> Any:
    if name not in _TABLE:
        raise AttributeError(f"plait has no public name {name!r}.{nearest(name, _TABLE)}")
    value = getattr(importlib.import_module(_TABLE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
