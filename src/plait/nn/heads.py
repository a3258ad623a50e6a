"""What comes behind the layers, complete for text: pooling a sequence to a vector, and scores over words or labels.

Shapes: B batch, T tokens, D width, V vocabulary, C labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.errors import ConfigError
from plait.nn.linear import Linear
from plait.nn.mlp import activation
from plait.nn.norm import Norm
from plait.nn.spec import ClassifierHeadSpec, LanguageHeadSpec, PoolSpec, TransformSpec


class Pool(nn.Module):
    """One vector per sequence, chosen by which tokens are valid and never by what the tokens are."""

    def __init__(self, spec: PoolSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.dense = Linear(width, width) if spec.activation else None
        self.activation = activation(spec.activation) if spec.activation else None

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, T, D) and which tokens are valid, (B, T) or None for all -> (B, D). Raises ConfigError without tokens."""
        pooled = self._pick(x, valid)
        if self.dense is None or self.activation is None:
            return pooled
        return self.activation(self.dense(pooled))

    def _pick(self, x: Tensor, valid: Tensor | None) -> Tensor:
        if x.shape[1] == 0:
            raise ConfigError("a text without any token has no vector: leave empty texts out, or give them one token")
        if self.spec.where == "mean":
            if valid is None:
                return x.mean(dim=1)
            weight = valid.to(x.dtype)[:, :, None]
            return (x * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        if valid is None:
            return x[:, 0] if self.spec.where == "first" else x[:, -1]
        order = torch.arange(x.shape[1], device=x.device)
        if self.spec.where == "first":
            index = torch.where(valid.bool(), order, x.shape[1] - 1).amin(dim=1)
        else:
            index = torch.where(valid.bool(), order, 0).amax(dim=1)
        return x[torch.arange(x.shape[0], device=x.device), index]

    if TYPE_CHECKING:
        __call__ = forward


class _Transformed(nn.Module):
    """A head that may begin with a dense layer, an activation and a norm."""

    def __init__(self, transform: TransformSpec | None, width: int, out: int) -> None:
        super().__init__()
        self.transform = transform
        self.dense = Linear(width, out, bias=transform.bias) if transform else None
        self.norm = Norm(transform.norm, out) if transform and transform.norm else None

    def transformed(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., out)."""
        if self.transform is None or self.dense is None:
            return x
        x = functional.dropout(x, self.transform.dropout, training=self.training)
        x = activation(self.transform.activation)(self.dense(x))
        return x if self.norm is None else self.norm(x)


class LanguageHead(_Transformed):
    """Scores over the vocabulary. `embedding` is the width E of the token embedding, which a tied head shares.

    Raises ConfigError when that is not the stack's and no `transform` leads to it.
    """

    def __init__(self, spec: LanguageHeadSpec, width: int, *, embedding: int | None = None) -> None:
        embedding = embedding or width
        if embedding != width and spec.transform is None:
            raise ConfigError(
                f"a language head without `transform` scores vectors of the stack's width ({width}), but the token "
                f"embedding has a width of {embedding}: add a TransformSpec, whose dense layer leads from one to the "
                "other"
            )
        super().__init__(spec.transform, width, embedding)
        self.spec = spec
        self.projection = Linear(embedding, spec.vocabulary, bias=spec.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, V)."""
        x = self.transformed(x)
        scores: Tensor = self.projection(x if self.spec.scale == 1.0 else x * self.spec.scale)
        if self.spec.softcap is not None:
            scores = self.spec.softcap * torch.tanh(scores / self.spec.softcap)
        return scores

    if TYPE_CHECKING:
        __call__ = forward


class ClassifierHead(_Transformed):
    """Scores over labels."""

    def __init__(self, spec: ClassifierHeadSpec, width: int) -> None:
        super().__init__(spec.transform, width, width)
        self.spec = spec
        self.projection = Linear(width, spec.labels, bias=spec.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., C)."""
        x = functional.dropout(self.transformed(x), self.spec.dropout, training=self.training)
        return self.projection(x)

    if TYPE_CHECKING:
        __call__ = forward
