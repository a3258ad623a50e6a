"""The safetensors reader against the format, against the safetensors package, and against damaged and hostile files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from plait.errors import WeightsError
from plait.weights.safetensors import DTYPES, SafetensorsFile


def write(path: Path, header: Any, data: bytes = b"", *, pad: int = 0) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * pad
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def item(start: int, stop: int, shape: list[int], dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize("stored", DTYPES)
def test_every_type(tmp_path: Path, stored: str) -> None:
    dtype = DTYPES[stored]
    raw = torch.arange(6 * dtype.itemsize, dtype=torch.uint8)
    expected = (raw % 2).bool() if dtype is torch.bool else raw.view(dtype)
    expected = expected.view(2, 3)
    save_file({"x": expected}, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.entries()["x"].stored == stored
    for tensor in (file.tensor("x"), file.borrow("x")):
        assert (tensor.dtype, tensor.shape) == (dtype, (2, 3))
        assert torch.equal(tensor.view(torch.uint8), expected.view(torch.uint8))


def test_equals_the_package_on_a_real_file(minilm: Path) -> None:
    file = SafetensorsFile(minilm / "model.safetensors")
    with safe_open(minilm / "model.safetensors", "pt") as reference:
        assert len(file.entries()) == 104
        assert set(file.entries()) == set(reference.keys())
        assert file.metadata == reference.metadata()
        for name in reference.keys():  # noqa: SIM118
            assert torch.equal(file.tensor(name), reference.get_tensor(name))
            assert torch.equal(file.borrow(name), reference.get_tensor(name))


def test_scalars_empty_tensors_and_empty_files(tmp_path: Path) -> None:
    save_file({"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4)}, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert torch.equal(file.tensor("scalar"), torch.tensor(3.5))
    assert torch.equal(file.tensor("empty"), torch.zeros(0, 4))
    assert torch.equal(file.borrow("empty"), torch.zeros(0, 4))
    assert SafetensorsFile(write(tmp_path / "y.safetensors", {})).entries() == {}


def test_a_view_is_private_and_needs_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.arange(4096.0)}, path)
    before = path.read_bytes()
    file = SafetensorsFile(path)
    first, second = file.tensor("x"), file.tensor("x")
    assert first.data_ptr() == second.data_ptr() != file.borrow("x").data_ptr()
    first.add_(1)
    assert second[0] == 1.0
    assert file.borrow("x")[0] == 0.0
    assert path.read_bytes() == before
    # The tensor keeps the map alive, and replacing the file on disk does not touch it.
    del file
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "other.safetensors").rename(path)
    assert torch.equal(second, torch.arange(4096.0) + 1)


def test_unaligned_data(tmp_path: Path) -> None:
    """Nothing in the format aligns the data; one header length of eight leaves it aligned."""
    values = torch.arange(5.0)
    for pad in range(8):
        path = write(tmp_path / "x.safetensors", {"x": item(0, 20, [5], "F32")}, values.numpy().tobytes(), pad=pad)
        assert torch.equal(SafetensorsFile(path).tensor("x"), values)
        assert torch.equal(SafetensorsFile(path).borrow("x"), values)


BROKEN: list[tuple[str, Any, bytes, str]] = [
    ("overlap", {"a": item(0, 4, [4]), "b": item(2, 6, [4])}, bytes(6), "tensor 'b' overlaps 'a'"),
    ("same range twice", {"a": item(0, 4, [4]), "b": item(0, 4, [4])}, bytes(4), "tensor 'b' overlaps 'a'"),
    ("hole", {"a": item(0, 4, [4]), "b": item(5, 6, [1])}, bytes(6), "1 bytes between 'a' and 'b' belong to no tensor"),
    ("hole at the start", {"a": item(1, 2, [1])}, bytes(2), "1 bytes between the header and 'a'"),
    ("trailing bytes", {"a": item(0, 4, [4])}, bytes(6), "2 bytes after the last tensor belong to no tensor"),
    ("cut off", {"a": item(0, 4, [4])}, bytes(3), "its tensors take 4 bytes, the file holds 3"),
    ("size", {"a": item(0, 4, [3])}, bytes(4), r"shape \(3,\) and type U8 takes 3 bytes, .* \[0, 4\] cover 4"),
    ("huge shape", {"a": item(0, 4, [2**62, 4])}, bytes(4), "takes 18446744073709551616 bytes"),
    ("backwards", {"a": item(4, 0, [4])}, bytes(4), "cover -4"),
    ("negative shape", {"a": item(0, 4, [-2, -2])}, bytes(4), "has shape"),
    ("negative offset", {"a": item(-4, 0, [4])}, bytes(4), "data_offsets"),
    ("boolean shape", {"a": item(0, 1, [True])}, bytes(1), "has shape"),
    ("float shape", {"a": item(0, 1, [1.0])}, bytes(1), "has shape"),  # type: ignore[list-item]
    ("three offsets", {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}, bytes(1), "data_offsets"),
    ("type", {"a": item(0, 1, [2], "F4")}, bytes(1), "has the type 'F4', which plait does not read. Known types: F64"),
    ("type is no text", {"a": item(0, 1, [1], ["U8"])}, bytes(1), "has the type"),  # type: ignore[arg-type]
    ("missing field", {"a": {"dtype": "U8", "shape": [1]}}, bytes(1), "is described by"),
    ("not a table", {"a": 3}, b"", "is described by 3"),
    ("metadata", {"__metadata__": {"format": 1}}, b"", "its __metadata__ is not a table of texts"),
    ("metadata list", {"__metadata__": []}, b"", "its __metadata__ is not a table of texts"),
    ("list", b"[]", b"", "does not begin with"),
    ("leading space", b" {}", b"", "does not begin with"),
    ("JSON", b"{", b"", "not valid JSON"),
    ("UTF-8", b'{"\xff": 1}', b"", "not valid JSON"),
    ("twice", b'{"a": 1, "a": 2}', b"", "the name 'a' occurs twice"),
    ("deep", b'{"a":' + b"[" * 100_000, b"", "not valid JSON"),
    ("long number", b'{"a":' + b"9" * 100_000 + b"}", b"", "not valid JSON"),
]


@pytest.mark.parametrize(("header", "data", "text"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken_files_are_refused(tmp_path: Path, header: Any, data: bytes, text: str) -> None:
    path = write(tmp_path / "x.safetensors", header, data)
    with pytest.raises(WeightsError, match=text) as caught:
        SafetensorsFile(path, label="x of org/name")
    assert str(caught.value).startswith("x of org/name")
    assert len(str(caught.value)) < 1000
    if "F4" not in text and header != b" {}":  # the package knows a type of half bytes, and allows a leading space
        with pytest.raises((SafetensorError, OverflowError)):
            safe_open(path, "pt")


def test_a_name_that_occurs_twice_among_many_is_found(tmp_path: Path) -> None:
    """Counting every name against every other takes a minute here, and for a header of the allowed size a day."""
    names = [f"{number:x}" for number in range(100_000)]
    header = ",".join(f'"{name}":0' for name in [*names, names[-1]])
    path = write(tmp_path / "x.safetensors", b"{%s}" % header.encode())
    with pytest.raises(WeightsError, match="the name '1869f' occurs twice"):
        SafetensorsFile(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"\x02\x00", "it has 2 bytes, fewer than its header"),
        (
            struct.pack("<Q", 10_000_000_000) + b"{}",
            "its header would be 10000000000 bytes long; the format allows 100000000",
        ),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "its header would be 18446744073709551615 bytes long"),
        (struct.pack("<Q", 50) + b"{}", "is cut off: its header is 50 bytes long, the file has 10"),
    ],
)
def test_broken_lengths_are_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=text):
        SafetensorsFile(path)


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be opened: No such file"):
        SafetensorsFile(tmp_path / "absent.safetensors")


@settings(deadline=None)  # the disk may be slow
@given(data=st.data())
def test_any_changed_byte_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Fuzzing: a flipped byte or a cut gives a WeightsError or tensors within the file, and nothing else."""
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    save_file({"a": torch.arange(3.0), "b": torch.arange(2), "c": torch.ones(1, dtype=torch.bool)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        file = SafetensorsFile(path)
        total = sum(file.tensor(name).nbytes for name in file.entries())
    except WeightsError:
        return
    assert total <= len(content)
