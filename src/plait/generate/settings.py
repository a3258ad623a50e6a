"""The options of a generation, complete: every name that `generation_config.json` may hold is known here.

An option is one of three: supported (a field of `GenerationConfig`), without effect on the result (accepted and kept),
or not supported, and then refused by name unless it holds the value that means "off".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_type_hints

from plait.disk import replaced
from plait.errors import ConfigError, GenerationError, NotFoundError, OptionError, nearest

# Name -> the values that mean "off". Anything else asks for a method that is not implemented.
NOT_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "num_beam_groups": (None, 1),
    "diversity_penalty": (None, 0, 0.0),
    "constraints": (None,),
    "force_words_ids": (None,),
    "penalty_alpha": (None, 0, 0.0),
    "dola_layers": (None,),
    "top_h": (None,),
    "typical_p": (None, 1, 1.0),
    "epsilon_cutoff": (None, 0, 0.0),
    "eta_cutoff": (None, 0, 0.0),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "exponential_decay_length_penalty": (None,),
    "sequence_bias": (None,),
    "guidance_scale": (None, 1, 1.0),
    "token_healing": (None, False),
    "watermarking_config": (None,),
    "use_mtp": (None, False),
    "prompt_lookup_num_tokens": (None,),
    "assistant_early_exit": (None,),
    "assistant_model": (None,),
    "speculation_type": (None,),
    "output_attentions": (None, False),
    "output_hidden_states": (None, False),
    "prefix_allowed_tokens_fn": (None,),
    "negative_prompt_ids": (None,),
    "negative_prompt_attention_mask": (None,),
    "inputs_embeds": (None,),
    "custom_generate": (None,),
}

# Names that mean something only together with a method above, or that concern how another library runs, not the result.
WITHOUT_EFFECT = frozenset(
    [
        *("transformers_version", "_from_model_config"),
        *("cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size", "low_memory"),
        *("compile_config", "disable_compile", "continuous_batching_config", "synced_gpus"),
        *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_tokenizer"),
        *("assistant_confidence_threshold", "assistant_lookbehind", "assistant_ensemble_weight"),
        *("max_matching_ngram_size", "target_lookbehind"),
    ]
)

_LONGEST_SHOWN = 60  # characters of a value in an error
_LIMITS = ("max_length", "max_new_tokens")

# Names that do nothing without another: what shapes a random draw, and what ranks the answers of beam search.
SAMPLING = ("temperature", "top_k", "top_p", "min_p")
RANKING = ("length_penalty", "early_stopping")

# Names of which None means the default.
_NEVER_NONE = ("num_beams", "num_return_sequences", *RANKING)

# Kinds of beam search that transformers took out of `generate` in version 5 as well.
_OTHER_BEAMS = ("num_beam_groups", "diversity_penalty", "constraints", "force_words_ids")

RULES: tuple[tuple[tuple[str, ...], str, Any], ...] = (
    (("max_length", "max_new_tokens", "num_return_sequences"), "at least 1", lambda value: value >= 1),
    (("num_beams",), "a whole number, 1 or more", lambda value: isinstance(value, int) and value >= 1),
    (("min_length", "min_new_tokens", "top_k", "no_repeat_ngram_size", "max_time"), "at least 0", lambda v: v >= 0),
    (("top_p", "min_p"), "between 0 and 1", lambda value: 0 <= value <= 1),
    (("repetition_penalty",), "above 0 (1 changes nothing)", lambda value: value > 0),
    (("temperature",), "at least 0", lambda value: value >= 0),
    (("length_penalty",), "a number (0 ranks answers of every length alike)", lambda value: math.isfinite(value)),
    (("early_stopping",), 'True, False or "never"', lambda value: value is True or value is False or value == "never"),
)


class GenerationConfig:
    """The options of `generate`, readable and settable as attributes; None means unset.

    `GenerationConfig(max_new_tokens=20, do_sample=True)`. Raises OptionError for a name that does not exist, and
    GenerationError for a value that is out of its range.
    """

    max_length: int | None = None  # tokens in all, the prompt included
    max_new_tokens: int | None = None  # tokens after the prompt; wins over max_length
    min_length: int | None = None
    min_new_tokens: int | None = None
    max_time: float | None = None  # seconds
    stop_strings: str | list[str] | None = None  # needs tokenizer=
    do_sample: bool = False
    use_cache: bool = True
    temperature: float | None = None
    top_k: int | None = 50  # as every checkpoint without a value of its own expects; 0 or None: off
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    bad_words_ids: list[list[int]] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    remove_invalid_values: bool = False
    renormalize_logits: bool = False
    num_beams: int = 1  # answers to each prompt that grow side by side; 1: one, token by token
    length_penalty: float = 1.0  # above 0, longer answers are ranked higher than their score per token says
    early_stopping: bool | Literal["never"] = False  # see `plait.generate.beam.BeamRules`
    num_return_sequences: int = 1
    output_scores: bool = False
    output_logits: bool = False
    return_dict_in_generate: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    decoder_start_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    others: dict[str, Any]  # options of the other two kinds, kept for writing back

    def __init__(self, **options: Any) -> None:
        object.__setattr__(self, "others", {})
        for name, value in options.items():
            setattr(self, name, value)
        self.validate()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIELDS:
            off = getattr(GenerationConfig, name) if name in _NEVER_NONE else None
            object.__setattr__(self, name, off if value is None else value)
        elif name in NOT_SUPPORTED or name in WITHOUT_EFFECT:
            self.others[name] = value
        else:
            raise OptionError(f"There is no generation option {name!r}.{nearest(name, known_names())}")

    def __getattr__(self, name: str) -> Any:
        if name in NOT_SUPPORTED or name in WITHOUT_EFFECT:
            return self.others.get(name)
        raise AttributeError(f"GenerationConfig has no attribute {name!r}.{nearest(name, known_names())}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenerationConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # options are mutable

    def __repr__(self) -> str:
        return f"GenerationConfig {json.dumps(self.to_dict(), indent=2, sort_keys=True)}"

    @classmethod
    def from_dict(cls, options: Mapping[str, Any], **overrides: Any) -> GenerationConfig:
        """From the content of a `generation_config.json`: null means unset; unknown names are kept unread."""
        config = cls()
        for name, value in options.items():
            if value is not None and (name in FIELDS or name in NOT_SUPPORTED or name in WITHOUT_EFFECT):
                setattr(config, name, value)
            elif value is not None:
                config.others[name] = value
        return config.updated(**overrides)

    @classmethod
    def from_folder(cls, folder: str | Path, **overrides: Any) -> GenerationConfig:
        """From `generation_config.json` in a local folder.

        Raises NotFoundError when there is none, ConfigError when it is not JSON.
        """
        file = Path(folder) / "generation_config.json"
        if not file.is_file():
            raise NotFoundError(
                f"{file} does not exist, so there are no generation options to read. "
                "A model from a hub brings its own: model.generation_config."
            )
        try:
            options = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{file} is not valid JSON ({error}). Fetch it again.") from error
        if not isinstance(options, dict):
            raise ConfigError(f"{file} must hold an object of options, but holds a {type(options).__name__}.")
        return cls.from_dict(options, **overrides)

    from_pretrained = from_folder

    def updated(self, **options: Any) -> GenerationConfig:
        """A copy with `options` changed."""
        copy = GenerationConfig()
        for name in FIELDS:
            if name in self.__dict__:
                object.__setattr__(copy, name, getattr(self, name))
        copy.others.update(self.others)
        for name, value in options.items():
            setattr(copy, name, value)
        copy.validate()
        return copy

    def over(self, own: GenerationConfig | None) -> GenerationConfig:
        """A copy in which whatever was never set is as in `own`, a model's: its end token above all.

        A limit of either kind replaces both of `own`.
        """
        if own is None:
            return self
        limited = any(getattr(self, name) is not None for name in _LIMITS)
        said = {name: getattr(self, name) for name in FIELDS if name in self.__dict__}
        copy = own.updated(**(dict.fromkeys(_LIMITS) if limited else {}) | said)
        copy.others.update(self.others)
        return copy

    def to_dict(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        changed = {
            name: getattr(self, name) for name in FIELDS if getattr(self, name) != getattr(GenerationConfig, name)
        }
        return {**changed, **{name: value for name, value in self.others.items() if value is not None}}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `generation_config.json` into `folder`, which is made if missing."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        with replaced(Path(folder) / "generation_config.json") as aside:
            aside.write_text(text, encoding="utf-8")

    def validate(self) -> None:
        """Raise GenerationError for the first value that is out of its range."""
        for names, rule, holds in RULES:
            for name in names:
                value = getattr(self, name)
                try:
                    fits = value is None or holds(value)
                except TypeError:  # no number at all
                    fits = False
                if not fits:
                    raise GenerationError(f"`{name}` must be {rule}, but is {value!r}.")

    def refuse_unsupported(self) -> None:
        """Raise GenerationError for an option that asks for a method that is not implemented."""
        for name, off in NOT_SUPPORTED.items():
            value = self.others.get(name)
            if not any(value is choice or value == choice for choice in off):
                shown = repr(value) if len(repr(value)) < _LONGEST_SHOWN else f"a {type(value).__name__}"
                others = " Transformers 5 has no such search in generate either." if name in _OTHER_BEAMS else ""
                raise GenerationError(
                    f"`{name}={shown}` is not supported by plait's generate, be it asked for here or by the model's "
                    f"generation_config.json; say {name}={off[-1]!r}.{others} Supported are greedy decoding, sampling "
                    "with temperature, top_k, top_p and min_p, and beam search with either."
                )

    def refuse_beams(self) -> None:
        """Raise GenerationError for beam search, where tokens are told one by one as they come."""
        if self.num_beams > 1:
            raise GenerationError(
                f"`num_beams={self.num_beams}` cannot be streamed, be it asked for here or by the model's "
                "generation_config.json: which answer is the best is known only at the end. Say num_beams=1, or "
                "generate without a streamer."
            )

    def eos_token_ids(self) -> list[int]:
        """The end tokens as a list, which may be empty."""
        ids = self.eos_token_id
        return [] if ids is None else [ids] if isinstance(ids, int) else [int(item) for item in ids]


FIELDS: frozenset[str] = frozenset(get_type_hints(GenerationConfig)) - {"others"}
# What a model's config.json may say as well: it asks for outputs and caches of the model, not of `generate`.
CONFIGURED: frozenset[str] = frozenset(
    name for name in FIELDS | NOT_SUPPORTED.keys() if not name.startswith(("output_", "return_", "use_"))
)


def known_names() -> list[str]:
    """Every option name, for error messages."""
    return sorted(FIELDS | NOT_SUPPORTED.keys() | WITHOUT_EFFECT)
