"""Which families there are, complete: from a `model_type` to its module. No torch here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from plait.errors import ConfigError, nearest

if TYPE_CHECKING:
    from plait.models.family import Family

FAMILIES = (
    "albert",
    "bart",
    "bert",
    "deberta-v2",
    "deepseek_v3",
    "distilbert",
    "electra",
    "gemma2",
    "gemma3_text",
    "glm4",
    "gpt2",
    "gpt_neo",
    "gpt_neox",
    "llama",
    "marian",
    "mbart",
    "mistral",
    "mixtral",
    "modernbert",
    "mpnet",
    "mt5",
    "opt",
    "pegasus",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "roberta",
    "smollm3",
    "t5",
    "tapas",
    "transformer",
    "xlm-roberta",
)


def family_of(model_type: object, *, label: str) -> Family:
    """The module of the family.

    Raises `ConfigError` with the nearest name and the list; `label` says where the type came from.
    """
    if model_type in FAMILIES:
        return cast("Family", importlib.import_module(f"plait.models.{str(model_type).replace('-', '_')}"))
    listed = f"The families are: {', '.join(sorted(FAMILIES))}."
    if model_type is None:
        raise ConfigError(f"`model_type` is missing from {label}. Say it by passing model_type=…. {listed}")
    raise ConfigError(
        f"`model_type` {model_type!r} is not a family of plait ({label}).{nearest(str(model_type), FAMILIES)} {listed}"
    )
