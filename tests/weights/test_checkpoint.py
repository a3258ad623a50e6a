"""Which file of a folder is opened, and what every format offers."""

from __future__ import annotations

import json
import logging
import random
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from plait.errors import NotFoundError, WeightsError
from plait.weights.checkpoint import open_checkpoint

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b.bias": torch.tensor([1, 2, 3], dtype=torch.int64)}


def write_sharded(folder: Path, *, suffix: str = ".safetensors") -> Path:
    """Two shards and their index, named as transformers names them."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names = [f"{stem}-0000{n}-of-00002{suffix}" for n in (1, 2)]
    for name, key in zip(names, WEIGHTS, strict=True):
        save = save_file if suffix == ".safetensors" else torch.save
        save({key: WEIGHTS[key]}, folder / name)
    index = folder / f"{stem}{suffix}.index.json"
    weight_map = dict(zip(WEIGHTS, names, strict=True))
    index.write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": weight_map}))
    return index


def edit_index(index: Path, **changes: str) -> None:
    content = json.loads(index.read_text())
    content["weight_map"] |= {name.replace("__", "."): file for name, file in changes.items()}
    index.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", ["safetensors", "sharded safetensors", "torch", "sharded torch", "legacy torch"])
def test_every_format_gives_the_same_tensors(tmp_path: Path, kind: str) -> None:
    if kind == "safetensors":
        save_file(WEIGHTS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    elif kind == "torch":
        torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    elif kind == "legacy torch":
        torch.save(WEIGHTS, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    else:
        write_sharded(tmp_path, suffix=".safetensors" if "safetensors" in kind else ".bin")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.format == kind.split()[-1]
    assert set(checkpoint.entries()) == set(WEIGHTS)
    for name, expected in WEIGHTS.items():
        entry = checkpoint.entries()[name]
        assert (entry.name, entry.shape, entry.dtype) == (name, tuple(expected.shape), expected.dtype)
        for tensor in (checkpoint.tensor(name), checkpoint.borrow(name)):
            assert tensor.dtype == expected.dtype
            assert torch.equal(tensor, expected)
    with pytest.raises(WeightsError, match=r"holds no tensor 'a\.weigth'\. Did you mean 'a\.weight'\?"):
        checkpoint.tensor("a.weigth")


def test_precedence_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    write_sharded(tmp_path)
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    with caplog.at_level(logging.INFO, logger="plait.weights"):
        checkpoint = open_checkpoint(tmp_path, label="org/name")
    assert torch.equal(checkpoint.tensor("a"), torch.ones(1))
    assert checkpoint.label == "model.safetensors of org/name"
    assert caplog.messages == [
        "Reading model.safetensors of org/name; not reading model.safetensors.index.json, pytorch_model.bin."
    ]
    caplog.clear()
    for expected in ("model.safetensors.index.json", "pytorch_model.bin"):
        (tmp_path / checkpoint.label.split()[0]).unlink()
        checkpoint = open_checkpoint(tmp_path, label="org/name")
        assert checkpoint.label == f"{expected} of org/name"
    assert not caplog.messages  # the last one was alone


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NotFoundError) as caught:
        open_checkpoint(tmp_path, label="org/name")
    assert str(caught.value) == (
        "org/name holds no weights. Looked for model.safetensors, model.safetensors.index.json, *.gguf, "
        "pytorch_model.bin, pytorch_model.bin.index.json; the folder holds: config.json."
    )
    with pytest.raises(NotFoundError, match="there is no such file or folder"):
        open_checkpoint(tmp_path / "absent.safetensors")
    with pytest.raises(
        WeightsError, match=r"config\.json is not a weight file that plait reads: its name ends in '\.json'"
    ):
        open_checkpoint(tmp_path / "config.json")


class TestIndex:
    def test_missing_shard(self, tmp_path: Path) -> None:
        write_sharded(tmp_path)
        (tmp_path / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(WeightsError) as caught:
            open_checkpoint(tmp_path, label="org/name")
        assert str(caught.value) == (
            "model.safetensors.index.json of org/name lists 2 files, of which 1 are missing: "
            "model-00002-of-00002.safetensors. Fetch the checkpoint again."
        )

    def test_tensor_in_the_wrong_shard(self, tmp_path: Path) -> None:
        edit_index(
            write_sharded(tmp_path),
            b__bias="model-00001-of-00002.safetensors",
            a__weight="model-00002-of-00002.safetensors",
        )
        with pytest.raises(
            WeightsError, match=r"tensor 'a\.weight' is in model-00002-of-00002\.safetensors, but it is in model-00001"
        ):
            open_checkpoint(tmp_path)

    def test_tensor_in_no_shard(self, tmp_path: Path) -> None:
        edit_index(write_sharded(tmp_path), c="model-00001-of-00002.safetensors")
        with pytest.raises(
            WeightsError, match=r"tensor 'c' is in model-00001-of-00002\.safetensors, but no file holds it"
        ):
            open_checkpoint(tmp_path)

    def test_tensor_in_two_shards(self, tmp_path: Path) -> None:
        write_sharded(tmp_path)
        save_file(WEIGHTS, tmp_path / "model-00002-of-00002.safetensors")
        with pytest.raises(
            WeightsError,
            match=r"'a\.weight' is in two files, model-00001.* \(listed by .*\) and model-00002.* \(listed by .*\)\.$",
        ):
            open_checkpoint(tmp_path)

    def test_unlisted_tensor_is_read(self, tmp_path: Path) -> None:
        """Dropping it silently would hide a broken index; strict loading reports it when no rule wants it."""
        write_sharded(tmp_path)
        save_file({"b.bias": WEIGHTS["b.bias"], "extra": torch.ones(1)}, tmp_path / "model-00002-of-00002.safetensors")
        assert set(open_checkpoint(tmp_path).entries()) == {"a.weight", "b.bias", "extra"}

    @pytest.mark.parametrize(
        "name",
        ["../x.safetensors", "/etc/x.safetensors", "..\\x.safetensors", "a/b.bin", "C:x.bin", "passwd", "", "x.bin\n"],
    )
    def test_paths_are_refused(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        save_file({"a.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
        edit_index(write_sharded(folder), a__weight=name)
        with pytest.raises(
            WeightsError, match="is refused: it says that tensor 'a.weight' is in .*in the folder of its index"
        ):
            open_checkpoint(folder)

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}', "[" * 100_000])
    def test_not_an_index(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "model.safetensors.index.json").write_text(content)
        with pytest.raises(WeightsError, match="is not valid JSON|is not an index of shards"):
            open_checkpoint(tmp_path)


class _Gadget:
    """What an attacker puts into a pickle: unpickling it calls a function of theirs."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


class TestTorchArchive:
    @pytest.mark.parametrize("new", [True, False])
    def test_pickle_gadget_is_refused(self, tmp_path: Path, new: bool) -> None:
        marker = tmp_path / "executed"
        torch.save(
            {"a": torch.zeros(2), "b": _Gadget(marker)},
            tmp_path / "pytorch_model.bin",
            _use_new_zipfile_serialization=new,
        )
        with pytest.raises(WeightsError, match="is refused: it holds Python objects that are not tensors") as caught:
            open_checkpoint(tmp_path)
        # What it holds, and not torch's advice on how to unpickle it all the same, which has codes of colours in it.
        assert str(caught.value).endswith(f"(It asks for {open.__module__}.open.)")
        assert not marker.exists()
        with pytest.raises(TypeError):  # while the unrestricted reader runs it: a file is no pickled state
            torch.load(tmp_path / "pytorch_model.bin", weights_only=False)["b"] + 1
        assert marker.exists()

    @pytest.mark.parametrize("new", [True, False])
    def test_names_of_one_memory_become_tensors_of_their_own(self, tmp_path: Path, new: bool) -> None:
        """Tied weights are stored so; in a model that does not tie them, a step on one must not move the other."""
        shared = torch.arange(6.0).view(2, 3)
        content = {"a": shared, "b": shared, "turned": shared.T, "one": torch.ones(()).expand(2, 2)}
        torch.save(content, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=new)
        checkpoint = open_checkpoint(tmp_path)
        tensors = {name: checkpoint.tensor(name) for name in content}
        for name, tensor in tensors.items():
            assert torch.equal(tensor, content[name])
            assert tensor.is_contiguous()
        for name, tensor in tensors.items():
            tensor += 1.0
            assert torch.equal(tensor, content[name] + 1)

    def test_compressed_members_are_refused(self, tmp_path: Path) -> None:
        """A gigabyte of zeros takes a megabyte when compressed; torch itself never compresses."""
        torch.save(WEIGHTS, tmp_path / "plain.bin")
        with (
            zipfile.ZipFile(tmp_path / "plain.bin") as plain,
            zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w", compression=zipfile.ZIP_DEFLATED) as packed,
        ):
            for member in plain.infolist():
                packed.writestr(member.filename, plain.read(member))
        with pytest.raises(WeightsError, match=r"is refused: its member 'plain/data\.pkl' is compressed"):
            open_checkpoint(tmp_path)

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ([torch.zeros(1)], "holds a list, not a table of tensors"),
            (
                {"state_dict": {"a": torch.zeros(1)}},
                "its item 'state_dict' is of type dict. Save the state_dict of the model alone",
            ),
            ({1: torch.zeros(1)}, "its item 1 is of type Tensor"),
            ({"a": torch.zeros(2, 2).to_sparse()}, "tensor 'a' is sparse, quantised or empty of data"),
        ],
    )
    def test_not_a_table(self, tmp_path: Path, content: object, text: str) -> None:
        torch.save(content, tmp_path / "pytorch_model.bin")
        with pytest.raises(WeightsError, match=text):
            open_checkpoint(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"not a pickle at all", b"PK\x03\x04broken", b"\x80\x02}q\x00."])
    def test_damaged(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(WeightsError):
            open_checkpoint(tmp_path)

    @pytest.mark.parametrize("content", [b"<html>404 Not Found</html>", b"{'a': 1}", b"\0" * 100])
    def test_another_file_in_its_place(self, tmp_path: Path, content: bytes) -> None:
        """Told as what it is, not as code that could run, nor with torch's advice to read it without protection."""
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(WeightsError, match="is damaged: torch.save writes no such bytes. Fetch it again."):
            open_checkpoint(tmp_path)

    def test_cut_off_at_any_length(self, tmp_path: Path) -> None:
        file = tmp_path / "pytorch_model.bin"
        torch.save(WEIGHTS, file)
        whole = file.read_bytes()
        for length in range(0, len(whole), 37):
            file.write_bytes(whole[:length])
            with pytest.raises(WeightsError):
                open_checkpoint(file)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @pytest.mark.parametrize("new", [True, False])
    def test_any_changed_byte_is_refused_or_harmless(self, tmp_path: Path, new: bool) -> None:
        torch.save(WEIGHTS, tmp_path / "x.bin", _use_new_zipfile_serialization=new)
        whole, draw, refused = (tmp_path / "x.bin").read_bytes(), random.Random(0), 0
        for trial in range(300):
            content = bytearray(whole)
            for _ in range(draw.randint(1, 3)):
                content[draw.randrange(len(content))] = draw.randrange(256)
            path = tmp_path / f"{trial}.bin"
            path.write_bytes(content)
            try:
                checkpoint = open_checkpoint(path)
            except WeightsError:
                refused += 1
                continue
            assert all(
                tensor.untyped_storage().nbytes() <= len(whole)
                for tensor in map(checkpoint.tensor, checkpoint.entries())
            )
        assert 50 < refused < 300

    def test_writing_leaves_the_file_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "pytorch_model.bin"
        torch.save(WEIGHTS, file)
        before = file.read_bytes()
        open_checkpoint(file).tensor("a.weight").mul_(2)
        assert file.read_bytes() == before
