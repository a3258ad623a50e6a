"""Training an encoder with a decoder whose answers are scored as text, complete: evaluation writes answers.

A metric of texts (BLEU, ROUGE) needs what the model writes, not the scores of a target that it was shown. With
`predict_with_generate=True`, `predictions` are the ids of the answers, and the loss is that of the labels as ever.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn import functional

from plait.errors import OptionError
from plait.train.arguments import TrainingArguments
from plait.train.evaluation import Scored
from plait.train.metrics import PredictionOutput
from plait.train.trainer import Trainer

_DEFAULT_LENGTH = 20  # tokens of an answer, its start token included, when nobody says
# what a forward takes and writing an answer does not
_OF_TARGETS = ("labels", "decoder_input_ids", "decoder_attention_mask", "decoder_inputs_embeds")


@dataclass(init=False)
class Seq2SeqTrainingArguments(TrainingArguments):
    """`TrainingArguments`, and how answers are written."""

    predict_with_generate: bool = False  # evaluate what the model writes instead of the scores of its target
    generation_max_length: int | None = None  # tokens of an answer, its start token included; None: the model's own
    generation_num_beams: int | None = None  # None: the model's own
    generation_config: Any = None  # a `GenerationConfig`; None: the model's own

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.predict_with_generate, bool):
            raise OptionError(f"predict_with_generate must be True or False, but is {self.predict_with_generate!r}.")
        for name in ("generation_max_length", "generation_num_beams"):
            value, least = getattr(self, name), 2 if name == "generation_max_length" else 1
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise OptionError(f"{name} must be a whole number, {least} or more, but is {value!r}.")
        if self.generation_config is not None and not hasattr(self.generation_config, "updated"):
            raise OptionError(
                f"generation_config must be a GenerationConfig, but is a {type(self.generation_config).__name__}. "
                "GenerationConfig.from_pretrained(folder) reads one."
            )

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON can hold it."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        own = self.generation_config
        return {**given, "generation_config": None if own is None else own.to_dict()}


class Seq2SeqTrainer(Trainer):
    """A `Trainer` that evaluates and predicts with `model.generate` where `predict_with_generate` says so.

    `predictions` are ids (rows, L) of answers that begin with the start token, L the most that an answer may have,
    padded with the model's padding token. `evaluate` and `predict` take options of `generate` for that call. Raises
    `OptionError` for a model that does not write answers to a source, `GenerationError` for options it cannot meet.
    """

    args: Any  # `Seq2SeqTrainingArguments`; others write no answers

    def __init__(self, model: Any = None, args: Any = None, **options: Any) -> None:
        super().__init__(model, args, **options)
        self._asked: dict[str, Any] = {}  # the options of the call that runs
        if self._writes:
            if not hasattr(self.model, "get_encoder") or not hasattr(self.model, "generate"):
                raise OptionError(
                    f"predict_with_generate=True needs a model with an encoder that generates, such as "
                    f"AutoModelForSeq2SeqLM loads, but this is a {type(self.model).__name__}."
                )
            if self._own is not None:
                self._own.updated(**self._said).refuse_unsupported()  # now, not after the first epoch

    @property
    def _writes(self) -> bool:
        return bool(getattr(self.args, "predict_with_generate", False))

    def evaluate(
        self, eval_dataset: Any = None, *, metric_key_prefix: str = "eval", **generation: Any
    ) -> dict[str, float]:
        """`Trainer.evaluate`; `generation` changes how answers are written (`max_length=64`)."""
        with_these, self._asked = self._asked, generation or self._asked
        try:
            return super().evaluate(eval_dataset, metric_key_prefix=metric_key_prefix)
        finally:
            self._asked = with_these

    def predict(self, test_dataset: Any, *, metric_key_prefix: str = "test", **generation: Any) -> PredictionOutput:
        """`Trainer.predict`; `generation` changes how answers are written (`max_length=64`)."""
        with_these, self._asked = self._asked, generation or self._asked
        try:
            return super().predict(test_dataset, metric_key_prefix=metric_key_prefix)
        finally:
            self._asked = with_these

    @property
    def _own(self) -> Any:
        """The generation configuration that counts; None where there is none."""
        return self.args.generation_config or getattr(self.model, "generation_config", None)

    @property
    def _said(self) -> dict[str, Any]:
        """What the arguments and the call say beside it."""
        said = {"max_length": self.args.generation_max_length, "num_beams": self.args.generation_num_beams}
        return {name: value for name, value in said.items() if value is not None} | self._asked

    def _options(self) -> dict[str, Any]:
        """The options of `generate` for one batch; the limit is always `max_length`, which counts the start token."""
        own, said = self._own, self._said
        new = said.get("max_new_tokens")
        if new is None and "max_length" not in said:
            new = getattr(own, "max_new_tokens", None)
        length = new + 1 if new is not None else said.get("max_length") or getattr(own, "max_length", None)
        limits = {"max_length": length or _DEFAULT_LENGTH, "max_new_tokens": None}
        return {**said, **limits, "generation_config": self.args.generation_config}

    def _score(self, batch: dict[str, Any]) -> Scored:
        """Loss and labels as ever; predictions are the answers, (B, L)."""
        scored = super()._score(batch)
        if not self._writes:
            return scored
        options, model = self._options(), cast(Any, self.model)
        source = {name: value for name, value in self._on_device(batch).items() if name not in _OF_TARGETS}
        with torch.no_grad():
            answers = model.generate(**source, **options)
        # (B, 1 + n) -> (B, L), so that the answers of all batches are one array of ids without gaps
        missing = options["max_length"] - answers.shape[1]
        return Scored(
            scored.terms, (functional.pad(answers, (0, missing), value=self._padding(options)),), scored.labels
        )

    def _padding(self, options: dict[str, Any]) -> int:
        ids = (
            options.get("pad_token_id"),
            *(getattr(place, "pad_token_id", None) for place in (self._own, self.model.config)),
        )
        return next((token for token in ids if token is not None), 0)
