"""`split=`: rows of splits by number and percent, sums, lists; the same rows as datasets 5.2 gives, as views."""

from __future__ import annotations

from pathlib import Path

import datasets
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from plait.data import DatasetDict, load_dataset
from plait.data.info import Split
from plait.data.splits import ReadInstruction
from plait.errors import ColumnError, OptionError

ROWS = {"train": 130, "test": 7}
SPECS = [
    *("train", "test", "train[:10%]+test[5:]", "train[25%:50%]", "train[-100:]", "train[:-20]+test", "test[:33%]"),
    *("train[10:20]", "train[-10%:]", "train[95%:]+train[:5%]", "train[:50%](pct1_dropremainder)", "train[1_0:1_2]"),
    *("test[3:100]", "all", "train[15%:85%](closest)"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("splits")
    for name, count in ROWS.items():
        (made / f"{name}.csv").write_text("a\n" + "".join(f"{name}{row}\n" for row in range(count)))
    return made


def theirs(folder: Path, split: object) -> object:
    return datasets.load_dataset(str(folder), split=split, cache_dir=str(folder / ".cache"))


@pytest.mark.parametrize("spec", SPECS)
def test_the_rows_of_a_text(spec: str, folder: Path) -> None:
    ours = load_dataset(str(folder), split=spec, keep_in_memory=True)
    expected = theirs(folder, spec)
    assert ours["a"][:] == expected["a"][:]
    assert str(ours.split) == spec


def test_an_instruction_reads_as_its_text(folder: Path) -> None:
    first = ReadInstruction("train", from_=10, to=20, unit="%") + ReadInstruction("test", to=-2, unit="abs")
    assert str(first) == "train[10%:20%]+test[:-2]"
    assert repr(first) == "ReadInstruction.from_spec('train[10%:20%]+test[:-2]')"
    assert ReadInstruction.from_spec(str(first)).to_absolute(ROWS) == first.to_absolute(ROWS)
    ours = load_dataset(str(folder), split=first, keep_in_memory=True)
    assert ours["a"][:] == [f"train{row}" for row in range(13, 26)] + [f"test{row}" for row in range(5)]
    dropped = ReadInstruction("train", rounding="pct1_dropremainder", to=33, unit="%")
    assert str(dropped) == "train[:33%](pct1_dropremainder)"
    assert dropped.to_absolute(ROWS) == [("train", range(33))]
    assert ReadInstruction("train", to=33, unit="%").to_absolute(ROWS) == [("train", range(43))]


def test_more_than_datasets_reads(folder: Path) -> None:
    """No rows at all, and blanks around `+`."""
    empty = load_dataset(str(folder), split="train[:0]", keep_in_memory=True)
    assert (len(empty), empty.column_names) == (0, ["a"])
    assert load_dataset(str(folder), split="test[:1] + train[:1]", keep_in_memory=True)["a"] == ["test0", "train0"]


def test_lists_dicts_and_constants(folder: Path) -> None:
    train, test = load_dataset(str(folder), split=["train", "test[:5]"], keep_in_memory=True)
    assert (len(train), test["a"][:]) == (130, [f"test{row}" for row in range(5)])
    folds = [f"train[:{k}%]+train[{k + 50}%:]" for k in (0, 50)]
    assert [len(fold) for fold in load_dataset(str(folder), split=folds, keep_in_memory=True)] == [65, 65]
    named = load_dataset(str(folder), split={"fit": "train[:3]", "check": "test[-1:]"}, keep_in_memory=True)
    assert isinstance(named, DatasetDict)
    assert {name: part["a"][:] for name, part in named.items()} == {
        "fit": ["train0", "train1", "train2"],
        "check": ["test6"],
    }
    assert len(load_dataset(str(folder), split=Split.TRAIN, keep_in_memory=True)) == 130
    assert len(load_dataset(str(folder), split=Split.ALL, keep_in_memory=True)) == 137


def test_slices_are_views(folder: Path, tmp_path: Path) -> None:
    """A slice maps the file of its split; only splits that are named are read."""
    whole = load_dataset(str(folder), split="train", cache_dir=tmp_path)
    part = load_dataset(str(folder), split="train[-1000:]+train[:10%]", cache_dir=tmp_path)
    assert part.cache_files == whole.cache_files
    assert len(list((tmp_path / "data" / "results").glob("*/*"))) == 1


numbers = st.one_of(st.none(), st.integers(-150, 150))


@settings(max_examples=300, deadline=None)
@given(numbers, numbers, st.sampled_from(["", "%"]), st.integers(100, 400))
def test_any_slice(start: int | None, stop: int | None, unit: str, count: int) -> None:
    """Boundaries equal those of datasets; where they cross, there are no rows."""
    first, last = ("" if value is None else f"{value}{unit}" for value in (start, stop))
    spec = f"train[{first}:{last}]"
    try:
        (expected,) = datasets.ReadInstruction.from_spec(spec).to_absolute({"train": count})
    except ValueError:
        with pytest.raises(OptionError, match="goes beyond the split: a percentage lies between -100 and 100"):
            ReadInstruction.from_spec(spec)
        return
    ((split, rows),) = ReadInstruction.from_spec(spec).to_absolute({"train": count})
    assert (split, rows.start, rows.stop) == ("train", expected.from_, max(expected.to, expected.from_))


EXAMPLES = "Write for example 'train', 'train[:10%]', 'train[-1000:]' or 'train+test[5:]'."
NO_TEXTS: list[tuple[object, str]] = [
    ("train[:150%]", "train[:150%] goes beyond the split: a percentage lies between -100 and 100."),
    ("train[1.5:]", f"split='train[1.5:]' cannot be read at 'train[1.5:]'. {EXAMPLES}"),
    ("train+test[5]", f"split='train+test[5]' cannot be read at 'test[5]'. {EXAMPLES}"),
    (
        "train[:5%](closesd)",
        "rounding must be 'closest' or 'pct1_dropremainder', but is 'closesd'. Did you mean 'closest'?",
    ),
    ("train[:5](closest)", "rounding='closest' is for percents: write for example train[:10%]."),
    (
        "test[:50%](pct1_dropremainder)",
        "test[:50%](pct1_dropremainder): with pct1_dropremainder one percent of 7 rows is no row at all. "
        "Leave the rounding out, or count rows: test[:1].",
    ),
    (5, "split= takes texts such as 'train[:10%]', ReadInstructions and lists of them, not 5."),
]


@pytest.mark.parametrize(("split", "message"), NO_TEXTS)
def test_texts_that_are_none(split: object, message: str, folder: Path) -> None:
    with pytest.raises(OptionError) as caught:
        load_dataset(str(folder), split=split, keep_in_memory=True)
    assert str(caught.value) == message


def test_instructions_that_are_none(folder: Path) -> None:
    with pytest.raises(OptionError, match=r"^unit must be '%' or 'abs', but is 'rows'\.$"):
        ReadInstruction("train", to=3, unit="rows")
    with pytest.raises(OptionError, match=r"^A ReadInstruction is added to another, not to 'test'\.$"):
        ReadInstruction("train") + "test"  # type: ignore[operator]
    with pytest.raises(
        ColumnError, match="There is no split 'tset'. Did you mean 'test'. Splits are .'train', 'test'."
    ):
        load_dataset(str(folder), split="train+tset[:5]", keep_in_memory=True)
