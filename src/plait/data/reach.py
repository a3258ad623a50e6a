"""What a function reaches, complete: a digest of code and values, with the parts of it by name.

Every part has a path such as `closure tokenizer` or `global clean → constants`; comparing the parts of two digests says
what changed. A value that cannot be told from another of its kind (a lock, an open file, a generator) raises
`Unhashable`, which names it.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from plait.data.libraries import Unhashable as Unhashable
from plait.data.libraries import file_of, is_library, version_of
from plait.data.names import contents_of, named_globals
from plait.data.states import content_of, state_of

_PLAIN = {bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range}
_FLAGS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE
_FLAGS |= inspect.CO_ASYNC_GENERATOR  # of code: not where it stands, nor the `from __future__` of its file
_HEAP_TYPE = 1 << 9  # flag of a class that was made while Python ran
_LONG = 100  # containers of more plain values than this are one part, not one for each value
_DEPTH = 4  # parts deeper than this are hashed, but not listed


def digest_of(value: Any, name: str = "function") -> tuple[str, dict[str, str]]:
    """The digest of a function or any other value, and the digests of its parts by path; raises `Unhashable`."""
    walk = _Walk()
    try:
        found = walk.visit(value, (name,))
    except RecursionError as error:
        raise Unhashable(f"{name} holds values within values, deeper than can be followed") from error
    return found, {**walk.parts, name: found}


class _Walk:
    """One pass over everything that a value reaches. Cycles are cut at objects that are being visited."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self._open: dict[int, int] = {}
        self._done: dict[int, tuple[Any, str]] = {}  # keeps the object alive, so that its id stays its own

    def visit(self, value: Any, path: tuple[str, ...]) -> str:
        """The digest of one value."""
        if type(value) in _PLAIN:  # one of a subclass may hold more
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
            yield from ("module", value.__name__)
            if is_library(value.__name__, getattr(value, "__file__", None)):
                yield version_of(value.__name__)
            else:
                yield from self._pairs("project", contents_of(value), path)
        elif isinstance(value, types.BuiltinFunctionType | types.WrapperDescriptorType | types.MethodDescriptorType):
            yield from ("builtin", str(getattr(value, "__qualname__", value)))
            owner = getattr(value, "__self__", None)
            if owner is not None and not isinstance(owner, types.ModuleType | type):
                yield self.visit(owner, (*path, "self"))
        elif isinstance(value, enum.Enum):
            yield from ("enum", kind.__module__, kind.__qualname__, str(value.name))
            yield self.visit(value.value, (*path, "value"))
            yield self.visit(kind, (*path, "class"))
        elif isinstance(value, functools._lru_cache_wrapper):
            yield from ("cached", repr(value.cache_parameters()))
            yield self.visit(value.__wrapped__, (*path, "wrapped"))
        elif kind is slice:
            yield "slice"
            yield self.visit([value.start, value.stop, value.step], (*path, "bounds"))
        elif isinstance(value, functools.partial):
            yield "partial"
            yield self.visit(value.func, (*path, "function"))
            yield self.visit(list(value.args), (*path, "arguments"))
            yield self.visit(dict(value.keywords), (*path, "keywords"))
        elif isinstance(value, set | frozenset):
            yield kind.__name__
            yield from sorted(self.visit(item, (*path, "item")) for item in value)
        elif kind in (list, tuple, dict) and len(value) > _LONG and _are_plain(value):
            yield from ("plain", repr(value))
        elif kind in (list, tuple):
            yield kind.__name__
            yield from (self.visit(item, (*path, f"[{index}]")) for index, item in enumerate(value))
        elif value is sys.modules:
            yield "modules"  # which of them are loaded hangs on what ran before
        elif kind in (dict, types.MappingProxyType):
            yield from self._pairs(kind.__name__, value.items(), path)
        else:
            yield from self._object(value, path)

    def _pairs(self, kind: str, items: Iterable[tuple[Any, Any]], path: tuple[str, ...]) -> Iterator[str]:
        yield kind
        for key, item in list(items):  # other threads may add to a module's globals meanwhile
            yield self.visit(key, (*path, "key"))
            yield self.visit(item, (*path, f".{key}" if isinstance(key, str) else f"[{key!r:.40}]"))

    # --- code ---

    def _function(self, function: types.FunctionType, path: tuple[str, ...]) -> Iterator[str]:
        # where the code stands: `functools.wraps` gives a function the name and module of another
        module = function.__globals__.get("__name__")
        library = is_library(module, function.__code__.co_filename)
        if library:
            # The version of a library says what its code is, but not what a function made by it holds.
            yield from ("library", str(module), function.__qualname__, version_of(module))
        else:
            yield "function"
            yield self.visit(function.__code__, (*path, "code"))
        if not library or "<locals>" in function.__code__.co_qualname:
            yield self.visit(list(function.__defaults__ or ()), (*path, "defaults"))
            yield self.visit(dict(function.__kwdefaults__ or {}), (*path, "keyword defaults"))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # a cell that is not filled yet
                yield f"empty {name}"
                continue
            yield self.visit(content, (*path, f"closure {name}"))
        if not library:
            for name, content in named_globals(function.__code__, function.__globals__):
                yield name
                yield self.visit(content, (*path, f"global {name}"))
            for name, content in sorted(vars(function).items()):  # f.scale = 2; of a decorated one, __wrapped__
                yield name
                yield self.visit(content, (*path, f".{name}"))
        elif hasattr(function, "__wrapped__"):
            yield self.visit(function.__wrapped__, (*path, "wrapped"))

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
        # a class made by `exec` without a module's name says that it is of builtins too
        module = kind.__module__ if isinstance(kind.__module__, str) else ""  # some compiled ones have a descriptor
        compiled = not kind.__flags__ & _HEAP_TYPE
        if compiled or module != "builtins" and is_library(module, file_of(module)):
            yield from ("library", module, kind.__qualname__, version_of(module))
            return
        yield from ("class", kind.__qualname__)
        if type(kind) is not type:
            yield self.visit(type(kind), (*path, "metaclass"))
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
            yield from ("own", kind.__module__, kind.__qualname__, version_of(kind.__module__), str(own(value)))
            return
        if (content := content_of(value)) is not None:
            yield from content
            return
        yield self.visit(kind, (*path, "class"))
        yield from self._pairs("state", state_of(value, path).items(), path)


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


def _are_plain(values: Any) -> bool:
    """Whether all values of a list or tuple, or all keys and values of a dict, are shown whole by their text."""
    kinds = set(map(type, values)) | (set(map(type, values.values())) if isinstance(values, dict) else set())
    return kinds <= _PLAIN


def _digest(*parts: str) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()
