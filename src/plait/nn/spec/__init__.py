"""What a Transformer is, as data: a tree of frozen dataclasses, complete for every architecture that plait builds.

No torch here: a spec is read from a configuration in microseconds, is hashable, and can be compared, printed and tested
as a value. `plait.nn.build.build` is the one place that turns it into modules. The rule for every variation: a number,
a presence or a choice inside one formula is a field; a sub-computation with parameters of its own is a member of a
union; a change of wiring is a class. Absence is `None`.
"""

from __future__ import annotations

from plait.nn.spec.attention import (
    AttentionSpec,
    DisentangledSpec,
    DynamicScaling,
    LatentAttentionSpec,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    MaskSpec,
    NormSpec,
    ProjectionBias,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)
from plait.nn.spec.layer import (
    Activation,
    ConvolutionSpec,
    ConvolvedLayerSpec,
    GroupedRouterSpec,
    LayerSpec,
    MLPSpec,
    MoESpec,
    ParallelLayerSpec,
    SharedExpertSpec,
    SoftmaxRouterSpec,
    SublayerSpec,
)
from plait.nn.spec.stack import (
    LearnedPositions,
    NarrowTables,
    NarrowTokens,
    RelativeBiasSpec,
    RelativeVectorsSpec,
    SinusoidalPositions,
    StackSpec,
    TextFrontendSpec,
)
from plait.nn.spec.table import (
    CellHeadSpec,
    Pick,
)
from plait.nn.spec.topology import (
    ClassifierHeadSpec,
    EncoderDecoder,
    HeadSpec,
    LanguageHeadSpec,
    PoolSpec,
    Single,
    Topology,
    TransformSpec,
)

__all__ = [
    "Activation",
    "AttentionSpec",
    "CellHeadSpec",
    "ClassifierHeadSpec",
    "ConvolutionSpec",
    "ConvolvedLayerSpec",
    "DisentangledSpec",
    "DynamicScaling",
    "EncoderDecoder",
    "GroupedRouterSpec",
    "HeadSpec",
    "LanguageHeadSpec",
    "LatentAttentionSpec",
    "LayerSpec",
    "LearnedPositions",
    "LinearScaling",
    "Llama3Scaling",
    "LongRopeScaling",
    "MLPSpec",
    "MaskSpec",
    "MoESpec",
    "NarrowTables",
    "NarrowTokens",
    "NormSpec",
    "ParallelLayerSpec",
    "Pick",
    "PoolSpec",
    "ProjectionBias",
    "RelativeBiasSpec",
    "RelativeVectorsSpec",
    "RopeScaling",
    "RopeSpec",
    "SharedExpertSpec",
    "Single",
    "SinusoidalPositions",
    "SoftmaxRouterSpec",
    "StackSpec",
    "SublayerSpec",
    "TextFrontendSpec",
    "Topology",
    "TransformSpec",
    "YarnScaling",
]
