"""Tiny random models of the reference library, and the comparison of plait's with them.

Everything is drawn with a deviation of 0.2 or more, norms and biases included: with the usual 0.02 a wrong bias or
epsilon hides below any tolerance. Models are saved by the reference library and loaded through plait's own loader.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from decoder_cases import DECODERS
from encoder_cases import COUNTED, ENCODERS
from torch import Tensor, nn

from plait.models import auto
from plait.models.model import PretrainedModel
from plait.nn.record import Recorder

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# float32 rounds at 6e-8 of a value. A few layers of sums of 32 to 64 such values, added in another order, differ by
# some
# 1e-7 of the largest one; 1e-5 of it leaves a factor of ten. The mutations below show that it is tight enough.
TOLERANCE = 1e-5

# task -> the class, which has the same name here and there
CLASSES = {
    "base": "AutoModel",
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "multiple_choice": "AutoModelForMultipleChoice",
    "next_sentence": "AutoModelForNextSentencePrediction",
}
DECODER_TASKS = ("base", "causal_lm", "sequence_classification", "token_classification", "question_answering")
ENCODER_TASKS = tuple(task for task in CLASSES if task != "causal_lm")
BATCH, TOKENS, WORDS = 3, 24, 53


@dataclass(frozen=True)
class Case:
    """One configuration of a family, and the tasks that it is compared in."""

    config: str
    values: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ("base",)

    def build(self, **changes: Any) -> Any:
        return getattr(transformers, self.config)(**{**self.values, **changes})

    @property
    def encoder(self) -> bool:
        return self.config in {"BertConfig", *(config for config, _, _ in ENCODERS.values())}

    @property
    def causal(self) -> bool:
        return not self.encoder or self.values.get("is_decoder", False)

    @property
    def padding(self) -> int:
        return int(self.values.get("pad_token_id", 0))

    @property
    def first_position(self) -> int:
        """The position id of the first token."""
        return self.padding + 1 if self.config in COUNTED else 0


_SIZES = {"vocab_size": WORDS, "intermediate_size": 40, "num_attention_heads": 4, "initializer_range": 0.2}
# Large epsilons, small thetas and short original lengths: so that every one of them moves the output of a tiny model.
_BERT = {**_SIZES, "hidden_size": 32, "num_hidden_layers": 3, "max_position_embeddings": 40, "layer_norm_eps": 1e-3}
_LLAMA = {**_SIZES, "hidden_size": 32, "num_hidden_layers": 3, "num_key_value_heads": 2, "rms_norm_eps": 1e-3}
_LLAMA |= {"max_position_embeddings": 64, "pad_token_id": 0}
_THETA = {"rope_theta": 100.0}
_QWEN = {**_LLAMA, "rope_parameters": {"rope_type": "default", **_THETA}}

CASES: dict[str, Case] = {
    "bert": Case("BertConfig", {**_BERT, "num_labels": 3}, ENCODER_TASKS),
    "bert-tanh-untied": Case(
        "BertConfig",
        {**_BERT, "hidden_act": "gelu_new", "tie_word_embeddings": False, "type_vocab_size": 3},
        ("base", "masked_lm"),
    ),
    "bert-decoder": Case("BertConfig", {**_BERT, "is_decoder": True}, ("base", "causal_lm")),
    "llama": Case(
        "LlamaConfig",
        {**_LLAMA, "num_labels": 3, "rope_parameters": {"rope_type": "default", **_THETA}},
        DECODER_TASKS,
    ),
    "llama-linear-biased": Case(
        "LlamaConfig",
        {
            **_LLAMA,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {"rope_type": "linear", "factor": 3.0, **_THETA},
        },
    ),
    "llama-llama3-tied": Case(
        "LlamaConfig",
        {
            **_LLAMA,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
                **_THETA,
            },
        },
        ("base", "causal_lm"),
    ),
    "llama-yarn-wide-heads": Case(
        "LlamaConfig",
        {
            **_LLAMA,
            "head_dim": 12,
            "num_key_value_heads": 1,
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "beta_fast": 4.0,
                "beta_slow": 1.0,
                "original_max_position_embeddings": 16,
                **_THETA,
            },
        },
        ("base", "causal_lm"),
    ),
    "qwen2": Case("Qwen2Config", {**_QWEN, "num_labels": 3}, DECODER_TASKS),
    "qwen2-number": Case("Qwen2Config", {**_QWEN, "num_labels": 1}, ("sequence_classification",)),
    "qwen2-windows-tied": Case(
        "Qwen2Config",
        {
            **_QWEN,
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
        ("base", "causal_lm"),
    ),
}
CASES |= {name: Case(*parts) for name, parts in (DECODERS | ENCODERS).items()}
PAIRS = [(name, task) for name, case in CASES.items() for task in case.tasks]


def reference(case: Case, task: str, *, seed: int = 0, **changes: Any) -> Any:
    """A random model of the reference library, in float32 and evaluation mode."""
    if task == "question_answering":
        changes = {"num_labels": 2, **changes}  # the reference makes as many columns as labels, and needs two
    model_class = getattr(transformers, CLASSES[task])
    model = model_class.from_config(case.build(**changes), attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            norm = ("norm" in name.lower() or ".ln_" in f".{name}") and name.endswith("weight")
            parameter.copy_(1 + noise if norm else noise)
        for name, buffer in sorted(model.named_buffers()):
            if name.endswith("correction_bias"):  # the only numbers of a file that are no parameters
                buffer.normal_(std=0.2, generator=generator)
        for head in (getattr(getattr(model, "cls", model), "predictions", None), getattr(model, "lm_head", None)):
            if hasattr(head, "decoder"):
                # Untied, the reference keeps a second bias that no forward reads.
                head.bias.copy_(head.decoder.bias)
    return model


def load(folder: Path, task: str, **options: Any) -> PretrainedModel:
    """The saved model, through plait's own loader."""
    model: PretrainedModel = getattr(auto, CLASSES[task]).from_pretrained(folder, **options)
    return model


def masks() -> dict[str, Tensor | None]:
    """No mask, padding on the right and on the left by different lengths, and holes."""
    order = torch.arange(TOKENS)
    lengths = torch.tensor([TOKENS, 13, 6])[:, None]
    generator = torch.Generator().manual_seed(3)
    holes = (torch.rand(BATCH, TOKENS, generator=generator) > 0.3).long()
    holes[:, 0] = 1  # a causal row must see something
    return {
        "none": None,
        "right": (order < lengths).long(),
        "left": (order >= TOKENS - lengths).long(),
        "holes": holes,
    }


def batch(case: Case, task: str, mask: Tensor | None, *, seed: int = 1) -> dict[str, Tensor]:
    """Random inputs for a task, padded where `mask` says; ids avoid the padding id, which means nothing here."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {"input_ids": torch.randint(case.padding + 1, WORDS, (BATCH, TOKENS), generator=generator)}
    if kinds := getattr(case.build(), "type_vocab_size", 0):
        inputs["token_type_ids"] = torch.randint(0, kinds, (BATCH, TOKENS), generator=generator)
    if task == "multiple_choice":
        # (B, T) -> (B, 2, T): the second choice is the first backwards
        inputs = {name: torch.stack((part, part.flip(-1)), dim=1) for name, part in inputs.items()}
        mask = None if mask is None else torch.stack((mask, mask), dim=1)
    if mask is not None:
        inputs["attention_mask"] = mask
        inputs["input_ids"] = inputs["input_ids"].where(mask.bool(), case.padding)
    return inputs


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in units of the largest value (at least 1)."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} against {tuple(theirs.shape)}"
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))


def differences(
    ours: Any, theirs: Any, mask: Tensor | None, *, fields: tuple[str, ...] | None = None
) -> dict[str, float]:
    """The largest difference of every output that the reference has; what lies at padding is nobody's."""
    found: dict[str, float] = {}
    valid = None if mask is None else mask.bool()
    for name in fields or [key for key in theirs if key not in ("past_key_values", "cross_attentions")]:
        mine, other = ours[name], theirs[name]
        if isinstance(other, Tensor):
            mine, other = (mine,), (other,)
        assert len(mine) == len(other), name
        for index, (a, b) in enumerate(zip(mine, other, strict=True)):
            assert a.shape == b.shape, f"{name}: {tuple(a.shape)} against {tuple(b.shape)}"
            if valid is not None and a.shape[:2] == valid.shape:
                a, b = a[valid], b[valid]  # (B, T, …) -> (valid tokens, …)
            elif valid is not None and a.dim() == 4 and a.shape[2] == valid.shape[1]:
                a, b = a.transpose(1, 2)[valid], b.transpose(1, 2)[valid]  # (B, H, T, S) -> (valid queries, H, S)
            found[f"{name}[{index}]"] = difference(a, b)
    return found


@contextlib.contextmanager
def _heard(model: nn.Module, names: dict[str, str], heard: dict[str, Tensor]) -> Iterator[None]:
    """Note what the reference's modules give (or, with "<" before the name, take) while the block runs.

    A "*" in a name becomes the number of the call.
    """

    def note(ours: str, tensor: Tensor) -> None:
        calls = sum(name.endswith(ours.rpartition("*")[2]) for name in heard)
        heard[ours.replace("*", str(calls))] = tensor

    handles = []
    for ours, theirs in names.items():
        module = model.get_submodule(theirs.removeprefix("<"))
        if theirs.startswith("<"):
            handles.append(module.register_forward_pre_hook(lambda m, a, ours=ours: note(ours, a[0].detach())))
        else:
            handles.append(
                module.register_forward_hook(
                    lambda m, a, out, ours=ours: note(ours, out[0] if isinstance(out, tuple) else out)
                )
            )
    yield
    for handle in handles:
        handle.remove()


# Kinds of layers -> the part that gives, or with "<" takes, what plait has behind attention.
_ATTENDED = {
    "BertLayer": "attention",
    "TransformerBlock": "sa_layer_norm",
    "ModernBertEncoderLayer": "<mlp_norm",
    **dict.fromkeys(
        ["RobertaLayer", "XLMRobertaLayer", "ElectraLayer", "MPNetLayer", "AlbertLayer", "DebertaV2Layer"], "attention"
    ),
    **dict.fromkeys(["GPT2Block", "GPTNeoBlock"], "<ln_2"),
    "GPTNeoXLayer": "attention",
    "OPTDecoderLayer": "<final_layer_norm",
    "PhiDecoderLayer": "self_attn",
    **dict.fromkeys(["Gemma2DecoderLayer", "Gemma3DecoderLayer"], "<pre_feedforward_layernorm"),
}


def _sublayers(model: Any) -> dict[str, str]:
    """Names of plait's sublayers -> where the reference has the same numbers."""
    names: dict[str, str] = {}
    for name, module in model.named_modules():
        kind, index = type(module).__name__, name.rsplit(".", 1)[-1]
        if kind == "AlbertLayer":
            index = "*"  # one layer, called again and again
        part = _ATTENDED.get(kind, "<post_attention_layernorm" if kind.endswith("DecoderLayer") else None)
        if part is not None:
            attended = f"<{name}.{part[1:]}" if part.startswith("<") else f"{name}.{part}"
            names |= {f"layers.{index}.attention": attended, f"layers.{index}.mlp": name}
    return names


def first_divergence(ours: PretrainedModel, theirs: Any, inputs: dict[str, Tensor]) -> str | None:
    """The first sublayer whose output differs, as "layers.2.attention", or None."""
    heard: dict[str, Tensor] = {}
    recorder = Recorder()
    forward: Callable[..., Any] = ours.network.forward
    with torch.no_grad(), _heard(theirs, _sublayers(theirs), heard):
        theirs(**inputs)
        ours.network.forward = lambda *a, **k: forward(*a, **{**k, "record": recorder})
        try:
            ours(**inputs)
        finally:
            del ours.network.forward
    for name, state in recorder.sublayers:
        # One reference flattens batch and tokens inside its layers.
        if difference(state, heard[name].reshape(state.shape)) > TOLERANCE:
            return name
    return None


def check(
    ours: PretrainedModel,
    theirs: Any,
    inputs: dict[str, Tensor],
    mask: Tensor | None,
    *,
    fields: tuple[str, ...] | None = None,
    **options: Any,
) -> None:
    """Every output of both (or those of `fields`), equal; a failure names the first sublayer that differs."""
    with torch.no_grad():
        mine, other = ours(**inputs, **options), theirs(**inputs, **options)
    found = differences(mine, other, mask, fields=fields)
    wrong = {name: value for name, value in found.items() if not value <= TOLERANCE}
    if wrong:
        where = first_divergence(ours, theirs, inputs)
        raise AssertionError(f"differs in {wrong}; the first sublayer to differ is {where or 'behind the layers'}")
