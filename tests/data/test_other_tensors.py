"""Formats of TensorFlow and JAX, and arrays of theirs in what functions return, by stand-ins for both libraries."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from plait.data import Dataset
from plait.errors import OptionError


class Tensor:
    """What both libraries call an array: a shape, a dtype, and a way to NumPy."""

    def __init__(self, values: Any) -> None:
        self.array = np.asarray(values)
        self.shape, self.dtype = self.array.shape, self.array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, place: Any) -> Tensor:
        return Tensor(self.array[place])

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array.astype(dtype) if dtype is not None else self.array


class Ragged:
    """Rows of unequal lengths."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.rows)

    def to_list(self) -> list[Any]:
        return [row.array.tolist() for row in self.rows]


Tensor.__module__ = Ragged.__module__ = "tensorflow.python.framework.ops"


@pytest.fixture
def tensorflow(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    tf: Any = ModuleType("tensorflow")
    tf.convert_to_tensor = lambda values, dtype=None: Tensor(np.asarray(values, dtype=dtype))
    tf.stack = lambda values: Tensor(np.stack([value.array for value in values]))
    tf.ragged = ModuleType("ragged")
    tf.ragged.stack = Ragged
    monkeypatch.setitem(sys.modules, "tensorflow", tf)
    return tf  # type: ignore[no-any-return]


@pytest.fixture
def rows() -> Dataset:
    return Dataset.from_dict({"n": [1, 2, 3], "text": ["a", "b", None], "list": [[1], [2, 3], []]})


@pytest.mark.usefixtures("tensorflow")
def test_text_and_ragged_lists_are_tensors_of_tensorflow(rows: Dataset) -> None:
    batch = rows.with_format("tf")[:2]
    assert batch["n"].array.tolist() == [1, 2]
    assert batch["text"].array.tolist() == ["a", "b"]
    assert batch["list"].to_list() == [[1], [2, 3]]
    assert rows.with_format("tf")[1]["text"].array == "b"
    # TensorFlow has no missing text
    assert rows.with_format("tf")[2]["text"] is None
    assert rows.with_format("tf")[1:]["text"] == ["b", None]


@pytest.mark.usefixtures("tensorflow")
def test_functions_may_return_tensors_of_tensorflow(rows: Dataset) -> None:
    numbers = rows.with_format("tf").map(lambda row: {"made": Tensor(np.int32(row["n"].array * 2))})
    assert numbers.with_format(None)["made"][:] == [2, 4, 6]
    lists = rows.with_format("tf").map(lambda row: {"made": row["list"]})
    assert lists.with_format(None)["made"][:] == [[1], [2, 3], []]
    vectors = rows.map(lambda batch: {"made": Tensor(np.ones((3, 2), dtype=np.float32))}, batched=True)
    assert vectors["made"][:] == [[1.0, 1.0]] * 3
    assert vectors.features["made"].feature.dtype == "float32"


def test_a_device_of_jax_is_named_as_jax_prints_it(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def __str__(self) -> str:
            return "cpu:0"

    device = Device()
    jax: Any = ModuleType("jax")
    jax.devices = lambda: [device]
    jax.numpy = ModuleType("jax.numpy")
    jax.numpy.asarray = lambda array, dtype=None, device=None: (np.asarray(array).tolist(), device)
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setitem(sys.modules, "jax.numpy", jax.numpy)
    assert rows.with_format("jax", device="cpu:0")[:]["n"] == ([1, 2, 3], device)
    with pytest.raises(OptionError, match="`device` 'cpu:1' is none that JAX has here: cpu:0. Did you mean 'cpu:0'"):
        rows.with_format("jax", device="cpu:1")[:]
