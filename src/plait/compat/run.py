"""One script, run as Python would run it, complete: arguments, folder, `__main__`, and the stand-ins around it."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from plait.compat.finder import standing_in
from plait.errors import NotFoundError


def run_script(script: str | os.PathLike[str], arguments: Sequence[str] = (), *, keep: Sequence[str] = ()) -> None:
    """Run a Python file with `arguments` as `sys.argv[1:]`; libraries in `keep` are the real ones.

    What the script raises comes through. Raises NotFoundError when there is no such file.
    """
    path = Path(script)
    if not path.is_file():
        raise NotFoundError(f"There is no script {str(script)!r} (looked in {Path.cwd()}).")
    argv, folder = sys.argv, str(path.resolve().parent)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, folder)
    try:
        with standing_in(keep):
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = argv
        if folder in sys.path:
            sys.path.remove(folder)
