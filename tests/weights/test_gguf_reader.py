"""The GGUF reader against the reference package, against split models, and against damaged and hostile files."""

from __future__ import annotations

import logging
import struct
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import WeightsError
from plait.weights.checkpoint import open_checkpoint
from plait.weights.gguf import parts, read_metadata
from plait.weights.gguf_file import GGUFFile


def write(path: Path, tensors: dict[str, np.ndarray[Any, Any]] | None = None, **metadata: Any) -> Path:
    """A file by the reference writer. A tensor of bytes may be given as (bytes, quantisation type)."""
    writer = gguf.GGUFWriter(path, "test")
    for name, (value, kind) in metadata.items():
        getattr(writer, f"add_{kind}")(name.replace("__", "."), value)
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def head(*, tensors: int = 0, items: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, items)


def tensor(name: str = "a", *, shape: tuple[int, ...] = (4,), code: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, code, offset)


def padded(content: bytes, data: int) -> bytes:
    return content + bytes(-len(content) % 32 + data)


class TestMetadata:
    def test_every_type(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "x.gguf",
            a=(200, "uint8"),
            b=(-3, "int8"),
            c=(60_000, "uint16"),
            d=(-300, "int16"),
            e=(4_000_000_000, "uint32"),
            f=(-5, "int32"),
            g=(0.5, "float32"),
            h=(True, "bool"),
            i=("größe 形 🙂", "string"),
            j=(2**63 + 1, "uint64"),
            k=(-(2**62), "int64"),
            l=(0.1, "float64"),
            m=([1, 2, 3], "array"),
            n=(["a", "", "b c"], "array"),
            o=([0.25, 1.5], "array"),
            p=([True, False], "array"),
        )
        metadata = read_metadata(path)
        assert metadata.pop("general.architecture") == "test"
        assert list(metadata.values()) == [
            200, -3, 60_000, -300, 4_000_000_000, -5, 0.5, True, "größe 形 🙂", 2**63 + 1, -(2**62), 0.1,
            [1, 2, 3], ["a", "", "b c"], [0.25, 1.5], [True, False],
        ]  # fmt: skip
        assert metadata["h"] is True

    def test_nested_arrays(self, tmp_path: Path) -> None:
        inner = struct.pack("<IQ", 4, 2) + struct.pack("<II", 7, 8)
        value = struct.pack("<IIQ", 9, 9, 1) + inner
        path = tmp_path / "x.gguf"
        path.write_bytes(head(items=1) + text("a") + value)
        assert read_metadata(path) == {"a": [[7, 8]]}

    def test_a_real_vocabulary_is_equal(self, smollm2: Path) -> None:
        metadata = read_metadata(smollm2)
        reference = gguf.GGUFReader(smollm2)
        fields = {name: field for name, field in reference.fields.items() if not name.startswith("GGUF.")}
        assert metadata.keys() == fields.keys()
        for name, field in fields.items():
            assert metadata[name] == field.contents(), name

    def test_needs_no_torch(self, smollm2: Path) -> None:
        code = "import sys, plait.weights.gguf as g; g.read_metadata(sys.argv[1]); print('torch' in sys.modules)"
        result = run([sys.executable, "-c", code, str(smollm2)], capture_output=True, text=True, check=True)
        assert result.stdout == "False\n"


class TestTensors:
    def test_plain_types(self, tmp_path: Path) -> None:
        arrays = {
            name: np.arange(24).reshape(2, 3, 4).astype(name)
            for name in ("float32", "float16", "float64", "int8", "int16", "int32", "int64")
        }
        path = write(tmp_path / "x.gguf", arrays)
        before = path.read_bytes()
        checkpoint = open_checkpoint(path)
        assert checkpoint.format == "gguf"
        assert list(checkpoint.entries()) == list(arrays)
        for name, array in arrays.items():
            entry = checkpoint.entries()[name]
            assert (entry.shape, entry.dtype) == ((2, 3, 4), getattr(torch, name))
            for values in (checkpoint.tensor(name), checkpoint.borrow(name)):
                assert torch.equal(values, torch.from_numpy(array))
        checkpoint.tensor("float32").add_(1)
        assert path.read_bytes() == before
        with pytest.raises(WeightsError, match=r"holds no tensor 'float23'\. Did you mean 'float32'\?"):
            checkpoint.tensor("float23")

    def test_bfloat16(self, tmp_path: Path) -> None:
        values = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
        writer = gguf.GGUFWriter(tmp_path / "x.gguf", "test")
        writer.add_tensor("a", values.view(torch.uint8).numpy(), raw_dtype=gguf.GGMLQuantizationType.BF16)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        file = GGUFFile(tmp_path / "x.gguf")
        assert file.entries()["a"].stored == "BF16"
        assert torch.equal(file.tensor("a"), values)

    def test_a_real_model_equals_the_reference(self, smollm2: Path) -> None:
        file = GGUFFile(smollm2)
        reference = {item.name: item for item in gguf.GGUFReader(smollm2).tensors}
        assert file.entries().keys() == reference.keys()
        for name, item in reference.items():
            expected = gguf.quants.dequantize(item.data, item.tensor_type)
            assert (file.entries()[name].stored, file.entries()[name].shape) == (item.tensor_type.name, expected.shape)
            assert torch.equal(file.tensor(name), torch.from_numpy(expected.copy()))

    @pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
    def test_alignment(self, tmp_path: Path, alignment: int) -> None:
        arrays = {"a": np.arange(3, dtype=np.int8), "b": np.arange(5, dtype=np.float32)}
        writer = gguf.GGUFWriter(tmp_path / "x.gguf", "test")
        writer.add_custom_alignment(alignment)
        for name, array in arrays.items():
            writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        file = GGUFFile(tmp_path / "x.gguf")
        for name, array in arrays.items():
            assert torch.equal(file.tensor(name), torch.from_numpy(array))

    def test_version_2(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.gguf", {"a": np.arange(4, dtype=np.float32)})
        content = bytearray(path.read_bytes())
        content[4] = 2  # little-endian files of versions 2 and 3 are the same but for this number
        path.write_bytes(content)
        assert torch.equal(GGUFFile(path).tensor("a"), torch.arange(4.0))


def split(folder: Path, *, count: int = 3, announced: int = 3) -> list[Path]:
    files = [folder / f"m-{index:05}-of-{count:05}.gguf" for index in range(1, count + 1)]
    for index, file in enumerate(files):
        metadata = {"split__no": (index, "uint16"), "split__count": (count, "uint16")}
        if index == 0:
            metadata |= {"split__tensors__count": (announced, "int32"), "name": ("whole", "string")}
        write(file, {f"t{index}": np.full(2, index, dtype=np.float32)}, **metadata)
    return files


class TestSplit:
    def test_any_part_opens_the_whole(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        files = split(tmp_path)
        with caplog.at_level(logging.INFO, logger="plait.weights"):
            for path in (*files, tmp_path):
                checkpoint = open_checkpoint(path)
                assert {name: checkpoint.tensor(name).tolist() for name in checkpoint.entries()} == {
                    "t0": [0, 0],
                    "t1": [1, 1],
                    "t2": [2, 2],
                }
                assert checkpoint.metadata["name"] == "whole"
        assert not caplog.messages  # the parts are one choice
        assert read_metadata(files[2])["name"] == "whole"
        assert parts(files[2]) == files
        assert parts(tmp_path / "m-00000-of-00003.gguf") == [tmp_path / "m-00000-of-00003.gguf"]

    def test_missing_part(self, tmp_path: Path) -> None:
        files = split(tmp_path)
        files[1].unlink()
        with pytest.raises(WeightsError, match=r"one of 3 files, of which 1 are missing: m-00002-of-00003\.gguf\."):
            open_checkpoint(files[0])

    def test_parts_of_different_models(self, tmp_path: Path) -> None:
        files = split(tmp_path, announced=4)
        with pytest.raises(WeightsError, match=r"its first file announces 4 tensors, the 3 files hold 3"):
            open_checkpoint(files[0])
        write(files[2], {"t1": np.zeros(1, dtype=np.float32)})
        with pytest.raises(WeightsError, match="tensor 't1' is in two files"):
            open_checkpoint(files[0])

    def test_several_models_in_a_folder(self, tmp_path: Path) -> None:
        split(tmp_path)
        write(tmp_path / "other.gguf")
        with pytest.raises(
            WeightsError, match=r"org/name holds 2 GGUF models: m-00001-of-00003\.gguf, other\.gguf\. Name"
        ):
            open_checkpoint(tmp_path, label="org/name")


HUGE = 2**62
BROKEN: list[tuple[str, bytes, str]] = [
    ("magic", b"GGML" + bytes(20), "is not a GGUF file: it begins with b'GGML'"),
    ("short", b"GG", "is not a GGUF file"),
    ("empty", b"", "is empty|cannot be read"),
    ("only magic", b"GGUF", "a number reaches beyond 4 bytes"),
    ("version 1", head(version=1), "GGUF of version 1, which plait does not read: known are 2 and 3"),
    ("version 4", head(version=4), "GGUF of version 4"),
    ("big-endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "it is big-endian"),
    ("tensor count", head(tensors=HUGE), f"announces {HUGE} tensors, more than 24 bytes can hold"),
    ("item count", head(items=HUGE), f"announces {HUGE} metadata items"),
    ("name length", head(items=1) + struct.pack("<Q", 2**64 - 1) + bytes(8), "a metadata name reaches beyond 40 bytes"),
    ("name encoding", head(items=1) + text(b"\xff\xfe") + bytes(16), "a metadata name is not valid UTF-8"),
    ("value type", head(items=1) + text("a") + struct.pack("<IQ", 13, 0), "item 'a' has the unknown type 13"),
    ("value cut", head(items=1) + text("abc") + struct.pack("<IH", 4, 0), "a number reaches beyond"),
    ("text length", head(items=1) + text("a") + struct.pack("<IQ", 8, HUGE), "a reaches beyond"),
    ("array count", head(items=1) + text("a") + struct.pack("<IIQ", 9, 4, HUGE), f"announces {HUGE} elements of 'a'"),
    ("texts count", head(items=1) + text("a") + struct.pack("<IIQ", 9, 8, HUGE), f"announces {HUGE} elements of 'a'"),
    ("texts cut", head(items=1) + text("a") + struct.pack("<IIQ", 9, 8, 2) + text("x" * 9), "a reaches beyond"),
    ("texts long", head(items=1) + text("a") + struct.pack("<IIQQ", 9, 8, 1, HUGE), "a reaches beyond"),
    (
        "texts encoding",
        head(items=1) + text("a") + struct.pack("<IIQ", 9, 8, 1) + text(b"\xff"),
        "a is not valid UTF-8",
    ),
    (
        "nesting",
        head(items=1) + text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 2000,
        "nested more than 4 deep",
    ),
    ("array type", head(items=1) + text("a") + struct.pack("<IIQ", 9, 99, 1) + bytes(20), "the unknown type 99"),
    ("twice", head(items=2) + (text("a") + struct.pack("<IB", 7, 1)) * 2, "the metadata name 'a' occurs twice"),
    *(
        (f"alignment {value!r}", head(items=1) + text("general.alignment") + value, "not a power of two")
        for value in (
            struct.pack("<II", 4, 0),
            struct.pack("<II", 4, 12),
            struct.pack("<IB", 7, 1),
            struct.pack("<Ii", 5, -8),
        )
    ),
]
BROKEN_TENSORS: list[tuple[str, bytes, str]] = [
    ("dimensions", head(tensors=1) + tensor(shape=(1,) * 5), "has 5 dimensions, more than 4"),
    ("many dimensions", head(tensors=1) + text("a") + struct.pack("<IQQ", 2**31, 1, 1), "has 2147483648 dimensions"),
    (
        "cut off",
        padded(head(tensors=1) + tensor(shape=(5,)), 16),
        "is cut off: tensor 'a' ends at byte 84, the file has 80",
    ),
    ("huge", padded(head(tensors=1) + tensor(shape=(2**63, 2**63)), 16), "is cut off: tensor 'a' ends at byte"),
    ("offset", padded(head(tensors=1) + tensor(offset=2**63), 16), "is cut off: tensor 'a' ends at byte"),
    ("unaligned", padded(head(tensors=1) + tensor(offset=8), 64), "tensor 'a' is not aligned to 32 bytes"),
    (
        "overlap",
        padded(head(tensors=2) + tensor("a", shape=(16,)) + tensor("b", offset=32), 64),
        "tensor 'b' overlaps 'a'",
    ),
    ("same name", padded(head(tensors=2) + tensor("a") + tensor("a", offset=32), 64), "two tensors have the same name"),
    (
        "blocks",
        padded(head(tensors=1) + tensor(shape=(33,), code=2), 64),
        "have 33 numbers, which do not divide into blocks of 32",
    ),
    ("no data", head(tensors=1) + tensor(), "is cut off"),
    (
        "known type",
        padded(head(tensors=1) + tensor("blk.0.attn_q.weight", shape=(256,), code=16), 99),
        "'blk.0.attn_q.weight' is stored as IQ2_XXS, which plait does not read. Take a file that uses F32, F16, Q4_0,",
    ),
    ("unknown type", padded(head(tensors=1) + tensor(code=777), 99), "is stored as type 777"),
]


@pytest.mark.parametrize(("content", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken_metadata_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    for read in (read_metadata, open_checkpoint):
        with pytest.raises(WeightsError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "message"), [row[1:] for row in BROKEN_TENSORS], ids=[row[0] for row in BROKEN_TENSORS]
)
def test_broken_tables_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        open_checkpoint(path)
    assert read_metadata(path) == {}


def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    """A sparse file of 4 GB that announces an array of 3 GB: refused before memory is taken."""
    path = tmp_path / "x.gguf"
    path.write_bytes(head(items=1) + text("a") + struct.pack("<IIQ", 9, 0, 3_000_000_000))
    with path.open("r+b") as file:
        file.truncate(4_000_000_000)
    with pytest.raises(WeightsError, match="announces 3000000000 elements of 'a', more than 100000000 bytes can hold"):
        read_metadata(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read: .*No such file"):
        read_metadata(tmp_path / "x.gguf")


@settings(deadline=None)  # the disk may be slow
@given(data=st.data())
def test_any_changed_byte_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Fuzzing: changed bytes or a cut give a WeightsError or tensors within the file, and nothing else."""
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    arrays = {"a": np.arange(4, dtype=np.float32), "b": np.arange(2, dtype=np.int8)}
    write(path, arrays, x=(["a", "b"], "array"), y=([1, 2], "array"), z=("text", "string"), w=(7, "uint32"))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        file = GGUFFile(path)
        total = sum(file.tensor(name).nbytes for name in file.entries())
    except WeightsError:
        return
    assert total <= 32 * len(content)  # a quantised block grows at most eightfold, to 4 bytes per half byte
