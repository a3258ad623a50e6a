"""Which families there are, complete:

`model_type` to its module, by name and a small table of aliases. No torch here.
"""

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

# Other model types whose configuration, weights and network are those of a family here.
ALIASES: dict[str, str] = {}


def family_of(model_type: object, *, label: str) -> Family:
    """The module of the family.

    Raises `ConfigError` with the nearest name and the list; `label` says where the type came from.
    """
    name = ALIASES.get(str(model_type), model_type)
    if name in FAMILIES:
        return cast("Family", importlib.import_module(f"plait.models.{str(name).replace('-', '_')}"))
    known = sorted([*FAMILIES, *ALIASES])
    listed = f"The families are: {', '.join(known)}."
    if model_type is None:
        raise ConfigError(f"`model_type` is missing from {label}. Say it by passing model_type=…. {listed}")
    raise ConfigError(
        f"`model_type` {model_type!r} is not a family of plait ({label}).{nearest(str(model_type), known)} {listed}"
    )
