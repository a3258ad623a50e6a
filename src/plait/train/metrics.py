"""Metrics, complete: each is a running summary of a few numbers, so that any number of rows takes constant memory.

    metric = load_metric("f1")
    metric.compute(predictions=[0, 1, 1], references=[0, 1, 0], average="macro")     {"f1": 0.666…}

or, in parts, `add_batch(predictions=…, references=…)` and at the end `compute()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plait.console import logger
from plait.errors import OptionError, TrainingError, nearest

log = logger("train")
Array = NDArray[Any]


class EvalPrediction:
    """What `compute_metrics` receives; unpacks as `predictions, label_ids` (and `inputs`, when there are)."""

    def __init__(self, predictions: Any, label_ids: Any, inputs: Any = None) -> None:
        self.predictions = predictions
        self.label_ids = label_ids
        self.inputs = inputs

    def _parts(self) -> tuple[Any, ...]:
        return (self.predictions, self.label_ids, *(() if self.inputs is None else (self.inputs,)))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts())

    def __getitem__(self, index: int) -> Any:
        return self._parts()[index]


class PredictionOutput(NamedTuple):
    """What `Trainer.predict` returns."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, float]


class TrainOutput(NamedTuple):
    """What `Trainer.train` returns."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class Metric:
    """A metric by name; `compute` returns `{name: float}` and starts afresh."""

    name: str
    of_labels = True  # compares labels; scores are turned into the label of the largest

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything that was added."""
        raise NotImplementedError

    def update(self, predictions: Array, references: Array) -> None:
        """Take in two flat arrays of equal length."""
        raise NotImplementedError

    # The value over everything that was added; metrics differ in the options they take.
    result: Callable[..., Any]

    def add_batch(self, *, predictions: ArrayLike, references: ArrayLike) -> None:
        """Take in some predictions and what they should have been; raises `TrainingError` when their shapes differ."""
        given, wanted = np.asarray(predictions), np.asarray(references)
        if given.shape != wanted.shape and given.reshape(-1).shape != wanted.reshape(-1).shape:
            argmax = " Take np.argmax(logits, axis=-1) first?" if given.ndim == wanted.ndim + 1 else ""
            raise TrainingError(
                f"{self.name} compares predictions of shape {given.shape} with references of shape {wanted.shape}."
                + argmax
            )
        self.update(given.reshape(-1), wanted.reshape(-1))

    def add(self, *, prediction: Any, reference: Any) -> None:
        """Take in one prediction."""
        self.add_batch(predictions=[prediction], references=[reference])

    def add_scores(self, scores: Array, labels: Array) -> None:
        """Take in a model's raw predictions: the label of the largest score, where labels are compared.

        Labels of -100 count nothing.
        """
        if self.of_labels and scores.ndim == labels.ndim + 1:
            scores = scores.argmax(-1)
        counted = labels != -100 if labels.dtype.kind in "iu" else np.ones(labels.shape, bool)
        self.add_batch(predictions=scores.reshape(labels.shape)[counted], references=labels[counted])

    def compute(self, *, predictions: Any = None, references: Any = None, **options: Any) -> dict[str, Any]:
        """The value over what is given here and what was added before; then start afresh."""
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references)
        value = self.result(**options)
        self.reset()
        return {self.name: value}


class _Confusion(Metric):
    """Counts of (reference, prediction) pairs: enough for every metric of labels."""

    def reset(self) -> None:
        self.counts: dict[tuple[Any, Any], int] = {}

    def update(self, predictions: Array, references: Array) -> None:
        pairs, counts = np.unique(np.stack([references, predictions]), axis=1, return_counts=True)
        for reference, prediction, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
            self.counts[reference, prediction] = self.counts.get((reference, prediction), 0) + count

    def matrix(self) -> tuple[list[Any], Array]:
        """The labels in order, and how often each (row) was predicted as each (column), int64 (L, L)."""
        labels = sorted({label for pair in self.counts for label in pair})
        if not labels:
            raise TrainingError(f"{self.name} of nothing: no predictions were given.")
        matrix = np.zeros((len(labels), len(labels)), np.int64)
        for (reference, prediction), count in self.counts.items():
            matrix[labels.index(reference), labels.index(prediction)] = count
        return labels, matrix


class Accuracy(_Confusion):
    """The share of predictions that are right; with `normalize=False` their number."""

    name = "accuracy"

    def result(self, *, normalize: bool = True) -> float:
        _, matrix = self.matrix()
        right = float(np.trace(matrix))
        return right / float(matrix.sum()) if normalize else right


class _Averaged(_Confusion):
    """Metrics of one class against the rest, averaged over classes; 0 where a class has no case (0/0).

    `average` "binary" (of the class `pos_label`), "macro", "micro", "weighted" by the number of references, or None for
    a list, one value per class in order.
    """

    def of_class(self, right: Array, predicted: Array, actual: Array) -> Array:
        """The metric from counts of right predictions, of predictions and of references."""
        raise NotImplementedError

    def result(self, *, average: str | None = "binary", pos_label: Any = 1) -> float | list[float]:
        labels, matrix = self.matrix()
        right, predicted, actual = np.diag(matrix), matrix.sum(0), matrix.sum(1)
        if average == "micro":
            return float(self.of_class(right.sum(), predicted.sum(), actual.sum()))
        values = self.of_class(right, predicted, actual)
        match average:
            case None:
                return [float(value) for value in values]
            case "macro":
                return float(values.mean())
            case "weighted":
                return float((values * actual).sum() / actual.sum())
            case "binary":
                if len(labels) > 2 or (len(labels) == 2 and pos_label not in labels):
                    raise TrainingError(
                        f"{self.name} with average='binary' needs two classes of which one is pos_label={pos_label!r}, "
                        f"but there are {labels}. Choose average='macro', 'micro', 'weighted' or None."
                    )
                return float(values[labels.index(pos_label)]) if pos_label in labels else 0.0
        choices = ("binary", "macro", "micro", "weighted")
        raise OptionError(f"average must be one of {', '.join(choices)} or None, but is {average!r}.")


def _ratio(above: Any, below: Any) -> Array:
    above, below = np.asarray(above, float), np.asarray(below, float)
    return np.asarray(np.divide(above, below, out=np.zeros_like(above), where=below > 0))


class Precision(_Averaged):
    """Of those predicted to be a class, the share that are."""

    name = "precision"

    def of_class(self, right: Array, predicted: Array, actual: Array) -> Array:
        return _ratio(right, predicted)


class Recall(_Averaged):
    """Of those that are a class, the share predicted to be."""

    name = "recall"

    def of_class(self, right: Array, predicted: Array, actual: Array) -> Array:
        return _ratio(right, actual)


class F1(_Averaged):
    """The harmonic mean of precision and recall."""

    name = "f1"

    def of_class(self, right: Array, predicted: Array, actual: Array) -> Array:
        return _ratio(2 * right, predicted + actual)


class MatthewsCorrelation(_Confusion):
    """The correlation of predictions and references, for any number of classes (Gorodkin 2004); 0 for a constant."""

    name = "matthews_correlation"

    def result(self) -> float:
        _, matrix = self.matrix()
        predicted, actual, total = matrix.sum(0).astype(float), matrix.sum(1).astype(float), float(matrix.sum())
        shared = float(np.trace(matrix)) * total - float(predicted @ actual)
        spread = (total**2 - float(predicted @ predicted)) * (total**2 - float(actual @ actual))
        return shared / float(np.sqrt(spread)) if spread > 0 else 0.0


class _Moments(Metric):
    """Count, means and co-moments of predictions and references, merged block by block (Chan et al. 1979).

    Sums of squares of raw values would lose the spread of large values, such as watts around 10⁶; co-moments do not.
    """

    of_labels = False

    def reset(self) -> None:
        self.rows = 0
        self.means = np.zeros(2)
        self.comoments = np.zeros((2, 2))
        self.absolute = self.squared = 0.0

    def update(self, predictions: Array, references: Array) -> None:
        block = np.stack([predictions, references]).astype(np.float64)
        rows = block.shape[1]
        if not rows:
            return
        means = block.mean(1)
        apart = block - means[:, None]
        step = means - self.means
        total = self.rows + rows
        self.comoments += apart @ apart.T + np.outer(step, step) * (self.rows * rows / total)
        self.means += step * (rows / total)
        self.rows = total
        errors = block[0] - block[1]
        self.absolute += float(np.abs(errors).sum())
        self.squared += float(errors @ errors)

    def result(self) -> float:
        if not self.rows:
            raise TrainingError(f"{self.name} of nothing: no predictions were given.")
        return self.value()

    def value(self) -> float:
        """The metric from the moments."""
        raise NotImplementedError


class MeanAbsoluteError(_Moments):
    """The mean of |prediction − reference|, in the unit of the values."""

    name = "mae"

    def value(self) -> float:
        return self.absolute / self.rows


class MeanSquaredError(_Moments):
    """The mean of (prediction − reference)²."""

    name = "mse"

    def value(self) -> float:
        return self.squared / self.rows


class RootMeanSquaredError(_Moments):
    """The root of the mean of (prediction − reference)², in the unit of the values."""

    name = "rmse"

    def value(self) -> float:
        return float(np.sqrt(self.squared / self.rows))


class R2(_Moments):
    """1 − squared error / spread of the references: 1 is perfect, 0 as good as their mean.

    Constant references have no spread: then it is 1 for perfect predictions and 0 for others.
    """

    name = "r2"

    def value(self) -> float:
        spread = float(self.comoments[1, 1])
        return 1 - self.squared / spread if spread > 0 else float(self.squared == 0)


class Pearson(_Moments):
    """The linear correlation of predictions and references; 0 when one is constant."""

    name = "pearsonr"

    def value(self) -> float:
        spread = float(np.sqrt(self.comoments[0, 0] * self.comoments[1, 1]))
        return float(self.comoments[0, 1]) / spread if spread > 0 else 0.0


METRICS: dict[str, type[Metric]] = {
    metric.name: metric
    for metric in (
        Accuracy, F1, Precision, Recall, MatthewsCorrelation,
        MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError, R2, Pearson,
    )
}  # fmt: skip
_SPELLINGS = {"r_squared": "r2", "r2_score": "r2", "mean_absolute_error": "mae", "mean_squared_error": "mse"}


# Arguments of other libraries that concern where their code for a metric lies and how its processes meet.
_WITHOUT_EFFECT = (
    *("cache_dir", "download_config", "download_mode", "experiment_id", "keep_in_memory", "module_type", "num_process"),
    *("process_id", "revision", "trust_remote_code"),
)


def load_metric(name: str, config_name: str | None = None, **without_effect: Any) -> Metric:
    """The metric called `name`, empty: accuracy, f1, precision, recall, matthews_correlation; mae, mse, rmse, r2,
    pearsonr; and seqeval, of tagged entities. Nothing is fetched, so `cache_dir`, `trust_remote_code` and their likes
    have no effect. Raises `OptionError` for a name that is not one, or with a configuration.
    """
    for option in without_effect:
        if option not in _WITHOUT_EFFECT:
            raise OptionError(f"load_metric has no argument {option!r}.{nearest(option, _WITHOUT_EFFECT)}")
    if said := [option for option, value in without_effect.items() if value]:
        log.info("load_metric: no effect of %s: metrics are plait's own, and nothing is fetched", ", ".join(said))
    if config_name is not None:
        raise OptionError(
            f"load_metric({name!r}, {config_name!r}): metrics have no configurations. Load each that you want by its "
            f"own name; there are {', '.join(METRICS)}, seqeval."
        )
    if name == "seqeval":
        from plait.train.entities import Entities

        return Entities()
    key = _SPELLINGS.get(name, name)
    if key not in METRICS:
        known = [*METRICS, "seqeval"]
        raise OptionError(f"there is no metric {name!r}; there are {', '.join(known)}.{nearest(name, known)}")
    return METRICS[key]()
