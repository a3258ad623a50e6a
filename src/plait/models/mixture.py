"""Mixtures of experts as configurations and files write them: the one place that understands them.

`num_experts_per_tok`; which layers are sparse by `decoder_sparse_step` and `mlp_only_layers`; weights of experts, a
tensor each or those of a layer in one. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping

from plait.errors import ConfigError
from plait.models import decoders
from plait.models.reader import Reader
from plait.nn.spec import GroupedRouterSpec, MLPSpec, MoESpec, SharedExpertSpec, SoftmaxRouterSpec
from plait.weights.rules import Rule, Rules, read_only, rename, split, stack


def mixture(
    reader: Reader,
    *,
    experts: int,
    width: int,
    router: SoftmaxRouterSpec | GroupedRouterSpec,
    shared: SharedExpertSpec | None = None,
) -> MoESpec:
    """The feed-forward part of a sparse layer. Raises `ConfigError` where more experts are active than there are."""
    active = reader.integer("num_experts_per_tok")
    if active > experts:
        raise ConfigError(
            f"`num_experts_per_tok` must be at most the number of experts ({experts}), but is {active} "
            f"({reader.label})."
        )
    return MoESpec(
        experts=experts,
        active=active,
        width=width,
        activation=reader.activation("hidden_act"),
        router=router,
        shared=shared,
    )


def mixed(reader: Reader, sparse: MoESpec) -> list[MLPSpec | MoESpec]:
    """The feed-forward part of each layer: sparse in every `decoder_sparse_step`th but those of `mlp_only_layers`."""
    layers, step = reader.integer("num_hidden_layers"), reader.integer("decoder_sparse_step")
    dense = MLPSpec(width=reader.integer("intermediate_size"), activation=sparse.activation, gated=True)
    only_dense = reader.value("mlp_only_layers") or []
    numbers = isinstance(only_dense, list) and all(type(index) is int for index in only_dense)
    if not numbers or not set(only_dense) <= set(range(layers)):
        raise ConfigError(
            f"`mlp_only_layers` must list layers from 0 to {layers - 1}, but is {only_dense!r} ({reader.label})."
        )
    return [dense if index in only_dense or (index + 1) % step else sparse for index in range(layers)]


ROUTER = {"layers.{i}.mlp.gate.weight": "stack.layers.{i}.mlp.router.weight"}
EXPERTS = {"layers.{i}.mlp.experts.{e}.{p:gate|up|down}_proj.weight": "stack.layers.{i}.mlp.experts.{p}"}


def names(
    table: Mapping[str, str],
    *more: Rule,
    experts: Mapping[str, str] = EXPERTS,
    count: int,
    prefix: str = "model.",
    other: str = "transformer.",
) -> Rules:
    """`decoders.names` for `table`, and the weights of `count` experts, in whose names {e} is the expert.

    Files that hold the experts of a layer as two tensors are read as well.
    """
    stacks = [
        stack(prefix + theirs, ours, over="e", count=count, also=[other + theirs]) for theirs, ours in experts.items()
    ]
    joined = [read_only(rule) for start in (prefix, other) for rule in _joined(start + "layers.{i}.mlp.experts.")]
    return decoders.names(table, *stacks, *joined, *more, prefix=prefix, other=other)


def _joined(theirs: str) -> tuple[Rule, Rule]:
    """All experts of a layer, each with gate above up, and all their down projections."""
    ours = "stack.layers.{i}.mlp.experts."
    return split(theirs + "gate_up_proj", [ours + "gate", ours + "up"], dim=1), rename(
        theirs + "down_proj", ours + "down"
    )
