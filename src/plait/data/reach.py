"""What a function reaches, complete: a digest of code and values, with the parts of it by name.

Every part has a path such as `closure tokenizer` or `global clean → constants`; comparing the parts of two digests says
what changed. A value that cannot be told from another of its kind (a lock, an open file, a generator) raises
`Unhashable`, which names it.
"""

from __future__ import annotations

import copyreg
import dis
import enum
import functools
import hashlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from plait.data.sources import ChangedMeanwhile, sources_digest
from plait.errors import DataError

_LIBRARY_FOLDERS = tuple(
    {path for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_paths().get(name))}
)
_SOURCE = str(Path(__file__).resolve())
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range, slice)
_FLAGS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE
_FLAGS |= inspect.CO_ASYNC_GENERATOR  # of code: not where it stands, nor the `from __future__` of its file
_DEPTH = 4  # parts deeper than this are hashed, but not listed


class Unhashable(DataError):
    """A value inside a function that cannot be told from another of its kind."""


def digest_of(value: Any, name: str = "function") -> tuple[str, dict[str, str]]:
    """The digest of a function or any other value, and the digests of its parts by path; raises `Unhashable`."""
    walk = _Walk()
    found = walk.visit(value, (name,))
    return found, {**walk.parts, name: found}


class _Walk:
    """One pass over everything that a value reaches. Cycles are cut at objects that are being visited."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self._open: dict[int, int] = {}
        self._done: dict[int, tuple[Any, str]] = {}  # keeps the object alive, so that its id stays its own

    def visit(self, value: Any, path: tuple[str, ...]) -> str:
        """The digest of one value."""
        if isinstance(value, _PLAIN):
            found = _digest(type(value).__name__, repr(value))
        elif id(value) in self._done:
            found = self._done[id(value)][1]
        elif id(value) in self._open:
            return _digest("cycle", str(self._open[id(value)]))
        else:
            self._open[id(value)] = len(self._open)
            found = _digest(*self._describe(value, path))
            del self._open[id(value)]
            self._done[id(value)] = (value, found)
        if len(path) <= _DEPTH:
            self.parts[" → ".join(path)] = found
        return found

    def _describe(self, value: Any, path: tuple[str, ...]) -> Iterator[str]:
        kind = type(value)
        if isinstance(value, types.FunctionType):
            yield from self._function(value, path)
        elif isinstance(value, types.MethodType):
            yield self.visit(value.__func__, (*path, "method"))
            yield self.visit(value.__self__, (*path, "self"))
        elif isinstance(value, types.CodeType):
            yield from self._code(value, path)
        elif isinstance(value, type):
            yield from self._class(value, path)
        elif isinstance(value, types.ModuleType):
            yield from ("module", value.__name__, _version(value.__name__))
        elif isinstance(value, types.BuiltinFunctionType | types.WrapperDescriptorType | types.MethodDescriptorType):
            yield from ("builtin", str(getattr(value, "__qualname__", value)))
            owner = getattr(value, "__self__", None)
            if owner is not None and not isinstance(owner, types.ModuleType | type):
                yield self.visit(owner, (*path, "self"))
        elif isinstance(value, enum.Enum):
            yield from ("enum", kind.__module__, kind.__qualname__, value.name)
        elif isinstance(value, functools.partial):
            yield "partial"
            yield self.visit(value.func, (*path, "function"))
            yield self.visit(list(value.args), (*path, "arguments"))
            yield self.visit(dict(value.keywords), (*path, "keywords"))
        elif isinstance(value, set | frozenset):
            yield kind.__name__
            yield from sorted(self.visit(item, (*path, "item")) for item in value)
        elif kind in (list, tuple):
            yield kind.__name__
            yield from (self.visit(item, (*path, f"[{index}]")) for index, item in enumerate(value))
        elif value is sys.modules:
            yield "modules"  # which of them are loaded hangs on what ran before
        elif kind is dict:
            yield from self._pairs("dict", value.items(), path)
        else:
            yield from self._object(value, path)

    def _pairs(self, kind: str, items: Iterable[tuple[Any, Any]], path: tuple[str, ...]) -> Iterator[str]:
        yield kind
        for key, item in list(items):  # other threads may add to a module's globals meanwhile
            yield self.visit(key, (*path, "key"))
            yield self.visit(item, (*path, f".{key}" if isinstance(key, str) else f"[{key!r:.40}]"))

    # --- code ---

    def _function(self, function: types.FunctionType, path: tuple[str, ...]) -> Iterator[str]:
        wrapped = getattr(function, "__wrapped__", None)
        if _is_library(function.__module__, function.__code__.co_filename):
            # The version of a library says what its code is, but not what a function made by it holds.
            yield from ("library", str(function.__module__), function.__qualname__, _version(function.__module__))
        else:
            yield "function"
            yield self.visit(function.__code__, (*path, "code"))
        if "<locals>" in function.__qualname__ or not _is_library(function.__module__, function.__code__.co_filename):
            yield self.visit(list(function.__defaults__ or ()), (*path, "defaults"))
            yield self.visit(dict(function.__kwdefaults__ or {}), (*path, "keyword defaults"))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # a cell that is not filled yet
                yield f"empty {name}"
                continue
            yield self.visit(content, (*path, f"closure {name}"))
        if not _is_library(function.__module__, function.__code__.co_filename):
            for name, content in _named_globals(function.__code__, function.__globals__):
                yield name
                yield self.visit(content, (*path, f"global {name}"))
        if wrapped is not None:
            yield self.visit(wrapped, (*path, "wrapped"))

    def _code(self, code: types.CodeType, path: tuple[str, ...]) -> Iterator[str]:
        # neither line numbers nor file names: moving a function changes nothing
        yield from ("code", f"{sys.version_info[:2]}", code.co_code.hex(), repr(code.co_names), repr(code.co_varnames))
        yield from (
            repr(code.co_freevars),
            str(code.co_flags & _FLAGS),
            str(code.co_argcount),
            str(code.co_kwonlyargcount),
        )
        yield code.co_exceptiontable.hex()
        for index, constant in enumerate(code.co_consts):
            nested = isinstance(constant, types.CodeType)
            yield self.visit(constant, (*path, constant.co_name if nested else f"constant {index}"))

    def _class(self, kind: type, path: tuple[str, ...]) -> Iterator[str]:
        if _is_library(kind.__module__, _file_of(kind.__module__)):
            yield from ("library", kind.__module__, kind.__qualname__, _version(kind.__module__))
            return
        yield from ("class", kind.__qualname__)
        for base in kind.__bases__:
            yield self.visit(base, (*path, f"base {base.__name__}"))
        for name, member in sorted(vars(kind).items()):
            if name in _OF_NO_EFFECT or isinstance(member, types.GetSetDescriptorType | types.MemberDescriptorType):
                continue
            if isinstance(member, property):
                member = [member.fget, member.fset, member.fdel]
            elif isinstance(member, staticmethod | classmethod):
                member = member.__func__
            elif isinstance(member, functools.cached_property):
                member = member.func
            yield name
            yield self.visit(member, (*path, f".{name}"))

    # --- objects ---

    def _object(self, value: Any, path: tuple[str, ...]) -> Iterator[str]:
        kind = type(value)
        own = getattr(kind, "__fingerprint__", None)
        if own is not None:
            yield from ("own", kind.__module__, kind.__qualname__, _version(kind.__module__), str(own(value)))
            return
        if (known := _known(value)) is not None:
            yield from known
            return
        yield self.visit(kind, (*path, "class"))
        yield from self._pairs("state", _state(value, path).items(), path)


_OF_NO_EFFECT = {"__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__firstlineno__"} | {
    "__static_attributes__",
    "__slotnames__",
    "__slots__",
    "_abc_impl",
    "__abstractmethods__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
}


def _known(value: Any) -> list[str] | None:
    """Values of well-known libraries whose content is quicker to hash than to walk; no library is imported for it."""
    module = type(value).__module__.partition(".")[0]
    if module == "numpy" and hasattr(value, "dtype") and value.dtype != object:
        import numpy as np

        array = np.ascontiguousarray(value)
        return [
            "numpy",
            str(array.dtype),
            str(array.shape),
            hashlib.blake2b(
                array.view(np.uint8).data if array.size and array.dtype.kind not in "Mm" else array.tobytes()
            ).hexdigest(),
        ]
    if module == "torch" and type(value).__name__ in ("Tensor", "Parameter"):
        import torch

        # (…) -> bytes; a view as bytes exists for every dtype, unlike a NumPy array
        flat = value.detach().cpu().contiguous().reshape(-1)
        data = flat.view(torch.uint8).numpy().data if flat.numel() else b""
        return ["torch", str(value.dtype), str(tuple(value.shape)), hashlib.blake2b(data).hexdigest()]
    if module == "tokenizers" and hasattr(value, "to_str"):
        return ["tokenizer", _version("tokenizers"), hashlib.blake2b(value.to_str().encode()).hexdigest()]
    if module == "pyarrow" and hasattr(value, "schema") and hasattr(value, "to_batches"):
        from plait.data.fingerprint import table_digest
        from plait.data.schema import features_of
        from plait.data.table import Table

        return ["table", table_digest(Table.from_arrow(value), features_of(value.schema))]
    if type(value).__module__ == "plait.data.dataset":
        return ["data set", value.fingerprint]
    return None


def _state(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """What makes one object differ from another of its class, as it would be copied: attributes, and how it is made."""
    try:
        registered = copyreg.dispatch_table.get(type(value))
        reduced: Any = value.__reduce_ex__(2) if registered is None else registered(value)
    except Exception as error:  # whatever it is: the object has no state to show
        raise _unhashable(value, path) from error
    if isinstance(reduced, str):
        return {"name": reduced}
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    found: dict[str, Any] = {}
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # a dict, and slots
        found = {**(state[0] or {}), **state[1]}
    elif isinstance(state, dict):
        found = dict(state)
    elif state is not None:
        found = {"state": state}
    if make is not copyreg.__newobj__ or len(arguments) > 1:  # type: ignore[attr-defined]
        found["made by"] = [make, *arguments]
    if items is not None:
        found["items"] = list(items)
    if pairs is not None:
        found["pairs"] = list(pairs)
    return found


def _unhashable(value: Any, path: tuple[str, ...]) -> Unhashable:
    return Unhashable(
        f"{' → '.join(path)} is a {type(value).__module__}.{type(value).__qualname__}, whose state is not known"
    )


# --- globals that code names ------------------------------------------------------------------------------------------


def _named_globals(code: types.CodeType, space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The globals that code names, with attributes followed through modules: `helpers.clean` gives the function."""
    found: dict[str, Any] = {}
    for part in _all_code(code):
        chain: tuple[str, Any] | None = None
        imported: list[types.ModuleType] = []
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
                if step.opname == "IMPORT_NAME" and (module := sys.modules.get(step.argval)) is not None:
                    imported.append(module)
                chain = None
            if chain is not None:
                found.pop(chain[0].rpartition(".")[0], None)
                found[chain[0]] = chain[1]
        # `import helpers` inside the function: which of its names are used is told by the names in the code
        for module in imported:
            if not _is_library(module.__name__, getattr(module, "__file__", None)):
                for name in sorted(set(part.co_names) & set(vars(module))):
                    found[f"{module.__name__}.{name}"] = getattr(module, name)
    return iter(sorted(found.items()))


def _all_code(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_code(constant)


def _is_library(module: str | None, file: str | None) -> bool:
    """Whether code belongs to an installed library (or to plait): it then counts by name and version."""
    top = (module or "").partition(".")[0]
    if top in ("plait", "builtins") or top in sys.builtin_module_names:
        return True
    return bool(file) and str(file).startswith(_LIBRARY_FOLDERS) and top != "__main__"


def _file_of(module: str) -> str | None:
    found = getattr(sys.modules.get(module), "__file__", None)
    return str(found) if found else None


def _version(module: str | None) -> str:
    """What says which code a library has: its version; for plait from a checkout, the source that is reached."""
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names:
        return f"{sys.version_info[:2]}"
    version = str(getattr(sys.modules.get(top), "__version__", ""))
    if top == "plait" and module is not None and not _SOURCE.startswith(_LIBRARY_FOLDERS):
        try:
            return f"{version} {sources_digest(module)}"
        except ChangedMeanwhile as error:
            raise Unhashable(f"{error}, so which code of {module} is loaded is not known; start it again") from error
    return version


def _digest(*parts: str) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()
