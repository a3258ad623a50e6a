"""Every family and task against the reference library: outputs, losses, caches, files, and mutations that must show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from decoder_cases import CHANGED, DECODERS
from encoder_cases import ENCODERS, ENCODERS_CHANGED, POOLERS, RELATIVE
from parity_harness import (
    BATCH,
    CASES,
    CLASSES,
    PAIRS,
    TOKENS,
    TOLERANCE,
    WORDS,
    batch,
    check,
    difference,
    differences,
    first_divergence,
    load,
    masks,
    reference,
)
from torch import Tensor

from plait.models.model import PretrainedModel


class Both:
    """Pairs of models, made once for all tests of this file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[tuple[str, str], tuple[PretrainedModel, Any]] = {}

    def __call__(self, name: str, task: str) -> tuple[PretrainedModel, Any]:
        if (name, task) not in self.made:
            theirs = reference(CASES[name], task)
            theirs.save_pretrained(self.folder / name / task)
            self.made[name, task] = load(self.folder / name / task, task), theirs
        return self.made[name, task]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("parity"))


def pools_first_column(name: str, task: str) -> bool:
    """The reference pools an encoder's first column whatever the mask says; plait pools the first valid token."""
    pooled = ("sequence_classification", "multiple_choice", "next_sentence")
    return CASES[name].encoder and (task in pooled or (task == "base" and CASES[name].config in POOLERS))


@pytest.mark.parametrize("padding", ["none", "right", "left", "holes"])
@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_outputs(both: Both, name: str, task: str, padding: str) -> None:
    ours, theirs = both(name, task)
    mask = masks()[padding]
    inputs = batch(CASES[name], task, mask)
    fields = ("hidden_states", "attentions") if task == "question_answering" and mask is not None else None
    if padding == "left" and pools_first_column(name, task):
        fields = ("hidden_states", "attentions")  # what is pooled is compared below
    rows = None if mask is None else inputs["attention_mask"].flatten(0, -2)
    check(ours, theirs, inputs, rows, fields=fields, output_hidden_states=True, output_attentions=True)


@pytest.mark.parametrize(
    ("name", "task"), [pair for pair in PAIRS if pools_first_column(*pair) and pair[1] != "multiple_choice"]
)
def test_left_padding_pools_the_first_token_and_not_the_padding(both: Both, name: str, task: str) -> None:
    """Each row equals the reference's answer to the row alone, at the same positions if those count padding."""
    ours, theirs = both(name, task)
    mask = masks()["left"]
    inputs = batch(CASES[name], task, mask)
    field = "pooler_output" if task == "base" else "logits"
    with torch.no_grad():
        mine = ours(**inputs)[field]
        for row in range(BATCH):
            start = TOKENS - int(mask[row].sum())
            alone = {key: value[row : row + 1, start:] for key, value in inputs.items()}
            if not CASES[name].first_position:
                alone["position_ids"] = torch.arange(start, TOKENS)[None]
            other = theirs(**alone)[field]
            assert difference(mine[row : row + 1], other) <= TOLERANCE


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("name", ["bert", "llama", "qwen2", "roberta", "mpnet", "modernbert", "deberta-v2"])
def test_an_answer_is_not_looked_for_in_padding(both: Both, name: str, padding: str) -> None:
    """Each row equals the reference's answer to the row alone;

    the reference spreads probability over padding as well.
    """
    ours, theirs = both(name, "question_answering")
    mask = masks()[padding]
    inputs = batch(CASES[name], "question_answering", mask)
    places = {"start_positions": torch.tensor([0, 4, 2]), "end_positions": torch.tensor([23, 12, 5])}
    starts = torch.tensor([TOKENS - int(row.sum()) if padding == "left" else 0 for row in mask])
    mine = ours(**inputs, **{key: value + starts for key, value in places.items()})
    terms = []
    for row in range(BATCH):
        seen = mask[row].bool()
        alone = {key: value[row : row + 1, seen] for key, value in inputs.items()}
        if not CASES[name].first_position:
            alone["position_ids"] = torch.arange(TOKENS)[None, seen]
        other = theirs(**alone, **{key: value[row : row + 1] for key, value in places.items()})
        for field in ("start_logits", "end_logits"):
            assert difference(mine[field][row : row + 1, seen], other[field]) <= TOLERANCE
            assert bool((mine[field][row, ~seen] == torch.finfo(torch.float32).min).all())
        terms.append(other.loss)
    assert difference(mine.loss, torch.stack(terms).mean()) <= TOLERANCE
    outside = {"start_positions": torch.full((BATCH,), TOKENS), "end_positions": torch.full((BATCH,), -100)}
    assert float(ours(**inputs, **outside).loss_terms.count) == 0


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_a_genuine_token_that_equals_the_padding_id_is_pooled(both: Both, name: str) -> None:
    """Padding on either side or none, batch of one or several:

    one text, one answer. The reference skips such tokens.
    """
    ours, theirs = both(name, "sequence_classification")
    text = torch.tensor([[7, 9, 4, 0, 0]])  # 0 is the padding id of these configurations
    with torch.no_grad():
        expected = theirs.score(theirs.model(text).last_hidden_state)[:, -1]
        right = torch.cat((text, torch.zeros(1, 3, dtype=torch.long)), dim=1)
        left = right.roll(3, dims=1)
        seen = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0]])
        for ids, mask in ((text, None), (right, seen), (left, seen.roll(3, dims=1))):
            # Rotary attention depends on distances alone, so shifting a text changes rounding and nothing else.
            assert difference(ours(ids, mask).logits, expected) <= TOLERANCE
            several = None if mask is None else mask.repeat(3, 1)
            assert difference(ours(ids.repeat(3, 1), several).logits, expected.repeat(3, 1)) <= TOLERANCE


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "base" in case.tasks])
def test_explicit_positions(both: Both, name: str) -> None:
    ours, theirs = both(name, "base")
    inputs = batch(CASES[name], "base", None)
    first = CASES[name].first_position
    if CASES[name].causal or CASES[name].config in RELATIVE:
        # Increasing, from another start in each row.
        inputs["position_ids"] = first + torch.arange(TOKENS)[None] + torch.tensor([0, 5, 11])[:, None]
    else:
        inputs["position_ids"] = first + torch.rand(BATCH, 40 - first).argsort(dim=1)[:, :TOKENS]
    check(ours, theirs, inputs, None)
    # They matter: other positions, other states. (Rotary attention does not see a common shift, so stretch them.)
    moved = {**inputs, "position_ids": first + torch.arange(TOKENS)[None] + (torch.arange(TOKENS) // 2)[None]}
    with torch.no_grad():
        assert difference(ours(**inputs).last_hidden_state, ours(**moved).last_hidden_state) > 1000 * TOLERANCE


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "base" in case.tasks])
def test_embeddings_in_place_of_ids(both: Both, name: str) -> None:
    ours, theirs = both(name, "base")
    inputs = batch(CASES[name], "base", masks()["right"])
    del inputs["input_ids"]
    shape = BATCH, TOKENS, ours.get_input_embeddings().embedding_dim
    inputs["inputs_embeds"] = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    check(ours, theirs, inputs, inputs["attention_mask"])


CHUNKS = ([24], [1] * 24, [10, 14], [5, 1, 6, 12], [23, 1])


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "causal_lm" in case.tasks])
def test_cached_equals_uncached(both: Both, name: str, padding: str) -> None:
    ours, _ = both(name, "causal_lm")
    mask = masks()[padding]
    inputs = batch(CASES[name], "causal_lm", mask)
    with torch.no_grad():
        whole = ours(**inputs, use_cache=False)
        assert "past_key_values" not in whole
        for chunks in CHUNKS:
            cache, parts, start = None, [], 0
            for size in chunks:
                part = {key: value[:, start : start + size] for key, value in inputs.items()}
                if mask is not None:
                    part["attention_mask"] = mask[:, : start + size]  # it covers the cache as well
                output = ours(**part, past_key_values=cache, use_cache=True)
                cache, start = output.past_key_values, start + size
                parts.append(output.logits)
            found = differences({"logits": torch.cat(parts, dim=1)}, {"logits": whole.logits}, mask)
            assert max(found.values()) <= TOLERANCE, chunks
            assert cache.length == TOKENS


def answers(name: str, task: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(9)
    labels = CASES[name].values.get("num_labels", 2)

    def whole(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    if task in ("causal_lm", "masked_lm", "token_classification"):
        words = whole(labels if task == "token_classification" else WORDS, BATCH, TOKENS)
        words[:, 3:7] = -100
        # The first word of padding is what the last word is scored against.
        return {"labels": words.masked_fill(inputs["attention_mask"] == 0, -100)}
    if task == "sequence_classification" and labels == 1:
        return {"labels": torch.randn(BATCH, generator=generator)}
    return {"labels": whole(3 if task == "sequence_classification" else 2, BATCH)}


@pytest.mark.parametrize(("name", "task"), [pair for pair in PAIRS if pair[1] not in ("base", "question_answering")])
def test_losses_and_gradients(both: Both, name: str, task: str) -> None:
    ours, theirs = both(name, task)
    mask = masks()["right"]
    inputs = batch(CASES[name], task, mask)
    inputs |= answers(name, task, inputs)
    mine, other = ours(**inputs), theirs(**inputs)
    assert difference(mine.loss.detach(), other.loss.detach()) <= TOLERANCE
    assert torch.equal(mine.loss, mine.loss_terms.mean())
    assert mine.loss.dtype == torch.float32
    # The gradient of the embedding passed through everything. Random weights of 0.2 make it large: relative again.
    embedding = ours.get_input_embeddings().weight
    (gradient,) = torch.autograd.grad(mine.loss, [embedding])
    (expected,) = torch.autograd.grad(other.loss, [theirs.get_input_embeddings().weight])
    assert float((gradient - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))
    assert float(expected.abs().max()) > 1e-3


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_saved_by_plait_loads_in_the_reference(both: Both, name: str, task: str, tmp_path: Path) -> None:
    ours, theirs = both(name, task)
    ours.save_pretrained(tmp_path)
    loaded, report = getattr(transformers, CLASSES[task]).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    expected = theirs.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, expected[key]), key
    architecture = json.loads((tmp_path / "config.json").read_text())["architectures"]
    assert architecture == [type(theirs).__name__]
    inputs = batch(CASES[name], task, None)
    with torch.no_grad():
        found = differences(ours(**inputs), loaded.eval()(**inputs), None)
    assert max(found.values()) <= TOLERANCE
    again = load(tmp_path, task)
    assert again.config.to_dict() == {**ours.config.to_dict(), "architectures": architecture, "dtype": "float32"}


# -- the comparison itself: a wrong reference must show
# ------------------------------------------------------------------


def zeroed(bias: str) -> Any:
    def mutate(model: Any) -> None:
        with torch.no_grad():
            model.get_parameter(bias).zero_()

    return mutate


def scaled(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "scaling"):
            module.scaling *= 1.01


def config_change(**changes: Any) -> dict[str, Any]:
    return changes


def theta(name: str) -> dict[str, Any]:
    rope = CASES[name].values["rope_parameters"]
    return {"rope_parameters": {**rope, "rope_theta": 2 * rope["rope_theta"]}}


MUTATIONS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "bert eps": ("bert", {"layer_norm_eps": 1e-2}, None),
    "bert scale": ("bert", {}, scaled),
    "bert query bias": ("bert", {}, zeroed("encoder.layer.1.attention.self.query.bias")),
    "bert norm bias": ("bert", {}, zeroed("encoder.layer.2.output.LayerNorm.bias")),
    "bert activation": ("bert", {"hidden_act": "gelu_new"}, None),
    "llama eps": ("llama", {"rms_norm_eps": 1e-2}, None),
    "llama theta": ("llama", theta("llama"), None),
    "llama scale": ("llama", {}, scaled),
    "llama bias": ("llama-linear-biased", {}, zeroed("layers.1.mlp.down_proj.bias")),
    "llama3 theta": ("llama-llama3-tied", theta("llama-llama3-tied"), None),
    "yarn theta": ("llama-yarn-wide-heads", theta("llama-yarn-wide-heads"), None),
    "qwen2 window": ("qwen2-windows-tied", {"sliding_window": 4}, None),
    "qwen2 window layers": ("qwen2-windows-tied", {"max_window_layers": 2}, None),
    "qwen2 key bias": ("qwen2", {}, zeroed("layers.0.self_attn.value_proj.bias".replace("value", "v"))),
}


def moved(name: str) -> Any:
    def mutate(model: Any) -> None:
        with torch.no_grad():
            model.get_parameter(name).view(-1)[0].add_(0.3)

    return scaled if name == "scale" else mutate


MUTATIONS |= {
    key: (name, changes, moved(what) if what else None)
    for key, (name, changes, what) in (CHANGED | ENCODERS_CHANGED).items()
}


def test_every_case_with_several_tasks_has_a_mutation() -> None:
    changed = {name for name, _, _ in MUTATIONS.values()}
    assert changed >= {name for name, (_, _, tasks) in (DECODERS | ENCODERS).items() if len(tasks) > 2}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_reference_fails(both: Both, mutation: str) -> None:
    name, changes, mutate = MUTATIONS[mutation]
    ours, _ = both(name, "base")
    theirs = reference(CASES[name], "base", **changes)
    if mutate is not None:
        mutate(theirs)
    inputs = batch(CASES[name], "base", None)
    with torch.no_grad():
        found = differences(ours(**inputs), theirs(**inputs), None)
    # Well above the tolerance, so that nothing passes by luck.
    assert max(found.values()) > 10 * TOLERANCE
    with pytest.raises(AssertionError, match="the first sublayer to differ is"):
        check(ours, theirs, inputs, None)


@pytest.mark.parametrize("seed", range(3))
def test_one_changed_number_is_found_in_its_sublayer(both: Both, seed: int) -> None:
    for name, weight, where in (
        ("bert", "encoder.layer.1.output.dense.weight", "layers.1.mlp"),
        ("bert", "encoder.layer.2.attention.output.dense.bias", "layers.2.attention"),
        ("llama", "layers.1.self_attn.v_proj.weight", "layers.1.attention"),
        ("qwen2", "layers.2.mlp.gate_proj.weight", "layers.2.mlp"),
    ):
        ours, _ = both(name, "base")
        theirs = reference(CASES[name], "base")
        inputs = batch(CASES[name], "base", None, seed=seed)
        assert first_divergence(ours, theirs, inputs) is None
        with torch.no_grad():
            theirs.get_parameter(weight)[seed].add_(0.5)
        assert first_divergence(ours, theirs, inputs) == where
