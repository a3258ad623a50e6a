"""Pictures and sounds in folders and archives: the rows that datasets 5.2 gives, lazily, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
from PIL import Image as Pillow

from plait import data as plait
from plait.data import Audio, ClassLabel, Image, List, Value, load_dataset
from plait.errors import DataError, IntegrityError, NotFoundError


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(np.full((2, 3, 3), shade, dtype=np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def sound(value: float) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.full(8, value, dtype=np.float32), 8000, format="WAV", subtype="FLOAT")
    return stream.getvalue()


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def theirs(format: str, folder: Path, **options: Any) -> Any:
    found = datasets.load_dataset(format, data_dir=str(folder), cache_dir=str(folder.parent / "cache"), **options)
    kinds = {"image": datasets.Image(decode=False), "audio": datasets.Audio(decode=False)}
    for name, kind in kinds.items():
        if name in next(iter(found.values())).column_names:
            found = found.cast_column(name, kind)
    return found


def stored(found: Any) -> dict[str, list[dict[str, Any]]]:
    """All rows as they are stored, by split."""
    return {name: part.table.to_arrow().to_pylist() for name, part in found.items()}


CLASSES = {
    f"{split}/{name}/{n}.png": picture(n) for split in ("train", "test") for name in ("dog", "cat") for n in (1, 2)
}


def test_folders_are_labels(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", CLASSES)
    ours = load_dataset("imagefolder", data_dir=str(folder), keep_in_memory=True)
    expected = theirs("imagefolder", folder)
    assert ours["train"].features == {"image": Image(), "label": ClassLabel(names=["cat", "dog"])}
    assert stored(ours) == {name: part.to_list() for name, part in expected.items()}
    assert np.asarray(ours["test"][1]["image"]).tolist() == np.full((2, 3, 3), 2).tolist()
    assert ours["train"]["label"] == [0, 0, 1, 1]
    by_name = load_dataset(str(folder), split="test", keep_in_memory=True)
    assert by_name.to_dict()["label"] == [0, 0, 1, 1], "pictures in a folder need no name of a format"
    plain = load_dataset("imagefolder", data_dir=str(folder), split="train", drop_labels=True, keep_in_memory=True)
    assert plain.column_names == ["image"]


def test_folders_that_are_splits_are_no_labels(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {"train/1.png": picture(1), "test/2.png": picture(2), "test/3.png": picture(3)})
    ours = load_dataset("imagefolder", data_dir=str(folder), keep_in_memory=True)
    assert {name: part.column_names for name, part in ours.items()} == {"train": ["image"], "test": ["image"]}
    labelled = load_dataset("imagefolder", data_dir=str(folder), drop_labels=False, split="test", keep_in_memory=True)
    assert labelled.features["label"] == ClassLabel(names=["test", "train"])
    assert labelled["label"] == [0, 0]


METADATA: dict[str, str] = {
    "metadata.csv": "file_name,text\n1.png,one\nsub/2.png,two\n",
    "metadata.jsonl": '{"file_name": "1.png", "text": "one"}\n{"file_name": "sub/2.png", "text": "two"}\n',
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {"1.png": picture(1), "sub/2.png": picture(2), name: METADATA[name]})
    ours = load_dataset("imagefolder", data_dir=str(folder), keep_in_memory=True)
    expected = theirs("imagefolder", folder)
    assert stored(ours) == {split: part.to_list() for split, part in expected.items()}
    assert ours["train"].column_names == ["image", "text"]
    assert ours["train"][1]["image"].getpixel((0, 0)) == (2, 2, 2)
    dropped = load_dataset("imagefolder", data_dir=str(folder), drop_metadata=True, keep_in_memory=True)
    assert dropped["train"].column_names == ["image"]


def test_metadata_above_the_splits_belongs_to_all(tmp_path: Path) -> None:
    table = "file_name,mask_file_name,y\ntrain/1.png,train/2.png,5\ntest/3.png,,6\n"
    files: dict[str, bytes | str] = {f"{name}.png": picture(1) for name in ("train/1", "train/2", "test/3")}
    folder = write(tmp_path / "x", {**files, "metadata.csv": table})
    ours = load_dataset(str(folder), keep_in_memory=True)
    assert {name: part["y"][:] for name, part in ours.items()} == {"train": [5], "test": [6]}
    assert ours["train"].features["mask"] == Image()
    assert ours["test"].table.to_arrow().to_pylist()[0]["mask"] is None


def test_folders_without_pictures(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {"a.csv": "a\n"})
    with pytest.raises(NotFoundError, match=r"^None of the 1 files is of a kind that imagefolder reads: \.jpg, "):
        load_dataset("imagefolder", data_dir=str(folder), keep_in_memory=True)


def test_several_files_of_a_row(tmp_path: Path) -> None:
    lines = '{"file_names": ["1.png", "2.png"], "y": 1}\n{"file_names": [], "y": 2}\n'
    folder = write(tmp_path / "x", {"1.png": picture(1), "2.png": picture(2), "metadata.jsonl": lines})
    ours = load_dataset("imagefolder", data_dir=str(folder), split="train", keep_in_memory=True)
    assert ours.features["images"] == List(Image())
    assert [len(images) for images in ours["images"]] == [2, 0]
    assert ours[0]["images"][1].getpixel((0, 0)) == (2, 2, 2)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file_name\n../s.png", "metadata.csv, row 0: '../s.png' is not a file beside it: it has the component '..'."),
        ("file_name\n/etc/x.png\n", "metadata.csv, row 0: '/etc/x.png' is not a file beside it: it is absolute."),
        ("file_name\n1.png\nnowhere.png\n", "metadata.csv, row 1: there is no file 'nowhere.png'."),
        ("n\n1.png\n", "metadata.csv has no column file_name, *_file_name, file_names or *_file_names; it has ['n']."),
    ],
)  # fmt: skip
def test_metadata_that_is_wrong(table: str, message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {"1.png": picture(1), "metadata.csv": table})
    write(tmp_path, {"s.png": picture(9)})
    with pytest.raises(DataError) as caught:
        load_dataset("imagefolder", data_dir=str(folder), keep_in_memory=True)
    assert str(caught.value) == f"{folder}/{message}"


def test_sounds(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {"low/1.wav": sound(0.25), "high/2.wav": sound(0.5)})
    ours = load_dataset("audiofolder", data_dir=str(folder), keep_in_memory=True)
    assert ours["train"].features == {"audio": Audio(), "label": ClassLabel(names=["high", "low"])}
    assert [row["audio"] for row in stored(ours)["train"]] == [
        {"bytes": None, "path": str(folder / name)} for name in ("high/2.wav", "low/1.wav")
    ]
    assert ours["train"]["label"] == [0, 1]
    assert ours["train"][0]["audio"]["array"].tolist() == [0.5] * 8
    assert ours["train"][0]["audio"]["sampling_rate"] == 8000


def test_the_cache_knows_the_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {"a/1.png": picture(1), "b/2.png": picture(2)})
    first = load_dataset(str(folder), split="train", cache_dir=tmp_path / "cache")
    write(folder, {"c/3.png": picture(3)})
    second = load_dataset(str(folder), split="train", cache_dir=tmp_path / "cache")
    assert (len(first), len(second)) == (2, 3)
    assert second.features["label"] == ClassLabel(names=["a", "b", "c"])


def test_zip_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in {"cat/1.png": picture(1), "dog/2.png": picture(2), "__MACOSX/cat/1.png": b"x"}.items():
            archive.writestr(name, data)
    ours = load_dataset("imagefolder", data_files=str(tmp_path / "x.zip"), split="train", cache_dir=tmp_path / "cache")
    assert ours["label"] == [0, 1]
    assert [row["image"].getpixel((0, 0))[0] for row in ours] == [1, 2]
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.writestr("1.png", picture(1))
        archive.writestr("metadata.csv", "file_name,y\n1.png,7\n")
    for format in ("imagefolder", None):
        source = {"data_files": str(tmp_path / "y.zip"), "cache_dir": tmp_path / "cache"}
        described = load_dataset(format or source.pop("data_files"), split="train", **source)
        assert described["y"] == [7], "metadata in an archive"
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
        archive.writestr("b.csv", "a\n2\n")
    table = load_dataset("csv", data_files=str(tmp_path / "t.zip"), split="train", cache_dir=tmp_path / "cache")
    assert table["a"] == [1, 2]
    assert load_dataset(str(tmp_path / "t.zip"), split="train", cache_dir=tmp_path / "cache")["a"] == [1, 2]
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil.csv", "a\n1\n")
    with pytest.raises(IntegrityError, match="'../evil.csv', it has the component '..'"):
        load_dataset("csv", data_files=str(tmp_path / "evil.zip"), cache_dir=tmp_path / "cache")
    assert not list(tmp_path.rglob("evil.csv"))
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a", "x")
        archive.writestr("a/b.csv", "a\n1\n")
    with pytest.raises(
        IntegrityError, match=r"two.zip is not unpacked: its file 'a/b.csv' and another would lie in one"
    ):
        load_dataset("csv", data_files=str(tmp_path / "two.zip"), cache_dir=tmp_path / "cache")
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    with pytest.raises(DataError, match=r"empty.zip holds no data files\."):
        load_dataset("csv", data_files=str(tmp_path / "empty.zip"), cache_dir=tmp_path / "cache")
    write(tmp_path, {"broken.zip": b"PK"})
    with pytest.raises(DataError, match=r"broken.zip cannot be unpacked: File is not a zip file\."):
        load_dataset("csv", data_files=str(tmp_path / "broken.zip"), cache_dir=tmp_path / "cache")


def tarred(path: Path, files: dict[str, bytes], link: str | None = None) -> str:
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix in ('.gz', '.xz', '.bz2') else ''}") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        if link is not None:
            entry = tarfile.TarInfo("link.csv")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
    return str(path)


def test_tar_archives_of_a_format_that_is_named(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("a.tar", "b.tar.gz", "c.tar.xz", "d.tar.bz2"):
        path = tarred(tmp_path / name, {"./x/1.csv": b"a\n1\n", "2.csv": b"a\n2\n"})
        ours = load_dataset("csv", data_files=path, split="train", cache_dir=cache)
        theirs = datasets.load_dataset("csv", data_files=path, split="train", cache_dir=str(tmp_path / "theirs"))
        assert sorted(ours["a"]) == sorted(theirs["a"][:]) == [1, 2]
    pictures = tarred(tmp_path / "p.tar.gz", {"cat/1.png": picture(1), "dog/2.png": picture(2)})
    assert load_dataset("imagefolder", data_files=pictures, split="train", cache_dir=cache)["label"] == [0, 1]
    with pytest.raises(IntegrityError, match=r"of its file '../evil.csv', it has the component '..'"):
        load_dataset("csv", data_files=tarred(tmp_path / "e.tar", {"../evil.csv": b"a\n1\n"}), cache_dir=cache)
    with pytest.raises(IntegrityError, match=r"of its file 'link.csv', it is a link or a device"):
        load_dataset("csv", data_files=tarred(tmp_path / "l.tar", {}, link="/etc/passwd"), cache_dir=cache)
    assert not list(tmp_path.rglob("evil.csv"))
    write(tmp_path, {"broken.tar.gz": b"\x1f\x8b\x08", "a.7z": b""})
    with pytest.raises(DataError, match=r"broken.tar.gz cannot be unpacked: "):
        load_dataset("csv", data_files=str(tmp_path / "broken.tar.gz"), cache_dir=cache)
    with pytest.raises(
        DataError, match=r"a.7z is an archive that is not opened here: name the format .* must be unpack"
    ):
        load_dataset("csv", data_files=str(tmp_path / "a.7z"), cache_dir=cache)


# --- webdataset ---


def shard(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return str(path)


def numbers(*values: float) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(values, dtype=np.float32))
    return stream.getvalue()


def test_webdataset(tmp_path: Path) -> None:
    paths = []
    for part in range(2):
        files: dict[str, bytes] = {}
        for n in (part * 2, part * 2 + 1):
            row = {"png": picture(n), "cls": str(n).encode(), "npy": numbers(n, 1)}
            row |= {"json": json.dumps({"a": n, "b": [1]}).encode(), "caption.txt": "热".encode(), "bin": b"\0"}
            files |= {f"x/{n:03}.{ending}": data for ending, data in row.items()}
        paths.append(shard(tmp_path / f"{part}.tar", files))
    ours = load_dataset("webdataset", data_files=paths, split="train", keep_in_memory=True)
    cache = str(tmp_path / "cache")
    expected = datasets.load_dataset("webdataset", data_files=paths, split="train", cache_dir=cache)
    expected = expected.cast_column("png", datasets.Image(decode=False))
    assert ours.column_names == expected.column_names
    assert ours.table.to_arrow().to_pylist() == expected.to_list()
    assert ours.features["png"] == Image()
    assert ours.features["npy"] == List(Value("float32"))
    assert ours[3]["png"].getpixel((0, 0)) == (3, 3, 3)
    assert load_dataset(paths[0], split="train", keep_in_memory=True)["cls"] == [0, 1]


def test_webdataset_sounds(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"a.wav": sound(0.5), "a.txt.gz": gzip.compress(b"x")})
    ours = load_dataset("webdataset", data_files=path, split="train", keep_in_memory=True)
    assert ours.features["wav"] == Audio()
    assert ours[0]["wav"]["path"] == "a.wav"
    assert ours[0]["wav"]["array"].tolist() == [0.5] * 8
    assert ours[0]["txt.gz"] == "x"


def test_webdataset_rows_may_lack_fields(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "a.tar", {"0.txt": b"x", "0.json": b"1", "1.json": b'"y"', ".hidden.txt": b"", "2.txt": b"z"}
    )
    ours = load_dataset("webdataset", data_files=path, split="train", keep_in_memory=True)
    assert ours["txt"] == ["x", None, "z"]
    assert ours["json"] == [1, "y", None]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("0.pyd", b"\x80\x04.", "0.pyd is a pickle, and reading it would run code. Store it as .npy, .json or .txt."),
        ("0.pth", b"", "0.pth is a pickle, and reading it would run code. Store it as .npy, .json or .txt."),
        ("0.cls", b"cat", "0.cls cannot be read as .cls: invalid literal for int() with base 10: b'cat'."),
        ("0.json", b"[", "0.json cannot be read as .json: Expecting value: line 1 column 2 (char 1)."),
    ],
)  # fmt: skip
def test_webdataset_files_that_are_refused(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {name: data})
    with pytest.raises(DataError) as caught:
        load_dataset("webdataset", data_files=path, keep_in_memory=True)
    assert str(caught.value) == f"{path}, {message}"


def test_webdataset_pickled_arrays_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    path = shard(tmp_path / "a.tar", {"0.npy": stream.getvalue()})
    with pytest.raises(DataError, match=r"0.npy cannot be read as .npy: Object arrays cannot be loaded"):
        load_dataset("webdataset", data_files=path, keep_in_memory=True)
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("0.txt"))
    with pytest.raises(DataError, match=r"twice.tar has two files '0.txt'.$"):
        load_dataset("webdataset", data_files=str(tmp_path / "twice.tar"), keep_in_memory=True)
    (tmp_path / "b.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match="b.tar is not a tar archive that can be read"):
        load_dataset("webdataset", data_files=str(tmp_path / "b.tar"), keep_in_memory=True)


# --- single pictures and sounds ---


def photo(orientation: int | None) -> bytes:
    exif = Pillow.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    made = Pillow.new("RGB", (6, 4), (250, 0, 0))
    made.paste((0, 0, 250), (0, 0, 3, 4))
    made.save(stream := io.BytesIO(), "JPEG", exif=exif, quality=95)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_photographs_are_upright(orientation: int | None) -> None:
    ours, theirs = (
        library.Dataset.from_dict({"i": [photo(orientation)]}, features=library.Features({"i": library.Image()}))[0][
            "i"
        ]
        for library in (plait, datasets)
    )
    assert ours.size == theirs.size == ((4, 6) if orientation in (6, 8) else (6, 4))
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.mark.parametrize("kind", ["bool", "uint8", "uint16", "int32", "float32"])
def test_deep_arrays_are_pictures(kind: str) -> None:
    array = np.array([[0, 1, 0], [1, 0, 1]], dtype=kind) * np.array(1 if kind == "bool" else 100, dtype=kind)
    ours, theirs = (
        np.asarray(library.Dataset.from_dict({"i": [array]}, features=library.Features({"i": library.Image()}))[0]["i"])
        for library in (plait, datasets)
    )
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours, array)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"cut.jpg": photo(None)[:300], "no.png": b"text", "no.wav": b"text"})

    def first(feature: Any, value: Any) -> Any:
        return plait.Dataset.from_dict({"x": [value]}, features=plait.Features({"x": feature}))[0]

    with pytest.raises(DataError, match=r"^A picture of 4 bytes has no format that is known\.$"):
        first(Image(), b"text")
    with pytest.raises(DataError, match=rf"^{tmp_path / 'no.png'} has no format that is known\.$"):
        first(Image(), str(tmp_path / "no.png"))
    with pytest.raises(DataError, match=rf"^{tmp_path / 'cut.jpg'} cannot be read: "):
        first(Image(), str(tmp_path / "cut.jpg"))
    with pytest.raises(DataError, match=rf"^{tmp_path / 'no.wav'} cannot be read: Format not recognised"):
        first(Audio(), str(tmp_path / "no.wav"))
