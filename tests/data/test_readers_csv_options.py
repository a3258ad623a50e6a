"""The options of `pandas.read_csv` that users of load_dataset("csv") pass: what each does, or what to do instead."""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from plait.data import load_dataset
from plait.errors import DataError, OptionError

# text, options; the rows equal those of datasets, and so do the types, but for floats that stand for gaps in integers
SAME: dict[str, tuple[str, dict[str, Any]]] = {
    "an index": ("id,b\n1,x\n2,y\n", {"index_col": 0}),
    "an index by name": ("id,b\n1,x\n2,y\n", {"index_col": "id"}),
    "an index without a name": (",b\n1,x\n2,y\n", {"index_col": [0]}),
    "no index": ("id,b\n1,x\n2,y\n", {"index_col": False}),
    "comments behind values": ('a,b\n1,x # c\n2,"y#z" # d\n# e\n3,"#\n#" # f\n', {"comment": "#"}),
    "lines left out": ("a,b\n1,x\n2,y\n3,z\n", {"skiprows": [1, 3]}),
    "numbers for missing values": ("a,b\n1,x\n2,-\n-999,z\n", {"na_values": [-999, "-"]}),
    "missing values by column": ("a,b\n1,-\n2,-999\n-999,z\n", {"na_values": {"a": [-999], "b": "-"}}),
    "quotes are letters": ('a,b\n"1",x"\n2,y\n', {"quoting": 3}),
    "all in quotes": ('"a","b"\n"1","x"\n', {"quoting": 1}),
    "columns by number": ("a,b,c\n1,x,2\n", {"usecols": [0, 2]}),
    "separators": ("a|b\n1|x\n", {"sep": "|", "chunksize": 3, "engine": "c", "low_memory": False, "verbose": False}),
}


def plain(types: dict[str, Any], rows: dict[str, list[Any]]) -> dict[str, Any]:
    kinds = {name: kind.dtype.removeprefix("large_") for name, kind in types.items()}
    gaps = {name for name, values in rows.items() if None in values}
    return {name: (kind.replace("float", "int") if name in gaps else kind) for name, kind in kinds.items()}


@pytest.mark.parametrize("name", SAME)
def test_as_datasets_reads_it(name: str, tmp_path: Path) -> None:
    text, options = SAME[name]
    path = tmp_path / "a.csv"
    path.write_text(text)
    ours = load_dataset("csv", data_files=str(path), split="train", keep_in_memory=True, **options)
    known = {key: value for key, value in options.items() if key != "low_memory"}
    cache = str(tmp_path / "cache")
    theirs = datasets.load_dataset("csv", data_files=str(path), split="train", cache_dir=cache, **known)
    assert ours.to_dict() == theirs.to_dict()
    assert plain(ours.features, ours.to_dict()) == plain(theirs.features, theirs.to_dict())


def read(path: Path, text: str | bytes, **options: Any) -> Any:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_dataset("csv", data_files=str(path), split="train", keep_in_memory=True, **options)


def test_times(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "t,u,v\n2024-02-29,2024-02-29 10:30:15.25,29.02.2024 07:05\n,2024-03-01T00:00:00,01.03.2024 00:00\n"
    found = read(path, text, parse_dates=["t", 1])
    assert [kind.dtype for kind in found.features.values()] == ["timestamp[us]", "timestamp[us]", "string"]
    assert found["t"][:] == [dt.datetime(2024, 2, 29), None]
    assert found["u"][:] == [dt.datetime(2024, 2, 29, 10, 30, 15, 250000), dt.datetime(2024, 3, 1)]
    found = read(path, text, parse_dates=["v"], date_format="%d.%m.%Y %H:%M")
    assert found["v"][:] == [dt.datetime(2024, 2, 29, 7, 5), dt.datetime(2024, 3, 1)]
    with pytest.raises(DataError, match=r"a.csv, line 3, column 't': 'soon' does not fit .*timestamp\[us\]"):
        read(path, "t\n2024-01-01\nsoon\n", parse_dates=["t"])
    with pytest.raises(OptionError, match=r"^parse_dates must be a list of columns, but is True\.$"):
        read(path, text, parse_dates=True)


def test_bad_lines_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="plait.data"):
        assert read(tmp_path / "a.csv", "a,b\n1,2\n3\n", on_bad_lines="warn").to_dict() == {"a": [1], "b": [2]}
    assert "a.csv: a row with 1 fields instead of 2 is left out: 3" in caplog.text


def test_what_has_no_effect_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="plait.data"):
        read(tmp_path / "a.csv", "a\n1\n", chunksize=10)
    assert "chunksize=10 has no effect on csv files: files are read in blocks of bytes" in caplog.text


NO = "load_dataset('csv') has no option "
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dayfirst": True}, f"{NO}'dayfirst': give date_format, for example date_format='%d/%m/%Y'."),
    ({"error_bad_lines": False}, f"{NO}'error_bad_lines': give on_bad_lines='skip'."),
    ({"sep": "§"}, "sep must be one ASCII character or a regular expression, but is '§'."),
    ({"sep": "[a"}, "sep='[a' is no regular expression: unterminated character set at position 0."),
    ({"header": [-1]}, "header must be the number of a row, a list, None or 'infer', but is [-1]."),
    (
        {"quoting": 2},
        "quoting must be 0 (minimal), 1 (all) or 3 (none), but is 2; to read some columns as floats declare them with "
        "dtype=.",
    ),
    ({"sep": ";", "delimiter": "|"}, "Give sep or delimiter, not both."),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        read(tmp_path / "a.csv", "a\n1\n", **options)
    assert str(caught.value) == message


YEAR_FIRST = ["2024-03-04", "2024/3/4", "2024.3.4", "2024年3月4日", " 2024-3-4 "]
WITH_HOURS = ["2024-03-04 08:05:00", "2024/3/4 8:05", "2024年3月4日 8:05:00", "2024-03-04T08:05"]


def test_times_as_spreadsheets_write_them(tmp_path: Path) -> None:
    for written, hours in ((YEAR_FIRST, 0), (WITH_HOURS, 8)):
        found = read(
            tmp_path / "a.csv", "时间,n\n" + "".join(f"{text},1\n" for text in [*written, ""]), parse_dates=["时间"]
        )
        moment = dt.datetime(2024, 3, 4, hours, 5 if hours else 0)
        assert found["时间"][:] == [*[moment] * len(written), None]
    for wrong in ("3/4/2024", "2024/13/1", "20240304x"):
        with pytest.raises(
            DataError, match=rf"line 2, column 't': '{wrong}' .* Say how times are written: date_format="
        ):
            read(tmp_path / "b.csv", f"t\n{wrong}\n", parse_dates=["t"])


@pytest.mark.parametrize(("mark", "sep"), [("\t", "\t"), (";", ";"), ("|", "|"), ("，", "[，]")])
def test_another_mark_between_columns_is_pointed_out(
    tmp_path: Path, mark: str, sep: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, text = tmp_path / "a.csv", f"a{mark}b\n1{mark}2\n"
    assert read(path, text)[0] == {f"a{mark}b": f"1{mark}2"}
    assert caplog.messages == [
        f"{path} has one column, {f'a{mark}b'!r}: if {mark!r} is between columns, pass sep={sep!r}"
    ]
    caplog.clear()
    assert read(path, text, sep=sep)[0] == {"a": 1, "b": 2}
    assert read(path, text, names=["one"], header=0)[0] == {"one": f"1{mark}2"}
    assert caplog.messages == []


def test_a_wrong_encoding_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "a,b\n" + "1,x\n" * 10 + "2,热\n"
    offset = len("a,b\n" + "1,x\n" * 10 + "2,")
    with pytest.raises(DataError) as caught:
        read(path, text.encode("gb18030"))
    assert str(caught.value) == (
        f"{path} is not utf-8 text from byte {offset} on (invalid continuation byte). "
        "It looks like gb18030: pass encoding='gb18030'."
    )
    late = "a,b\n" + "1,x\n" * 400_000 + "2,热冷热\n"  # beyond the first megabyte
    with pytest.raises(DataError, match=rf"from byte {4 + 1_600_000 + 2} on .*pass encoding='gb18030'"):
        read(path, late.encode("gb18030"))
    for encoding in ("gb18030", "gbk", "big5", "euc_kr", "utf-16", "utf-8-sig"):
        word = "가" if encoding == "euc_kr" else "文"
        assert read(path, f"a,b\n1,{word}\n".encode(encoding), encoding=encoding)[0] == {"a": 1, "b": word}


ALIKE: dict[str, tuple[str, dict[str, Any]]] = {
    "spaces": ('a   b  c\n1  "x y"   1.5\n 2 z 2.5\n', {"sep": r"\s+"}),
    "a word": ("a::b\n1::x,y\n2::z\n", {"sep": "::", "engine": "python"}),
    "a class": ("a;b,c\n1,2;3\n", {"sep": "[;,]", "engine": "python"}),
    "found out": ("a;b;c\n1;x;1.5\n", {"sep": None, "engine": "python"}),
    "delimiter": ("a  b\n1  2\n", {"delimiter": r"\s+"}),
    "headers": ("a,b\nx,y\n1,2\n", {"header": [0, 1]}),
    "footer": ("a,b\n1,2\n3,4\nend\n", {"skipfooter": 1, "engine": "python"}),
    "long footer": ("a,b\n1,2\n3,4\n5,6\n\n", {"skipfooter": 3, "engine": "python"}),
    "chosen names": ("a,b,c\n1,2,3\n", {"usecols": lambda name: name != "b"}),
    "chosen lines": ("a,b\n1,2\n3,4\n5,6\n", {"skiprows": lambda number: number % 2 == 1}),
    "converters": ("a,b\n1,x\n2,\n", {"converters": {"a": lambda text: int(text) * 10, "b": str.upper}}),
    "dialect": ("a\tb\n'1\t2'\t3\n", {"dialect": type("Tabs", (csv.excel_tab,), {"quotechar": "'"})}),
    "dialect by name": ("a\tb\n1\t3\n", {"dialect": "excel-tab"}),
}


@pytest.mark.parametrize("name", ALIKE)
def test_options_give_what_pandas_gives(name: str, tmp_path: Path) -> None:
    text, options = ALIKE[name]
    found = read(tmp_path / "a.csv", text, **options)
    frame = pandas.read_csv(tmp_path / "a.csv", **options)
    assert found.column_names == [str(column) for column in frame.columns]
    frame = frame.astype(object).where(frame.notna(), None).set_axis(found.column_names, axis=1)
    assert found.to_list() == frame.to_dict("records")


def test_results_of_functions_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    for factor in (10, 100):
        found = read(tmp_path / "a.csv", "a\n1\n", converters={"a": lambda text, factor=factor: int(text) * factor})
        assert found["a"][:] == [factor]


def test_a_converter_that_fails_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(DataError) as caught:
        read(path, "a,b\n1,2\nx,3\n", converters={"a": int})
    assert str(caught.value).startswith(f"{path}, line 3, column 'a': the converter failed for 'x': ValueError(")


def test_a_row_of_another_length_is_an_error_with_any_separator(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.csv, line 3: the row has 1 fields, but there are 2 columns \['a', 'b'\]"):
        read(tmp_path / "a.csv", "a  b\n1  2\n3\n", sep=r"\s+")


def test_a_line_without_a_separator_is_one_column(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "ab\n1\n", sep=None).to_dict() == {"ab": [1]}
