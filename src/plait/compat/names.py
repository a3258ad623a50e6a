"""What stands in for the other libraries, complete: their modules, and where each name comes from.

A name is a public name of plait, or one of the few below that exist for such scripts alone. All modules of a library
share its names, so that `transformers.trainer_callback.TrainerCallback` is found like `transformers.TrainerCallback`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plait
import plait.data
from plait.compat.families import class_of, modules_of_families
from plait.errors import nearest


@dataclass(frozen=True, kw_only=True)
class Library:
    """One library: the version that it claims, its modules by dotted path, and names beside plait's own.

    The value of a name is "module" or "module:attribute".
    """

    version: str
    modules: frozenset[str]
    names: Mapping[str, str]


def _each(module: str, *names: str) -> dict[str, str]:
    return {name: f"{module}:{name}" for name in names}


_TRANSFORMERS = Library(
    version="5.0.0+plait",
    modules=frozenset(
        [
            *("configuration_utils", "modeling_utils", "modeling_outputs", "models", "models.auto"),
            *("models.auto.configuration_auto", "models.auto.modeling_auto", "models.auto.tokenization_auto"),
            *("generation", "generation.configuration_utils", "generation.logits_process"),
            *("generation.stopping_criteria", "generation.streamers", "generation.utils", "pipelines"),
            *("data", "data.data_collator", "optimization", "trainer", "trainer_callback", "trainer_utils"),
            *("trainer_seq2seq", "training_args", "training_args_seq2seq", "hf_argparser"),
            *("tokenization_utils", "tokenization_utils_base", "tokenization_utils_fast"),
            *("utils", "utils.logging", "utils.import_utils", "utils.versions", "file_utils"),
            *modules_of_families(),
        ]
    ),
    names={
        "PretrainedConfig": "plait.models.config:Config",
        "PreTrainedConfig": "plait.models.config:Config",
        "PreTrainedModel": "plait.models.pretrained:Pretrained",
        "PretrainedModel": "plait.models.pretrained:Pretrained",
        "PreTrainedTokenizer": "plait.text:Tokenizer",
        "PreTrainedTokenizerBase": "plait.text:Tokenizer",
        "PreTrainedTokenizerFast": "plait.text:Tokenizer",
        "ModelOutput": "plait.models.outputs:Output",
        "Pipeline": "plait.pipelines.base:Pipeline",
        **_each("plait.train", "PredictionOutput", "TrainOutput", "TrainerControl", "TrainerState"),
        **_each(
            "plait.generate.processors",
            "ForcedBOSTokenLogitsProcessor",
            "ForcedEOSTokenLogitsProcessor",
            "InfNanRemoveLogitsProcessor",
            "LogitNormalization",
            "MinLengthLogitsProcessor",
            "MinNewTokensLengthLogitsProcessor",
            "NoBadWordsLogitsProcessor",
            "SuppressTokensAtBeginLogitsProcessor",
            "SuppressTokensLogitsProcessor",
        ),
        **_each(
            "plait.generate.stopping",
            "EosTokenCriteria",
            "MaxLengthCriteria",
            "MaxTimeCriteria",
            "StopStringCriteria",
        ),
        "logging": "plait.compat.shims.logging",
        "HfArgumentParser": "plait.compat.shims.parser:HfArgumentParser",
        **_each("plait.compat.shims", "is_torch_available", "is_tf_available", "is_flax_available"),
        **_each("plait.compat.shims", "check_min_version", "require_version", "send_example_telemetry"),
        **_each("plait.compat.shims", "get_last_checkpoint"),
        **_each("plait.compat.shims.choices", "IntervalStrategy", "SaveStrategy", "SchedulerType", "TensorType"),
    },
)

_DATASETS = Library(
    version="4.0.0+plait",
    modules=frozenset(
        [
            *("arrow_dataset", "combine", "dataset_dict", "distributed", "features", "info", "iterable_dataset"),
            *("load", "splits", "utils", "utils.logging"),
        ]
    ),
    names={"logging": "plait.compat.shims.logging", **_each("plait.data", *plait.data.__all__)},
)

_MODELSCOPE = Library(
    version="1.30.0+plait",
    modules=frozenset(
        [
            *("hub", "hub.snapshot_download", "hub.file_download", "msdatasets", "msdatasets.ms_dataset", "pipelines"),
            *("utils", "utils.hf_util", "utils.constant"),
        ]
    ),
    names={
        **_TRANSFORMERS.names,
        "Tasks": "plait.compat.shims.choices:Tasks",
        **_each("plait.compat.shims.modelscope", "MsDataset", "snapshot_download", "dataset_snapshot_download"),
        **_each("plait.compat.shims.modelscope", "model_file_download"),
    },
)

_EVALUATE = Library(version="0.4.0+plait", modules=frozenset(), names={"load": "plait.train:load_metric"})

LIBRARIES: dict[str, Library] = {
    "transformers": _TRANSFORMERS,
    "datasets": _DATASETS,
    "modelscope": _MODELSCOPE,
    "evaluate": _EVALUATE,
}
_PER_FAMILY = ("transformers", "modelscope")


def names_of(library: str) -> list[str]:
    """Every name that a library's modules answer to."""
    return sorted({*LIBRARIES[library].names, *(name for name in plait.__all__ if not name.startswith("__"))})


def has(library: str, name: str) -> bool:
    """Whether a library's modules answer to `name`: to one of `names_of(library)`, or the name of a family's class."""
    return name in names_of(library) or (library in _PER_FAMILY and class_of(name) is not None)


def value_of(library: str, name: str) -> Any:
    """What a name that the library `has` is."""
    if library in _PER_FAMILY and (made := class_of(name)) is not None:
        return made
    if (place := LIBRARIES[library].names.get(name)) is None:
        return getattr(plait, name)
    module, _, attribute = place.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def missing(module: str, name: str) -> str:
    """What is said of a `name` of `module` ("transformers.trainer") that plait does not have."""
    library, _, path = module.partition(".")
    inside = f"{path}." if path else ""
    below = {
        part.removeprefix(inside).partition(".")[0] for part in LIBRARIES[library].modules if part.startswith(inside)
    }
    known = sorted({*names_of(library), *below})
    told = nearest(name, known) or f" It has: {', '.join(known)}."
    return (
        f"plait, which runs this script in place of {library}, has no {name!r} in {module}.{told} "
        f"To use the real library: plait run --keep {library} SCRIPT."
    )
