"""Which code belongs to an installed library (or to plait), and which code of it that is: told by name and version."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

from plait.data.sources import ChangedMeanwhile, sources_digest
from plait.errors import DataError

_FOLDERS = tuple(
    {path for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_paths().get(name))}
)
# those of the user, and of the interpreter below a virtual environment, are none of the above
_NAMES = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_SOURCE = str(Path(__file__).resolve())


class Unhashable(DataError):
    """A value inside a function that cannot be told from another of its kind."""


def is_library(module: str | None, file: str | None) -> bool:
    """Whether code belongs to an installed library (or to plait): it then counts by name and version."""
    top = (module or "").partition(".")[0]
    if top == "plait" or top in sys.builtin_module_names:
        return True
    return bool(file) and top != "__main__" and _is_installed(str(file))


def _is_installed(file: str) -> bool:
    return file.startswith(_FOLDERS) or any(name in file for name in _NAMES)


def file_of(module: str | None) -> str | None:
    """The file of a loaded module, if it has one."""
    found = getattr(sys.modules.get(module or ""), "__file__", None)
    return str(found) if found else None


def version_of(module: str | None) -> str:
    """What says which code a library has: its version, or its file where it states none.

    For plait from a checkout, the source that is reached.
    """
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names:
        return f"{sys.version_info[:2]}"
    version = str(getattr(sys.modules.get(top), "__version__", ""))
    if top == "plait" and module is not None and not _is_installed(_SOURCE):
        try:
            return f"{version} {sources_digest(module)}"
        except ChangedMeanwhile as error:
            raise Unhashable(f"{error}, so which code of {module} is loaded is not known; start it again") from error
    if not version and (file := file_of(module)) is not None and os.path.exists(file):
        status = os.stat(file)
        return f"{status.st_size} {status.st_mtime_ns}"
    return version
