"""Models that lie in several places: plans, parts on disk, memory below half the file, inputs that follow."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from plait.errors import ConfigError, OptionError
from plait.models.auto import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification
from plait.models.config import Config
from plait.models.dispatch import dispatch
from plait.models.files import new_model, read_topology
from plait.models.placement import Plan, _balanced, _filled, _packed, parts_of
from plait.nn.build import build
from plait.nn.cache import Cache
from plait.nn.topology import EncoderDecoderModel
from plait.weights.safetensors import SafetensorsFile

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 4, "vocab_size": 29}
LLAMA = {"model_type": "llama", **SIZES, "num_key_value_heads": 2, "initializer_range": 0.3}
DEBERTA = {"pos_att_type": ["c2p", "p2c"], "position_biased_input": False, "share_att_key": True}
T5 = {"model_type": "t5", "d_kv": 8, "d_ff": 40, "d_model": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 29}
T5 |= {"decoder_start_token_id": 0}
LAYER = 16 * (16 + 8 + 8 + 16) + 3 * 16 * 24 + 2 * 16  # numbers of one llama layer: attention, MLP, norms
TABLE = 29 * 16


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    new_model(Config(LLAMA), task="causal_lm").save_pretrained(folder)
    return folder


def ids(rows: int = 2, tokens: int = 7) -> Tensor:
    return torch.randint(3, 29, (rows, tokens), generator=torch.Generator().manual_seed(1))


def on_disk(model: Any) -> set[str]:
    return {name for name, part in model.network.named_parameters() if part.is_meta}


# -- plans -------------------------------------------------------------------------------------------------------------


def test_without_a_map_and_with_one_place(llama: Path) -> None:
    assert not hasattr(AutoModelForCausalLM.from_pretrained(llama), "hf_device_map")
    for place in ("cpu", torch.device("cpu"), {"": "cpu"}, "sequential"):
        model = AutoModelForCausalLM.from_pretrained(llama, device_map=place)
        assert model.hf_device_map == {"": model.device.type if model.device.index is None else model.device.index}
        assert not on_disk(model)
        assert model.to(torch.float64).dtype == torch.float64


def test_a_map_by_hand_takes_names_of_the_checkpoint_and_ours(llama: Path) -> None:
    expected = {
        "stack.frontend": "cpu",
        "stack.layers.0": "cpu",
        "stack.layers.1": "disk",
        "stack.layers.2": "disk",
        "stack.layers.3": "disk",
        "stack.norm": "cpu",
        "head": "disk",
    }
    theirs = {"model.layers": "disk", "model.layers.0": "cpu", "": "cpu", "lm_head": "disk"}
    without_prefix = {"layers.1": "disk", "layers.2": "disk", "layers.3.mlp": "disk", "layers.3": "disk", "": "cpu"}
    ours = {**{f"stack.layers.{index}": "disk" for index in (1, 2, 3)}, "head": "disk", "stack": "cpu"}
    for given in (theirs, {**without_prefix, "lm_head": "disk"}, ours):
        model = AutoModelForCausalLM.from_pretrained(llama, device_map=given)
        assert model.hf_device_map == expected
        assert {name.rsplit(".", 3)[0] for name in on_disk(model) if "mlp.up" in name} == {
            f"stack.layers.{index}" for index in (1, 2, 3)
        }
        assert model.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"model.layers": "cpu"}, "device_map says nothing about model.embed_tokens.weight (part 'stack.frontend')."),
        (
            {"": "cpu", "model.layers.9": "disk"},
            "device_map names 'model.layers.9', which this model does not have. Did",
        ),
        (
            {"": "cpu", "model.layers.1.mlp": "disk"},
            "device_map divides the part 'stack.layers.1': '', 'model.layers.1.mlp' go to different places.",
        ),
        ({"": "cpu", "lm_head": 7}, "device_map names the accelerator 7, but torch sees"),
        (
            {"": "gpu"},
            "device_map names 'gpu', which is not a device that torch knows. Did you mean 'cpu'? Give 'auto',",
        ),
        ("autto", "device_map names 'autto', which is not a device that torch knows. Did you mean 'auto'?"),
        ({"": "xla"}, "device_map names 'xla', which is not a device of this computer. Give 'auto' or 'cpu'."),
    ],
)
def test_maps_that_cannot_be_followed(llama: Path, given: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        AutoModelForCausalLM.from_pretrained(llama, device_map=given)
    assert text in str(caught.value)


def test_memory_is_filled_in_order_and_the_rest_is_on_disk(llama: Path) -> None:
    # Room for the embedding and two layers, beside the layer that is read from disk.
    room = 4 * (TABLE + 2 * LAYER + LAYER)
    model = AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory={"cpu": room})
    assert [part for part, place in model.hf_device_map.items() if place == "disk"] == [
        *("stack.layers.2", "stack.layers.3", "stack.norm", "head"),
    ]
    more = AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory={"cpu": room + 4 * 16})
    assert more.hf_device_map == {**model.hf_device_map, "stack.norm": "cpu"}
    nothing = AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory={"cpu": "1KB"})
    assert set(nothing.hf_device_map.values()) == {"disk"}
    assert AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory={"cpu": "1GB"}).hf_device_map == {
        "": "cpu"
    }
    half = AutoModelForCausalLM.from_pretrained(
        llama, device_map="auto", max_memory={"cpu": room // 2}, dtype="bfloat16"
    )
    assert half.hf_device_map == model.hf_device_map  # half the bytes, half the room


def test_arguments_that_contradict_each_other(llama: Path) -> None:
    with pytest.raises(OptionError, match="`max_memory` bounds an automatic placement: give device_map='auto'"):
        AutoModelForCausalLM.from_pretrained(llama, max_memory={"cpu": "1GB"})
    with pytest.raises(
        OptionError, match="`max_memory` holds numbers of bytes or texts such as '10GB', but also 'lots'"
    ):
        AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory={"cpu": "lots"})
    with pytest.raises(OptionError, match=r"`max_memory` is a table such as \{'cpu': '10GB'\}, but is '1GB'\."):
        AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory="1GB")
    with pytest.raises(OptionError, match="max_memory names 'gpu', which is not a device that torch knows"):
        AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory={"gpu": "1GB"})
    with pytest.raises(OptionError, match="max_memory names the accelerator 7, but torch sees"):
        AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory={7: "1GB", "cpu": "1GB"})


def test_no_memory_at_all_leaves_everything_on_disk(llama: Path) -> None:
    for nothing in (0, "0GB"):
        model = AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory={"cpu": nothing})
        assert set(model.hf_device_map.values()) == {"disk"}


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("model_type", ["llama", "mixtral"])
def test_quantised_matrices_take_their_few_bits_of_the_memory(model_type: str, kind: str, tmp_path: Path) -> None:
    """A model whose matrices fit only in few bits is not sent to the disk for their size in the file."""
    config = Config({**LLAMA, "model_type": model_type, "hidden_size": 64, "intermediate_size": 64, "vocab_size": 29})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    room = AutoModelForCausalLM.from_pretrained(tmp_path, quantize=kind).get_memory_footprint()
    assert room < 0.5 * (tmp_path / "model.safetensors").stat().st_size
    model = AutoModelForCausalLM.from_pretrained(tmp_path, quantize=kind, device_map="auto", max_memory={"cpu": room})
    assert model.hf_device_map == {"": "cpu"}
    with pytest.raises(OptionError, match="so no part can lie on disk. Leave it out, or allow more memory."):
        AutoModelForCausalLM.from_pretrained(tmp_path, quantize=kind, device_map="auto", max_memory={"cpu": room - 1})


def test_accelerators_share_evenly_and_the_first_may_be_spared() -> None:
    sizes = {"embedding": 20, **{f"layer{index}": 10 for index in range(8)}, "head": 20}  # 120
    first, second, cpu = torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cpu")
    rooms = [(first, 1000.0), (second, 1000.0), (cpu, 1000.0)]
    assert _balanced(sizes, rooms, "sequential") == rooms
    assert set(_packed(sizes, rooms).values()) == {first}
    # 60 each, and the largest part more, so that what does not divide evenly finds room.
    even = _packed(sizes, _balanced(sizes, rooms, "balanced"))
    assert [part for part, place in even.items() if place == second] == ["layer6", "layer7", "head"]
    spared = _packed(sizes, _balanced(sizes, rooms, "balanced_low_0"))
    assert set(spared.values()) == {second}
    small = [(first, 30.0), (second, 40.0), (cpu, 15.0)]
    assert list(_packed(sizes, small).values()) == [first, first, *[second] * 4, cpu, "disk", "disk", "disk"]


def test_room_is_kept_for_the_largest_part_that_is_read_from_disk() -> None:
    cpu = torch.device("cpu")
    # Layers of 20 are read beside the table at first; without their 20 there is no room for the table, and to read it
    # takes its whole 90: nothing else may lie in memory then.
    sizes = {"table": 90, **{f"layer{index}": 20 for index in range(4)}}
    for room in range(90, 170):
        places = _filled(sizes, [(cpu, float(room))], "auto")
        kept = sum(size for part, size in sizes.items() if places[part] == cpu)
        assert kept + max(size for part, size in sizes.items() if places[part] == "disk") <= room
    assert set(_filled(sizes, [(cpu, 170.0)], "auto").values()) == {cpu}


def test_only_what_does_not_fit_is_read_again(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of the file that are mapped: all for the load, and in a forward those of the parts on disk alone."""
    mapped: list[int] = []
    borrow, tensor = SafetensorsFile.borrow, SafetensorsFile.tensor

    def counted(read: Any) -> Any:
        def reading(file: SafetensorsFile, name: str) -> Tensor:
            found: Tensor = read(file, name)
            mapped.append(found.nbytes)
            return found

        return reading

    monkeypatch.setattr(SafetensorsFile, "borrow", counted(borrow))
    monkeypatch.setattr(SafetensorsFile, "tensor", counted(tensor))
    sizes = {"stack.frontend": TABLE, **{f"stack.layers.{index}": LAYER for index in range(4)}}
    sizes |= {"stack.norm": 16, "head": TABLE}
    total, layer = 4 * sum(sizes.values()), 4 * LAYER
    for room in (layer, layer + 4 * TABLE, layer + 4 * (TABLE + 2 * LAYER), total - 4, total):
        mapped.clear()
        model = AutoModelForCausalLM.from_pretrained(llama, device_map="auto", max_memory={"cpu": room})
        places = {"stack.frontend": "cpu", **model.hf_device_map} if room < total else dict.fromkeys(sizes, "cpu")
        kept = 4 * sum(size for part, size in sizes.items() if places[part] == "cpu")
        assert sum(mapped) == kept
        # What is left of the room, beside what the largest part on disk takes while it computes, is less than any.
        streamed = [4 * size for part, size in sizes.items() if places[part] == "disk"]
        assert (room == total) == (not streamed)
        assert not streamed or 0 <= room - kept - max(streamed) < min(streamed)
        with torch.no_grad():
            for _ in range(3):
                mapped.clear()
                model(ids())
                assert sum(mapped) == total - kept


def test_parts_that_share_a_weight_lie_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    new_model(Config({**LLAMA, "tie_word_embeddings": True}), task="causal_lm").save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, logger="plait"):
        model = AutoModelForCausalLM.from_pretrained(tmp_path, device_map={"": "cpu", "lm_head": "disk"})
    assert model.hf_device_map == {"": "cpu"}
    assert "head shares weights with stack.frontend, and lies at its place." in caplog.text
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


# -- on disk -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_parts_on_disk_compute_the_same(tmp_path: Path, tied: bool, dtype: str | None) -> None:
    torch.manual_seed(0)
    new_model(Config({**LLAMA, "tie_word_embeddings": tied}), task="causal_lm").save_pretrained(tmp_path)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    for given in ({"": "disk"}, {"": "cpu", "model.layers.1": "disk", "model.layers.3": "disk"}):
        model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype, device_map=given)
        gone = on_disk(model)
        assert gone
        assert model.dtype == whole.dtype
        assert model.num_parameters() == whole.num_parameters()
        mask = torch.tensor([[1] * 7, [0] * 2 + [1] * 5])
        for _ in range(2):
            with torch.no_grad():
                expected, found = whole(ids(), mask), model(ids(), mask)
            assert torch.equal(found.logits, expected.logits)  # the same kernels on the same numbers
            assert on_disk(model) == gone  # let go of
        assert torch.equal(model.generate(ids(), max_new_tokens=4), whole.generate(ids(), max_new_tokens=4))
        assert len(model(ids()).hidden_states) == 5
        with pytest.raises(OptionError, match=r"This model lies in several places \(see hf_device_map\)"):
            model.to("cpu")
        with pytest.raises(OptionError, match="This model is partly on disk and has no weights to save"):
            model.save_pretrained(tmp_path / "again")


def test_two_threads_compute_the_same_parts_on_disk(llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama, device_map={"": "disk"})
    inside = model.layers[1].mlp
    with torch.no_grad():
        expected, second = model(ids()).logits, []

        def meanwhile(_: Any, arguments: Any) -> None:
            hook.remove()  # a whole forward of another thread, which brings and drops the part that is computing here
            other = threading.Thread(target=lambda: second.append(model(ids()).logits.detach()))
            other.start()
            other.join()

        hook = inside.register_forward_pre_hook(meanwhile)
        first = model(ids()).logits
    assert torch.equal(first, expected)
    assert torch.equal(second[0], expected)
    assert on_disk(model)  # and nothing stays in memory


def test_parts_on_disk_are_not_written(llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama, device_map={"": "disk"})
    with pytest.raises(OptionError, match="lies partly on disk, where nothing is written. Load the folder with"):
        model.load_weights(llama)
    with pytest.raises(OptionError, match="on 'meta' or on disk, where nothing takes its place"):
        model.set_input_embeddings(torch.nn.Embedding(29, 16))


def test_two_stacks_on_disk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    new_model(Config(T5), task="seq2seq_lm").save_pretrained(tmp_path)
    whole = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, device_map={"": "disk"})
    assert set(model.hf_device_map.values()) == {"cpu", "disk"}  # the biases of distances stay
    with torch.no_grad():
        assert torch.equal(model(ids(), labels=ids()).logits, whole(ids(), labels=ids()).logits)
    assert torch.equal(model.generate(ids(), max_new_tokens=5), whole.generate(ids(), max_new_tokens=5))


def test_a_new_head_is_trained_in_front_of_parts_on_disk(llama: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        llama, num_labels=3, device_map="auto", max_memory={"cpu": "1KB"}
    )
    model(ids(), labels=torch.tensor([0, 2])).loss.backward()
    assert model.base_model.device == model.device == torch.device("cpu")
    trained = {name for name, part in model.named_parameters() if part.grad is not None}
    assert trained == {"score.weight"}
    model.requires_grad_(True)
    with pytest.raises(OptionError, match="stack.frontend.tokens.weight lies on disk and cannot be trained. Freeze it"):
        model(ids(), labels=torch.tensor([0, 2]))
    # An error inside a part leaves nothing of it in memory.
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="token id 99 does not exist"):
        model(torch.tensor([[99]]))
    assert "stack.frontend.tokens.weight" in on_disk(model)


def test_converted_parts_are_kept_in_the_folder(llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = {"": "cpu", "model.layers.1": "disk"}
    whole = AutoModel.from_pretrained(llama, dtype="bfloat16")
    model = AutoModel.from_pretrained(llama, dtype="bfloat16", device_map=given, offload_folder=tmp_path / "kept")
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["stack.layers.1.safetensors"]
    assert (tmp_path / "kept" / "stack.layers.1.safetensors").stat().st_size < 2 * LAYER + 1500  # and its table
    with torch.no_grad():
        assert torch.equal(model(ids()).last_hidden_state, whole(ids()).last_hidden_state)
    # As they are in the file, they are read from there.
    with caplog.at_level(logging.INFO, logger="plait"):
        plain = AutoModel.from_pretrained(llama, device_map=given, offload_folder=tmp_path / "none")
    assert "offload_folder has no effect: the checkpoint holds the parts on disk as they are needed." in caplog.text
    assert plain(ids()).last_hidden_state.isfinite().all()
    assert not (tmp_path / "none").exists()
    with caplog.at_level(logging.INFO, logger="plait"):
        AutoModel.from_pretrained(llama, offload_state_dict=True, low_cpu_mem_usage=False, offload_folder=tmp_path)
        AutoModel.from_pretrained(llama, resume_download=False)
    for text in (
        "resume_download=False has no effect: force_download=True fetches all anew",
        "offload_state_dict has no effect: weights are mapped from the checkpoint",
        "low_cpu_mem_usage=False has no effect: weights are always loaded without a copy",
        "offload_folder has no effect: nothing of this model lies on disk",
    ):
        assert text in caplog.text


PROGRAM = """
import json, sys
import torch
from plait.models.auto import AutoModelForCausalLM

def status(name):
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])

folder, limit = sys.argv[1], int(sys.argv[2])
ids = torch.arange(5, 21)[None]
small = torch.nn.Linear(64, 64)  # the first products load the kernels' code: not the model's memory
small(torch.zeros(2, 64)), torch.nn.functional.scaled_dot_product_attention(*[torch.zeros(1, 2, 16, 64)] * 3)
options = {"device_map": "auto", "max_memory": {"cpu": limit}} if limit else {}
with torch.no_grad():
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    logits = [model(ids).logits, model(ids).logits]
    peak = status("VmHWM") - before
assert torch.equal(*logits)
places = list(getattr(model, "hf_device_map", {}).values())
print(json.dumps({"peak": peak, "sum": logits[0].double().sum().item(), "first": logits[0][0, -1, :5].tolist(),
                  "disk": places.count("disk"), "cpu": places.count("cpu")}))
"""


def test_a_model_of_twice_the_memory_runs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 12}
    config = Config({**LLAMA, **sizes, "vocab_size": 4000, "initializer_range": 0.02, "num_key_value_heads": 8})
    new_model(config, task="causal_lm", dtype=torch.float32).save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 200e6

    def run(limit: int) -> dict[str, Any]:
        output = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(limit)], capture_output=True, text=True, check=True
        )
        found: dict[str, Any] = json.loads(output.stdout)
        return found

    half = run(size // 2)
    whole = run(0)
    assert (half["sum"], half["first"]) == (whole["sum"], whole["first"])
    assert half["disk"] >= 6
    assert half["cpu"] >= 3
    # Everything in memory touches the whole file. With the limit there are the parts that fit, the one that computes,
    # 16 tokens of states, and the modules and tables of loading (measured: 8 MB): 16 MB of slack.
    assert whole["peak"] > 0.95 * size
    assert half["peak"] <= size / 2 + 16e6, (half["peak"], size)


# -- several devices ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pretended() -> Iterator[None]:
    """Tensors without numbers that have devices, and refuse to meet tensors of other devices."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (LLAMA, "causal_lm"),
        ({"model_type": "bert", **SIZES}, "sequence_classification"),
        ({"model_type": "mpnet", **SIZES, "pad_token_id": 1}, "base"),
        ({"model_type": "deberta-v2", **SIZES, "relative_attention": True, **DEBERTA}, "base"),
        (T5, "seq2seq_lm"),
    ],
)
def test_inputs_follow_the_layers_over_devices(pretended: None, values: dict[str, Any], task: str) -> None:
    config = Config(values)
    network = build(read_topology(config, task))
    parts = parts_of(network)
    devices = [torch.device("lazy", index) for index in range(3)]
    places: dict[str, Any] = {part: devices[index % 3] for index, part in enumerate(parts)}
    tied = [part for part in parts if part.endswith("frontend") or (part == "head" and task == "seq2seq_lm")]
    relative = [part for part in parts if part.endswith(("relative_bias", "relative_vectors"))]
    places |= dict.fromkeys([*tied, *relative], devices[0])
    for part in parts:
        made: dict[int, Any] = {}
        for owner in network.get_submodule(part).modules():
            for leaf, tensor in owner._parameters.items():
                if tensor is not None:
                    fresh = torch.nn.Parameter(torch.empty(tensor.shape, device=places[part]))
                    setattr(owner, leaf, made.setdefault(id(tensor), fresh))
    dispatch(network, Plan(places=places, main=devices[0]), None, folder=None)  # type: ignore[arg-type]
    network.eval()
    for origin in (devices[0], torch.device("cpu")):
        tokens = torch.ones(2, 7, dtype=torch.long, device=origin)
        with torch.no_grad():
            if isinstance(network, EncoderDecoderModel):
                found = network(tokens, tokens)
            else:
                # MPNet counts its tokens, which here have no numbers.
                valid = None if values["model_type"] == "mpnet" else torch.ones_like(tokens).bool()
                found = network(tokens, valid=valid)
                cache = Cache(network.stack.depth)
                if task == "causal_lm":  # each layer's memory lies with the layer
                    network(tokens, cache=cache)
                    assert [layer._keys.device for layer in cache.layers] == [
                        places[f"stack.layers.{index}"] for index in range(4)
                    ]
                    scores = network(tokens[:, :1], cache=cache).scores
                    assert scores is not None
                    assert scores.device == origin
        assert found.states.device == origin
        assert found.scores is None or found.scores.device == origin
