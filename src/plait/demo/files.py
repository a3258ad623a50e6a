"""Where the demo's tables are, complete: inside an installed wheel, or in the examples of a clone."""

from __future__ import annotations

from pathlib import Path

from plait.errors import NotFoundError


def table(name: str) -> Path:
    """The path of `solar_power.csv` or `reviews.csv`; raises `NotFoundError` naming both places."""
    here = Path(__file__).resolve()
    # A wheel carries the tables beside this file (see pyproject.toml); a clone keeps them with their provenance.
    places = [here.parent / "data" / name, here.parents[3] / "examples" / "data" / name]
    for path in places:
        if path.is_file():
            return path
    raise NotFoundError(f"the demo's table {name} is neither at {places[0]} nor at {places[1]}; reinstall plait")
