"""Regression through a frozen pretrained Transformer, complete: features → adapter → Transformer → head → numbers.

The features of a row become one vector of the Transformer's width, which it reads as the embedding of a single token;
a linear head reads the number from its last hidden state. Only the adapter and the head are trained.
Shapes: B rows, F features, D width of the backbone, K targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from plait.console import logger
from plait.errors import ConfigError, DataError
from plait.nn.attention import Attention
from plait.nn.linear import Linear, bare
from plait.nn.loss import LossTerms, mean_squared_error
from plait.nn.mlp import MLP
from plait.nn.product import few
from plait.nn.transposed import held, hold, release


@dataclass(frozen=True)
class Regression:
    """Predictions `logits`, float32, (B,) for one target, (B, K) for several; `loss_terms` when there are labels."""

    logits: Tensor
    loss_terms: LossTerms | None = None

    @property
    def loss(self) -> Tensor | None:
        """The mean squared error."""
        return self.loss_terms.mean() if self.loss_terms is not None else None


class FrozenRegressor(nn.Module):
    """`adapter` (F → D), a frozen `backbone`, `head` (D → K).

    `backbone` is any module that takes `inputs_embeds` (B, 1, D) and returns an output with `last_hidden_state`
    (B, 1, D), such as `AutoModel.from_pretrained(…)`. Its width is read from `backbone.config.hidden_size` unless
    `width` says it. The adapter, the head and the loss are float32 whatever the dtype of the backbone: bfloat16 cannot
    tell 1237.5 from 1240.

    `transposed=True` holds the large matrices of the layers transposed as well: gradients pass through them as they
    lie, and a step on a CPU is about a fifth shorter, or hardly at all with a small network. It takes as much memory
    again as these matrices, 0.67 GB for Qwen2 0.5B in bfloat16 and 1.33 GB in float32, until `release_transposed`;
    nothing of it is saved or copied. Matrices that are changed (other than through `.data`), moved or cast afterwards
    are trained through as without it. It is for the CPU, float32 and bfloat16, outside autocast; raises `ConfigError`
    for a backbone with nothing to hold so. With bfloat16, open the backbone with `prepack=True` as well: the file's own
    pages are read more slowly.
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        *,
        targets: int = 1,
        width: int | None = None,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        if width is None:
            width = getattr(getattr(backbone, "config", None), "hidden_size", None)
        if width is None:
            raise ConfigError(
                f"the width of {type(backbone).__name__} is unknown: it has no config.hidden_size; pass width="
            )
        self.adapter = nn.Linear(features, width)
        self.backbone = backbone.requires_grad_(False).eval()
        self.head = nn.Linear(width, targets)
        if transposed:
            _hold_transposed(backbone)

    def release_transposed(self) -> None:
        """Give back the memory that `transposed=True` takes; from now on steps take as long as without it."""
        for parameter in self.backbone.parameters():
            release(parameter)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenRegressor:
        # What moves or casts a module passes here: of what no longer fits, no memory is kept.
        before = [held(parameter) for parameter in self.backbone.parameters()]
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        after = [held(parameter) for parameter in self.backbone.parameters()]
        if any(part is not None for part in before) and all(part is None for part in after):
            logger("tabular").warning("The backbone was moved or cast: transposed=True has no effect any more.")
        return self

    def train(self, mode: bool = True) -> FrozenRegressor:
        """Switch to training; the backbone is frozen, dropout included, and stays as it is."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, input_features: Tensor, labels: Tensor | None = None) -> Regression:
        """Predict from `input_features` (B, F); `labels` are (B,), or (B, K) for several targets."""
        if input_features.ndim != 2 or input_features.shape[1] != self.adapter.in_features:
            raise DataError(
                f"input_features must be (rows, {self.adapter.in_features}), not {tuple(input_features.shape)}"
            )
        dtype = next(self.backbone.parameters()).dtype
        # (B, F) -> (B, D) -> (B, 1, D): one token per row
        token = self.adapter(input_features.float()).to(dtype).unsqueeze(1)
        states = self.backbone(inputs_embeds=token).last_hidden_state
        # (B, 1, D) -> (B, D) -> (B, K) -> (B,) when K is 1
        predictions = self.head(states[:, 0].float())
        if self.head.out_features == 1:
            predictions = predictions.squeeze(-1)
        if labels is None:
            return Regression(predictions)
        # A (B, 1) against a (B,) would broadcast to (B, B), and the loss would be wrong without a sound.
        if labels.shape != predictions.shape:
            raise DataError(f"labels have the shape {tuple(labels.shape)}, predictions {tuple(predictions.shape)}")
        return Regression(predictions, mean_squared_error(predictions, labels))

    def trained_state(self) -> dict[str, Tensor]:
        """What training changes: the parameters of the adapter and the head, by name."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `trained_state`; every name and shape must fit."""
        self.adapter.load_state_dict(_below("adapter.", state))
        self.head.load_state_dict(_below("head.", state))


def _hold_transposed(backbone: nn.Module) -> None:
    """Hold the matrices of `backbone` transposed that the gradient of one token passes through."""
    weights = [_holdable(name, layer) for name, layer in _passed(backbone)]
    if not weights:
        raise ConfigError(
            f"transposed=True holds matrices of plait's own layers, of which {type(backbone).__name__} has none. Open "
            "the backbone with plait.AutoModel, or leave transposed out"
        )
    if not few(weights[0].new_empty(2, weights[0].shape[1]), weights[0], most=2):
        dtype = str(weights[0].dtype).removeprefix("torch.")
        logger("tabular").warning("transposed=True has no effect: this CPU has no product for few %s vectors.", dtype)
        return
    for weight in weights:
        hold(weight)


def _passed(backbone: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and layer of MLPs, and what attention gives out: a single token asks neither queries nor keys."""
    for prefix, part in backbone.named_modules():
        if isinstance(part, MLP | Attention):
            for name in ("gate", "up", "down") if isinstance(part, MLP) else ("output",):
                if (layer := getattr(part, name)) is not None:
                    yield f"{prefix}.{name}", layer


def _holdable(name: str, layer: nn.Module) -> Tensor:
    """The matrix of a layer. Raises ConfigError where it cannot be held, or is not multiplied as it lies."""
    if not (isinstance(layer, Linear) and bare(layer)):
        raise ConfigError(
            f"transposed=True needs plain matrices, but {name} is a {type(layer).__name__}, or watched by a hook. Load "
            "the backbone without quantize=, remove the hook, or leave transposed out"
        )
    weight = layer.weight
    if weight.is_meta:
        problem = "is on 'meta' or on disk. Load the backbone into memory"
    elif weight.device.type != "cpu":
        problem = f"is on {weight.device}, where nothing becomes faster by it. Train on the CPU"
    elif weight.dtype not in (torch.float32, torch.bfloat16):
        problem = f"is {str(weight.dtype).removeprefix('torch.')}. Load the backbone with dtype='float32' or 'bfloat16'"
    elif weight.is_inference():
        problem = "was made in inference mode, where changes are not counted. Load the backbone outside of it"
    else:
        return weight
    raise ConfigError(f"transposed=True: the matrix {name} {problem}, or leave transposed out")


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over a module's parameters and buffers: names, dtypes, shapes and bytes."""
    import hashlib

    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        # NumPy has no bfloat16: the bytes are taken as they lie.
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(flat.numpy()))
    return digest.hexdigest()
