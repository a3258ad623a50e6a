"""How good a regression is and against what, complete: errors in the units of the data, a verdict, and a picture.

A low error says little alone: on the same rows a mean or a straight line may do as well. Every report sets the model
beside them.
Shapes: N test rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from plait import console
from plait.errors import DataError, OptionError, nearest
from plait.tabular import columns
from plait.tabular.baselines import BASELINES
from plait.tabular.columns import Numbers
from plait.tabular.estimator import TabularRegressor
from plait.tabular.split import split_rows

RANDOM = "random weights"
_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Mean absolute error and root mean squared error in units of the target; R² (1 perfect, 0 as good as the mean)."""

    mae: float
    rmse: float
    r2: float

    @classmethod
    def of(cls, actual: Numbers, predicted: Numbers) -> Scores:
        """Measure `predicted` (N,) against `actual` (N,)."""
        if actual.shape != predicted.shape or actual.ndim != 1:
            raise DataError(f"predictions have the shape {predicted.shape}, actual values {actual.shape}")
        error = predicted - actual
        spread = float(np.square(actual - actual.mean()).sum())
        r2 = 1 - float(np.square(error).sum()) / spread if spread else float("nan")
        return cls(mae=float(np.abs(error).mean()), rmse=float(np.sqrt(np.square(error).mean())), r2=r2)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Predictions of several models on the same held-out rows; the first of `predictions` is the one reported on.

    `target` is the name of what is predicted, `unit` its unit, `label` a name for it in plain letters, used in pictures
    where no installed font can write `target`; `split` says how the rows were held out.
    """

    target: str
    actual: Numbers
    predictions: Mapping[str, Numbers]
    split: str
    unit: str | None = None
    label: str = "target"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, Scores]:
        """The errors of every model."""
        return {name: Scores.of(self.actual, predicted) for name, predicted in self.predictions.items()}

    def table(self) -> str:
        """The errors of every model as a table to print."""
        unit = f" [{self.unit}]" if self.unit else ""
        rows = [(name, f"{s.mae:.4g}", f"{s.rmse:.4g}", f"{s.r2:.4f}") for name, s in self.scores.items()]
        title = f"{self.target}: errors on {len(self.actual)} held-out rows"
        return f"{title}\n" + console.table("", ["model", f"MAE{unit}", f"RMSE{unit}", "R²"], rows)

    def verdict(self) -> str:
        """What the table means: whether the model beats every baseline, and whether its pretraining matters."""
        model, *others = self.predictions
        scores = self.scores
        sentences = []
        if rivals := [name for name in others if name != RANDOM]:
            rival = min(rivals, key=lambda name: scores[name].mae)
            sentences.append(self._against(model, rival))
        if RANDOM in others:
            low, high = self._interval(model, RANDOM)
            said = "helps" if high < 0 else "makes it worse" if low > 0 else "makes no clear difference"
            sentences.append(
                f"Pretraining {said}: with random weights the same network errs by {self._value(scores[RANDOM].mae)}."
            )
        return " ".join(sentences)

    def plot(self, path: str | Path) -> Path:
        """Predicted against actual values, the model beside its best baseline, as a PNG at `path`."""
        from plait.tabular.plot import predicted_against_actual

        return predicted_against_actual(self, Path(path))

    def save(self, folder: str | Path) -> Path:
        """Write report.json and predicted_against_actual.png into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "target": self.target,
            "unit": self.unit,
            "rows": len(self.actual),
            "split": self.split,
            "scores": {name: asdict(scores) for name, scores in self.scores.items()},
            "verdict": self.verdict(),
            "settings": dict(self.settings),
        }
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        (folder / "report.json").write_text(text, encoding="utf-8")
        self.plot(folder / "predicted_against_actual.png")
        return folder

    def _against(self, model: str, rival: str) -> str:
        low, high = self._interval(model, rival)
        mine, theirs = self._value(self.scores[model].mae), self._value(self.scores[rival].mae)
        errors = f"it errs by {mine} on average, the best baseline ({rival}) by {theirs}"
        interval = f"the difference is {low:+.3g} to {high:+.3g} with 95% confidence"
        if high < 0:
            return f"The Transformer helps: {errors}; {interval}."
        if low > 0:
            return f"The Transformer adds nothing here: {errors}, at a fraction of the cost; {interval}."
        return f"The Transformer adds nothing that can be told from chance: {errors}; {interval}."

    def _interval(self, model: str, rival: str) -> tuple[float, float]:
        """95% interval of mean |error| of `model` less that of `rival`, by bootstrap over the rows (percentiles)."""
        errors = [np.abs(self.predictions[name] - self.actual) for name in (model, rival)]
        difference = errors[0] - errors[1]
        generator = np.random.default_rng(0)
        means = [generator.choice(difference, len(difference)).mean() for _ in range(_RESAMPLES)]
        low, high = np.percentile(means, [2.5, 97.5])
        return float(low), float(high)

    def _value(self, value: float) -> str:
        return f"{value:.3g} {self.unit}" if self.unit else f"{value:.3g}"


def compare(
    regressor: TabularRegressor,
    X: Any,
    y: Any = None,
    *,
    test_size: float = 0.2,
    seed: int = 42,
    baselines: Sequence[str] = ("mean", "linear", "trees"),
    random_backbone: bool = False,
    label: str = "target",
) -> Report:
    """Fit `regressor` on part of a table, and report it and the `baselines` on the rest.

    The rest is the last `test_size` of the rows by `regressor.time` where that is named, else drawn at random with
    `seed`. `random_backbone` trains the same network once more with random weights in place of the pretrained ones.
    `regressor` is left fitted on the training rows.
    """
    for name in baselines:
        if name not in BASELINES:
            choices = ", ".join(BASELINES)
            raise OptionError(f"there is no baseline {name!r}; choose among {choices}.{nearest(name, BASELINES)}")
    actual, _ = regressor.targets_of(X, y)
    if actual.shape[1] != 1:
        raise DataError(f"compare reports one target at a time; there are {actual.shape[1]}")
    time = columns.raw(X, regressor.time) if regressor.time else None
    split = split_rows(len(actual), test_size=test_size, time=time, seed=seed)
    tables = [columns.take(X, rows) for rows in (split.train, split.test)]
    targets = [None if y is None else columns.take(y, rows) for rows in (split.train, split.test)]
    regressor.fit(tables[0], targets[0])
    predictions = {f"Transformer ({_short(regressor.backbone)})": regressor.predict(tables[1]).reshape(-1)}
    if random_backbone:
        ablation = TabularRegressor(**{**regressor.get_params(), "pretrained": False})
        predictions[RANDOM] = ablation.fit(tables[0], targets[0]).predict(tables[1]).reshape(-1)
    features, aside = regressor.feature_scaler_.names, regressor.columns_aside()
    train, test = (columns.matrix(table, features, others=aside) for table in tables)
    for name in baselines:
        predictions[name] = BASELINES[name](train, actual[split.train, 0], test)
    target = regressor.target_scaler_.names[0]
    plain = {name: value for name, value in regressor.get_params().items() if isinstance(value, str | int | float)}
    return Report(
        target=target,
        actual=actual[split.test, 0],
        predictions=predictions,
        split=split.description,
        unit=(regressor.units or {}).get(target),
        label=label,
        settings=plain,
    )


def _short(backbone: Any) -> str:
    return str(backbone) if isinstance(backbone, str | Path) else type(backbone).__name__
