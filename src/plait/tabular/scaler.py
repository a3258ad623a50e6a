"""Standardising columns, complete: fitted on the rows given and no others, applied, undone, and kept as JSON.

z = (x − mean) / scale, with `scale` the standard deviation over the rows (divided by N, as scikit-learn does), and
1 for a column that never varies. Shapes: N rows, F columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plait.errors import DataError
from plait.tabular.columns import Numbers


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """`names`, `means` and `scales` of F columns, in the units of the data."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    @classmethod
    def fit(cls, values: Numbers, names: Sequence[str]) -> Scaler:
        """Means and standard deviations of `values` (N, F); raises `DataError` when there is no row."""
        if len(values) == 0:
            raise DataError("there are no rows to fit on")
        # Column by column in memory: NumPy then sums in pairs, which is more exact, and the same for every layout.
        values = np.asfortranarray(values)
        means, scales = values.mean(axis=0), values.std(axis=0)
        # Rounding leaves a constant column of large numbers a tiny deviation that means nothing.
        constant = scales <= 10 * np.finfo(np.float64).eps * np.abs(means)
        scales = np.where(constant, 1.0, scales)
        return cls(names=tuple(names), means=tuple(means.tolist()), scales=tuple(scales.tolist()))

    def apply(self, values: Numbers) -> Numbers:
        """`values` (N, F) in units of the data → standardised."""
        scaled: Numbers = (values - np.array(self.means)) / np.array(self.scales)
        return scaled

    def undo(self, values: Numbers) -> Numbers:
        """Standardised `values` (N, F) → in units of the data."""
        raw: Numbers = values * np.array(self.scales) + np.array(self.means)
        return raw

    def to_json(self) -> list[dict[str, Any]]:
        """One entry per column; a float's shortest decimal form reads back to the same bits."""
        columns = zip(self.names, self.means, self.scales, strict=True)
        return [{"name": name, "mean": mean, "scale": scale} for name, mean, scale in columns]

    @classmethod
    def from_json(cls, columns: Sequence[Mapping[str, Any]]) -> Scaler:
        """The inverse of `to_json`."""
        return cls(
            names=tuple(str(entry["name"]) for entry in columns),
            means=tuple(float(entry["mean"]) for entry in columns),
            scales=tuple(float(entry["scale"]) for entry in columns),
        )
