"""Another size of vocabulary for a built model, complete: embeddings, the scores over words, specs and configuration.

Shapes: V words, D width of the embedding.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plait.errors import OptionError
from plait.nn.heads import LanguageHead
from plait.nn.spec import LanguageHeadSpec
from plait.nn.stack import Stack

if TYPE_CHECKING:
    from plait.models.pretrained import Pretrained


def resize(model: Pretrained, words: int | None, *, multiple: int | None, mean: bool) -> nn.Embedding:
    """Give `model` a vocabulary of `words`; see `Pretrained.resize_token_embeddings`."""
    old = model.get_input_embeddings().num_embeddings
    count = _rounded(old if words is None else words, multiple)
    tables, heads = _vocabularies(model, old)
    frozen = [part for part in (*tables, *heads) if part.weight.is_meta]
    if frozen:
        raise OptionError("Words are added to weights in memory, but this model's are on 'meta' or on disk.")
    if count != old:
        grown: dict[int, nn.Parameter] = {}  # by the parameter that it replaces: shared weights stay shared
        for part in (*tables, *heads):
            for leaf in ("weight", "bias"):
                parameter = getattr(part, leaf, None)
                if isinstance(parameter, nn.Parameter):
                    if id(parameter) not in grown:
                        grown[id(parameter)] = _grown(model, part, parameter, count, mean=mean)
                    setattr(part, leaf, grown[id(parameter)])
        for table in tables:
            table.num_embeddings = count
            table.padding_idx = _padding(table.padding_idx, count)
        for head in heads:
            head.out_features = count
    _tell(model, count)
    return model.get_input_embeddings()


def _rounded(words: int, multiple: int | None) -> int:
    for name, value in (("new_num_tokens", words), ("pad_to_multiple_of", multiple)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise OptionError(f"`{name}` must be a whole number of at least 1, but is {value!r}.")
    return words if multiple is None else -(-words // multiple) * multiple


def _stacks(model: Pretrained) -> list[Stack]:
    return [part for part in model.network.children() if isinstance(part, Stack)]


def _vocabularies(model: Pretrained, words: int) -> tuple[list[nn.Embedding], list[nn.Linear]]:
    """The embeddings of `words` tokens, and the linear layers that score them."""
    tables: list[nn.Embedding] = [stack.frontend.tokens for stack in _stacks(model)]
    if other := [table.num_embeddings for table in tables if table.num_embeddings != words]:
        raise OptionError(
            f"This model reads {words} words and writes {other[0]}: which of the two should grow is not known."
        )
    head = model.network.head
    if not isinstance(head, LanguageHead):
        return tables, []
    if not isinstance(head.projection, nn.Linear):
        raise OptionError(
            f"The scores over words are of a {type(head.projection).__name__}, which has a fixed size. Add words first."
        )
    return tables, [head.projection]


def _grown(model: Pretrained, owner: nn.Module, old: nn.Parameter, count: int, *, mean: bool) -> nn.Parameter:
    """(V, …) -> (`count`, …): the first rows as they were, the others new."""
    kept = min(len(old), count)
    new = old.data.new_empty(count, *old.shape[1:])
    new[:kept] = old.data[:kept]
    if count > kept:
        new[kept:] = old.data.float().mean(dim=0).to(old.dtype) if mean else _drawn(model, owner, old, count - kept)
    return nn.Parameter(new, requires_grad=old.requires_grad)


def _drawn(model: Pretrained, owner: nn.Module, old: Tensor, rows: int) -> Tensor:
    """Rows as the family draws them in a new model; a bias of new words is 0."""
    from plait.models.files import initialise_as_family

    if old.dim() == 1:
        return torch.zeros(rows, dtype=old.dtype, device=old.device)
    fresh = nn.Embedding(rows, old.shape[1]) if isinstance(owner, nn.Embedding) else nn.Linear(old.shape[1], rows)
    initialise_as_family(fresh, model.config)
    return fresh.weight.detach().to(device=old.device, dtype=old.dtype)


def _padding(token: int | None, count: int) -> int | None:
    """The row of the padding, None where it went with the words that were dropped."""
    return token if token is None or token < count else None


def _tell(model: Pretrained, count: int) -> None:
    """Say the new size in every spec and in the configuration, which is what is saved."""
    network = model.network
    specs: dict[str, Any] = {}
    for name, part in network.named_children():  # a stack's name is that of its field in the spec
        if isinstance(part, Stack):
            padding = _padding(part.frontend.spec.padding, count)
            part.frontend.spec = replace(part.frontend.spec, vocabulary=count, padding=padding)
            part.spec = specs[name] = replace(part.spec, frontend=part.frontend.spec)
    if isinstance(network.head, LanguageHead) and isinstance(network.spec.head, LanguageHeadSpec):
        network.head.spec = replace(network.head.spec, vocabulary=count)
        specs["head"] = network.head.spec
    network.spec = replace(network.spec, **specs)
    model.config.vocab_size = count
    if model.config.get("decoder_vocab_size") is not None:
        model.config.decoder_vocab_size = count
