"""Rotary positions and attention windows as configurations write them: the one place that understands all spellings.

Rotation: `rope_theta` with `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5), of the types default,
linear, dynamic, llama3, yarn and longrope. Windows: `use_sliding_window`, `sliding_window`, `max_window_layers` and
`layer_types`. No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from plait.errors import ConfigError, nearest
from plait.models.reader import Reader, as_strings
from plait.nn.spec import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
LAYER_TYPES = ("full_attention", "sliding_attention")


def rope(reader: Reader, *, dim: int, partial: float | None = None) -> RopeSpec:
    """The rotation of heads of `dim` dimensions. A family that turns a part of them has `partial`, the share where the
    configuration names none.

    Raises `ConfigError` for an unknown type, and for keys that its type does not know.
    """
    theta, share = reader.number("rope_theta", least=1.0), _share(reader, partial)
    reader.value("rope_scaling")
    if not isinstance(reader.value("rope_parameters"), Mapping):
        return RopeSpec(theta=theta, dim=_turned(reader, dim, share))
    with reader.nested("rope_parameters", ignored={"finetuned": "whether the model was trained so"}) as inner:
        share = _share(inner, None if partial is None else share)
        return rotation(inner, reader, dim=_turned(reader, dim, share), theta=theta)


def _share(reader: Reader, partial: float | None) -> float:
    """The share of each head's dimensions that turns."""
    if partial is None:
        reader.only("partial_rotary_factor", 1.0, reason="its heads are turned as a whole")
        return 1.0
    return reader.number("partial_rotary_factor", default=partial)


def _turned(reader: Reader, dim: int, share: float) -> int:
    turned = int(dim * share)
    if share == 1.0 and dim % 2:
        raise ConfigError(
            f"The head dimension must be even for rotary positions, which turn pairs, but is {dim} ({reader.label}). "
            "Set `head_dim`, or a `hidden_size` that is an even multiple of `num_attention_heads`."
        )
    if turned % 2 or not 0 < turned <= dim:
        raise ConfigError(
            f"`partial_rotary_factor` must turn pairs, but {share} of a head's {dim} dimensions is {turned} "
            f"({reader.label})."
        )
    return turned


def rotation(inner: Reader, outer: Reader, *, dim: int, theta: float) -> RopeSpec:
    """The rotation of `dim` dimensions that the object `inner` describes; `theta` where it names none."""
    # Both spellings of the type occur, sometimes side by side.
    kind = inner.value("type")
    kind = inner.value("rope_type") or kind or "default"
    theta = inner.number("rope_theta", default=theta, least=1.0)
    return RopeSpec(theta=theta, dim=dim, scaling=_scaling(kind, inner, outer, dim=dim))


def _scaling(kind: str, inner: Reader, outer: Reader, *, dim: int) -> RopeScaling | None:
    match kind:
        case "default":
            return None
        case "linear":
            return LinearScaling(factor=inner.number("factor", least=1e-6))
        case "dynamic":
            original = outer.integer("max_position_embeddings")
            return DynamicScaling(factor=inner.number("factor", least=1.0), original_positions=original)
        case "llama3":
            return Llama3Scaling(
                factor=inner.number("factor", least=1e-6),
                low_frequency_factor=inner.number("low_freq_factor", least=1e-6),
                high_frequency_factor=inner.number("high_freq_factor", least=1e-6),
                original_positions=_original(inner, outer),
            )
        case "yarn":
            return _yarn(inner, outer)
        case "longrope" | "su":  # "su" in the first files
            return _longrope(inner, outer, dim=dim)
        case _:
            raise ConfigError(
                f"`rope_type` must be one of {', '.join(ROPE_TYPES)}, but is {kind!r} "
                f"({inner.label}).{nearest(str(kind), ROPE_TYPES)}"
            )


def _original(inner: Reader, outer: Reader) -> int:
    """The length before scaling: beside the other keys of the scaling, or at the top, or the length of the model."""
    # The top level wins where both are there (Phi-3 configurations), as in transformers 5.
    if (top := outer.optional_integer("original_max_position_embeddings")) is not None:
        inner.value("original_max_position_embeddings")
        return top
    return inner.optional_integer("original_max_position_embeddings") or outer.integer("max_position_embeddings")


def _yarn(inner: Reader, outer: Reader) -> YarnScaling:
    """The scaling of arXiv:2309.00071, whose §3.4 gives the attention factor 0.1 ln(factor) + 1.

    `mscale` and `mscale_all_dim` are DeepSeek's variation.
    """
    original = _original(inner, outer)
    factor = _factor(inner, outer, original)
    mscale, mscale_all = inner.number("mscale", default=0.0), inner.number("mscale_all_dim", default=0.0)
    if inner.value("attention_factor") is not None:
        attention = inner.number("attention_factor")
    elif mscale and mscale_all:
        attention = _temperature(factor, mscale) / _temperature(factor, mscale_all)
    else:
        attention = _temperature(factor, 1.0)
    return YarnScaling(
        factor=factor,
        original_positions=original,
        attention_factor=attention,
        beta_fast=inner.number("beta_fast", default=32.0),
        beta_slow=inner.number("beta_slow", default=1.0),
        truncate=inner.flag("truncate", default=True),
    )


def score_factor(reader: Reader, rotation: RopeSpec) -> float:
    """What DeepSeek's yarn multiplies the scores by: the square of its `mscale_all_dim`'s temperature, else 1."""
    if not isinstance(rotation.scaling, YarnScaling):
        return 1.0
    mscale = reader.value("rope_parameters").get("mscale_all_dim") or 0.0
    return _temperature(rotation.scaling.factor, mscale) ** 2 if mscale else 1.0


def _factor(inner: Reader, outer: Reader, original: int) -> float:
    """How many times longer the text may be than before scaling."""
    if inner.value("factor") is None:
        return outer.integer("max_position_embeddings") / original
    return inner.number("factor", least=1e-6)


def _longrope(inner: Reader, outer: Reader, *, dim: int) -> LongRopeScaling:
    """The scaling of arXiv:2402.13753, whose §3.2 gives the attention factor sqrt(1 + ln(factor) / ln(original))."""
    original = _original(inner, outer)
    factor = _factor(inner, outer, original)
    if inner.value("attention_factor") is not None:
        attention = inner.number("attention_factor")
    else:
        attention = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return LongRopeScaling(
        short_factors=_factors(inner, "short_factor", count=dim // 2),
        long_factors=_factors(inner, "long_factor", count=dim // 2),
        original_positions=original,
        attention_factor=attention,
    )


def _factors(inner: Reader, key: str, *, count: int) -> tuple[float, ...]:
    values = inner.value(key)
    right = isinstance(values, list) and len(values) == count
    if not right or not all(isinstance(value, int | float) and value > 0 for value in values):
        raise ConfigError(
            f"`{inner.within}.{key}` must be a list of {count} positive numbers, one for each pair of dimensions that "
            f"turns, but is {values!r:.80} ({inner.label})."
        )
    return tuple(float(value) for value in values)


def _temperature(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def windows(reader: Reader, *, layers: int) -> list[int | None]:
    """The attention window of each layer, None for full attention."""
    size = reader.optional_integer("sliding_window")
    first = reader.optional_integer("max_window_layers", least=0)
    window = size if reader.flag("use_sliding_window") else None
    slides = [window is not None and first is not None and index >= first for index in range(layers)]
    return windowed(reader, sliding_layers(reader, slides), window=window)


def windowed(reader: Reader, slides: Sequence[bool], *, window: int | None) -> list[int | None]:
    """The window of each layer that slides. Raises `ConfigError` when there is none."""
    if window is None and any(slides):
        raise ConfigError(
            f"`layer_types` asks for sliding_attention, but no window is set ({reader.label}). "
            "Set use_sliding_window=True and sliding_window to a number of tokens."
        )
    return [window if slide else None for slide in slides]


def sliding_layers(reader: Reader, default: Sequence[bool]) -> list[bool]:
    """Which layers look through a window, by `layer_types` or, where that is absent, as in `default`."""
    if reader.value("layer_types") is None:
        return list(default)
    kinds, layers = as_strings(reader.value("layer_types")), len(default)
    if kinds is None or len(kinds) != layers or not set(kinds) <= set(LAYER_TYPES):
        raise ConfigError(
            f"`layer_types` must name {' or '.join(LAYER_TYPES)} for each of the {layers} layers, "
            f"but is {reader.value('layer_types')!r} ({reader.label})."
        )
    return [kind == "sliding_attention" for kind in kinds]
