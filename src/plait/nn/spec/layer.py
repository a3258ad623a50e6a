"""Feed-forward parts and layers as data, complete: MLPs, mixtures of experts, and how sublayers are wired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plait.nn.spec.attention import AttentionSpec, DisentangledSpec, LatentAttentionSpec, NormSpec

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "tanh"]


@dataclass(frozen=True, kw_only=True)
class MLPSpec:
    """`down(activation(up(x)))`, or `down(activation(gate(x)) * up(x))` when gated (arXiv:2002.05202).

    `dropout` acts on what goes into `down`.
    """

    width: int
    activation: Activation
    gated: bool = False
    bias: bool = False
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SharedExpertSpec:
    """An MLP for all tokens beside the chosen experts; `gated` multiplies it by `sigmoid(linear(x))`, one number."""

    mlp: MLPSpec
    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class SoftmaxRouterSpec:
    """The experts of the highest scores, each by its share of the softmax over all of them, or with `renormalise` over
    the chosen ones (arXiv:2401.04088 §2.1)."""

    renormalise: bool = False


@dataclass(frozen=True, kw_only=True)
class GroupedRouterSpec:
    """The experts of the highest `sigmoid(score) + correction`, each by its sigmoid alone (arXiv:2412.19437 §2.1.2).

    The corrections are a number per expert that balances their load. Experts lie in `groups` of equal size; those of
    the `chosen_groups` alone take part whose two best sum highest. `renormalise` divides by the sum over the chosen
    experts; `scale` multiplies.
    """

    groups: int = 1
    chosen_groups: int = 1
    renormalise: bool = False
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class MoESpec:
    """A mixture of experts (arXiv:2401.04088): gated MLPs of one `width`, of which `active` compute for each token.

    What they give is multiplied by the factors of the `router` and added, together with the `shared` expert where there
    is one.
    """

    experts: int
    active: int
    width: int
    activation: Activation
    router: SoftmaxRouterSpec | GroupedRouterSpec = SoftmaxRouterSpec()
    shared: SharedExpertSpec | None = None


@dataclass(frozen=True, kw_only=True)
class SublayerSpec:
    """The slots around a sublayer f: `after(x + dropout(branch(f(before(x)))))`.

    Only `after` is post-norm (BERT), only `before` is pre-norm (GPT-2, Llama), `before` and `branch` the sandwich
    (Gemma).
    """

    before: NormSpec | None = None
    branch: NormSpec | None = None
    after: NormSpec | None = None
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One layer: self-attention, attention over another stack's output when `cross` is there, and an MLP or several."""

    attention: AttentionSpec | DisentangledSpec | LatentAttentionSpec
    mlp: MLPSpec | MoESpec
    around_attention: SublayerSpec
    around_mlp: SublayerSpec
    cross: AttentionSpec | None = None
    around_cross: SublayerSpec | None = None


@dataclass(frozen=True, kw_only=True)
class ConvolutionSpec:
    """A convolution over neighbouring tokens: `kernel` of them, an odd number, in `groups` of dimensions."""

    kernel: int
    activation: Activation
    norm: NormSpec
    groups: int = 1
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ConvolvedLayerSpec(LayerSpec):
    """A layer with a convolution beside it: `norm(layer(x) + activation(dropout(convolution(x))))`
    (arXiv:2006.03654 §A.5)."""

    convolution: ConvolutionSpec


@dataclass(frozen=True, kw_only=True)
class ParallelLayerSpec:
    """One layer whose two parts read the same input: `x + attention(norm(x)) + mlp(norm(x))`.

    The MLP shares the norm, or has `mlp_norm` of its own. `dropout` acts on what each part adds.
    """

    attention: AttentionSpec
    mlp: MLPSpec
    norm: NormSpec
    mlp_norm: NormSpec | None = None
    dropout: float = 0.0
