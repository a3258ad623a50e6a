"""Every encoder-decoder family against the reference library: outputs, losses, caches, generation, files, mutations."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity_harness import TOLERANCE, difference
from safetensors.torch import save_file
from torch import Tensor, nn

from plait.models import auto
from plait.models.seq2seq import Seq2SeqModel

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

WORDS, SOURCE, TARGET = 53, 11, 8
CLASSES = {"base": "AutoModel", "seq2seq_lm": "AutoModelForSeq2SeqLM"}


@dataclass(frozen=True)
class Case:
    """One configuration of a family."""

    config: str
    values: dict[str, Any] = field(default_factory=dict)

    def build(self, **changes: Any) -> Any:
        return getattr(transformers, self.config)(**{**self.values, **changes})


_SIZES = {"vocab_size": WORDS, "d_model": 16}
_TOKENS = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": None}
_BART: dict[str, Any] = {
    **_SIZES,
    **_TOKENS,
    "bos_token_id": 1,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 24,
}
# Wide enough an epsilon and few enough buckets and steps that each of them moves the output of a tiny model.
_T5: dict[str, Any] = {
    **_SIZES,
    "d_kv": 6,
    "d_ff": 20,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "layer_norm_epsilon": 1e-3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 9,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
CASES: dict[str, Case] = {
    "bart": Case("BartConfig", _BART),
    "bart-scaled": Case("BartConfig", {**_BART, "scale_embedding": True, "activation_function": "relu"}),
    "mbart": Case("MBartConfig", {**_BART, "scale_embedding": True}),
    "marian": Case("MarianConfig", {**_BART, "scale_embedding": True, "activation_function": "swish"}),
    "marian-two-vocabularies": Case(
        "MarianConfig",
        {**_BART, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 47, "tie_word_embeddings": False},
    ),
    "pegasus": Case("PegasusConfig", {**_BART, "scale_embedding": True, "activation_function": "relu"}),
    "t5": Case("T5Config", _T5),
    "t5-gated": Case(
        "T5Config",
        {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": None},
    ),
    "t5-silu": Case("T5Config", {**_T5, "feed_forward_proj": "gated-silu"}),
    "mt5": Case("MT5Config", _T5 | {"feed_forward_proj": "gated-gelu"}),
}


def reference(case: Case, task: str, *, seed: int = 0, **changes: Any) -> Any:
    """A random model of the reference library, norms and biases included, in evaluation mode."""
    model_class = getattr(transformers, CLASSES[task])
    model = model_class.from_config(case.build(**changes), attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, part in sorted([*model.named_parameters(), *model.named_buffers()]):
            if not part.is_floating_point() or (not part.requires_grad and name != "final_logits_bias"):
                continue  # a computed table
            noise = torch.randn(part.shape, generator=generator) * 0.2
            part.copy_(1 + noise if "norm" in name and name.endswith("weight") else noise)
    return model


class Both:
    """Pairs of models, made once for all tests of this file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[tuple[str, str], tuple[Seq2SeqModel, Any]] = {}

    def __call__(self, name: str, task: str) -> tuple[Seq2SeqModel, Any]:
        if (name, task) not in self.made:
            theirs = reference(CASES[name], task)
            theirs.save_pretrained(self.folder / name / task)
            ours = getattr(auto, CLASSES[task]).from_pretrained(self.folder / name / task)
            self.made[name, task] = ours, theirs
        return self.made[name, task]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("seq2seq"))


def target_words(case: Case) -> int:
    return int(case.values.get("decoder_vocab_size", WORDS))


def masks() -> dict[str, Tensor | None]:
    order, lengths = torch.arange(SOURCE), torch.tensor([[SOURCE], [6], [3]])
    return {"none": None, "right": (order < lengths).long(), "left": (order >= SOURCE - lengths).long()}


def batch(case: Case, padding: str = "none", *, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(3, WORDS, (3, SOURCE), generator=generator)
    target = torch.randint(3, target_words(case), (3, TARGET), generator=generator)
    mask = masks()[padding]
    if mask is None:
        return {"input_ids": source, "decoder_input_ids": target}
    return {"input_ids": source * mask, "attention_mask": mask, "decoder_input_ids": target}


def differences(ours: Any, theirs: Any, mask: Tensor | None) -> dict[str, float]:
    """The largest difference of every output that the reference has; what lies at padding is nobody's."""
    found = {}
    for name in theirs:
        if name == "past_key_values":
            continue
        mine, other = ours[name], theirs[name]
        pairs = [(mine, other)] if isinstance(other, Tensor) else zip(mine, other, strict=True)
        for index, (a, b) in enumerate(pairs):
            assert a.shape == b.shape, f"{name}: {tuple(a.shape)} against {tuple(b.shape)}"
            if mask is not None and name.startswith("encoder"):
                # (B, S, D), or (B, H, S, S) -> (B, S, …) -> (valid tokens, …)
                seen = mask.bool()
                a, b = (part[seen] if part.dim() == 3 else part.transpose(1, 2)[seen] for part in (a, b))
            found[f"{name}[{index}]"] = difference(a, b)
    return found


def check(ours: Any, theirs: Any, inputs: dict[str, Tensor], **options: Any) -> None:
    with torch.no_grad():
        mine, other = ours(**inputs, **options), theirs(**inputs, **options)
    assert [*mine] == [*other]
    found = differences(mine, other, inputs.get("attention_mask"))
    wrong = {name: value for name, value in found.items() if not value <= TOLERANCE}
    assert not wrong, f"differs in {wrong}"


@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("name", CASES)
def test_outputs(both: Both, name: str, task: str, padding: str) -> None:
    ours, theirs = both(name, task)
    inputs = batch(CASES[name], padding)
    check(ours, theirs, inputs, output_hidden_states=True, output_attentions=True, use_cache=task == "seq2seq_lm")
    with torch.no_grad():  # the fused kernel, which keeps no weights
        first, second = ours(**inputs)[0], theirs(**inputs)[0]
    assert difference(first, second) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_embeddings_in_place_of_ids(both: Both, name: str) -> None:
    ours, theirs = both(name, "base")
    generator = torch.Generator().manual_seed(2)
    inputs = {
        "inputs_embeds": torch.randn(3, SOURCE, 16, generator=generator),
        "decoder_inputs_embeds": torch.randn(3, TARGET, 16, generator=generator),
        "attention_mask": masks()["right"],
    }
    if CASES[name].values.get("scale_embedding") and CASES[name].config in ("MarianConfig", "PegasusConfig"):
        # The decoders of these two, alone in the reference, multiply given vectors as well; plait multiplies none.
        with torch.no_grad():
            expected = theirs(**inputs).last_hidden_state
            scaled = {"decoder_inputs_embeds": 4.0 * inputs["decoder_inputs_embeds"]}
            mine = ours(**{**inputs, **scaled}).last_hidden_state
        assert difference(mine, expected) <= TOLERANCE
        return
    check(ours, theirs, inputs, use_cache=False)


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients(both: Both, name: str) -> None:
    ours, theirs = both(name, "seq2seq_lm")
    inputs = batch(CASES[name], "right")
    inputs["labels"] = inputs.pop("decoder_input_ids")
    inputs["labels"][1, 5:], inputs["labels"][2, 1:] = -100, -100
    mine, other = ours(**inputs), theirs(**inputs)
    assert difference(mine.loss, other.loss) <= TOLERANCE
    assert difference(mine.logits, other.logits) <= TOLERANCE
    assert torch.equal(mine.loss, mine.loss_terms.mean())
    (gradient,) = torch.autograd.grad(mine.loss, [ours.get_input_embeddings().weight])
    (expected,) = torch.autograd.grad(other.loss, [theirs.get_input_embeddings().weight])
    # The padding's own row is trained by neither, or only where padding is read; tokens are what counts.
    assert float((gradient - expected)[1:].abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))
    assert float(expected.abs().max()) > 1e-3


@pytest.mark.parametrize("chunks", [[1] * TARGET, [3, 1, 4]])
@pytest.mark.parametrize("name", CASES)
def test_cached_equals_uncached(both: Both, name: str, chunks: list[int]) -> None:
    ours, _ = both(name, "seq2seq_lm")
    inputs = batch(CASES[name], "left")
    target = inputs.pop("decoder_input_ids")
    with torch.no_grad():
        whole = ours(**inputs, decoder_input_ids=target, use_cache=False).logits
        encoded, cache, parts, start = ours.encode(**inputs), None, [], 0
        for size in chunks:
            output = ours(
                encoder_outputs=encoded,
                attention_mask=inputs["attention_mask"],
                decoder_input_ids=target[:, start : start + size],
                past_key_values=cache,
                use_cache=True,
            )
            cache, start = output.past_key_values, start + size
            parts.append(output.logits)
    assert difference(torch.cat(parts, dim=1), whole) <= TOLERANCE


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("name", CASES)
def test_greedy_answers(both: Both, name: str, padding: str) -> None:
    ours, theirs = both(name, "seq2seq_lm")
    inputs = batch(CASES[name], padding)
    del inputs["decoder_input_ids"]
    for options in ({}, {"forced_bos_token_id": 7}):
        more = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": [2, 9], **options}
        more |= {"return_dict_in_generate": True, "output_logits": True}
        mine, expected = ours.generate(**inputs, **more), theirs.generate(**inputs, **more)
        assert mine.sequences.tolist() == expected.sequences.tolist()
        assert len(mine.logits) == len(expected.logits)
        for step, (a, b) in enumerate(zip(mine.logits, expected.logits, strict=True)):
            going = ~(expected.sequences[:, 1 : step + 1].unsqueeze(-1) == torch.tensor([2, 9])).any(dim=-1).any(dim=-1)
            assert difference(a[going], b[going]) <= TOLERANCE


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("name", CASES)
def test_saved_by_plait_loads_in_the_reference(both: Both, name: str, task: str, tmp_path: Path) -> None:
    ours, theirs = both(name, task)
    ours.save_pretrained(tmp_path)
    loaded, report = getattr(transformers, CLASSES[task]).from_pretrained(tmp_path, output_loading_info=True)
    # What is computed is not written: the reference computes it again, as is compared below.
    computed = {key for key in report["missing_keys"] if key.endswith("embed_positions.weight")}
    assert not any(values - computed for values in map(set, report.values())), report
    expected = theirs.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, expected[key]), key
    architecture = json.loads((tmp_path / "config.json").read_text())["architectures"]
    assert architecture == [type(theirs).__name__]
    inputs = batch(CASES[name])
    with torch.no_grad():
        assert difference(ours(**inputs)[0], loaded.eval()(**inputs)[0]) <= TOLERANCE


def test_a_file_without_the_bias_of_scores(both: Both, tmp_path: Path) -> None:
    _, theirs = both("bart", "seq2seq_lm")
    inputs = batch(CASES["bart"])
    with torch.no_grad():
        expected = theirs(**inputs).logits - theirs.final_logits_bias
    state = {key: value for key, value in theirs.state_dict().items() if key != "final_logits_bias"}
    save_file({key: value.clone() for key, value in state.items()}, tmp_path / "model.safetensors")
    theirs.config.save_pretrained(tmp_path)
    ours = auto.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert difference(ours(**inputs).logits, expected) <= TOLERANCE
    ours.save_pretrained(tmp_path / "again")
    again = auto.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again")
    assert again.num_parameters() == ours.num_parameters()


def test_t5_with_a_head_of_its_own(tmp_path: Path) -> None:
    theirs = reference(CASES["t5-gated"], "seq2seq_lm")
    theirs.lm_head.weight = nn.Parameter(torch.randn(WORDS, 16, generator=torch.Generator().manual_seed(4)))
    save_file({key: value.clone() for key, value in theirs.state_dict().items()}, tmp_path / "model.safetensors")
    theirs.config.save_pretrained(tmp_path)
    ours = auto.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, tie_word_embeddings=False)
    inputs = batch(CASES["t5-gated"])
    with torch.no_grad():
        assert difference(ours(**inputs).logits, theirs(**inputs).logits) <= TOLERANCE
    assert ours.num_parameters() == theirs.num_parameters()


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("name", ["bart", "mbart", "t5", "mt5"])
def test_classification(name: str, labels: int, tmp_path: Path) -> None:
    case = CASES[name]
    model = transformers.AutoModelForSequenceClassification.from_config(case.build(num_labels=labels)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, part in sorted(model.named_parameters()):
            part.copy_(torch.randn(part.shape, generator=generator) * 0.2)
    model.save_pretrained(tmp_path / "theirs")
    ours = auto.AutoModelForSequenceClassification.from_pretrained(tmp_path / "theirs")
    source, mask = batch(case, "right")["input_ids"], masks()["right"]
    assert mask is not None
    source[torch.arange(3), mask.sum(dim=1) - 1] = 2  # every text ends with the end token, as the reference demands
    answers = torch.tensor([0.5, -1.0, 2.0]) if labels == 1 else torch.tensor([2, 0, 1])
    mine, other = (part(input_ids=source, attention_mask=mask, labels=answers) for part in (ours, model))
    assert difference(mine.logits, other.logits) <= TOLERANCE
    assert difference(mine.loss, other.loss) <= TOLERANCE
    ours.save_pretrained(tmp_path / "ours")
    _, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values()), report
    # Those of other sizes and other tasks: a new head is drawn, or this one left out.
    fresh = auto.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "theirs", num_labels=5, ignore_mismatched_sizes=True
    )
    assert fresh(input_ids=source, attention_mask=mask).logits.isfinite().all()
    language = auto.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "theirs")
    assert torch.equal(language.get_input_embeddings().weight, ours.get_input_embeddings().weight)


def zeroed(name: str) -> Any:
    def mutate(model: Any) -> None:
        with torch.no_grad():
            model.get_parameter(name).zero_()

    return mutate


def epsilon(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps *= 100


MUTATIONS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "bart scale": ("bart", {"scale_embedding": True}, None),
    "bart activation": ("bart", {"activation_function": "gelu_new"}, None),
    "bart cross value bias": ("bart", {}, zeroed("model.decoder.layers.1.encoder_attn.v_proj.bias")),
    "bart eps": ("bart", {}, epsilon),
    "mbart last norm": ("mbart", {}, zeroed("model.encoder.layer_norm.bias")),
    "marian activation": ("marian", {"activation_function": "relu"}, None),
    "marian eps": ("marian", {}, epsilon),
    "pegasus heads": ("pegasus", {"decoder_attention_heads": 4}, None),
    "pegasus query bias": ("pegasus", {}, zeroed("model.encoder.layers.2.self_attn.q_proj.bias")),
    "t5 eps": ("t5", {"layer_norm_epsilon": 1e-2}, None),
    "t5 distance": ("t5", {"relative_attention_max_distance": 20}, None),
    "t5 head scale": ("t5", {"tie_word_embeddings": False}, None),
    "t5 bias of the decoder": (
        "t5",
        {},
        zeroed("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
    ),
    "mt5 gate": ("mt5", {"feed_forward_proj": "gated-relu"}, None),
}
# The first row that a position reads is the third: what stands before it is read by none.
MUTATIONS["bart position"] = ("bart", {}, lambda model: model.model.decoder.embed_positions.weight.data[2, 0].add_(0.3))


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_reference_fails(both: Both, mutation: str) -> None:
    name, changes, mutate = MUTATIONS[mutation]
    ours, _ = both(name, "seq2seq_lm")
    theirs = reference(CASES[name], "seq2seq_lm", **changes)
    if mutate is not None:
        mutate(theirs)
    inputs = batch(CASES[name])
    with torch.no_grad():
        found = differences(ours(**inputs), theirs(**inputs), None)
    # Well above the tolerance, so that nothing passes by luck.
    assert max(found.values()) > 10 * TOLERANCE


def test_every_family_has_a_mutation() -> None:
    assert {name.split("-")[0] for name in CASES} == {name for name, _, _ in MUTATIONS.values()}
