"""Reading a configuration with accounting, complete: typed values, and an error for every key that nobody understood.

A key that is skipped in silence is a wrong model that looks right: a rope_theta that was never read, a bias that was
never made. So each key of a file is read by its family, or known to be harmless with a reason (`HARMLESS`, and the
family's IGNORED), or has a value that means "off" (None, False, 0 or empty). Anything else is an error that names the
key. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from plait.errors import ConfigError, nearest
from plait.models.config import Config
from plait.nn.spec import Activation

_GENERATION = "a default of text generation; no part of the network"
_PROVENANCE = "says who made the checkpoint, and how"
_PRECISION = "the dtype in which to hold the weights; the loader reads it"
_TRAINING = "a choice of training; the network's function is the same"
_OUTPUT = "which outputs are returned by default; the model's forward reads it"
_LABELS = "labels and losses; the task heads read it"
_TOKENIZER = "belongs to the tokenizer"
_AFTERWARDS = "what another library does to the scores; they are given as the network makes them"
_RUNTIME = "how a program runs the network; the numbers are the same"

# Keys that any checkpoint may carry, and why none of them changes what the network computes.
HARMLESS: Mapping[str, str] = {
    "model_type": "selects the family",
    "tie_word_embeddings": "the language heads read it",
    "quantization_config": "how files hold the matrices; the loader reads it, and refuses what it cannot read",
    "hub_mixin": _PROVENANCE,
    "sbert_ce_default_activation_function": _AFTERWARDS,
    "sentence_transformers": _AFTERWARDS,
    **dict.fromkeys(
        [
            "architectures",
            "transformers_version",
            "auto_map",
            "custom_pipelines",
            "language",
            "license",
            "name",
            "unsloth_fixed",
        ]
        + [
            "unsloth_version",
            "transformers.js_config",
            "finetuning_task",
            "task_specific_params",
            "base_model",
        ],
        _PROVENANCE,
    ),
    **dict.fromkeys(["dtype", "torch_dtype"], _PRECISION),
    **dict.fromkeys(["id2label", "label2id", "num_labels", "problem_type", "classifier_dropout"], _LABELS),
    **dict.fromkeys(
        ["output_attentions", "output_hidden_states", "output_router_logits"]
        + ["return_dict", "use_return_dict", "output_past"],
        _OUTPUT,
    ),
    **dict.fromkeys(
        ["gradient_checkpointing", "initializer_range", "initializer_factor", "router_aux_loss_coef"], _TRAINING
    ),
    **dict.fromkeys(
        [
            "chunk_size_feed_forward",
            "pretraining_tp",
            "torchscript",
            "tf_legacy_loss",
            "use_bfloat16",
            "use_cache",
            "attn_implementation",
        ]
        + ["fused_attention", "use_flash_attn", "use_cache_quantization", "use_cache_kernel"]
        + ["deterministic_flash_attn", "reference_compile", "repad_logits_with_grad"],
        _RUNTIME,
    ),
    **dict.fromkeys(
        ["tokenizer_class", "model_max_length", "vocab_type", "padding_side", "prefix", "keys_to_ignore_at_inference"],
        _TOKENIZER,
    ),
    **dict.fromkeys(
        [
            "max_length",
            "min_length",
            "do_sample",
            "early_stopping",
            "num_beams",
            "num_beam_groups",
            "diversity_penalty",
            "temperature",
        ]
        + [
            "top_k",
            "top_p",
            "typical_p",
            "repetition_penalty",
            "length_penalty",
            "no_repeat_ngram_size",
            "bad_words_ids",
        ]
        + [
            "encoder_no_repeat_ngram_size",
            "num_return_sequences",
            "output_scores",
            "return_dict_in_generate",
            "suppress_tokens",
        ]
        + [
            "begin_suppress_tokens",
            "remove_invalid_values",
            "renormalize_logits",
            "exponential_decay_length_penalty",
            "max_new_tokens",
            "max_time",
        ],
        _GENERATION,
    ),
}
# Endings of keys whose value is the number of a special token.
_TOKEN_ENDINGS = ("_token_id", "_token_ids", "_token_index")

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


class Reader:
    """Typed access to one `Config` (or to a nested object of it) that remembers which keys were read.

    Every method raises `ConfigError` with the key, the value and the file when the value is missing or of another kind.
    """

    def __init__(self, config: Config | Mapping[str, Any], *, label: str, family: str, within: str = "") -> None:
        self.label = label
        self.family = family
        self.within = within
        self._config = config
        self._given: Mapping[str, Any] = config.values if isinstance(config, Config) else config
        self._read: set[str] = set()

    # -- kinds of values ----------------------------------------------------------------------------------------------

    def value(self, key: str, default: Any = None) -> Any:
        """The value of `key` as it is: the file's, else the family's default, else `default`."""
        self._read.add(key)
        return self._config.get(key, default)

    def integer(self, key: str, *, least: int = 1) -> int:
        """A whole number of at least `least`."""
        value = self.value(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._wrong(key, value, f"a whole number of at least {least}")
        return value

    def optional_integer(self, key: str, *, least: int = 1) -> int | None:
        """A whole number of at least `least`, or None."""
        return None if self.value(key) is None else self.integer(key, least=least)

    def number(self, key: str, *, default: float | None = None, least: float = 0.0) -> float:
        """A number of at least `least`; `default` stands in for a missing or null value."""
        value = self.value(key)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= least:
            raise self._wrong(key, value, f"a number of at least {least:g}")
        return float(value)

    def probability(self, key: str, *, default: float | None = None) -> float:
        """A number from 0 to below 1, such as a dropout; `default` stands in for a missing or null value."""
        value = self.number(key, default=default)
        if value >= 1:
            raise self._wrong(key, value, "at least 0 and below 1")
        return value

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """True or false."""
        value = self.value(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def per_head(self, width: str = "hidden_size", heads: str = "num_attention_heads", *, even: bool = False) -> int:
        """The dimensions of a head: the number under `width`, which that under `heads` must divide.

        Where each is to be turned by rotary positions, an `even` one.
        """
        total, count = self.integer(width), self.integer(heads)
        if total % count or (even and total // count % 2):
            kind, why = ("an even multiple", ": rotary positions turn pairs") if even else ("a multiple", "")
            raise ConfigError(f"`{width}` must be {kind} of `{heads}` ({count}), but is {total} ({self.label}){why}.")
        return total // count

    def activation(self, key: str) -> Activation:
        """The name of an activation function."""
        name = self.value(key)
        if not isinstance(name, str) or name not in ACTIVATIONS:
            raise self._wrong(key, name, f"one of {', '.join(ACTIVATIONS)}", nearest(str(name), ACTIVATIONS))
        return ACTIVATIONS[name]

    def only(self, key: str, supported: Any, *, reason: str) -> None:
        """Accept `key` at the one value that is supported, or absent; `reason` completes "… is not supported: "."""
        value = self.value(key)
        if value is not None and value != supported:
            raise ConfigError(
                f"`{self._name(key)}` is {value!r} in {self.label}, and only {supported!r} is supported for "
                f"{self.family}: {reason}."
            )

    def padding(self, *, vocabulary: int) -> int | None:
        """`pad_token_id` as the row of the embedding that receives no gradient, or None where it names no row."""
        value = self.value("pad_token_id")
        return value if isinstance(value, int) and 0 <= value < vocabulary else None

    # -- accounting ---------------------------------------------------------------------------------------------------

    @contextmanager
    def nested(self, key: str, *, ignored: Mapping[str, str] | None = None) -> Iterator[Reader]:
        """A reader of the object under `key`, whose keys are accounted for when the block ends."""
        value = self.value(key)
        if not isinstance(value, Mapping):
            raise self._wrong(key, value, "an object")
        inner = Reader(value, label=self.label, family=self.family, within=self._name(key))
        yield inner
        inner.account(ignored or {})

    def account(self, ignored: Mapping[str, str]) -> None:
        """Raise `ConfigError` for every key that was neither read nor known to be harmless.

        `ignored` are the keys that this family knows and does not use, each with the reason.
        """
        known = {*self._read, *ignored, *HARMLESS}
        strangers = [key for key, value in self._given.items() if key not in known and not _harmless(key, value)]
        if strangers:
            lines = [f"  `{self._name(key)}` = {self._given[key]!r:.80}.{nearest(key, known)}" for key in strangers]
            remedy = f"taking it out of `{self.within}`" if self.within else f"passing {strangers[0]}=None"
            raise ConfigError(
                f"{self.label} has {_count(len(strangers), 'key')} that {self.family} does not know and that could "
                "change its numbers:\n" + "\n".join(lines) + f"\nIf it makes no difference, say so by {remedy}."
            )

    def _name(self, key: str) -> str:
        return f"{self.within}.{key}" if self.within else key

    def _wrong(self, key: str, value: Any, expected: str, hint: str = "") -> ConfigError:
        if value is None:
            return ConfigError(
                f"`{self._name(key)}` is missing from {self.label}; {self.family} needs {expected} there."
            )
        return ConfigError(f"`{self._name(key)}` must be {expected}, but is {value!r} ({self.label}).{hint}")


def _harmless(key: str, value: Any) -> bool:
    if key.startswith("_") or key.endswith(_TOKEN_ENDINGS):
        return True
    # A feature that is off cannot change anything: unknown switches count only when they are on.
    return value is None or value is False or (isinstance(value, int | float) and value == 0) or value in ("", [], {})


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_strings(value: Any) -> Sequence[str] | None:
    """`value` when it is a list of texts, else None."""
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return cast("Sequence[str]", value)
    return None
