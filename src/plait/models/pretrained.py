"""What every model under the names that users know can do, complete: count, freeze, save, and be asked what it is.

Its subclasses know one topology each and bring the forward: `PretrainedModel` one stack, `Seq2SeqModel` an encoder and
a decoder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from plait.errors import OptionError, nearest
from plait.models.config import Config
from plait.models.inputs import check_names
from plait.models.named import Named
from plait.models.tasks import TASKS
from plait.nn.heads import LanguageHead
from plait.nn.moe import GroupedRouter
from plait.nn.stack import Stack
from plait.nn.topology import EncoderDecoderModel, SingleModel
from plait.weights.quantise import Matrix

if TYPE_CHECKING:
    from plait.generate import GenerationConfig
    from plait.models.placement import Plan
    from plait.weights.translated import Translated

# what other libraries call the head of a model
_HEADS = frozenset({"classifier", "score", "lm_head", "qa_outputs", "cls"})
_HEAD = "Its head is model.network.head, and the layer in it that scores is model.network.head.projection"


class Pretrained(Named):
    """One task of one family. Made by `AutoModel….from_pretrained` or `from_config`."""

    # the task that generates, and the class that loads it
    generates: ClassVar[tuple[str, str]]
    network: SingleModel | EncoderDecoderModel

    def __init__(self, config: Config, *, task: str) -> None:
        super().__init__(config, task=task)
        self.generation_config: GenerationConfig | None = None
        self._main: torch.device | None = None  # where inputs begin, of a model that lies in several places

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # "bert", "model", "transformer": what the names of all but the head begin with
            if "config" in self.__dict__ and f"{name}." in self.names.prefixes:
                return self.base_model
            where = _HEAD if name in _HEADS else "print(model.describe()) shows its parts, which begin at model.network"
            hint = nearest(name, [each for each in dir(type(self)) if not each.startswith("_")])
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.{hint} {where}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        # As a further part of the model it would be saved and trained, but no forward would use it.
        if name in _HEADS and isinstance(value, nn.Module) and type(self).forward.__module__.startswith("plait."):
            raise OptionError(f"{type(self).__name__} has no part {name!r} to replace. {_HEAD}: replace that one.")
        super().__setattr__(name, value)

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def num_labels(self) -> int:
        """How many labels the configuration names."""
        return int(self.config.num_labels)

    @property
    def device(self) -> torch.device:
        """Where the parameters are; of a model in several places, where inputs begin."""
        return self._main or next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return next(self.parameters()).dtype

    def place(self, plan: Plan, source: Translated, *, folder: str | os.PathLike[str] | None) -> None:
        """Compute where `plan` says, with the weights of parts on disk from `source`; called once, after loading.

        `hf_device_map` then tells the place of each part.
        """
        from plait.models.dispatch import dispatch

        self.hf_device_map = plan.shown()
        if plan.spread:
            self._main = plan.main
            dispatch(self.network, plan, source, folder=None if folder is None else Path(folder))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The forward, once the names of its arguments are known to be right."""
        check_names(type(self), named)
        return super().__call__(*arguments, **named)

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Self:
        if self._main is not None:
            raise OptionError(
                "This model lies in several places (see hf_device_map), so it is neither moved nor converted as a "
                "whole. Say the place or dtype when loading it."
            )
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

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

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Put `value` in the place of the embedding of the tokens. A head that shares its weight shares the new one.

        Raises OptionError for one of another size; `resize_token_embeddings` changes the number of words.
        """
        old = self.get_input_embeddings()
        if value.weight.shape != old.weight.shape:
            raise OptionError(
                f"The embedding must have the shape {tuple(old.weight.shape)}, but has {tuple(value.weight.shape)}. "
                "For another number of words call resize_token_embeddings."
            )
        if old.weight.is_meta:
            raise OptionError("The embedding of this model is on 'meta' or on disk, where nothing takes its place.")
        for owner in self.network.modules():
            for name, part in owner._modules.items():
                if part is old:
                    owner._modules[name] = value
            for name, parameter in [*owner._parameters.items()]:
                if parameter is old.weight:
                    setattr(owner, name, value.weight)

    def get_output_embeddings(self) -> nn.Linear | None:
        """The linear layer that scores the words; None for a task without."""
        head = self.network.head
        return head.projection if isinstance(head, LanguageHead) else None

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, *, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Read and write `new_num_tokens` words, rounded up to a multiple of `pad_to_multiple_of`.

        The first words keep their vectors, scores and biases; those beyond are dropped. New ones begin at the mean of
        the old ones, so that a word that nobody trained is no likelier than the others
        (https://nlp.stanford.edu/~johnhew/vocab-expansion.html), or with `mean_resizing=False` as the family draws
        them. `config.vocab_size` follows. Parameters are new objects: make an optimiser afterwards. Returns the
        embedding. Raises OptionError for a model whose weights are not in memory, or that reads and writes different
        vocabularies.
        """
        from plait.models.resize import resize

        return resize(self, new_num_tokens, multiple=pad_to_multiple_of, mean=mean_resizing)

    def tie_weights(self) -> None:
        """Share the weight of the embedding with the scores over words again, where the configuration says so.

        It is so after loading and after every method here; only code that has replaced one of the two needs this.
        """
        head = self.network.head
        if isinstance(head, LanguageHead) and head.spec.tied:
            head.projection.weight = self._scored_embedding().weight

    def _scored_embedding(self) -> nn.Embedding:
        """The embedding that a tied head shares."""
        return self.get_input_embeddings()

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the model holds; a shared weight counts once.

        Those of quantised matrices count as they did before, and are not trainable. With `exclude_embeddings`, those of
        embeddings (tokens, positions, segments) and of heads that share them are left out.
        """
        tables = {id(part.weight) for part in self.modules() if exclude_embeddings and isinstance(part, nn.Embedding)}
        counted = (part for part in self.parameters() if part.requires_grad or not only_trainable)
        quantised = (part.size for part in self.modules() if isinstance(part, Matrix) and not only_trainable)
        return sum(part.numel() for part in counted if id(part) not in tables) + sum(quantised)

    def get_memory_footprint(self) -> int:
        """Bytes of all parameters and buffers; a shared weight counts once."""
        return sum(part.nbytes for part in (*self.parameters(), *self.buffers()))

    def dequantize(self) -> Self:
        """Put ordinary matrices with the numbers of the few-bit ones in their place, in the dtype of the model.

        Every parameter trains then, as after `unfreeze()`. Parameters are new objects: make an optimiser afterwards.
        Raises OptionError for a model that is not quantised.
        """
        from plait.models.quantise import dequantise, kind_of, noted

        if kind_of(self.network) is None:
            raise OptionError("This model is not quantised: its weights are as the checkpoint holds them.")
        dequantise(self.network, self.dtype)
        self.config = noted(self.config, None)
        return self.unfreeze()

    def describe(self) -> str:
        """A tree of the parts with their shapes and numbers of parameters; equal layers are shown once."""
        from plait.models.describe import describe

        return describe(self)

    # -- what to train ------------------------------------------------------------------------------------------------

    def freeze(self) -> Self:
        """Keep everything but the head as it is:

        no gradient. A head that shares its weight with the embedding freezes as well.
        """
        self.base_model.requires_grad_(False)
        return self

    def unfreeze(self, *, last: int | None = None) -> Self:
        """Train everything again, or the `last` layers and what lies behind them (norm, pool and head).

        What no gradient reaches stays as it is: quantised matrices, and the balance of experts.
        """
        if last is None:
            self.requires_grad_(True)
            return self._without_balance()
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
        return self._without_balance()

    def _without_balance(self) -> Self:
        for part in self.modules():
            if isinstance(part, GroupedRouter):
                part.correction.requires_grad_(False)  # its choices have no gradient
        return self

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """In training, keep the input of each layer alone and compute the rest again in the backward pass.

        Gradients are the same; activations take the memory of one layer and an input per layer, for about a third more
        time. A forward with a cache or a record keeps everything. `gradient_checkpointing_kwargs` has {"use_reentrant":
        False} at most, which is how it is done.
        """
        if set(given := dict(gradient_checkpointing_kwargs or {})) - {"use_reentrant"} or given.get("use_reentrant"):
            raise OptionError(
                f"gradient_checkpointing_kwargs={given!r} is not supported: layers are computed again without "
                "re-entering autograd. Leave it out, or give {'use_reentrant': False}."
            )
        self._recompute(True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep all activations again."""
        self._recompute(False)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers are computed again in the backward pass."""
        return any(part.recomputes for part in self.network.modules() if isinstance(part, Stack))

    def _check_head_masks(self, *masks: torch.Tensor | None) -> None:
        """Raise OptionError for a mask of heads where the backward pass would compute layers again, without it."""
        if not (self.training and torch.is_grad_enabled()) or all(mask is None for mask in masks):
            return
        if self.is_gradient_checkpointing:
            raise OptionError(
                "A mask of heads is not there when the backward pass computes layers again. Leave it out, or call "
                "gradient_checkpointing_disable()."
            )

    def _recompute(self, recomputes: bool) -> None:
        for part in self.network.modules():
            if isinstance(part, Stack):
                part.recomputes = recomputes

    def _behind(self, last: int) -> Iterable[nn.Module | None]:
        """What lies behind the first of the `last` layers, the layers themselves apart."""
        raise NotImplementedError(f"{type(self).__name__} must say what lies behind its layers.")

    # -- what is asked of it ------------------------------------------------------------------------------------------

    def _answers(self, **given: Any) -> dict[str, Any]:
        """Those arguments that hold answers to the task.

        Raises OptionError for one that the task does not take, and for one end of an answer without the other.
        """
        answers = {name: value for name, value in given.items() if value is not None}
        task = TASKS[self.task]
        if unknown := [name for name in answers if name not in task.labels]:
            takes = (
                f"takes {' and '.join(task.labels)}"
                if task.labels
                else "has no loss; load the AutoModelFor… of your task"
            )
            raise OptionError(f"`{unknown[0]}` was given, but this model of {task.title} {takes}.")
        for name, value in answers.items():
            if not isinstance(value, torch.Tensor):
                raise OptionError(f"`{name}` must be a tensor, but is a {type(value).__name__}. Use torch.tensor(…).")
        if self.task == "question_answering" and len(answers) == 1:
            raise OptionError(
                f"`{next(iter(answers))}` was given alone: the answer needs start_positions and end_positions."
            )
        return answers

    def _asked(self, argument: bool | None, key: str) -> bool:
        return bool(self.config.get(key) if argument is None else argument)

    def generate(self, inputs: Any = None, **options: Any) -> Any:
        """Token ids that go on; see the subclass."""
        raise NotImplementedError(f"{type(self).__name__} must say how it generates.")

    def compute_transition_scores(
        self,
        sequences: torch.Tensor,
        scores: Sequence[torch.Tensor],
        beam_indices: torch.Tensor | None = None,
        normalize_logits: bool = False,
    ) -> torch.Tensor:
        """The score of each token that `generate` wrote, (B, n); see `plait.generate.transitions`."""
        from plait.generate.transitions import transition_scores

        return transition_scores(sequences, scores, beam_indices=beam_indices, normalize_logits=normalize_logits)

    def _require_generation(self) -> None:
        task, loader = self.generates
        if self.task != task:
            raise OptionError(
                f"Only a language model generates; this one is for {TASKS[self.task].title}. Load {loader}."
            )

    # -- files --------------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        *,
        max_shard_size: str | int = "5GB",
        safe_serialization: bool = True,
        **others: Any,
    ) -> None:
        """Write config.json and model.safetensors, which other libraries read as well; larger models in several files.

        Of several processes one writes: nothing happens where `is_main_process` is False. Raises OptionError when
        `save_directory` is a file, when the tensors are not there (a model on "meta"), for `safe_serialization=False`,
        which means pickles, and for `others`, with the reason; DiskError when the disk is full, which leaves what was
        there.
        """
        from plait.models.files import save_model
        from plait.models.options import check_saving

        check_saving(others)
        if not safe_serialization:
            raise OptionError(
                "safe_serialization=False is refused: weights are saved as safetensors, which every library reads, and "
                "never as pickles. Leave the argument out."
            )
        if is_main_process:
            save_model(self, Path(save_directory), max_shard_size=max_shard_size)

    def load_weights(self, folder: str | os.PathLike[str]) -> None:
        """Fill the parameters in place, in their own type and on their own device, with what `save_pretrained` wrote.

        Raises WeightsError when the folder holds another model's.
        """
        from plait.models.files import reload_model

        reload_model(self, Path(folder))
