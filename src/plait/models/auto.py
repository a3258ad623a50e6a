"""`AutoConfig`, `AutoTokenizer` and the `AutoModel…` classes, complete: from a reference to a configuration, a
tokenizer or a model.

Importing this imports no torch; a tokenizer is loaded without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from plait.console import logger
from plait.errors import OptionError
from plait.models.config import Config
from plait.models.options import LoadOptions
from plait.models.reader import HARMLESS
from plait.models.registry import family_of

if TYPE_CHECKING:
    from plait.hub import Snapshot
    from plait.models.model import PretrainedModel as PretrainedModel
    from plait.models.pretrained import Pretrained
    from plait.models.seq2seq import Seq2SeqModel as Seq2SeqModel

Model = TypeVar("Model", bound="Pretrained")


class AutoConfig:
    """Reads the configuration of a model."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise OptionError(
            "AutoConfig makes configurations: use AutoConfig.from_pretrained(…) or AutoConfig.for_model('bert', …)."
        )

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Config:
        """The configuration behind a reference: config.json, or the metadata of a GGUF file.

        `options` are the arguments of `LoadOptions`, and keys of the configuration to change, such as `num_labels=3`.
        Raises OptionError for a name that is neither, ConfigError for a configuration that cannot be used.
        """
        own, rest = LoadOptions.split(options)
        own.note_idle("a configuration")
        return read_config(own.resolve(pretrained_model_name_or_path, need="config"), own, changes=rest)

    @staticmethod
    def for_model(model_type: str, **values: Any) -> Config:
        """A configuration from nothing: the defaults of a family, changed by `values`."""
        config = Config({"model_type": model_type}, label=f"the arguments for {model_type!r}")
        return changed(config, values)


class AutoTokenizer:
    """Reads the tokenizer of a model."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise OptionError("AutoTokenizer makes tokenizers: use AutoTokenizer.from_pretrained(…).")

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Any:
        """The tokenizer behind a reference: the tokenizer files of its folder, or the metadata of a GGUF file.

        `options` are those of `LoadOptions`; others, such as `padding_side`, belong to the tokenizer. `use_fast=False`
        runs the pure-Python reference in place of the compiled engine; ids are the same. A `Tokenizer`, or for TAPAS a
        `TableTokenizer`, which takes a table and questions.
        """
        from plait.text import Tokenizer
        from plait.text.tables import TableTokenizer, reads_tables

        own, rest = LoadOptions.split(options)
        own.note_idle("a tokenizer")
        if not rest.pop("use_fast", True):
            rest["fast"] = False
        rest.setdefault("name_or_path", os.fspath(pretrained_model_name_or_path))
        if (family := getattr(own.config, "model_type", None)) is not None:
            rest.setdefault("model_type", family)
        snapshot = own.resolve(pretrained_model_name_or_path, need="tokenizer")
        if is_gguf(snapshot.file):
            from plait.weights.gguf import read_metadata

            assert snapshot.file is not None
            return Tokenizer.from_gguf(read_metadata(snapshot.file), **rest)
        tokenizer = Tokenizer.from_folder(snapshot.folder, **rest)
        return TableTokenizer.around(tokenizer) if reads_tables(tokenizer, snapshot.folder) else tokenizer


class _AutoModel(Generic[Model]):
    """Builds and loads the model of one task, for every family that has it."""

    task: ClassVar[str]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        name = type(self).__name__
        raise OptionError(f"{name} makes models: use {name}.from_pretrained(…) or {name}.from_config(config).")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Model:
        """The model behind a reference, in evaluation mode, its weights in the dtype of the file.

        `options` are the arguments of `LoadOptions` (`dtype`, `device_map`, `revision`, `cache_dir`, …), and keys of
        the configuration to change, such as `num_labels=1` for regression. Loading is strict: a missing, unexpected or
        misshapen tensor is a WeightsError; only the head of a task to be trained may be absent, is then new, and is
        logged by name. Raises OptionError for an unknown argument, ConfigError for a configuration that cannot be used.
        """
        from plait.models.files import load_model

        own, rest = LoadOptions.split(options)
        own.check_before_files()
        snapshot = own.resolve(pretrained_model_name_or_path, need="model")
        config = read_config(snapshot, own, changes=rest)
        return cast("Model", load_model(snapshot, config, task=cls.task, options=own))

    @classmethod
    def from_config(cls, config: Config | Mapping[str, Any], **options: Any) -> Model:
        """A model with random weights, in training mode, to be trained from scratch.

        `options`: `dtype`, `device_map` with one place, `quantize`, `prepack`, `add_pooling_layer`, and keys of the
        configuration to change. Weights are drawn with the deviation `initializer_range`, and are float32 where no
        `dtype` is given: that of the configuration is its checkpoint's. Raises OptionError for arguments about files.
        """
        from plait.models.files import new_model
        from plait.models.quantise import noted, quantise

        own, rest = LoadOptions.split(options)
        own.check_without_files()
        model = new_model(
            changed(as_config(config, label="the configuration"), rest),
            task=cls.task,
            dtype=own.wanted_dtype(),
            device=own.device(),
            pooled=own.add_pooling_layer,
        )
        if own.prepack:
            logger("models").info("prepack has no effect: new weights lie in memory of their own.")
        if own.quantize is not None:
            quantise(model.network, own.quantize)
            model.config = noted(model.config, own.quantize)
        held = str(model.dtype).removeprefix("torch.")
        if model.config.dtype not in (None, held):
            logger("models").info(
                "dtype %r of the configuration is that of its checkpoint; new weights are %s. dtype=%r makes others.",
                *(model.config.dtype, held, model.config.dtype),
            )
            model.config.dtype = held
        return cast("Model", model)


class AutoModel(_AutoModel["Pretrained"]):
    """The network without a head: `last_hidden_state` (B, T, D), and `pooler_output` (B, D) in families with a pooler,
    unless `add_pooling_layer=False` leaves it out.
    """

    task = "base"


class AutoModelForCausalLM(_AutoModel["PretrainedModel"]):
    """Text generation: `logits` (B, T, V) score the word behind each token."""

    task = "causal_lm"


class AutoModelForMaskedLM(_AutoModel["PretrainedModel"]):
    """Words behind a mask: `logits` (B, T, V) score the word at each token."""

    task = "masked_lm"


class AutoModelForSeq2SeqLM(_AutoModel["Seq2SeqModel"]):
    """Text from text: translation, summaries, answers; an encoder and a decoder. `logits` are (B, answer, V)."""

    task = "seq2seq_lm"


class AutoModelForSequenceClassification(_AutoModel["Pretrained"]):
    """A label, several labels, or with `num_labels=1` a number for each text: `logits` (B, labels)."""

    task = "sequence_classification"


class AutoModelForTokenClassification(_AutoModel["PretrainedModel"]):
    """A label for each token: `logits` (B, T, labels)."""

    task = "token_classification"


class AutoModelForQuestionAnswering(_AutoModel["PretrainedModel"]):
    """Where in a text the answer begins and ends: `start_logits` and `end_logits` (B, T)."""

    task = "question_answering"


class AutoModelForMultipleChoice(_AutoModel["PretrainedModel"]):
    """One of several continuations: ids (B, choices, T) give `logits` (B, choices)."""

    task = "multiple_choice"


class AutoModelForNextSentencePrediction(_AutoModel["PretrainedModel"]):
    """Whether the second text follows the first: `logits` (B, 2), of which 0 says that it does."""

    task = "next_sentence"


class AutoModelForTableQuestionAnswering(_AutoModel["PretrainedModel"]):
    """Which cells of a table answer a question: `logits` (B, T), and `logits_aggregation` for what is done to them."""

    task = "table_question_answering"


class AutoModelForTextClassification(AutoModelForSequenceClassification):
    """Another name of AutoModelForSequenceClassification."""


class AutoModelForTextToTextGeneration(AutoModelForSeq2SeqLM):
    """Another name of AutoModelForSeq2SeqLM."""


class AutoModelForTextGeneration(AutoModelForCausalLM):
    """Another name of AutoModelForCausalLM."""


class AutoModelForZeroShotClassification(AutoModelForSequenceClassification):
    """A label out of any that one names: a model of natural language inference, which says whether a text entails
    another. `pipeline("zero-shot-classification", model, …)` asks it for each label.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Pretrained:
        """As AutoModelForSequenceClassification, for a checkpoint with a label that begins with "entail".

        Raises OptionError for others.
        """
        model = super().from_pretrained(pretrained_model_name_or_path, **options)
        labels = model.config.id2label.values()
        if not any(label.lower().startswith("entail") for label in labels):
            raise OptionError(
                f"{pretrained_model_name_or_path} does not say whether a text entails another: its labels are "
                f"{', '.join(labels)}. Choose a model of natural language inference, or load this one with "
                "AutoModelForSequenceClassification."
            )
        return model


def is_gguf(file: Path | None) -> bool:
    """Whether the file that a reference named is a GGUF file."""
    return file is not None and file.suffix.lower() == ".gguf"


def as_config(given: Any, *, label: str) -> Config:
    """A configuration, from itself or a dictionary. Raises OptionError for anything else."""
    if isinstance(given, Config):
        return given
    if isinstance(given, Mapping):
        return Config(given, label=label)
    remedy = " Give its to_dict()." if hasattr(given, "to_dict") else ""
    remedy = remedy or (f" Read it with AutoConfig.from_pretrained({given!r})." if isinstance(given, str) else "")
    raise OptionError(f"A configuration or a dictionary is needed, but this is a {type(given).__name__}.{remedy}")


def read_config(snapshot: Snapshot, options: LoadOptions, *, changes: Mapping[str, Any]) -> Config:
    """The configuration of a snapshot, or what `options.config` gives or refers to in its place, with `changes`."""
    given = options.config
    if isinstance(given, str | os.PathLike):
        elsewhere = replace(options, config=None, revision=None, subfolder=None, gguf_file=None)
        return read_config(elsewhere.resolve(given, need="config"), elsewhere, changes=changes)
    if given is not None:
        return changed(as_config(given, label="the given configuration"), changes)
    if is_gguf(snapshot.file):
        from plait.models.gguf import read_gguf_config

        assert snapshot.file is not None
        return changed(read_gguf_config(snapshot.file, label=snapshot.label), changes)
    file, label = snapshot.path("config.json"), f"config.json of {snapshot.label}"
    return changed(Config.from_file(file, label=label, model_type=changes.get("model_type")), changes)


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A copy of `config` with `changes`. Raises OptionError for a key that has no meaning."""
    family = family_of(config.model_type, label=config.label)
    LoadOptions.check_rest(changes, {*config.known(), *HARMLESS, *family.IGNORED})
    copy = Config(config.values, label=config.label)
    copy.update(changes)
    return copy
