"""Every error that plait raises, complete: one root, one child per kind of cause, and how a message names its remedy.

Each message says what was wrong, where, and what to do. Children also inherit the built-in exception
that a caller would naturally catch, so `except FileNotFoundError` works without knowing plait.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class PlaitError(Exception):
    """The root of all errors that plait raises on purpose."""

    def __str__(self) -> str:
        # KeyError would print the repr of its message; every child prints the plain text.
        return str(self.args[0]) if self.args else ""


class OptionError(PlaitError, TypeError):
    """An argument, option or name that does not exist, or two that exclude each other."""


class MissingExtraError(PlaitError, ImportError):
    """A package of an optional extra is not installed."""


class ConfigError(PlaitError, ValueError):
    """A model configuration that is incomplete, contradictory or unknown."""


class WeightsError(PlaitError, ValueError):
    """Tensors on disk that do not fit the model, or a file that is not what it says."""


class HubError(PlaitError, OSError):
    """A model or data set could not be fetched."""


class ReferenceFormatError(HubError, ValueError):
    """A text that is no reference to a model or data set: empty, with bad characters, or leading out of its folder."""


class NotFoundError(HubError, FileNotFoundError):
    """Nothing by this name at any of the places tried."""


class OfflineError(HubError):
    """The network is switched off and the cache does not hold what was asked for."""


class IntegrityError(HubError):
    """Bytes that do not match their recorded size or digest."""


class DiskError(PlaitError, OSError):
    """A disk that takes no more bytes, or none at all."""


class DataError(PlaitError, ValueError):
    """Rows, files or types that cannot be read or converted."""


class ColumnError(DataError, KeyError):
    """A column that the table does not have."""


class RowError(DataError, IndexError):
    """A row that the table does not have."""


class WorkerError(PlaitError, RuntimeError):
    """A worker process that cannot start, fails, or is gone."""


class TokenizerError(PlaitError, ValueError):
    """Text, ids or tokenizer files that cannot be used as given."""


class TemplateError(TokenizerError):
    """A chat template that fails, is unsafe, or exceeds its bounds."""


class GenerationError(PlaitError, ValueError):
    """A request for generated tokens that cannot be met."""


class TrainingError(PlaitError, ValueError):
    """A training run that cannot start, continue or resume."""


class CompatError(PlaitError, ImportError):
    """A name or module of another library that plait does not have."""


class RequestError(PlaitError, ValueError):
    """A request to a server that is not answered as asked: an HTTP status, the field at fault and a short code."""

    def __init__(self, message: str, *, status: int = 400, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.code = code


def nearest(name: str, choices: Iterable[str]) -> str:
    """The end of an error message: " Did you mean 'x'?" for the closest choice, or "" when none is close."""
    # one wrong character of two leaves half of a name: 温渡 for 温度
    cutoff = 0.6 if len(name) > 2 else 0.5
    matches = difflib.get_close_matches(name, [str(choice) for choice in choices], n=1, cutoff=cutoff)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise `MissingExtraError` with the command that installs its extra.

    `purpose` completes the sentence "`module` is needed to …".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"`{module}` is needed to {purpose}, but is not installed ({error}). "
            f"Install it with: pip install 'plait[{extra}]'"
        ) from error
