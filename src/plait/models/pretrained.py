"""What every model under the names that users know can do, complete: count, freeze, save, and be asked what it is.

Its subclasses know one topology each and bring the forward: `PretrainedModel` one stack, `Seq2SeqModel` an encoder and
a decoder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from plait.errors import OptionError
from plait.models.config import Config
from plait.models.tasks import TASKS
from plait.nn.topology import EncoderDecoderModel, SingleModel

if TYPE_CHECKING:
    from plait.generate import GenerationConfig


class Pretrained(nn.Module):
    """One task of one family. Made by `AutoModel….from_pretrained` or `from_config`."""

    # the task that generates, and the class that loads it
    generates: ClassVar[tuple[str, str]]
    network: SingleModel | EncoderDecoderModel

    def __init__(self, config: Config, *, task: str) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self.generation_config: GenerationConfig | None = None

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return next(self.parameters()).dtype

    @property
    def layers(self) -> nn.ModuleList:
        """The layers, first to last."""
        raise NotImplementedError(f"{type(self).__name__} must say what its layers are.")

    @property
    def base_model(self) -> Pretrained:
        """The network without the head of its task, sharing every parameter; the model itself when it has none."""
        raise NotImplementedError(f"{type(self).__name__} must say what is left of it without its head.")

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of the tokens."""
        raise NotImplementedError(f"{type(self).__name__} must say where its embedding is.")

    def num_parameters(self, *, only_trainable: bool = False) -> int:
        """How many numbers the model holds; a shared weight counts once."""
        return sum(part.numel() for part in self.parameters() if part.requires_grad or not only_trainable)

    def get_memory_footprint(self) -> int:
        """Bytes of all parameters and buffers; a shared weight counts once."""
        return sum(part.nbytes for part in (*self.parameters(), *self.buffers()))

    # -- what to train ------------------------------------------------------------------------------------------------

    def freeze(self) -> Self:
        """Keep everything but the head as it is:

        no gradient. A head that shares its weight with the embedding freezes as well.
        """
        self.base_model.requires_grad_(False)
        return self

    def unfreeze(self, *, last: int | None = None) -> Self:
        """Train everything again, or the `last` layers and what lies behind them (norm, pool and head)."""
        if last is None:
            self.requires_grad_(True)
            return self
        if not 0 <= last <= len(self.layers):
            raise OptionError(
                f"`last` must be between 0 and the {len(self.layers)} layers of the model, but is {last}."
            )
        shared = self.get_input_embeddings().weight
        stays = shared.requires_grad
        for part in (*self.layers[len(self.layers) - last :], *self._behind(last)):
            if part is not None:
                part.requires_grad_(True)
        shared.requires_grad_(stays)
        return self

    def _behind(self, last: int) -> Iterable[nn.Module | None]:
        """What lies behind the first of the `last` layers, the layers themselves apart."""
        raise NotImplementedError(f"{type(self).__name__} must say what lies behind its layers.")

    # -- what is asked of it ------------------------------------------------------------------------------------------

    def _answers(self, **given: Any) -> dict[str, Any]:
        """Those arguments that hold answers to the task. Raises OptionError for one that the task does not take."""
        answers = {name: value for name, value in given.items() if value is not None}
        task = TASKS[self.task]
        if unknown := [name for name in answers if name not in task.labels]:
            takes = (
                f"takes {' and '.join(task.labels)}"
                if task.labels
                else "has no loss; load the AutoModelFor… of your task"
            )
            raise OptionError(f"`{unknown[0]}` was given, but this model of {task.title} {takes}.")
        return answers

    def _asked(self, argument: bool | None, key: str) -> bool:
        return bool(self.config.get(key) if argument is None else argument)

    def generate(self, inputs: Any = None, **options: Any) -> Any:
        """Token ids that go on; see the subclass."""
        raise NotImplementedError(f"{type(self).__name__} must say how it generates.")

    def _require_generation(self) -> None:
        task, loader = self.generates
        if self.task != task:
            raise OptionError(
                f"Only a language model generates; this one is for {TASKS[self.task].title}. Load {loader}."
            )

    # -- files --------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | os.PathLike[str], *, max_shard_size: str | int = "5GB") -> None:
        """Write config.json and model.safetensors, which other libraries read as well; larger models in several files.

        Raises OptionError when the tensors are not there (a model on "meta").
        """
        from plait.models.files import save_model

        save_model(self, Path(folder), max_shard_size=max_shard_size)

    def load_weights(self, folder: str | os.PathLike[str]) -> None:
        """Fill the parameters in place, in their own type and on their own device, with what `save_pretrained` wrote.

        Raises WeightsError when the folder holds another model's.
        """
        from plait.models.files import reload_model

        reload_model(self, Path(folder))
