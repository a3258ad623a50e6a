"""What is given where something else belongs: the error says what belongs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from plait.data import ClassLabel, Dataset, IterableDataset, Value
from plait.errors import DataError, OptionError, PlaitError


def rows() -> Iterator[dict[str, Any]]:
    yield {"a": 1}


ERRORS: dict[str, tuple[Callable[[], Any], type[PlaitError], str]] = {
    "a value for a column": (
        lambda: Dataset.from_dict({"a": 1}),
        DataError,
        "Column 'a' needs a list of values, but is 1.",
    ),
    "rows for columns": (
        lambda: Dataset.from_dict([{"a": 1}]),  # type: ignore[arg-type]
        DataError,
        "from_dict needs columns by name, but got list. Rows go to from_list.",
    ),
    "columns for rows": (
        lambda: Dataset.from_list({"a": [1]}),  # type: ignore[arg-type]
        DataError,
        "from_list needs rows, each a dict of values by name. Columns go to from_dict.",
    ),
    "values for rows": (
        lambda: Dataset.from_list([1, 2]),  # type: ignore[list-item]
        DataError,
        "from_list needs rows, each a dict of values by name. Columns go to from_dict.",
    ),
    "a generator for its function": (
        lambda: Dataset.from_generator(rows()),  # type: ignore[arg-type]
        OptionError,
        "from_generator needs a function that yields rows, but got generator: pass the function itself, and its "
        "arguments as gen_kwargs.",
    ),
    "a generator for a stream": (
        lambda: IterableDataset.from_generator(rows()),
        OptionError,
        "from_generator needs a function that yields rows, but got generator: pass the function itself, and its "
        "arguments as gen_kwargs.",
    ),
    "a generator of values": (
        lambda: Dataset.from_generator(lambda: iter([5])),  # type: ignore[arg-type, list-item]
        DataError,
        "A generator yields rows, each a dict of values by name, but one is 5.",
    ),
    "an option that torch does not have": (
        lambda: Dataset.from_dict({"a": [1]}).with_format("torch", dtyp="float32"),
        OptionError,
        "The format 'torch' has no option 'dtyp'. Did you mean 'dtype'?",
    ),
    "an option of no format": (
        lambda: Dataset.from_dict({"a": [1]}).with_format(None, dtype="float32"),
        OptionError,
        "The format 'python' has no option 'dtype'.",
    ),
    "a text for names": (
        lambda: ClassLabel(names="ab"),
        OptionError,
        "names must be a list of names, but is the text 'ab'.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_belongs_there(name: str) -> None:
    call, kind, text = ERRORS[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text


def test_a_refused_format_changes_nothing() -> None:
    dataset = Dataset.from_dict({"a": [1]}).with_format("numpy")
    with pytest.raises(OptionError):
        dataset.set_format("torch", dtyp="float32")
    assert dataset.format["type"] == "numpy"
    assert isinstance(dataset[0]["a"], np.int64)


def test_numpy_copies_when_told() -> None:
    dataset = Dataset.from_dict({"a": [1, 2]})
    assert not dataset.with_format("numpy")[:]["a"].flags.writeable
    made = dataset.with_format("numpy", copy=True)[:]["a"]
    made[0] = 9
    assert (made.tolist(), dataset["a"][:]) == ([9, 2], [1, 2])


def test_a_generator_may_fill_one_dict_list_or_array_for_all_rows() -> None:
    def one() -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {"list": [], "array": np.zeros(2)}
        for index in range(3):
            row["a"] = index
            row["list"].append(index)
            row["array"][:] = index
            yield row

    expected = [{"list": [*range(index + 1)], "array": [index, index], "a": index} for index in range(3)]
    assert Dataset.from_generator(one).to_list() == expected
    assert [{**row, "array": row["array"].tolist()} for row in IterableDataset.from_generator(one)] == expected


def test_many_class_names_are_looked_up_at_once() -> None:
    # looking through all names for each name would be 3.6 billion comparisons: minutes
    label = ClassLabel(num_classes=60_000)
    assert label.str2int([str(number) for number in range(60_000)]) == list(range(60_000))
    assert label.encode_example(" 59999 ") == 59_999
    with pytest.raises(DataError, match=r"repeated: \['b', 'c'\]"):
        ClassLabel(names=["c", "b", "a", "b", "c"])


def test_columns_of_one_name_and_labels_of_labels_are_refused() -> None:
    clash = Dataset.from_dict({"a": [{"b": 1}], "a.b": [2]})
    with pytest.raises(DataError, match=r"There would be two columns called 'a\.b': rename the one that is there\."):
        clash.flatten()
    assert clash.rename_column("a.b", "c").flatten().to_list() == [{"a.b": 1, "c": 2}]
    labels = Dataset.from_dict({"y": ["u", "v"]}).class_encode_column("y")
    with pytest.raises(
        DataError, match="Column 'y' holds class labels already, which have names: cast it to text first"
    ):
        labels.class_encode_column("y")
    assert labels.cast_column("y", Value("string")).class_encode_column("y").features == labels.features
