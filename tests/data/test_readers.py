"""Readers: types from all the data, whatever the order; errors that name file, line and column; options that exist."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from plait.data import ClassLabel, Dataset, DatasetDict, Features, List, Value, load_dataset
from plait.errors import ColumnError, DataError, NotFoundError, OfflineError, OptionError


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def function(format: str, *texts: str | bytes, **options: Any) -> Dataset:
        paths = []
        for index, text in enumerate(texts):
            path = tmp_path / f"{index}.{format}"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            paths.append(str(path))
        found: Dataset = load_dataset(format, data_files=paths, split="train", keep_in_memory=True, **options)
        return found

    return function


# --- csv ---


CSV: dict[str, tuple[str, dict[str, Any], str, dict[str, list[Any]]]] = {
    "numbers and text": ("a,b\n1,x\n2,y\n", {}, "int64 string", {"a": [1, 2], "b": ["x", "y"]}),
    "missing": ("a,b,c\n1,,x\n,2.5,\n", {}, "int64 float64 string", {"a": [1, None], "b": [None, 2.5], "c": ["x", None]}),
    "words for missing": ("a,b\nNA,NA\n1.5,x\nnull,null\n", {}, "float64 string", {"a": [None, 1.5, None], "b": ["NA", "x", "null"]}),
    "truth": ("a\nTrue\nfalse\n\nTRUE\n", {}, "bool", {"a": [True, False, True]}),
    "truth and numbers are text": ("a\nTrue\n1\n", {}, "string", {"a": ["True", "1"]}),
    "leading zeros": ("a\n007\n10\n", {}, "int64", {"a": [7, 10]}),
    "leading zeros in text": ("a\n007\nx\n", {}, "string", {"a": ["007", "x"]}),
    "signs and spaces": ("a,b\n +5, 1e3\n-1 ,.5\n", {}, "int64 float64", {"a": [5, -1], "b": [1000.0, 0.5]}),
    "hexadecimal is text": ("a\n0x10\n", {}, "string", {"a": ["0x10"]}),
    "no digit is lost": ("a\n12345678901234567890\n1\n", {}, "string", {"a": ["12345678901234567890", "1"]}),
    "dates are text": ("a\n2020-01-01\n", {}, "string", {"a": ["2020-01-01"]}),
    "quotes": ('a,b\n"x, y","say ""hi"""\n"two\nlines",""\n', {}, "string string", {"a": ["x, y", "two\nlines"], "b": ['say "hi"', ""]}),
    "windows": ("a,b\r\n1,x\r\n2,y", {}, "int64 string", {"a": [1, 2], "b": ["x", "y"]}),
    "byte order mark": ("\ufeffa,b\n1,2\n", {}, "int64 int64", {"a": [1], "b": [2]}),
    "semicolons": ("a;b\n1,5;1.000\n", {"sep": ";", "decimal": ",", "thousands": "."}, "float64 int64", {"a": [1.5], "b": [1000]}),
    "tabs": ("a\tb\n1\t2\n", {"delimiter": "\t"}, "int64 int64", {"a": [1], "b": [2]}),
    "names": ("1,2\n3,4\n", {"names": ["x", "y"]}, "int64 int64", {"x": [1, 3], "y": [2, 4]}),
    "names over a header": ("a,b\n3,4\n", {"names": ["x", "y"], "header": 0}, "int64 int64", {"x": [3], "y": [4]}),
    "no header": ("1,2\n3,4\n", {"header": None}, "int64 int64", {"0": [1, 3], "1": [2, 4]}),
    "header below": ("about\na,b\n3,4\n", {"skiprows": 1}, "int64 int64", {"a": [3], "b": [4]}),
    "header in row 1": ("x,y\na,b\n3,4\n", {"header": 1}, "int64 int64", {"a": [3], "b": [4]}),
    "some columns": ("a,b,c\n1,2,3\n", {"usecols": ["c", "a"]}, "int64 int64", {"a": [1], "c": [3]}),
    "some rows": ("a\n1\n2\nx\n", {"nrows": 2}, "int64", {"a": [1, 2]}),
    "comments": ("# c\na\n# d\n1\n", {"comment": "#"}, "int64", {"a": [1]}),
    "na_values": ("a,b\n-,-\n1,x\n", {"na_values": "-"}, "int64 string", {"a": [None, 1], "b": [None, "x"]}),
    "keep_default_na": ("a\nNA\n1\n", {"keep_default_na": False}, "string", {"a": ["NA", "1"]}),
    "true_values": ("a\nyes\nno\n", {"true_values": ["yes"], "false_values": ["no"]}, "bool", {"a": [True, False]}),
    "dtype": ("a,b\n1,2\n", {"dtype": {"a": str}}, "string int64", {"a": ["1"], "b": [2]}),
    "repeated names": ("a,a,\n1,2,3\n", {}, "int64 int64 int64", {"a": [1], "a.1": [2], "Unnamed: 2": [3]}),
    "a name of two lines": ('"a\nb",c\n1,2\n', {}, "int64 int64", {"a\nb": [1], "c": [2]}),
    "skipped bad rows": ("a,b\n1,2\n3\n4,5,6\n7,8\n", {"on_bad_lines": "skip"}, "int64 int64", {"a": [1, 7], "b": [2, 8]}),
    "header only": ("a,b\n", {}, "null null", {"a": [], "b": []}),
    "escape": ("a\n\"x\\\"y\"\n", {"escapechar": "\\", "doublequote": False}, "string", {"a": ['x"y']}),
    "latin": ("a\nx\n", {"encoding": "latin-1"}, "string", {"a": ["x"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", CSV)
def test_csv(read: Any, name: str) -> None:
    text, options, types, columns = CSV[name]
    dataset = read("csv", text, **options)
    assert " ".join(feature.dtype for feature in dataset.features.values()) == types
    assert dataset.to_dict() == columns


ERRORS: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "too many fields": (
        "a,b\n1,x\n2,y,z\n",
        {},
        r"0.csv, line 3: the row has 3 fields, but there are 2 columns \['a', 'b'\]: '2,y,z'. A field that contains ',' must "
        r"be in quotes. To leave such rows out pass on_bad_lines='skip'.",
    ),
    "too few fields": ("a,b\n\"x\ny\",1\n2\n", {}, "0.csv, line 4: the row has 1 fields.*The value for column 'b' is missing"),
    "a declared type": (
        "a,b\n1,x\n\n2,y\nz,3\n",
        {"features": Features({"a": Value("int32"), "b": Value("string")})},
        r"0.csv, line 5, column 'a': 'z' does not fit the declared type Value\('int32'\)",
    ),
    "a declared range": ("a\n1\n300\n", {"features": Features({"a": Value("int8")})}, "line 3, column 'a': '300' does not fit"),
    "a declared class": (
        "y\npos\nbad\n",
        {"features": Features({"y": ClassLabel(names=["neg", "pos"])})},
        "line 3, column 'y': 'bad' does not fit the declared type ClassLabel",
    ),
    "a declared truth": ("y\ntrue\nmaybe\n", {"features": Features({"y": Value("bool")})}, "line 3, column 'y': 'maybe'"),
    "a declared column": ("a\n1\n", {"features": Features({"b": Value("bool")})}, "0.csv: There is no column 'b'"),
    "an undeclared column": ("a,b\n1,2\n", {"features": Features({"a": Value("int8")})}, r"features= does not name: \['b'\]"),
    "wrong encoding": (
        "温度\n热\n冷\n热\n".encode("gb18030"),
        {},
        "0.csv is not utf-8 text .* It looks like gb18030: pass encoding='gb18030'",
    ),
    "wrong encoding told": ("温度,热\n".encode(), {"encoding": "ascii"}, "0.csv is not ascii text .*pass encoding='utf-8'"),
    "names of another number": ("1,2\n", {"names": ["a"]}, r"has 2 columns, but names= has 1: \['a'\]"),
    "a column to read": ("a,b\n1,2\n", {"usecols": ["bb"]}, "There is no column 'bb'. Did you mean 'b'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_csv_errors(read: Any, name: str) -> None:
    text, options, message = ERRORS[name]
    with pytest.raises(DataError, match=message):
        read("csv", text, **options)


def test_options_that_do_not_exist(read: Any) -> None:
    with pytest.raises(
        OptionError, match=r"load_dataset\('csv'\) has no option 'sepp'. Did you mean 'sep'\? Options are sep, "
    ):
        read("csv", "a\n1\n", sepp=";")
    with pytest.raises(OptionError, match="on_bad_lines must be 'error', 'skip' or 'warn', but is 'wran'"):
        read("csv", "a\n1\n", on_bad_lines="wran")
    with pytest.raises(OptionError, match="sample_by must be 'line', 'paragraph' or 'document', but is 'word'"):
        read("text", "a\n", sample_by="word")


def test_chinese_columns_in_every_encoding(read: Any) -> None:
    text = "辐照度,温度,湿度,压强,实发功率\n800,25.5,40,101.3,3.2\n0,10,80,100,0\n"
    for encoding in ("utf-8", "utf-8-sig", "gb18030", "gbk", "utf-16"):
        dataset = read("csv", text.encode(encoding), encoding=encoding)
        assert dataset.column_names == ["辐照度", "温度", "湿度", "压强", "实发功率"]
        assert dataset[1] == {"辐照度": 0, "温度": 10.0, "湿度": 80, "压强": 100.0, "实发功率": 0.0}


fields = st.sampled_from(
    ["", "1", "-2", "3.5", "1e3", "true", "False", "NA", "x", "007", "12345678901234567890", "nan"]
)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(fields, min_size=1, max_size=12), data=st.data())
def test_csv_types_do_not_depend_on_the_order_of_rows_files_and_blocks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], data: st.DataObject
) -> None:
    from plait.data.readers import blocks, fields

    folder = tmp_path_factory.mktemp("csv")

    def read(order: list[str], cuts: list[int]) -> Dataset:
        paths = []
        for index, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(order)], strict=True)):
            path = folder / f"{len(list(folder.iterdir()))}-{index}.csv"
            path.write_text("a,b\n" + "".join(f"{field},1\n" for field in order[start:stop]))
            paths.append(str(path))
        found: Dataset = load_dataset("csv", data_files=paths, split="train", keep_in_memory=True)
        return found

    first = read(rows, [])
    shuffled = data.draw(st.permutations(range(len(rows))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    size, head = blocks.BLOCK_BYTES, fields.HEAD
    blocks.BLOCK_BYTES, fields.HEAD = 16, 1  # a few rows per block, some rows longer than one; a head of one row
    try:
        second = read([rows[index] for index in shuffled], cuts)
    finally:
        blocks.BLOCK_BYTES, fields.HEAD = size, head
    assert first.features == second.features
    assert repr(second["a"][:]) == repr([first["a"][index] for index in shuffled])


def test_a_word_for_a_missing_value_is_text_beside_text_of_another_file(tmp_path: Path) -> None:
    """Whichever file comes first: a column of NA alone has no type yet, and in a column of text NA is text."""
    for name, rows in (("words", "a\nNA\n"), ("text", "a\nx\n")):
        (tmp_path / f"{name}.csv").write_text(rows)
    for order in (["words", "text"], ["text", "words"]):
        files = [str(tmp_path / f"{name}.csv") for name in order]
        expected = ["NA" if name == "words" else "x" for name in order]
        assert load_dataset("csv", data_files=files, split="train", keep_in_memory=True)["a"] == expected


def test_a_large_file_is_text_when_its_last_row_is(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from plait.data.readers import blocks

    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4096)
    rows = [f"{index:05d},{index}" for index in range(5000)]
    dataset = read("csv", "\n".join(["a,b", *rows, "x,y"]) + "\n")
    assert dataset["a"][:2] + dataset["a"][-2:] == ["00000", "00001", "04999", "x"]
    assert dataset["b"][-2:] == ["4999", "y"]


def test_a_csv_row_longer_than_what_is_parsed_at_once(
    read: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from plait.data.readers import blocks

    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    sizes = [1, 2, 3, 50, 700, 4, 5, 6000, 9, 10]
    cells = ["é\n" * size for size in sizes]
    lines = [f'{size},"{cell}"' for size, cell in zip(sizes, cells, strict=True)]
    dataset = read("csv", "\n".join(["a,b", "0,x,bad", *lines, "", "0,x,bad too"]) + "\n", on_bad_lines="warn")
    assert dataset["a"][:] == sizes
    assert dataset["b"][:] == cells
    # rows that are read again in larger blocks are not told again
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["0,x,bad", "0,x,bad too"]
    dataset = read("csv", "\n".join(["a,b", *lines]), nrows=6)
    assert dataset["a"][:] == sizes[:6]


def test_numbers_that_arrow_reads_otherwise(read: Any) -> None:
    columns = {"0x10": str, "0X1f": str, "1.5": float, "9223372036854775808": str, "inf": float, "NaN": float}
    for last, kind in columns.items():
        found = read("csv", "\n".join(["a", *(str(i) for i in range(200)), last]) + "\n")["a"][:]
        assert found == [kind(i) for i in range(200)] + [None if last == "NaN" else kind(last)], last


# --- json ---


JSON: dict[str, tuple[str, dict[str, Any], str, dict[str, list[Any]]]] = {
    "lines": ('{"a":1,"b":"x"}\n{"a":2.5}\n', {}, "{'a': Value('float64'), 'b': Value('string')}", {"a": [1.0, 2.5], "b": ["x", None]}),
    "no dates": ('{"d":"2020-01-01","e":["2020-01-01"]}\n{"d":"x","e":["y"]}\n', {}, "{'d': Value('string'), 'e': List(Value('string'))}", {"d": ["2020-01-01", "x"], "e": [["2020-01-01"], ["y"]]}),
    "mixed": ('{"a":1}\n{"a":"x"}\n', {}, "{'a': Json(decode=True)}", {"a": [1, "x"]}),
    "mixed lists": ('{"a":[1,"x"]}\n', {}, "{'a': Json(decode=True)}", {"a": [[1, "x"]]}),
    "structs": ('{"a":{"x":1}}\n{"a":{"y":[2]}}\n', {}, "{'a': {'x': Value('int64'), 'y': List(Value('int64'))}}", {"a": [{"x": 1, "y": None}, {"x": None, "y": [2]}]}),
    "array": ('[{"a":1},{"b":2}]', {}, "{'a': Value('int64'), 'b': Value('int64')}", {"a": [1, None], "b": [None, 2]}),
    "an object over lines": ('{"a":\n[1,2]}', {}, "{'a': List(Value('int64'))}", {"a": [[1, 2]]}),
    "field": ('{"version":1,"data":[{"a":1}]}', {"field": "data"}, "{'a': Value('int64')}", {"a": [1]}),
    "field of columns": ('{"data":{"a":[1,2]}}', {"field": "data"}, "{'a': Value('int64')}", {"a": [1, 2]}),
    "large integers": ('{"a":18446744073709551615}\n', {}, "{'a': Value('uint64')}", {"a": [2**64 - 1]}),
    "larger integers": ('{"a":123456789012345678901234}\n', {}, "{'a': Json(decode=True)}", {"a": [123456789012345678901234]}),
    "blank lines": ('\n{"a":1}\n\n{"a":2}\n\n', {}, "{'a': Value('int64')}", {"a": [1, 2]}),
    "chinese": ('{"辐照度":1.5,"t":"甲\\u4e59"}\n', {}, "{'辐照度': Value('float64'), 't': Value('string')}", {"辐照度": [1.5], "t": ["甲乙"]}),
    "declared": ('{"l":"pos","n":1}\n{"n":2}\n', {"features": Features({"l": ClassLabel(names=["neg", "pos"]), "n": Value("int8")})}, "{'l': ClassLabel(names=['neg', 'pos']), 'n': Value('int8')}", {"l": [1, None], "n": [1, 2]}),
    "encoded": ("", {}, "{}", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_json(read: Any, name: str) -> None:
    text, options, features, columns = JSON[name]
    dataset = read("json", text, **options)
    assert repr(dataset.features) == features
    assert dataset.to_dict() == columns


JSON_ERRORS: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "broken line": ('{"a":1}\n{"a":\n{"a":2}\n', {}, "0.json, line 2, character 6 is not JSON: Expecting value: '.\"a\":'"),
    "no object": ('{"a":1}\n3\n', {}, "0.json, line 2: a row must be an object with names, but is 3"),
    "broken array": ('[{"a":1},\n{"a":}]', {}, "0.json, line 2, character 6 is not JSON: Expecting value"),
    "no objects in an array": ('[{"a":1}, 5]', {}, "0.json, row 1: a row must be an object, but is 5"),
    "no field": ('{"data":[]}', {"field": "date"}, r"0.json has no field 'date': its fields are \['data'\]"),
    "declared": ('{"a":1}\n{"a":"x"}\n', {"features": Features({"a": Value("int32")})}, "0.json, line 2, column 'a': 'x' does not fit"),
    "not declared": ('{"a":1}\n{"b":1}\n', {"features": Features({"a": Value("int32")})}, "0.json, line 2: features= has no column 'b'"),
    "mixed": ('{"a":1}\n{"a":"x"}\n', {"on_mixed_types": None}, "0.json: column 'a' has values without a common type: 1 .int. in row 0"),
    "encoding": ('{"温":"热的"}\n'.encode("gbk"), {}, "0.json is not utf-8 text .* It looks like gb18030"),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON_ERRORS)
def test_json_errors(read: Any, name: str) -> None:
    text, options, message = JSON_ERRORS[name]
    with pytest.raises(DataError, match=message):
        read("json", text, **options)


def test_json_in_another_encoding(read: Any) -> None:
    assert read("json", '{"温":"热的"}\n'.encode("gbk"), encoding="gbk")["温"] == ["热的"]


@pytest.mark.parametrize("lines", ['{"温":"热的"}\n', '{"a":"x"}\n{"a":"热的"}\n', '[{"温":"热的"}]'])
def test_json_that_is_not_in_its_encoding_is_named(read: Any, lines: str) -> None:
    with pytest.raises(DataError, match=r"is not utf-8 text from byte \d+ on .* It looks like gb18030: pass encoding="):
        read("json", lines.encode("gbk"))


def test_half_a_character_is_named_where_it_is(read: Any) -> None:
    with pytest.raises(
        DataError, match=r"column 'a', row 1: '\\ud83d' holds half of a character .* Repair it: text\.enc"
    ):
        read("json", '{"a": "x"}\n{"a": "\\ud83d"}\n')
    with pytest.raises(DataError, match=r"column 'b', row 0: .*ud83d.* holds half of a character"):
        Dataset.from_dict({"a": ["x"]}).map(lambda row: {"b": {"c": ["\ud83d"]}})
    repaired = "\ud83d!".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert Dataset.from_dict({"a": [repaired]})[0] == {"a": "\ufffd!"}


def test_json_lists_of_nothing_but_nulls(read: Any) -> None:
    # Arrow's parser gives such lists without their items
    assert read("json", '{"a": [null, null]}\n{"a": null}\n')["a"] == [[None, None], None]


scalar = st.none() | st.integers(-9, 9) | st.floats(0, 1) | st.text(max_size=2) | st.booleans()
json_values = st.recursive(scalar, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2), max_leaves=4)  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from("ab"), json_values, min_size=1), min_size=1, max_size=6),
    data=st.data(),
)
def test_json_rows_come_back_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    import json

    from plait.data.readers import json as module

    folder = tmp_path_factory.mktemp("json")

    def read(items: list[Any], name: str) -> Dataset:
        path = folder / name
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        found: Dataset = load_dataset("json", data_files=str(path), split="train", keep_in_memory=True)
        return found

    def plain(value: Any) -> Any:
        """A value without the fields that are null: a struct takes the fields of every row."""
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items() if inner is not None}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    order = data.draw(st.permutations(range(len(rows))))
    first = read(rows, "first.json")
    block, module._BLOCK = module._BLOCK, 24
    try:
        second = read([rows[index] for index in order], "second.json")
    finally:
        module._BLOCK = block
    assert set(first.features) == set(second.features)
    for index, place in enumerate(order):
        assert plain(second[index]) == plain(first[place]) == plain(rows[place])


# --- others ---


def test_text(read: Any) -> None:
    text = "one\ntwo\r\n\nthree\n\n\nfour"
    assert read("text", text)["text"] == ["one", "two", "", "three", "", "", "four"]
    assert read("text", text, keep_linebreaks=True)["text"] == ["one\n", "two\n", "\n", "three\n", "\n", "\n", "four"]
    assert read("text", text, sample_by="paragraph")["text"] == ["one\ntwo", "three", "four"]
    assert read("text", text, sample_by="document")["text"] == ["one\ntwo\n\nthree\n\n\nfour"]
    assert read("text", "a\n", "b\n")["text"] == ["a", "b"]
    assert read("text", "热\n".encode("gbk"), encoding="gbk")["text"] == ["热"]
    with pytest.raises(DataError, match="0.text is not utf-8 text .* It looks like gb18030"):
        read("text", "热的天气\n".encode("gbk"))


def test_parquet_and_arrow_keep_their_types(tmp_path: Path) -> None:
    features = Features({"y": ClassLabel(names=["a", "b"]), "n": Value("int8"), "l": List(Value("float32"))})
    dataset = Dataset.from_dict({"y": [0, 1, None], "n": [1, 2, 3], "l": [[0.5], [], None]}, features=features)
    dataset.to_parquet(tmp_path / "a.parquet")
    back = load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), split="train", keep_in_memory=True)
    assert back.features == features
    assert back.to_dict() == dataset.to_dict()
    some = load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), split="train", columns=["n"])
    assert some.to_dict() == {"n": [1, 2, 3]}
    with pytest.raises(ColumnError, match="There is no column 'm'. Columns are"):
        load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), split="train", columns=["m"])
    dataset.save_to_disk(tmp_path / "d")
    arrow = load_dataset("arrow", data_files=str(tmp_path / "d" / "*.arrow"), split="train")
    assert arrow.features == features
    assert arrow.cache_files == [{"filename": str(tmp_path / "d" / "data-00000-of-00001.arrow")}]
    (tmp_path / "bad.arrow").write_bytes(b"nothing of it")
    with pytest.raises(DataError, match="bad.arrow is not an Arrow file"):
        load_dataset("arrow", data_files=str(tmp_path / "bad.arrow"))
    with pytest.raises(DataError, match="bad.arrow is not a Parquet file"):
        load_dataset("parquet", data_files=str(tmp_path / "bad.arrow"))


def test_parquet_files_with_different_types_widen(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"a": pa.array([1], pa.int32())}), tmp_path / "1.parquet")
    parquet.write_table(pa.table({"a": [2.5], "b": ["x"]}), tmp_path / "2.parquet")
    for order in (["1", "2"], ["2", "1"]):
        paths = [str(tmp_path / f"{name}.parquet") for name in order]
        found = load_dataset("parquet", data_files=paths, split="train", keep_in_memory=True)
        assert found.features == Features({"a": Value("float64"), "b": Value("string")})
        assert sorted(found["a"][:]) == [1.0, 2.5]
    parquet.write_table(pa.table({"a": ["x"]}), tmp_path / "3.parquet")
    with pytest.raises(
        DataError, match=r"3.parquet: column 'a' is Value\('string'\), but Value\('int32'\) in files before"
    ):
        load_dataset("parquet", data_files=[str(tmp_path / f"{i}.parquet") for i in (1, 3)])


def test_compressed_files(tmp_path: Path) -> None:
    text = b"a,b\n1,x\n"
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "a.csv.bz2").write_bytes(bz2.compress(text))
    (tmp_path / "a.csv.xz").write_bytes(lzma.compress(text))
    (tmp_path / "a.csv.zst").write_bytes(pa.compress(text, codec="zstd", asbytes=True))
    for suffix in ("gz", "bz2", "xz", "zst"):
        path = str(tmp_path / f"a.csv.{suffix}")
        assert load_dataset("csv", data_files=path, split="train", keep_in_memory=True).to_list() == [
            {"a": 1, "b": "x"}
        ]
        assert load_dataset(path, keep_in_memory=True)["train"].to_list() == [{"a": 1, "b": "x"}]


# --- which files ---


def test_files_folders_globs_and_splits(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "val", "test"):
        (tmp_path / f"{name}.csv").write_text(f"a\n{name}\n")
    whole = load_dataset(str(tmp_path), keep_in_memory=True)
    assert isinstance(whole, DatasetDict)
    assert {name: part["a"][:] for name, part in whole.items()} == {
        "train": ["train-0", "train-1"],
        "validation": ["val"],
        "test": ["test"],
    }
    assert list(load_dataset("csv", data_dir=str(tmp_path), keep_in_memory=True)) == ["train", "validation", "test"]
    one = load_dataset("csv", data_files=str(tmp_path / "train-*.csv"), split="train", keep_in_memory=True)
    assert one["a"] == ["train-0", "train-1"]
    named = load_dataset(
        "csv", data_files={"x": "val.csv", "y": ["test.csv"]}, data_dir=str(tmp_path), keep_in_memory=True
    )
    assert {name: part["a"][:] for name, part in named.items()} == {"x": ["val"], "y": ["test"]}
    assert named["x"].split == "x"
    single = load_dataset(str(tmp_path / "val.csv"), split="train", keep_in_memory=True)
    assert single["a"] == ["val"]


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "power.csv").write_text("a\n1\n")
    with pytest.raises(NotFoundError, match="There is no file or folder .*/powr.csv. Did you mean 'power.csv'"):
        load_dataset("csv", data_files=str(tmp_path / "powr.csv"))
    with pytest.raises(FileNotFoundError, match="In .* there is power.csv"):
        load_dataset("csv", data_files=str(tmp_path / "zzzz.parquet"))
    with pytest.raises(NotFoundError, match=r"No file matches the pattern .*/\*.tsv. In .* there is power.csv"):
        load_dataset("csv", data_files=str(tmp_path / "*.tsv"))
    with pytest.raises(NotFoundError, match=r"There are no data files of the kinds \['.parquet'\] below"):
        load_dataset("parquet", data_dir=str(tmp_path))
    with pytest.raises(NotFoundError, match="There is no file or folder .*/nowhere"):
        load_dataset("csv", data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(OptionError, match="Say which files to read: data_files="):
        load_dataset("csv")
    with pytest.raises(ColumnError, match="There is no split 'trian'. Did you mean 'train'. Splits are .'train'."):
        load_dataset("csv", data_files=str(tmp_path / "power.csv"), split="trian", keep_in_memory=True)
    monkeypatch.setenv("PLAIT_OFFLINE", "1")
    message = "(?s)'cvs' is neither a format .* nor a file or folder here. Did you mean 'csv'.*not asked: offline"
    with pytest.raises(OfflineError, match=message):
        load_dataset("cvs")
    (tmp_path / "x.bin").write_bytes(b"")
    assert load_dataset(str(tmp_path), split="train", keep_in_memory=True)["a"] == [1]
    named = [str(tmp_path / "x.bin"), str(tmp_path / "power.csv")]
    with pytest.raises(
        DataError, match=r"The files have the suffixes \['.bin', '.csv'\]; to read them, name the format"
    ):
        load_dataset(str(tmp_path), data_files=named)
    (tmp_path / "power.json").write_text("{}")
    with pytest.raises(DataError, match="There are as many csv files as json files. Name the format: load_dataset"):
        load_dataset(str(tmp_path))


def test_a_dict_of_splits_names_the_split_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    dataset = load_dataset(str(tmp_path), keep_in_memory=True)
    with pytest.raises(ColumnError, match="There is no split 'tran'. Did you mean 'train'. Splits are .'train'."):
        dataset["tran"]
    with pytest.raises(ColumnError, match="'a' is a column; choose a split first, for example .'train'..'a'."):
        dataset["a"]


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_compressed_file_that_is_cut_off_is_named(tmp_path: Path, suffix: str, streaming: bool) -> None:
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[suffix]
    lines = "a,b\n" + "".join(f"{number},{number * number}\n" for number in range(20_000))
    path = tmp_path / f"a.csv.{suffix}"
    path.write_bytes(pack(lines.encode())[:-40])
    expected = rf"a\.csv\.{suffix} cannot be unpacked: .*\. It is cut off or damaged; get the file again\."
    with pytest.raises(DataError, match=expected):
        list(load_dataset("csv", data_files=str(path), split="train", streaming=streaming))


def test_large_integers_beside_fractions_need_a_declared_type(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = ["a", str(2**53 + 1), *map(str, range(300_000)), "1.5"]  # the fraction comes in a later block
    path.write_text("\n".join(lines) + "\n")
    expected = r"Column 'a' has no type that holds all its values: .*9007199254740993.* Value\('string'\) keeps every"
    with pytest.raises(DataError, match=expected):
        load_dataset("csv", data_files=str(path), split="train", keep_in_memory=True)
    whole = load_dataset("csv", data_files=str(path), split="train", features={"a": Value("string")})
    assert whole[0] == {"a": str(2**53 + 1)}


@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_a_broken_line_is_named_in_whichever_block_it_is(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.data.readers.json._BLOCK", block)
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n' + b'{"a": 2}\n\n' * 100 + b'{"a": }\n{"a": 3}\n')
    with pytest.raises(DataError, match="a.json, line 203, character 7 is not JSON: Expecting value"):
        load_dataset("json", data_files=str(path), split="train", keep_in_memory=True)
