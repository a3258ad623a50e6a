"""Running a chat template that nobody has vetted, complete: what it may see, how long and how much.

Templates come with checkpoints, so they are programs of strangers. They run in jinja2's immutable sandbox, which keeps
them from Python; what the sandbox does not bound is bounded here:

* every turn of a loop is a step, every call of a function, filter or test is two; `STEPS` and `SECONDS` are all;
* every character or item that a step reads or makes is work, `WORK` of it is all;
* what can make a large value in one step (`*`, `**`, `+`, `~`, `%`, formats, fills, replacing) is measured beforehand;
* the text is counted while it is written;
* data is copied into plain dict, list, str, int, float, bool and None, so that no object's methods are in reach.

A template that breaks a bound raises a `TemplateError` that names the bound and the line.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import ext, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from plait.errors import TemplateError

STEPS = 400_000  # a conversation of a thousand messages takes some ten thousand
WORK = 50_000_000  # characters, an item of a list counting as sixteen
SECONDS = 20.0  # for a slow machine; the other bounds come first
CHARACTERS = 10_000_000  # of the text written, and of any one string on the way
BITS = 4_096  # of any one whole number

# Marks around what `{% generation %}` encloses. They are noncharacters, which no exchanged text holds; `plain` takes
# the block they belong to out of the data, so that no message can forge one.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
_MARKS = re.compile("([\ufdd0\ufdd1])")
_NONCHARACTERS = re.compile("[\ufdd0-\ufdef]")
_METER = "__meter__"


class _Bound(Exception):
    """A bound was broken; the message completes "it …"."""


class _Raised(Exception):
    """The template called raise_exception."""


class Meter:
    """Counts the steps and the work of one rendering."""

    def __init__(self) -> None:
        self._steps = self._work = 0
        self._end = time.monotonic() + SECONDS

    def step(self, *values: Any) -> None:
        """A turn of a loop, or a call that reads and makes `values`."""
        self._steps += 2 if values else 1
        self._work += sum(map(_work, values))
        if self._steps > STEPS or self._work > WORK:
            raise _Bound("does not end in good time: too many steps")
        if time.monotonic() > self._end:
            raise _Bound(f"runs for more than {SECONDS:g} seconds")

    @classmethod
    def of(cls, context: Any) -> Meter:
        """The meter of the rendering that `context` belongs to."""
        meter = context.get(_METER)
        if not isinstance(meter, Meter):
            raise _Bound(f"sets {_METER}, which is not its own")
        return meter


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict) else 1


def _work(value: Any) -> int:
    return len(value) if isinstance(value, str) else 16 * _size(value)


def _bounded(size: int) -> None:
    """Refuse a value of `size` characters or items, before or after it is made."""
    if size > CHARACTERS:
        raise _Bound(f"makes a value of {size:,} characters or items; {CHARACTERS:,} are the bound")


def _bounded_number(value: Any) -> None:
    if isinstance(value, int) and value.bit_length() > BITS:
        raise _Bound(f"computes a number of more than {BITS:,} bits")


# A width of five digits or from an argument, in a %-format and in a {}-format.
_WIDE = re.compile(r"%[-#0 +]*(\d{5}|\*|\d*\.(\d{5}|\*))|\{[^{}]*:[^{}]*(\d{5}|\{)")


# Filters and methods that make as much as a number tells them to.
_FILLS = {"batch", "center", "ljust", "rjust", "round", "slice", "to_bytes", "zfill"}


def _check(name: str, subject: Any, arguments: tuple[Any, ...]) -> None:
    """Refuse a call of a filter or method `name` on `subject` whose result would be too large."""
    text = subject if isinstance(subject, str) else ""
    numbers = [abs(value) for value in arguments if isinstance(value, int)]
    largest = max(numbers, default=0)
    if name in ("format", "format_map", "strftime_now"):
        pattern = text or (arguments[0] if arguments else "")
        if isinstance(pattern, str) and (wide := _WIDE.search(pattern)):
            raise _Bound(f"formats with the width {wide.group()!r}")
    elif name == "replace" and len(arguments) >= 2 and all(isinstance(value, str) for value in arguments[:2]):
        old, new = arguments[:2]
        _bounded(len(text) + len(new) * (text.count(old) if old else len(text) + 1))
    elif name == "join":
        # "glue".join(items) as a method, items|join("glue") as a filter
        glue, items = (text, arguments[0] if arguments else ()) if isinstance(subject, str) else (arguments, subject)
        if isinstance(items, list | tuple):
            between = _size(glue) if isinstance(glue, str) else sum(map(_size, glue))
            _bounded(sum(map(_size, items)) + between * len(items))
    elif name in ("expandtabs", "indent"):
        _bounded(len(text) + largest * (1 + text.count("\t" if name == "expandtabs" else "\n")))
    elif name in _FILLS:
        _bounded(largest)


class _Generation(ext.Extension):
    """`{% generation %}…{% endgeneration %}`: marks what the assistant says."""

    tags = {"generation"}

    def parse(self, parser: Any) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        marks = [nodes.Output([nodes.TemplateData(mark)]).set_lineno(line) for mark in (OPEN, CLOSE)]
        return [marks[0], *body, marks[1]]


class Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's immutable sandbox with the bounds above, set up as chat templates expect it."""

    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, ext.loopcontrols])
        for name in ("urlize", "wordwrap", "pprint", "xmlattr"):  # of no use in a chat, and costly on long texts
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters["tojson"] = _to_json
        for table in (self.filters, self.tests):
            for name, function in list(table.items()):
                table[name] = _metered(name, function)
        self.filters["metered items"] = _Items.of
        self.filters["joined parts"] = _joined
        self.globals |= {"raise_exception": _raise, "strftime_now": _now}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse, then lead loops and `~` through the meter."""
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = nodes.Filter(loop.iter, "metered items", [], [], None, None, lineno=loop.lineno)
        _measure_concat(tree)
        return tree

    def call(self, context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        """Call a function or method from a template."""
        # The sandbox hands out str.format wrapped, and the text it belongs to with it.
        subject = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        _check(getattr(function, "__name__", ""), subject, (*arguments, *named.values()))
        result = super().call(context, function, *arguments, **named)
        Meter.of(context).step(subject, result)
        return result

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute `left operator right`."""
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, str | list | tuple) and isinstance(times, int):
                    _bounded(len(value) * max(times, 0))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int) and right > 0:
            _bounded_number(1 << min(left.bit_length() * right, 2 * BITS))
        elif operator == "%":
            _check("format", left, ())
        result = super().call_binop(context, operator, left, right)
        _bounded_number(result)
        _bounded(_size(result))
        Meter.of(context).step(result)
        return result


class _Items:
    """What a loop runs over, each item a step. It keeps its length for `loop.last` and `loop.length`."""

    def __init__(self, items: Any, meter: Meter) -> None:
        self._items, self._meter = items, meter

    @staticmethod
    @jinja2.pass_context
    def of(context: Any, items: Any) -> _Items:
        return _Items(items, Meter.of(context))

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._meter.step()
            yield item

    def __len__(self) -> int:
        return len(self._items)


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or test as a step that is measured before and after."""
    wants = jinja2.utils._PassArg.from_obj(function)

    @jinja2.pass_context
    def step(context: Any, subject: Any, *arguments: Any, **named: Any) -> Any:
        _check(name, subject, (*arguments, *named.values()))
        first = {
            None: (),
            jinja2.utils._PassArg.context: (context,),
            jinja2.utils._PassArg.eval_context: (context.eval_ctx,),
            jinja2.utils._PassArg.environment: (context.environment,),
        }[wants]
        result = function(*first, subject, *arguments, **named)
        Meter.of(context).step(subject, *arguments, result)
        return result

    return step


def _measure_concat(node: nodes.Node) -> None:
    """Turn every `a ~ b` below a node into a filter over its parts."""
    for name, value in list(node.iter_fields()):
        if isinstance(value, list):
            setattr(node, name, [_parts(item) if isinstance(item, nodes.Concat) else item for item in value])
        elif isinstance(value, nodes.Concat):
            setattr(node, name, _parts(value))
    for child in node.iter_child_nodes():
        _measure_concat(child)


def _parts(node: nodes.Concat) -> nodes.Node:
    parts = nodes.List(node.nodes, lineno=node.lineno)
    return nodes.Filter(parts, "joined parts", [], [], None, None, lineno=node.lineno)


@jinja2.pass_context
def _joined(context: Any, parts: list[Any]) -> str:
    texts = [str(part) for part in parts]
    _bounded(sum(map(len, texts)))
    Meter.of(context).step(*texts)
    return "".join(texts)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as models read it: letters of all scripts as they are, nothing escaped for HTML."""
    if isinstance(indent, int):
        _bounded(indent * 1000)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: Any) -> NoReturn:
    raise _Raised(str(message))


def _now(pattern: str) -> str:
    _check("strftime_now", pattern, ())
    return datetime.now().strftime(pattern)


def plain(value: Any) -> Any:
    """Data as a template may see it: plain JSON types, copied; anything else becomes a text that names its type."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _NONCHARACTERS.sub("", str.__str__(value))
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if callable(getattr(value, "model_dump", None)):  # pydantic
        return plain(value.model_dump())
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a number of NumPy or torch
        return plain(value.item())
    return f"<{type(value).__name__}>"  # an image, an array: templates ask only whether it is there


@lru_cache(maxsize=32)
def _compiled(source: str) -> jinja2.Template:
    return Sandbox().from_string(source)


def render(source: str, variables: Mapping[str, Any], *, label: str) -> tuple[str, list[tuple[int, int]]]:
    """Run a template on plain data: the text, and the spans (start, stop) of its `{% generation %}` blocks.

    `label` names the template in errors. Raises `TemplateError` when the template does not parse, fails, refuses the
    conversation (`raise_exception`), or breaks a bound.
    """
    try:
        pieces, size = [], 0
        for piece in _compiled(source).generate({**variables, _METER: Meter()}):
            size += len(piece)
            _bounded(size)
            pieces.append(piece)
    except _Raised as error:
        raise TemplateError(f"{label} refuses this conversation{_at(error)}: {error}") from error
    except _Bound as error:
        raise TemplateError(f"{label} was stopped{_at(error)}: it {error}. Pass another chat_template=….") from error
    except jinja2.exceptions.SecurityError as error:
        raise TemplateError(f"{label} was stopped{_at(error)}: it reaches outside its sandbox: {error}") from error
    except RecursionError as error:
        raise TemplateError(f"{label} was stopped{_at(error)}: it nests or calls itself without end.") from error
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{label} is not a valid template at line {error.lineno}: {error.message}.") from error
    except Exception as error:  # a template is a program and may fail in any way that Python knows
        raise TemplateError(
            f"{label} fails{_at(error)}: {error} ({type(error).__name__}). "
            "Check that the messages have the fields that the template reads (role, content, …)."
        ) from error
    return _spans("".join(pieces))


def _at(error: BaseException) -> str:
    """ " at line N" of the template, from the traceback, which jinja2 maps back to it."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if line is None else f" at line {line}"


def _spans(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and the spans between them."""
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    place = start = 0
    for piece in _MARKS.split(text):
        if piece == OPEN:
            start = place
        elif piece == CLOSE:
            spans.append((start, place))
        else:
            pieces.append(piece)
            place += len(piece)
    return "".join(pieces), spans
