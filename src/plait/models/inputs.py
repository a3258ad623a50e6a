"""What a user passes to a model and what the network takes, complete: the translation, with every contradiction named.

Shapes: B batch, T tokens, S tokens and those in the cache before them, D width.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plait.errors import OptionError, nearest
from plait.models.registry import family_of
from plait.nn.cache import Cache
from plait.nn.packing import Packing

if TYPE_CHECKING:
    from plait.models.model import PretrainedModel
    from plait.nn.record import Recorder
    from plait.nn.stack import Stack


_NAMES = {
    "tokens": "input_ids",
    "embeddings": "inputs_embeds",
    "mask": "attention_mask",
    "segments": "token_type_ids",
    "positions": "position_ids",
}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of a forward, as given. `choices` is how many rows belong to one question."""

    tokens: Tensor | None
    embeddings: Tensor | None
    mask: Tensor | None
    segments: Tensor | None
    positions: Tensor | None
    choices: int = 1

    def __post_init__(self) -> None:
        for part, name in _NAMES.items():
            given = getattr(self, part)
            if given is not None and not isinstance(given, Tensor):
                remedy = "Call model(**inputs)" if isinstance(given, dict) else "Use return_tensors='pt'"
                raise OptionError(f"`{name}` must be a tensor, but is a {type(given).__name__}. {remedy}.")

        if self.tokens is not None:
            check_ids("input_ids", self.tokens)

    def flat(self) -> Inputs:
        """For questions with several choices: (B, choices, T, …) -> (B * choices, T, …), choice by choice."""
        first = self.embeddings if self.tokens is None else self.tokens
        if first is None or first.dim() != (4 if self.tokens is None else 3):
            shape = None if first is None else tuple(first.shape)
            raise OptionError(
                f"A model of multiple choice takes input_ids of shape (B, choices, T), but was given {shape}."
            )
        parts = {name: getattr(self, name) for name in _NAMES}
        flat = {name: None if part is None else part.flatten(0, 1) for name, part in parts.items()}
        return Inputs(**flat, choices=first.shape[1])

    def translated(self, model: PretrainedModel, cache: Cache | None) -> dict[str, Any]:
        """The arguments of `SingleModel.forward`, without cache and record."""
        if (self.tokens is None) == (self.embeddings is None):
            raise OptionError("Give exactly one of input_ids and inputs_embeds.")
        tokens, embeddings = self.tokens, self.embeddings
        if tokens is not None:
            if tokens.dim() != 2:
                raise OptionError(f"`input_ids` must have the shape (B, T), but has {tuple(tokens.shape)}.")
            batch, count = tokens.shape
        elif embeddings is not None:
            width = model.get_input_embeddings().embedding_dim
            if embeddings.dim() != 3 or embeddings.shape[2] != width:
                raise OptionError(
                    f"`inputs_embeds` must have the shape (B, T, {width}), but has {tuple(embeddings.shape)}."
                )
            batch, count = embeddings.shape[:2]
            embeddings = embeddings.to(model.dtype)
        start = cache.length if cache else 0
        valid = valid_tokens(self.mask, batch, count, start=start)
        return {
            "tokens": tokens,
            "embeddings": embeddings,
            "segments": self._segments(model, (batch, count)),
            "valid": valid,
            "positions": self._positions(model, valid, (batch, count)),
        }

    def _segments(self, model: PretrainedModel, shape: tuple[int, int]) -> Tensor | None:
        kinds = model.network.spec.stack.frontend.segments
        if self.segments is None:
            return None
        check_ids("token_type_ids", self.segments)
        if kinds is not None:
            _check_kinds(self.segments, kinds)
            if tuple(self.segments.shape[:2]) not in (shape, (1, shape[1])):
                raise OptionError(
                    f"`token_type_ids` must have the shape {shape}, but has {tuple(self.segments.shape)}."
                )
            return self.segments.expand(shape[0], *self.segments.shape[1:])
        # Tokenizers return zeros for families without segments.
        if bool(self.segments.any()):
            raise OptionError(
                "`token_type_ids` other than 0 were given, but this model has no segments. Leave them out."
            )
        return None

    def _positions(self, model: PretrainedModel, valid: Tensor | None, shape: tuple[int, int]) -> Tensor | None:
        if self.positions is None:
            return None
        positions = self.positions[None] if self.positions.dim() == 1 else self.positions
        if positions.dim() != 2 or positions.shape[1] != shape[1] or positions.shape[0] not in (1, shape[0]):
            raise OptionError(f"`position_ids` must have the shape {shape}, but has {tuple(positions.shape)}.")
        if model.causal:
            steps = positions[:, 1:] - positions[:, :-1]
            if valid is not None:
                steps = torch.where(valid[:, 1:] & valid[:, :-1], steps, 1)
            if bool((steps <= 0).any()):
                raise OptionError(
                    "`position_ids` must increase along each row: what a token sees is decided by them, so a row that "
                    "starts again would let one text see another. Give each text a row of its own."
                )
        first = getattr(family_of(model.config.model_type, label=model.config.label), "first_position", None)
        return positions if first is None else positions - first(model.config)


def check_ids(name: str, ids: Tensor) -> None:
    """Raise OptionError for ids that are no whole numbers."""
    if ids.is_floating_point():
        kind = str(ids.dtype).removeprefix("torch.")
        raise OptionError(f"`{name}` must be whole numbers, but are {kind}. Convert them with .long().")


@cache
def _taken(kind: type) -> tuple[str, ...]:
    """The names that the forward of a class takes; none when it takes any."""
    names: dict[str, None] = {}
    for each in kind.__mro__:
        if "forward" in vars(each):
            parameters = inspect.signature(vars(each)["forward"]).parameters.values()
            names |= dict.fromkeys(part.name for part in parameters if part.kind is not part.VAR_KEYWORD)
            if all(part.kind is not part.VAR_KEYWORD for part in parameters):
                return tuple(names)[1:]
    return ()


def check_names(kind: type, given: Collection[str]) -> None:
    """Raise OptionError for a name that the forward of a class does not take."""
    taken = _taken(kind)
    unknown = next((name for name in given if name not in taken), None) if taken else None
    if unknown is not None:
        raise OptionError(
            f"The model takes no {unknown!r}.{nearest(unknown, taken)} It takes {', '.join(taken)}; leave out the rest."
        )


def _check_kinds(segments: Tensor, kinds: int | tuple[int, ...]) -> None:
    """Raise OptionError for segments that are not (B, T, kinds), or that the model does not have."""
    if isinstance(kinds, int):
        if segments.device.type == "cpu" and segments.numel():
            wrong = [value for value in map(int, segments.aminmax()) if not 0 <= value < kinds]
            if wrong:
                raise OptionError(
                    f"`token_type_ids` hold {wrong[-1]}, but this model has segments 0 to {kinds - 1}. Leave them out "
                    "where the tokenizer is another model's."
                )
        return
    if segments.shape[2:] != (len(kinds),):
        raise OptionError(
            f"`token_type_ids` must have the shape (B, T, {len(kinds)}), an id of every kind, but has "
            f"{tuple(segments.shape)}. The model's tokenizer makes them of a table."
        )
    if segments.device.type != "cpu" or not segments.numel():
        return  # elsewhere the comparison would wait for the device
    highest = segments.flatten(0, 1).amax(dim=0).tolist()
    for kind, (found, count) in enumerate(zip(highest, kinds, strict=True)):
        if found >= count:
            raise OptionError(
                f"`token_type_ids` hold {found} as kind {kind}, of which this model has {count}: 0 to {count - 1}. "
                "Make the table smaller (kind 1 is its column, kind 2 its row)."
            )


def valid_tokens(
    mask: Tensor | None, batch: int, count: int, *, start: int = 0, name: str = "attention_mask"
) -> Tensor | None:
    """Which of `count` new tokens, behind `start` cached ones, are no padding, bool (B, T); None when all are.

    `name` is what the mask is called in errors.
    """
    if mask is None:
        return None
    if mask.dim() != 2:
        raise OptionError(
            f"`{name}` must have the shape (B, T) with 0 at padding, but has {tuple(mask.shape)}. Masks of "
            "queries by keys "
            "are not taken: which token sees which is part of the network."
        )
    if mask.shape[0] != batch or mask.shape[1] not in (count, start + count):
        cached = f" or, with the {start} tokens of the cache, {(batch, start + count)}" if start else ""
        raise OptionError(f"`{name}` must have the shape {(batch, count)}{cached}, but has {tuple(mask.shape)}.")
    mask = mask[:, -count:]
    if mask.is_meta:
        return mask != 0  # without numbers, nothing is known of them
    if mask.is_floating_point() and bool((mask < 0).any()):
        raise OptionError(f"`{name}` holds negative numbers. It must be 1 at tokens and 0 at padding.")
    valid = mask != 0
    # One comparison here saves the network a mask in every layer.
    return None if bool(valid.all()) else valid


def packing_of(
    stack: Stack,
    arguments: dict[str, Any],
    *,
    cache: Cache | None,
    record: Recorder | None,
    scored: Tensor | None,
    packed: bool | None,
) -> Packing | None:
    """How the batch of a forward is packed, None for as it stands.

    `packed` None packs where it is possible and faster, True wherever there is padding, False never. `scored` (B, T)
    are the slots whose scores a loss reads. Raises OptionError for True where it is impossible, with the reason.
    """
    valid = arguments["valid"]
    if packed is False or (packed is None and (valid is None or not Packing.pays(valid))):
        return None
    obstacle = _obstacle(stack, cache=cache, record=record, positions=arguments["positions"])
    if not obstacle and _reads_padding(scored, valid):
        # Zeros in the place of those scores would be another loss.
        obstacle = "labels count scores at padding (-100 leaves them out; a word is scored at the slot before it)"
    packing = None if obstacle or valid is None else Packing.of(valid)
    if packed and not obstacle and valid is not None and packing is None:
        obstacle = "a row has padding between its tokens, or none has any"
    if packed and obstacle:
        raise OptionError(f"`packed=True` is impossible: {obstacle}. Leave it out to compute with padding.")
    return packing


def _reads_padding(scored: Tensor | None, valid: Tensor | None) -> bool:
    if scored is None or valid is None or scored.shape != valid.shape:  # the loss names other shapes
        return False
    return bool((scored & ~valid).any())


def _obstacle(stack: Stack, *, cache: Cache | None, record: Recorder | None, positions: Tensor | None) -> str | None:
    """Why a forward cannot pack, None when it can."""
    if not stack.packable:
        return "this model reads rows as wholes (a convolution, or positions that count within cells)"
    if cache is not None:
        return "a cache holds padded rows (use_cache=False goes without one)"
    if record is not None:
        return "hidden states and attention weights are those of padded rows"
    return None if positions is None else "`position_ids` were given, and packing counts them itself"
