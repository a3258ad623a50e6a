"""The globals that code names, complete: read from bytecode, through modules and through imports inside functions."""

from __future__ import annotations

import dis
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

from plait.data.libraries import Unhashable, is_library

# of a module as a value: what it is called and where it stands
_OF_MODULES = {"__name__", "__doc__", "__package__", "__loader__", "__spec__", "__path__", "__file__", "__cached__"} | {
    "__builtins__",
    "__annotations__",
    "__conditional_annotations__",
}


def named_globals(code: types.CodeType, space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The globals that code names, with attributes followed through modules: `helpers.clean` gives the function."""
    found: dict[str, Any] = {}
    for part in _all_code(code):
        chain: tuple[str, Any] | None = None
        before: list[Any] = [None, None]  # what was loaded before an import: its level, and the names that it takes
        for step in dis.get_instructions(part):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in space:
                chain = (step.argval, space[step.argval])
            elif (
                chain is not None
                and step.opname in ("LOAD_ATTR", "LOAD_METHOD")
                and isinstance(chain[1], types.ModuleType)
            ):
                if not hasattr(chain[1], step.argval):
                    continue
                chain = (f"{chain[0]}.{step.argval}", getattr(chain[1], step.argval))
            else:
                if step.opname == "IMPORT_NAME":
                    found.update(_imported(step.argval, before[0], before[1], part, space))
                chain = None
            before = [before[1], step.argval]
            if chain is not None:
                found.pop(chain[0].rpartition(".")[0], None)
                found[chain[0]] = chain[1]
    return iter(sorted(found.items()))


def contents_of(module: types.ModuleType) -> list[tuple[str, Any]]:
    """All that a module of the project holds: for one that is passed on, so that what is used of it is not known."""
    return [(name, value) for name, value in sorted(vars(module).items()) if name not in _OF_MODULES]


def _all_code(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_code(constant)


def _imported(
    name: str, level: int, taken: tuple[str, ...] | None, code: types.CodeType, space: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """What an import inside a function brings of the project: `level` counts the dots before the name."""
    try:
        full = importlib.util.resolve_name("." * level + name, space.get("__package__")) if level else name
    except ImportError:  # in a script, beside which there is no package
        return
    if taken is not None:  # from helpers import clean
        module = _project_module(full)
        for wanted in taken if module is not None else ():
            if hasattr(module, wanted) or _project_module(f"{full}.{wanted}") is not None:
                yield f"{full}.{wanted}", getattr(module, wanted)
        return
    # `import helpers`, `import package.helpers`: which of their names are used is told by the names in the code
    steps = full.split(".")
    for count in range(1, len(steps) + 1):
        prefix = ".".join(steps[:count])
        module = _project_module(prefix)
        for wanted in sorted(set(code.co_names) & set(vars(module))) if module is not None else ():
            if steps[count : count + 1] != [wanted]:
                yield f"{prefix}.{wanted}", getattr(module, wanted)


def _project_module(name: str) -> types.ModuleType | None:
    """A module of the project by its full name, loaded if it is not yet: the function would load it too.

    `None` for one of a library, and for one that is not there. Raises `Unhashable` when its own code fails.
    """
    module = sys.modules.get(name)
    try:
        if module is None and not _is_of_library(name.partition(".")[0]):
            module = importlib.import_module(name)
    except ImportError:
        return None
    except Exception as error:
        raise Unhashable(f"the module {name}, which it imports, fails with {type(error).__name__}: {error}") from error
    return None if module is None or is_library(module.__name__, getattr(module, "__file__", None)) else module


def _is_of_library(top: str) -> bool:
    """Whether the files of a package, loaded or not, belong to a library."""
    spec = importlib.util.find_spec(top)
    return spec is not None and is_library(top, spec.origin)
