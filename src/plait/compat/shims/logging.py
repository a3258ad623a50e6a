"""The `logging` module of transformers and datasets, complete: the verbosity of Python's loggers below "plait"."""

from __future__ import annotations

import logging

from plait.data.progress import disable_progress_bars, enable_progress_bars

CRITICAL, ERROR, WARNING, INFO, DEBUG = (
    logging.CRITICAL,
    logging.ERROR,
    logging.WARNING,
    logging.INFO,
    logging.DEBUG,
)
disable_progress_bar, enable_progress_bar = disable_progress_bars, enable_progress_bars


def get_logger(name: str | None = None) -> logging.Logger:
    """The logger of a script's part, or plait's own."""
    return logging.getLogger("plait") if name is None else logging.getLogger(name)


def get_verbosity() -> int:
    """The level from which messages are shown."""
    return logging.getLogger("plait").getEffectiveLevel()


def set_verbosity(verbosity: int) -> None:
    """Show messages from this level on."""
    logging.getLogger("plait").setLevel(verbosity)


def set_verbosity_error() -> None:
    """Show errors alone."""
    set_verbosity(ERROR)


def set_verbosity_warning() -> None:
    """Show warnings and errors."""
    set_verbosity(WARNING)


def set_verbosity_info() -> None:
    """Show what is being done."""
    set_verbosity(INFO)


def set_verbosity_debug() -> None:
    """Show everything."""
    set_verbosity(DEBUG)


def enable_default_handler() -> None:
    """Nothing to switch on: records go through Python's loggers, and the script's handlers show them."""


def enable_explicit_format() -> None:
    """Nothing to switch on: the script's handlers say how records are written."""


def disable_default_handler() -> None:
    """Nothing to switch off: plait has no handler of its own."""
