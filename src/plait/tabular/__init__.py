"""Regression on tables with a pretrained Transformer: `TabularRegressor`, `FrozenRegressor`, `compare`, `Report`."""

from __future__ import annotations

from plait.tabular.estimator import TabularRegressor
from plait.tabular.regressor import FrozenRegressor, Regression
from plait.tabular.report import Report, Scores, compare
from plait.tabular.scaler import Scaler
from plait.tabular.split import Split, split_rows

__all__ = [
    "FrozenRegressor",
    "Regression",
    "Report",
    "Scaler",
    "Scores",
    "Split",
    "TabularRegressor",
    "compare",
    "split_rows",
]
