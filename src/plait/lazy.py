"""Public names that load their module on first use, complete: one table, so that importing a package costs nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from plait.errors import nearest


def names(
    package: str, table: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, str], Callable[[str], Any], Callable[[], list[str]]]:
    """What a package's `__init__` needs: the module of each name, its `__getattr__` and its `__dir__`.

    `table` maps modules to the names that they define. A name that is not there raises AttributeError with the nearest.
    """
    modules = {name: module for module, defined in table.items() for name in defined}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"{package} has no public name {name!r}.{nearest(name, modules)}")
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return modules, find, listed
