"""Arguments of datasets that are accepted and have no effect here, complete: by method, and why.

They are let pass so that scripts run unchanged, and the log says each time that they do nothing. Every other argument
that a method does not know is an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from plait.console import logger
from plait.errors import OptionError, nearest

log = logger("data")

_ROWS = ("keep_in_memory", "writer_batch_size")
_CHOSEN = (*_ROWS, "indices_cache_file_name", "new_fingerprint")

# method of Dataset -> its arguments without effect
NO_EFFECT: dict[str, tuple[str, ...]] = {
    "select": _CHOSEN,
    "shard": (*_ROWS, "indices_cache_file_name"),
    "sort": (*_CHOSEN, "load_from_cache_file"),
    "shuffle": (*_CHOSEN, "load_from_cache_file"),
    "train_test_split": (
        *(*_ROWS, "load_from_cache_file", "train_indices_cache_file_name", "test_indices_cache_file_name"),
        *("train_new_fingerprint", "test_new_fingerprint"),
    ),
    "flatten_indices": (*_ROWS, "cache_file_name", "disable_nullable", "num_proc", "new_fingerprint"),
    "map": ("writer_batch_size", "disable_nullable", "suffix_template"),
    "filter": ("writer_batch_size", "disable_nullable", "suffix_template", "cache_file_name"),
    "batch": ("num_proc", "new_fingerprint"),
    "cast": (*_ROWS, "batch_size", "load_from_cache_file", "cache_file_name", "num_proc"),
    **dict.fromkeys(
        ("rename_column", "rename_columns", "remove_columns", "select_columns", "cast_column", "flatten"),
        ("new_fingerprint",),
    ),
    **dict.fromkeys(("add_column", "add_item"), ("new_fingerprint",)),
    **dict.fromkeys(("to_csv", "to_json", "to_sql"), ("num_proc",)),
    "from_generator": ("cache_dir", "keep_in_memory", "num_proc", "fingerprint", "config_name"),
}

_NOTHING_WRITTEN = "nothing is written to the disk for it"
_FINGERPRINT = "the fingerprint follows from what the data set holds"
_REASONS = {
    **dict.fromkeys(("keep_in_memory", "load_from_cache_file", "cache_file_name", "cache_dir"), _NOTHING_WRITTEN),
    **dict.fromkeys(("indices_cache_file_name", "train_indices_cache_file_name"), _NOTHING_WRITTEN),
    "test_indices_cache_file_name": _NOTHING_WRITTEN,
    **dict.fromkeys(("fingerprint", "new_fingerprint", "train_new_fingerprint", "test_new_fingerprint"), _FINGERPRINT),
    **dict.fromkeys(("batch_size", "writer_batch_size"), "blocks are as large as their bytes suggest"),
    "num_proc": "the work is done in this process",
    "disable_nullable": "every column may hold nulls",
    "suffix_template": "a result has no file per process",
    "filter.cache_file_name": "the rows that stay are kept as numbers, in the cache",
    "config_name": "a data set from a generator has no configurations",
}


def reason(method: str, argument: str) -> str:
    """Why an argument has no effect."""
    return _REASONS.get(f"{method}.{argument}") or _REASONS[argument]


def no_effect(method: str, given: Iterable[str]) -> None:
    """Say in the log which arguments have no effect. Raises `OptionError` for those that do not exist."""
    known = NO_EFFECT.get(method, ())
    for name in given:
        if name not in known:
            raise OptionError(f"{method}() has no argument {name!r}.{nearest(name, [*_own(method), *known])}")
        log.info("%s(%s=…) has no effect: %s", method, name, reason(method, name))


def _own(method: str) -> list[str]:
    """The arguments that a method of data sets has, whatever they do."""
    from plait.data.dataset import Dataset  # which takes this file's functions

    found = getattr(Dataset, method, None)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(found).parameters.values() if found is not None else ()
    return [each.name for each in parameters if each.kind in named and each.name != "self"]
