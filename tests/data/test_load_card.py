"""READMEs and names of files: which files belong to which split and configuration, and which types are declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from datasets.data_files import get_data_patterns, resolve_pattern

from plait.data import (
    Features,
    get_dataset_config_names,
    get_dataset_default_config_name,
    get_dataset_split_names,
    load_dataset,
)
from plait.data.card import features_of_yaml, read_card
from plait.data.locate import matching, patterns_of, split_by_name
from plait.errors import DataError, OptionError

# --- names that speak of splits ---

NAMES = [
    ["train.csv", "test.csv", "dev.csv"],
    ["train-0.csv", "train_1.csv", "my-validation.csv", "x.eval.csv"],
    ["training.csv", "testing.csv", "valid.csv"],
    ["contest.csv", "trained.csv"],
    ["val/a.csv", "train/b.csv", "evaluation/c.csv"],
    ["a/train1/x.csv", "a/test 2/y.csv"],
    ["train/test.csv", "test/train.csv"],
    ["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv", "data/val.unseen-00000-of-00001.csv"],
    ["data/a-00000-of-00001.csv", "data/train-00000-of-00001.csv", "data/test-00000-of-00001-abc.csv"],
    ["a.csv", "b/c.csv"],
    ["deep/er/train/a.csv", "deep/er/test/b.csv"],
    ["train2.csv", "0test.csv"],
]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
def test_names_are_read_as_datasets_reads_them(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a\n")
    expected: dict[str, list[str]] = {}
    for split, patterns in get_data_patterns(str(tmp_path)).items():
        found: set[str] = set()
        for pattern in patterns:
            try:
                found |= {str(Path(path).relative_to(tmp_path)) for path in resolve_pattern(pattern, str(tmp_path))}
            except FileNotFoundError:
                continue
        expected[str(split)] = sorted(found)
    ours = split_by_name(sorted(names))
    assert ours == expected
    assert list(ours) == list(expected)


def test_names_that_datasets_would_lose() -> None:
    """A file of no split is not lost when nothing is called train, and large letters are letters."""
    assert split_by_name(["a.csv", "test.csv"]) == {"train": ["a.csv"], "test": ["test.csv"]}
    assert split_by_name(["Test.csv", "Train.csv"]) == {"train": ["Train.csv"], "test": ["Test.csv"]}


def test_patterns() -> None:
    names = ["a.csv", "x/b.csv", "x/y/c.csv", "x/y/d.json", ".hidden.csv", "__cache__/e.csv", "[1].csv"]

    def found(pattern: str) -> list[str]:
        return matching(names, pattern, place="here")

    assert found("*.csv") == ["[1].csv", "a.csv"]
    assert found("**/*.csv") == found("**.csv") == ["[1].csv", "a.csv", "x/b.csv", "x/y/c.csv"]
    assert found("x/*") == ["x/b.csv"]
    assert found("x/") == found("./x") == found("x/**") == ["x/b.csv", "x/y/c.csv", "x/y/d.json"]
    assert found("x/y/[cd].*") == ["x/y/c.csv", "x/y/d.json"]
    assert found("x/y/[!c].*") == ["x/y/d.json"]
    assert found("?.csv") == ["a.csv"]
    assert found(".hidden.csv") == [".hidden.csv"]
    with pytest.raises(DataError, match=r"^here has no file 'x/y/c.cvs'. Did you mean 'x/y/c.csv'\? It holds a.csv, "):
        found("x/y/c.cvs")


def test_spellings_of_data_files() -> None:
    assert patterns_of("a") == patterns_of(["a"]) == {"train": ["a"]}
    assert patterns_of({"x": "a", "y": ["b", Path("c")]}) == {"x": ["a"], "y": ["b", "c"]}
    assert patterns_of([{"split": "x", "path": "a"}, {"split": "y", "path": ["b"]}]) == {"x": ["a"], "y": ["b"]}
    for wrong, message in (
        (5, "data_files takes paths, lists of paths and dicts of splits, not 5."),
        ([], "data_files names no file."),
        ([{"split": "x"}], "An entry of data_files is a path or {'split': …, 'path': …}, not {'split': 'x'}."),
        ([{"split": "x", "path": "a"}] * 2, "data_files names the split 'x' twice: give it a list of paths."),
    ):
        with pytest.raises(OptionError) as caught:
            patterns_of(wrong)
        assert str(caught.value) == message


# --- features in YAML ---

FEATURES: dict[str, Any] = {
    "a": datasets.Value("int64"),
    "when": datasets.Value("timestamp[us, tz=UTC]"),
    "label": datasets.ClassLabel(names=["neg", "pos"]),
    "many": datasets.ClassLabel(num_classes=12),
    "texts": datasets.List(datasets.Value("string")),
    "pair": datasets.List(datasets.Value("float32"), length=2),
    "deep": datasets.List(datasets.List({"x": datasets.Value("int8")})),
    "large": datasets.LargeList(datasets.Value("string")),
    "struct": {"x": datasets.Value("bool"), "y": {"z": datasets.ClassLabel(names=["u"])}},
    "matrix": datasets.Array2D(shape=(2, 3), dtype="float32"),
    "image": datasets.Image(),
    "audio": datasets.Audio(sampling_rate=16000),
    "plain_audio": datasets.Audio(),
    "raw": datasets.Image(decode=False),
    "texts_of": datasets.Translation(languages=["en", "zh"]),
}


@pytest.mark.parametrize("name", FEATURES)
def test_features_of_a_readme(name: str) -> None:
    theirs = datasets.Features({name: FEATURES[name]})
    written = yaml.safe_load(yaml.safe_dump(theirs._to_yaml_list()))
    assert features_of_yaml(written) == Features.from_dict(theirs.to_dict())


def test_older_spellings_of_features() -> None:
    written = yaml.safe_load(
        """
- {name: tokens, sequence: string}
- {name: tags, sequence: {class_label: {names: {'0': O, '1': B}}}}
- {name: answers, sequence: [{name: text, dtype: string}, {name: start, dtype: int32}]}
- {name: rows, list: [{name: x, dtype: int64}]}
"""
    )
    assert features_of_yaml(written) == Features.from_dict(datasets.Features._from_yaml_list(written).to_dict())


# --- cards ---


def test_a_card() -> None:
    text = (
        "---\nconfigs:\n- {config_name: a, data_files: x.csv, sep: ';'}\n- {config_name: b, default: true}\n---\n# T\n"
    )
    card = read_card(text, "org/x")
    assert card.names == ["a", "b"]
    assert card.configuration(None, "org/x").name == "b"
    assert (card.configuration("a", "org/x").data_files, card.configuration("a", "org/x").options) == (
        "x.csv",
        {"sep": ";"},
    )
    assert read_card(text.replace("\n", "\r\n"), "org/x").names == ["a", "b"]
    for plain in ("# no front matter\n", "", "---\n- a\n---\n", "---\nlicense: mit\n---\n"):
        assert read_card(plain, "org/x").names == []
    features = read_card("---\ndataset_info:\n  features: [{name: a, dtype: int8}]\n---\n", "org/x")
    assert features.configuration(None, "org/x").features == Features({"a": "int8"})


LIST = "configs in README.md of org/x must be a list of entries with config_name, not "
UNREAD = "The features of 'default' in README.md of org/x cannot be read: "
WRONG = [
    ("configs: {a: 1}", LIST + "{'a': 1}."),
    ("configs: [{data_files: a}]", LIST + "[{'data_files': 'a'}]."),
    ("dataset_info: {features: [{name: a, dtype: int63}]}", UNREAD),
    (
        "dataset_info: {features: [{dtype: int64}]}",
        UNREAD + "features are a list of entries with name, not [{'dtype': 'int64'}].",
    ),
]


@pytest.mark.parametrize(("yaml_text", "message"), WRONG)
def test_cards_that_are_wrong(yaml_text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_card(f"---\n{yaml_text}\n---\n", "org/x")
    assert str(caught.value).startswith(message)


def test_yaml_makes_no_objects() -> None:
    with pytest.raises(DataError, match="could not determine a constructor for the tag"):
        read_card("---\na: !!python/object/apply:os.system ['true']\n---\n", "org/x")


def test_options_of_a_card_hold_below_those_of_a_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- {config_name: x, sep: ';', decimal: ',', glitter: 1}\n"
        "dataset_info:\n  config_name: x\n  features: [{name: a, dtype: float32}, {name: b, dtype: string}]\n---\n"
    )
    (tmp_path / "a.csv").write_text("a;b\n1,5;2\n")
    with caplog.at_level("INFO", logger="plait.data"):
        found = load_dataset(str(tmp_path), split="train", keep_in_memory=True)
    assert found.features == Features({"a": "float32", "b": "string"})
    assert found.to_dict() == {"a": [1.5], "b": ["2"]}
    assert f"'glitter' of configuration 'x' of {tmp_path} has no effect" in caplog.text
    other = load_dataset(
        str(tmp_path), split="train", keep_in_memory=True, decimal=".", features={"a": "string", "b": "int8"}
    )
    assert other.to_dict() == {"a": ["1,5"], "b": [2]}
    assert load_dataset(str(tmp_path), split="train", keep_in_memory=True, usecols=["b"]).to_dict() == {"b": [2]}


# --- whole repositories, against datasets ---

HEAD = "---\nconfigs:\n"
REPOSITORIES: dict[str, tuple[dict[str, str], list[str | None]]] = {
    "no card": ({"train.csv": "a,b\n1,x\n", "test.csv": "a,b\n2,y\n"}, [None]),
    "json lines in folders": (
        {"train/1.jsonl": '{"a": 1}\n', "train/2.jsonl": '{"a": 2}\n', "dev/1.jsonl": '{"a": 3}\n'},
        [None],
    ),
    "a tree of splits": (
        {
            "README.md": HEAD + "- config_name: one\n  data_files:\n  - {split: fit, path: 'x/*.csv'}\n"
            "  - {split: check, path: [y.csv, x/2.csv]}\n"
            "- config_name: two\n  data_files: '**/*.csv'\n  default: true\n---\n",
            "x/1.csv": "a\n1\n",
            "x/2.csv": "a\n2\n",
            "y.csv": "a\n3\n",
        },
        [None, "one", "two"],
    ),
    "folders of configurations": (
        {
            "README.md": HEAD + "- {config_name: en, data_dir: en}\n- {config_name: zh, data_dir: zh}\n---\n",
            "en/train.csv": "a\n1\n",
            "zh/train.csv": "a\n2\n",
            "zh/test.csv": "a\n3\n",
        },
        ["en", "zh"],
    ),
    "options of a reader": (
        {
            "README.md": HEAD + "- {config_name: default, data_files: a.csv, sep: ';', names: [x, y]}\n---\n",
            "a.csv": "1;2\n3;4\n",
        },
        [None, "default"],
    ),
    "declared types": (
        {
            "README.md": "---\ndataset_info:\n  features:\n  - {name: a, dtype: float32}\n  - name: y\n"
            "    dtype: {class_label: {names: {'0': n, '1': p}}}\n---\n",
            "train.csv": "a,y\n1,0\n2,1\n",
        },
        [None],
    ),
    "shards with a name": ({"data/big-00000-of-00002.csv": "a\n1\n", "data/big-00001-of-00002.csv": "a\n2\n"}, [None]),
    "files of another kind": ({"train.csv": "a\n1\n", "test.csv": "a\n2\n", "notes.json": "{}", "x.py": ""}, [None]),
    "tabs": ({"train.tsv": "a\tb\n1\tx, y\n"}, [None]),
    "text": ({"train.txt": "one\ntwo\n", "test.txt": "three"}, [None]),
}  # fmt: skip


def plain(found: Any) -> dict[str, dict[str, Any]]:
    return {
        str(split): {
            "rows": part.to_dict(),
            "types": str(dict(part.features)).replace("large_string", "string"),
        }
        for split, part in found.items()
    }


@pytest.mark.parametrize("name", REPOSITORIES)
def test_repositories_are_read_as_datasets_reads_them(name: str, tmp_path: Path) -> None:
    files, configurations = REPOSITORIES[name]
    folder = tmp_path / "repository"
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for configuration in configurations:
        ours = load_dataset(str(folder), configuration, keep_in_memory=True)
        expected = datasets.load_dataset(str(folder), configuration, cache_dir=str(tmp_path / "cache"))
        assert plain(ours) == plain(expected)
    assert get_dataset_config_names(str(folder)) == datasets.get_dataset_config_names(str(folder))
    first = configurations[-1]
    assert get_dataset_split_names(str(folder), first) == datasets.get_dataset_split_names(str(folder), first)
    named = datasets.get_dataset_default_config_name(str(folder))
    assert get_dataset_default_config_name(str(folder)) == named


_BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{_BOMB}configs: *j\n", "cannot be read: its aliases stand for more than 1000000 values"),
        (f"{_BOMB}configs: [{{config_name: *j}}]\n", "cannot be read: its aliases stand for more than 1000000 values"),
        ("configs: &a [*a]\n", "cannot be read: a value holds itself"),
        ("date: 2020-13-45\n", r"cannot be read: month must be in 1\.\.12"),
        (f"a: {'[' * 3000}{']' * 3000}\n", r"goes too deep to be read\."),
        ("a: !!python/object/apply:os.system [id]\n", "cannot be read: could not determine a constructor for the tag"),
    ],
    ids=["aliases", "aliases in a name", "cycle", "date", "depth", "object"],
)
def test_a_hostile_readme_is_an_error_at_once(text: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"^The YAML at the top of README\.md of x/y {message}"):
        read_card(f"---\n{text}---\n", "x/y")


def test_patterns_match_as_globs_do_and_take_no_time() -> None:
    names = ["a/b/c.csv", "a/c.csv", "c.csv", "a/d1.csv", "a/d2.csv", "a/e-[.csv"]
    for pattern, expected in {
        "*.csv": ["c.csv"],
        "**/*.csv": names,
        "a/**": names[:2] + names[3:],
        "a/*": ["a/c.csv", "a/d1.csv", "a/d2.csv", "a/e-[.csv"],
        "**/c.csv": names[:3],
        "a/d?.csv": ["a/d1.csv", "a/d2.csv"],
        "a/d[!1].csv": ["a/d2.csv"],
        "a/d[1-3].csv": ["a/d1.csv", "a/d2.csv"],
        "*/e-[*": ["a/e-[.csv"],
    }.items():
        assert sorted(matching(names, pattern, place="x")) == sorted(expected), pattern
    for pattern in ("**/" * 30 + "x", "*a" * 40 + "x", "[z-a]*"):  # as regular expressions two would run for ever
        with pytest.raises(DataError, match="^x has no file "):
            matching(["a/" * 60 + "b", "a" * 200], pattern, place="x")
