"""What a model must beat to be worth its cost, complete: the mean, a linear model, and boosted trees.

Each takes training features (N, F), training targets (N,) and test features (M, F), and predicts (M,).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from plait.errors import require
from plait.tabular.columns import Numbers
from plait.tabular.scaler import Scaler

Baseline = Callable[[Numbers, Numbers, Numbers], Numbers]


def mean(features: Numbers, targets: Numbers, test: Numbers) -> Numbers:
    """The mean of the training targets, whatever the features say."""
    return np.full(len(test), targets.mean())


def linear(features: Numbers, targets: Numbers, test: Numbers) -> Numbers:
    """Ordinary least squares with an intercept."""
    # Standardised first, so that columns of very different size (hPa beside a share) do not spoil the conditioning.
    scaler = Scaler.fit(features, [str(index) for index in range(features.shape[1])])

    def design(values: Numbers) -> Numbers:
        return np.column_stack([scaler.apply(values), np.ones(len(values))])

    solution = np.linalg.lstsq(design(features), targets, rcond=None)[0]
    predictions: Numbers = design(test) @ solution
    return predictions


def trees(features: Numbers, targets: Numbers, test: Numbers) -> Numbers:
    """Gradient-boosted trees with scikit-learn's default settings and a fixed seed."""
    ensemble = require("sklearn.ensemble", extra="tabular", purpose="compare with boosted trees")
    model = ensemble.HistGradientBoostingRegressor(random_state=0).fit(features, targets)
    return np.asarray(model.predict(test), dtype=np.float64)


BASELINES: dict[str, Baseline] = {"mean": mean, "linear": linear, "trees": trees}
