"""The arguments of `from_pretrained`, complete: what each means here, and what becomes of those that mean nothing or
too much.

No torch at import.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.console import logger
from plait.errors import OptionError, nearest

if TYPE_CHECKING:
    import torch

    from plait.hub import Snapshot

# Known elsewhere, and refused here with the reason.
_REFUSED = {
    "quantization_config": "give quantize='int8' or quantize='int4'",
    "load_in_8bit": "give quantize='int8'",
    "load_in_4bit": "give quantize='int4'",
    "variant": "name the file itself in the reference instead, such as org/name/model.fp16.safetensors",
    "state_dict": "build with from_config and load_state_dict instead",
    "adapter_kwargs": "adapters are loaded by themselves",
    "output_loading_info": "loading is strict, so a model that was loaded lacks nothing; the log names a new head",
    "from_tf": "save the model as safetensors with the library that wrote it",
    "from_flax": "save the model as safetensors with the library that wrote it",
    "tp_plan": "device_map places whole layers; none is divided among devices",
}

# Known elsewhere, and taken here without effect, for the reason.
_IDLE = {
    "_fast_init": "no number is drawn for what is loaded",
    "code_revision": "no code comes with a checkpoint",
    "mirror": "the environment variable HF_ENDPOINT names a mirror, PLAIT_HUBS other hubs",
    "offload_buffers": "what lies on disk is read from there when it computes",
    "use_flash_attention_2": "torch's attention chooses its kernel",
}

# The same of `save_pretrained`.
_REFUSED_SAVING = {
    "push_to_hub": "save the model, and upload the folder with the client of your hub",
    "state_dict": "put it into the model with load_state_dict first",
    "variant": "rename the file afterwards, and name it in the reference to load it",
}
_SAVING = ("save_directory", "is_main_process", "max_shard_size", "safe_serialization", "save_function", "token")

# Names of attention in other libraries; here the numbers are those of each, and torch chooses the kernel.
_ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")
# Arguments about where files come from, rather than about weights.
_FETCHING = frozenset(
    {
        *("config", "cache_dir", "force_download", "resume_download", "local_files_only", "proxies", "revision"),
        *("subfolder", "token", "use_auth_token", "gguf_file", "trust_remote_code"),
    }
)
# Arguments that mean something where there is no checkpoint.
_WITHOUT_FILES = frozenset(
    {
        *("dtype", "torch_dtype", "device_map", "max_memory", "quantize", "prepack"),
        *("trust_remote_code", "low_cpu_mem_usage", "attn_implementation", "add_pooling_layer"),
    }
)


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Every argument that is not a key of the configuration."""

    config: Any = None  # a Config, a dictionary, or a reference to another config.json, in place of config.json
    # where files come from: see plait.hub.resolve
    cache_dir: str | os.PathLike[str] | None = None
    force_download: bool = False
    resume_download: bool | None = None  # a download always resumes
    local_files_only: bool = False
    proxies: Mapping[str, str] | None = None
    revision: str | None = None
    subfolder: str | None = None
    token: str | bool | None = None
    use_auth_token: str | bool | None = None  # the old name of token
    gguf_file: str | None = None  # the same as naming the file in the reference
    trust_remote_code: bool = False  # True is refused
    # what becomes of the weights
    dtype: Any = None  # a torch.dtype or its name; None and "auto" keep the file's, "fastest" is measured
    torch_dtype: Any = None  # the old name of dtype
    device_map: Any = None  # a device, "auto", "balanced", "sequential", or {part: device}; None is the CPU
    max_memory: Mapping[Any, Any] | None = None  # {device: bytes or "10GB"} for an automatic device_map
    quantize: str | None = None  # "int8" or "int4": the layers' matrices in few bits, made while they are loaded
    prepack: bool = False  # weights are copied from the file to where a CPU reads them soonest
    ignore_mismatched_sizes: bool = False  # a head of another size than the file's is drawn anew
    add_pooling_layer: bool | None = None  # False: AutoModel leaves the pooler out, where the family has one
    low_cpu_mem_usage: bool | None = None  # always so
    offload_folder: str | os.PathLike[str] | None = None  # where parts on disk are kept converted, if they need it
    offload_state_dict: bool | None = None  # weights are mapped from the file, so nothing is copied aside
    use_safetensors: bool | None = None  # True: nothing else is opened
    attn_implementation: str | None = None  # torch's attention chooses its kernel

    def __post_init__(self) -> None:
        if self.trust_remote_code:
            raise OptionError(
                "trust_remote_code=True is refused: plait never runs code that comes with a checkpoint. Families that "
                "plait knows need no such code: leave the argument out."
            )
        for new, old in (("dtype", "torch_dtype"), ("token", "use_auth_token")):
            if getattr(self, new) is not None and getattr(self, old) not in (None, getattr(self, new)):
                raise OptionError(
                    f"`{new}` and `{old}` are two names of one argument, and say different things. Give one."
                )
        if self.quantize is not None:
            from plait.weights.quantise import check_kind

            check_kind(self.quantize)
            if self.prepack:
                raise OptionError(
                    "Quantised matrices are made in memory of their own: give quantize= or prepack=, not both."
                )
        if self.attn_implementation not in (None, *_ATTENTIONS):
            raise OptionError(
                f"attn_implementation must be one of {', '.join(_ATTENTIONS)}, but is {self.attn_implementation!r}."
                f"{nearest(str(self.attn_implementation), _ATTENTIONS)}"
            )
        if self.attn_implementation not in (None, "sdpa"):
            logger("models").info("attn_implementation has no effect: torch's attention chooses its kernel.")
        if self.offload_state_dict:
            logger("models").info(
                "offload_state_dict has no effect: weights are mapped from the checkpoint, so nothing is copied aside."
            )
        if self.use_safetensors is False:
            logger("models").info("use_safetensors=False has no effect: of several formats, safetensors are read.")
        if self.low_cpu_mem_usage is False:
            logger("models").info("low_cpu_mem_usage=False has no effect: weights are always loaded without a copy.")
        if self.resume_download is False:
            logger("models").info("resume_download=False has no effect: force_download=True fetches all anew.")

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[LoadOptions, dict[str, Any]]:
        """The arguments among `options`, and the rest, which must be keys of the configuration."""
        for name, reason in _REFUSED.items():
            if options.get(name) not in (None, False):
                raise OptionError(f"`{name}` is not supported: {reason}.")
        for name, reason in _IDLE.items():
            if options.get(name) is not None:
                logger("models").info("%s has no effect: %s.", name, reason)
        names = {field.name for field in fields(cls)}
        own = {name: value for name, value in options.items() if name in names}
        rest = {name: value for name, value in options.items() if name not in {*names, *_REFUSED, *_IDLE}}
        return cls(**own), rest

    def note_idle(self, what: str) -> None:
        """Say which of the arguments, those about weights, mean nothing where `what` is read."""
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if idle := [name for name in given if name not in _FETCHING]:
            logger("models").info("%s: no effect on %s, which has no weights.", ", ".join(idle), what)

    @staticmethod
    def check_rest(rest: Mapping[str, Any], known: set[str]) -> None:
        """Raise OptionError for a name that is neither an argument nor, as `known`, a key of the configuration."""
        for name in rest:
            if name not in known:
                choices = {*known, *(field.name for field in fields(LoadOptions)), *_REFUSED, *_IDLE}
                raise OptionError(f"There is no argument or configuration key {name!r}.{nearest(name, choices)}")

    def check_without_files(self) -> None:
        """Raise OptionError for an argument that is about the files of a checkpoint."""
        for field in fields(self):
            if field.name not in _WITHOUT_FILES and getattr(self, field.name) != field.default:
                raise OptionError(
                    f"`{field.name}` is about the files of a checkpoint, and from_config reads none. Leave it out, or "
                    "call from_pretrained."
                )

    def check_before_files(self) -> None:
        """Raise OptionError for a dtype or a device that there is not, before gigabytes are fetched for it."""
        from plait.models.placement import AUTOMATIC, device_of

        self.wanted_dtype()
        places = self.device_map.values() if isinstance(self.device_map, Mapping) else [self.device_map]
        for place in places:
            if place is not None and place != "disk" and not (place in AUTOMATIC and place is self.device_map):
                device_of(place)

    def resolve(self, reference: str | os.PathLike[str], *, need: str) -> Snapshot:
        """The local folder of `reference`, holding what a "config", "tokenizer" or "model" needs and no more.

        See `plait.hub.resolve` for the errors.
        """
        from plait.hub import resolve

        if self.gguf_file is not None:
            folder = Path(reference)
            reference = folder / self.gguf_file if folder.is_dir() else f"{reference}/{self.gguf_file}"
        token = self.token if self.token is not None else self.use_auth_token
        return resolve(
            reference,
            need=need,
            revision=self.revision,
            subfolder=self.subfolder,
            cache_dir=self.cache_dir,
            force_download=self.force_download,
            local_files_only=self.local_files_only,
            proxies=self.proxies,
            token=None if token is True else token,  # True: the one of the environment, which is the default
        )

    def wanted_dtype(self) -> torch.dtype | None:
        """The dtype to convert weights to, or None to keep the file's."""
        return parse_dtype(self.dtype if self.dtype is not None else self.torch_dtype)

    def device(self) -> torch.device:
        """The one device for a model without a checkpoint. Raises OptionError for a map that asks for several."""
        import torch

        from plait.models.placement import AUTOMATIC, device_of

        places = set(self.device_map.values()) if isinstance(self.device_map, Mapping) else {self.device_map}
        if len(places) != 1 or "disk" in places or self.max_memory is not None:
            raise OptionError(
                "from_config draws weights on one device; only those of a checkpoint lie in several places or on disk: "
                "save the model and load it with from_pretrained(…, device_map=…)."
            )
        place = places.pop()
        if place in AUTOMATIC:
            return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        return torch.device("cpu") if place is None else device_of(place)


def check_saving(others: Mapping[str, Any]) -> None:
    """Raise OptionError for an argument of `save_pretrained` that means something elsewhere, or nothing anywhere."""
    for name, value in others.items():
        if name in _REFUSED_SAVING:
            if value not in (None, False):
                raise OptionError(f"`{name}` of save_pretrained is not supported: {_REFUSED_SAVING[name]}.")
        elif name not in _SAVING:
            hint = nearest(name, (*_SAVING, *_REFUSED_SAVING))
            raise OptionError(f"save_pretrained has no argument {name!r}.{hint}")
        elif value is not None:
            logger("models").info("%s has no effect: weights are written as safetensors, into a folder.", name)


def parse_dtype(dtype: Any) -> torch.dtype | None:
    """A floating torch.dtype from itself or its name, None for None and "auto"; "fastest" is measured on this CPU.

    Raises OptionError for anything else.
    """
    import torch

    if dtype is None or dtype == "auto":
        return None
    if dtype == "fastest":
        from plait.models.probe import fastest

        return fastest()
    named = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    # Eight bits and fewer are for storage: nothing computes in them.
    if not isinstance(named, torch.dtype) or not named.is_floating_point or named.itemsize < 2:
        choices = ("auto", "fastest", "float32", "float16", "bfloat16", "float64")
        raise OptionError(f"dtype must be one of {', '.join(choices)}, but is {dtype!r}.{nearest(str(dtype), choices)}")
    return named
