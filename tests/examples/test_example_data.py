"""The committed tables are what their scripts derive, and hold what their README says."""

from __future__ import annotations

import csv
import importlib.util
import io
import tarfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DATA / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_solar_power_is_derived_again() -> None:
    derived = script("derive_solar_power").derive()
    committed = rows("solar_power.csv")
    assert list(committed[0]) == ["时间", "辐照度", "温度", "湿度", "压强", "实发功率"] == list(derived.columns)
    assert len(committed) == len(derived) == 8760
    for name in ["时间", "辐照度", "温度", "湿度", "压强"]:
        wanted = [type(value)(row[name]) for row, value in zip(committed, derived[name], strict=True)]
        assert wanted == list(derived[name]), name
    # The power is rounded to 1 W; another version of pvlib or SciPy may round one digit the other way.
    for row, power in zip(committed, derived["实发功率"], strict=True):
        assert float(row["实发功率"]) == pytest.approx(power, abs=0.0015), row["时间"]


def test_solar_power_is_physical() -> None:
    table = rows("solar_power.csv")
    power = [float(row["实发功率"]) for row in table]
    assert max(power) == 24.06  # the inverter's rating: it clips
    assert min(power) == -0.007  # its draw at night
    assert all(value == -0.007 for value, row in zip(power, table, strict=True) if row["辐照度"] == "0")
    # 1,300 to 1,700 kWh per kW of modules is what such a plant yields at this latitude before losses; it has 28 kW.
    assert 1300 * 28 < sum(power) < 1700 * 28


def test_reviews_are_balanced_and_labelled_by_their_ratings() -> None:
    table = rows("reviews.csv")
    assert Counter(row["label"] for row in table) == {"0": 500, "1": 500}
    assert len({row["text"] for row in table}) == len({row["id"] for row in table}) == 1000
    for row in table:
        assert abs(float(row["rating"])) >= 1.0
        assert (float(row["rating"]) > 0) == (row["label"] == "1")
        assert 20 <= len(row["text"]) <= 200


def test_reviews_script_selects_by_rating_length_and_digest(tmp_path: Path) -> None:
    module = script("derive_reviews")
    lines = [
        "1\t2.5\tA film that is as good as &quot;they&quot; say it is.",
        "2\t-1.5\tA film that is  not good at all, alas.",
        "3\t0.9\tA film that left everybody quite cold.",  # too near to neutral
        "4\t3.0\tToo short a line.",
        "5\t2.5\tA film that is as good as &quot;they&quot; say it is.",  # said twice
    ]
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        text = "\n".join(lines).encode()
        entry = tarfile.TarInfo(module.TABLE)
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    source = tmp_path / "vaderSentiment-3.3.2.tar.gz"
    with tarfile.open(source, mode="w:gz") as archive:
        entry = tarfile.TarInfo(module.INNER)
        entry.size = len(inner.getvalue())
        archive.addfile(entry, io.BytesIO(inner.getvalue()))
    derived = sorted(module.derive(source), key=lambda row: row["label"])
    assert derived == [
        {"id": 2, "text": "A film that is not good at all, alas.", "rating": "-1.50", "label": 0},
        {"id": 5, "text": 'A film that is as good as "they" say it is.', "rating": "2.50", "label": 1},
    ]
