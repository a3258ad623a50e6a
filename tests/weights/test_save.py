"""Saving: files that other libraries read, shards, shared tensors, and every moment at which a process may die."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from plait.errors import OptionError, PlaitError, WeightsError
from plait.weights.checkpoint import open_checkpoint
from plait.weights.safetensors import DTYPES
from plait.weights.save import parse_size, save_state


def state(count: int = 4, *, value: float = 1.0) -> dict[str, Tensor]:
    return {f"layer.{index}.weight": torch.full((10, 10), value) for index in range(count)}  # 400 bytes each


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


class TestFiles:
    def test_one_file(self, tmp_path: Path) -> None:
        saved = {"b": torch.randn(2, 3), "a": torch.tensor(3), "é形": torch.zeros(0, 2)}
        assert save_state(saved, tmp_path / "deep" / "folder") == [tmp_path / "deep" / "folder" / "model.safetensors"]
        path = tmp_path / "deep" / "folder" / "model.safetensors"
        assert all(torch.equal(load_file(path)[name], tensor) for name, tensor in saved.items())
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"format": "pt"}
        save_state(saved, tmp_path, metadata={"step": "3"})
        assert open_checkpoint(tmp_path).metadata == {"step": "3"}

    @pytest.mark.parametrize("dtype", DTYPES.values())
    def test_every_type_comes_back(self, tmp_path: Path, dtype: torch.dtype) -> None:
        raw = torch.arange(6 * dtype.itemsize, dtype=torch.uint8)
        tensor = (raw % 2).bool() if dtype is torch.bool else raw.view(dtype)
        save_state({"odd": torch.ones(3, dtype=torch.uint8), "x": tensor.view(2, 3)}, tmp_path)
        with safe_open(tmp_path / "model.safetensors", "pt") as file:
            assert torch.equal(file.get_tensor("x").view(torch.uint8), tensor.view(2, 3).view(torch.uint8))
        mine = open_checkpoint(tmp_path).tensor("x")
        assert torch.equal(mine.view(torch.uint8), tensor.view(2, 3).view(torch.uint8))
        assert mine.data_ptr() % dtype.itemsize == 0  # aligned: a view, not a copy

    def test_tensors_of_whole_lines_begin_one(self, tmp_path: Path) -> None:
        """Wherever the header ends, and whatever lies between them by name."""
        for count in range(8):
            saved = {f"{'n' * (at + count)}{at}": torch.full((at, 16), at).float() for at in range(4)}
            saved |= {"a.odd": torch.ones(5), "o.odd": torch.ones(3, dtype=torch.bfloat16), "z": torch.ones(32).half()}
            save_state(saved, tmp_path / str(count))
            path = tmp_path / str(count) / "model.safetensors"
            assert all(torch.equal(load_file(path)[name], tensor) for name, tensor in saved.items())
            mapped = open_checkpoint(path)
            begins = {name: mapped.tensor(name).data_ptr() % 64 for name, tensor in saved.items() if tensor.numel()}
            assert {name for name, begin in begins.items() if begin} == {"o.odd"}  # it lies behind five numbers
            assert all(begins[name] % saved[name].element_size() == 0 for name in begins)

    def test_views_are_written_as_they_look(self, tmp_path: Path) -> None:
        base = torch.randn(4, 6)
        saved = {
            "transposed": base.T,
            "row": base[1],
            "steps": base[::2, ::3],
            "expanded": torch.ones(1).expand(3, 2),
            "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
            "parameter": torch.nn.Parameter(torch.randn(2)),
        }
        save_state(saved, tmp_path)
        assert all(
            torch.equal(load_file(tmp_path / "model.safetensors")[name], tensor) for name, tensor in saved.items()
        )

    def test_a_shared_tensor_is_written_once(self, tmp_path: Path) -> None:
        shared = torch.randn(3, 2)
        save_state(
            {"a": shared, "b": shared.detach(), "first": shared[0], "zero": torch.empty(0), "none": torch.empty(0)},
            tmp_path,
        )
        assert set(open_checkpoint(tmp_path).entries()) == {"a", "first", "zero", "none"}

    def test_saving_over_the_file_that_is_mapped(self, tmp_path: Path) -> None:
        """The tensors of a loaded model are views of the file that a later save replaces."""
        save_state(state(), tmp_path)
        checkpoint = open_checkpoint(tmp_path)
        loaded = {name: checkpoint.tensor(name).mul_(2) for name in checkpoint.entries()}
        save_state(loaded, tmp_path)
        again = open_checkpoint(tmp_path)
        assert all(torch.equal(again.tensor(name), torch.full((10, 10), 2.0)) for name in again.entries())
        assert all(torch.equal(tensor, torch.full((10, 10), 2.0)) for tensor in loaded.values())

    @pytest.mark.parametrize(
        ("tensor", "text"),
        [
            (torch.empty(2, device="meta"), "'x' cannot be saved: it is on 'meta'"),
            (
                torch.eye(2).to_sparse(),
                "it is torch.sparse_coo of torch.float32. Make it a dense tensor of a common type",
            ),
            (torch.zeros(2, dtype=torch.complex128), "it is torch.strided of torch.complex128"),
        ],
    )
    def test_what_cannot_be_written(self, tmp_path: Path, tensor: Tensor, text: str) -> None:
        save_state(state(), tmp_path)
        with pytest.raises(WeightsError, match=text):
            save_state({"x": tensor}, tmp_path)
        assert len(open_checkpoint(tmp_path).entries()) == 4

    def test_what_no_reader_would_take_back(self, tmp_path: Path) -> None:
        save_state(state(), tmp_path)
        with pytest.raises(OptionError, match=r"are texts, but 'step' is 3\. Write str\(value\)\."):
            save_state({"x": torch.zeros(1)}, tmp_path, metadata={"step": 3})  # type: ignore[dict-item]
        with pytest.raises(WeightsError, match="Tensor '__metadata__' cannot be saved: safetensors keeps its metadata"):
            save_state({"__metadata__": torch.zeros(1)}, tmp_path)
        assert len(open_checkpoint(tmp_path).entries()) == 4


class TestShards:
    def test_as_transformers_names_them(self, tmp_path: Path) -> None:
        assert [path.name for path in save_state(state(5), tmp_path, max_shard_size=1000)] == [
            "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
        ]
        assert json.loads((tmp_path / "model.safetensors.index.json").read_text()) == {
            "metadata": {"total_parameters": 500, "total_size": 2000},
            "weight_map": {
                f"layer.{index}.weight": f"model-0000{index // 2 + 1}-of-00003.safetensors" for index in range(5)
            },
        }
        assert all(torch.equal(open_checkpoint(tmp_path).tensor(name), tensor) for name, tensor in state(5).items())

    def test_a_large_tensor_has_its_own_file(self, tmp_path: Path) -> None:
        saved = {"a": torch.zeros(10), "large": torch.zeros(1000), "b": torch.zeros(10), "c": torch.zeros(10)}
        files = save_state(saved, tmp_path, max_shard_size="1KB")
        assert [sorted(load_file(file)) for file in files] == [["a"], ["large"], ["b", "c"]]

    @given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=12), limit=st.integers(1, 300))
    @settings(deadline=None, max_examples=50)
    def test_any_sizes(self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int) -> None:
        folder = tmp_path_factory.mktemp("shards")
        saved = {f"t{index}": torch.full((size,), index, dtype=torch.int32) for index, size in enumerate(sizes)}
        files = save_state(saved, folder, max_shard_size=limit)
        for file in files:
            content = load_file(file)
            assert len(content) == 1 or sum(tensor.nbytes for tensor in content.values()) <= limit
        checkpoint = open_checkpoint(folder)
        assert checkpoint.entries().keys() == saved.keys()
        assert all(torch.equal(checkpoint.tensor(name), tensor) for name, tensor in saved.items())

    @pytest.mark.parametrize(
        ("size", "count"),
        [
            (5, 5),
            ("5", 5),
            ("10B", 10),
            ("5KB", 5000),
            ("200 MB", 200_000_000),
            ("5GB", 5_000_000_000),
            ("1.5kb", 1500),
            ("2KiB", 2048),
            ("1GiB", 2**30),
        ],
    )
    def test_sizes(self, size: str | int, count: int) -> None:
        assert parse_size(size) == count

    @pytest.mark.parametrize("size", ["5 gigabytes", "", "GB", "-5GB", 0, -1, True, "1e9", "9" * 400])
    def test_wrong_sizes(self, size: Any) -> None:
        with pytest.raises(OptionError, match="max_shard_size must be a number of bytes or a text such as '5GB'"):
            parse_size(size)


SIZES = {"one": 10_000, "two": 1000, "four": 1, "two again": 900}


class TestReplacing:
    @pytest.mark.parametrize("before", SIZES)
    @pytest.mark.parametrize("after", SIZES)
    def test_nothing_of_the_earlier_save_remains(self, tmp_path: Path, before: str, after: str) -> None:
        for name in ("config.json", "pytorch_model.bin", "model-old.safetensors", "notes.partial"):
            (tmp_path / name).write_text("stays")
        (tmp_path / ".model.safetensors.partial").write_text("left by a killed process")
        save_state(state(value=1.0), tmp_path, max_shard_size=SIZES[before])
        files = save_state(state(value=2.0), tmp_path, max_shard_size=SIZES[after])
        checkpoint = open_checkpoint(tmp_path)
        assert all(torch.equal(checkpoint.tensor(name), torch.full((10, 10), 2.0)) for name in state())
        index = {"model.safetensors.index.json"} if len(files) > 1 else set()
        assert set(names(tmp_path)) == {
            "config.json", "pytorch_model.bin", "model-old.safetensors", "notes.partial"
        } | index | {file.name for file in files}  # fmt: skip

    def test_as_many_files_again_have_other_names(self, tmp_path: Path) -> None:
        counts = [len(save_state(state(), tmp_path, max_shard_size=1000)) for _ in range(3)]
        assert counts == [2, 3, 2]
        counts = [len(save_state(state(2), tmp_path, max_shard_size=1)) for _ in range(3)]
        assert counts == [3, 2, 3]  # the third is empty: no file with two tensors could be divided
        assert set(open_checkpoint(tmp_path).entries()) == set(state(2))

    @pytest.mark.parametrize("before", SIZES)
    @pytest.mark.parametrize("after", SIZES)
    def test_a_kill_at_any_step_leaves_the_old_or_the_new(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
    ) -> None:
        """The process is killed before its n-th call that changes a disk, for every n until it lives."""
        # A killed process loses nothing that it wrote, synced or not, so no time is spent on waiting for the disk.
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        killed, seen = 0, []
        while True:
            folder = tmp_path / str(killed)
            save_state(state(value=1.0), folder, max_shard_size=SIZES[before])
            work = partial(save_state, state(value=2.0), folder, max_shard_size=SIZES[after])
            alive = not dies_at(killed, work)
            checkpoint = open_checkpoint(folder)
            assert checkpoint.entries().keys() == state().keys()
            values = {float(checkpoint.tensor(name).unique()) for name in state()}
            assert len(values) == 1  # never a mixture
            seen += values
            if alive:
                break
            # And the next save cleans up whatever the killed one left.
            files = save_state(state(value=3.0), folder)
            assert names(folder) == [file.name for file in files] == ["model.safetensors"]
            killed += 1
        assert seen == sorted(seen)  # old, then new, with one step between them
        assert set(seen) == {1.0, 2.0}
        assert killed >= 5

    def test_a_full_disk_leaves_the_old_and_no_rest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_state(state(), tmp_path)

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="model.safetensors was not written: the disk is full"):
            save_state(state(value=2.0), tmp_path)
        assert names(tmp_path) == ["model.safetensors"]
        assert float(open_checkpoint(tmp_path).tensor("layer.0.weight")[0, 0]) == 1.0

    @pytest.mark.parametrize("before", SIZES)
    @pytest.mark.parametrize("step", range(5))
    def test_a_disk_that_fills_up_midway_is_left_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, step: int
    ) -> None:
        """Of several files, those that came to the disk before it was full go again: nothing would ever read them."""
        save_state(state(value=1.0), tmp_path, max_shard_size=SIZES[before])
        held, synced = names(tmp_path), 0

        def full(descriptor: int) -> None:
            nonlocal synced
            synced += 1
            if synced > 2 * step:  # each of four files, and the index behind them, takes two: itself and its folder
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"was not written: the disk is full. Nothing half-made is left"):
            save_state(state(value=2.0), tmp_path, max_shard_size=1)
        assert names(tmp_path) == held
        assert float(open_checkpoint(tmp_path).tensor("layer.0.weight")[0, 0]) == 1.0


def dies_at(step: int, work: Callable[[], object]) -> bool:
    """Run `work` in a forked process that kills itself before its call number `step` of those that change the disk."""
    child = os.fork()
    if child == 0:
        calls = 0

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal calls
                if calls == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                calls += 1
                return function(*args, **options)

            return call

        for name in ("fsync", "replace", "unlink", "remove", "open"):
            setattr(os, name, counted(getattr(os, name)))
        Path.open = counted(Path.open)  # type: ignore[method-assign]
        Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


class TestOtherLibraries:
    def test_transformers_reads_it(self, tmp_path: Path) -> None:
        """A real family, tied and sharded: every parameter has the same bits after the round trip."""
        from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, tie_word_embeddings=True,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
        model.config.save_pretrained(tmp_path)
        files = save_state(model.state_dict(), tmp_path, max_shard_size="10KB")
        assert len(files) > 1
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
        mine, theirs = model.state_dict(), loaded.state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(theirs[name], tensor) for name, tensor in mine.items())

    def test_reading_what_transformers_writes(self, tmp_path: Path) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=8))
        model.save_pretrained(tmp_path, max_shard_size="10KB")
        checkpoint = open_checkpoint(tmp_path)
        assert checkpoint.label.startswith("model.safetensors.index.json")
        expected = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
        assert checkpoint.entries().keys() == expected.keys()
        assert all(torch.equal(checkpoint.tensor(name), tensor) for name, tensor in expected.items())


def test_errors_are_plaits_own() -> None:
    assert issubclass(WeightsError, PlaitError)
    assert issubclass(WeightsError, ValueError)
