"""Progress bars switched off and on by the names that datasets has for it, complete. Children inherit the choice."""

from __future__ import annotations

from plait import settings


def disable_progress_bars() -> None:
    """Draw no progress bars."""
    settings.force_progress(False)


def enable_progress_bars() -> None:
    """Draw progress bars on a terminal again."""
    settings.force_progress(None)


def are_progress_bars_disabled() -> bool:
    """Whether they are switched off; where there is no terminal, there are none either way."""
    return settings.progress() is False


def is_progress_bar_enabled() -> bool:
    """Whether they are not switched off."""
    return not are_progress_bars_disabled()


disable_progress_bar, enable_progress_bar = disable_progress_bars, enable_progress_bars
