"""The import hook, complete: while it stands, the modules of the other libraries are made of plait's names, lazily.

Only a process that asked for it has the hook; nothing of plait or of the other libraries is patched.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

from plait.compat.names import LIBRARIES, has, missing, names_of, value_of
from plait.errors import CompatError, OptionError, nearest


class StandIn(ModuleType):
    """A module whose attributes are plait's, found when asked for."""

    def __getattr__(self, name: str) -> Any:
        library, _, path = self.__name__.partition(".")
        if name == "__version__":
            return LIBRARIES[library].version
        if name == "__all__":
            return names_of(library)
        if name.startswith("__"):
            raise AttributeError(name)
        below = f"{path}.{name}" if path else name
        if has(library, name):
            value = value_of(library, name)
        elif below in LIBRARIES[library].modules:  # `import transformers` makes transformers.generation reachable
            return importlib.import_module(f"{library}.{below}")
        elif _asked_by_installed_library():
            value = _placeholder(self.__name__, name)
        else:
            raise AttributeError(missing(self.__name__, name))
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *names_of(self.__name__.partition(".")[0])})


class Finder(MetaPathFinder, Loader):
    """Finds the modules of `libraries` before Python looks on disk."""

    def __init__(self, libraries: frozenset[str]) -> None:
        self.libraries = libraries

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a stand-in. Raises CompatError for a module that plait does not have."""
        library, _, below = fullname.partition(".")
        if library not in self.libraries:
            return None
        if below and below not in LIBRARIES[library].modules:
            # Python asks here as well for a name that `from … import …` did not find in the module.
            if has(library, name := fullname.rpartition(".")[2]):
                value_of(library, name)  # it is there, but failed to load: say why
            raise CompatError(missing(*fullname.rsplit(".", 1)))
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> StandIn:
        """An empty stand-in."""
        return StandIn(spec.name, f"plait in place of {spec.name}.")

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: names come when they are asked for."""


@contextmanager
def standing_in(keep: Sequence[str] = ()) -> Iterator[None]:
    """While the block runs, imports of transformers, datasets, modelscope and evaluate give plait's names.

    Libraries in `keep` stay the real ones. Those imported before are back afterwards. Raises OptionError for a name in
    `keep` that is none of them.
    """
    for name in keep:
        if name not in LIBRARIES:
            raise OptionError(f"keep={name!r} is not one of {', '.join(LIBRARIES)}.{nearest(name, LIBRARIES)}")
    finder = Finder(frozenset(LIBRARIES) - set(keep))
    before = _forget(finder.libraries)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _forget(finder.libraries)
        sys.modules.update(before)


def _forget(libraries: frozenset[str]) -> dict[str, ModuleType]:
    """Take the modules of `libraries` out of the imported ones, and return them."""
    names = [name for name in sys.modules if name.partition(".")[0] in libraries]
    return {name: sys.modules.pop(name) for name in names}


def _asked_by_installed_library() -> bool:
    """Whether the import or attribute that runs is written in an installed package, not in the user's script.

    Such a package may mention a library that it never comes to use; it must not fail for a name it only mentions.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (
        "importlib" in frame.f_code.co_filename or frame.f_globals.get("__name__") == __name__
    ):
        frame = frame.f_back
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return frame is not None and any(frame.f_code.co_filename.startswith(folder) for folder in folders)


def _placeholder(module: str, name: str) -> type:
    """A class that can be named and inherited from, and says what is missing when it is used."""

    def refuse(self: object, *arguments: object, **options: object) -> None:
        raise CompatError(missing(module, name))

    return type(name, (), {"__init__": refuse, "__doc__": f"{module}.{name}, which plait does not have."})
