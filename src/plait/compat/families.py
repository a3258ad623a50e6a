"""Classes of one family, such as `BertForMaskedLM`, complete: each is the `Auto…` class of its task here.

`from_pretrained` builds what the checkpoint says. Called with a configuration, a class makes a model with random
weights; `BertConfig(hidden_size=128)` is the configuration of a family, changed.
"""

from __future__ import annotations

import functools
from typing import Any

import plait
from plait.errors import OptionError
from plait.models.registry import FAMILIES

_FAMILIES = {name.replace("-", "").replace("_", ""): name for name in FAMILIES} | {"gemma3": "gemma3_text"}
_ENDINGS = {
    "TokenizerFast": "AutoTokenizer",
    "Tokenizer": "AutoTokenizer",
    "Config": "AutoConfig",
    "LMHeadModel": "AutoModelForCausalLM",
    "MTModel": "AutoModelForSeq2SeqLM",
    "Model": "AutoModel",
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "ForNextSentencePrediction": "AutoModelForNextSentencePrediction",
    **{
        f"For{task}": f"AutoModelFor{task}"
        for task in (
            *("CausalLM", "MaskedLM", "MultipleChoice", "QuestionAnswering"),
            *("SequenceClassification", "TokenClassification"),
        )
    },
}


@functools.cache
def class_of(name: str) -> type | None:
    """The class that is called `name` in transformers; None when it is of no family or task here."""
    for ending, auto in _ENDINGS.items():
        family = _FAMILIES.get(name.removesuffix(ending).lower()) if name.endswith(ending) else None
        if family is not None:
            return type(name, (getattr(plait, auto),), {"__new__": _maker(name, family, auto), "__module__": __name__})
    return None


def modules_of_families() -> list[str]:
    """The modules of transformers that hold such classes: "models.bert.modeling_bert" and its likes."""
    names = {name.replace("-", "_") for name in FAMILIES}
    parts = ("configuration_{}", "modeling_{}", "tokenization_{}", "tokenization_{}_fast")
    return [f"models.{name}{end}" for name in names for end in ("", *(f".{part.format(name)}" for part in parts))]


def _maker(name: str, family: str, auto: str) -> Any:
    """What calling the class does, in place of making an object of it."""

    def make(cls: type, *arguments: Any, **values: Any) -> Any:
        if auto == "AutoTokenizer":
            raise OptionError(f"{name}(…) from single files is not supported: use {name}.from_pretrained(folder).")
        if auto == "AutoConfig":
            return plait.AutoConfig.for_model(family, **values)
        return getattr(plait, auto).from_config(*arguments, **values)

    return make
