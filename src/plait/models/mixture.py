"""Mixtures of experts as configurations and files write them: the one place that understands them.

`num_experts_per_tok` and `output_router_logits`; which layers are sparse by `decoder_sparse_step` and
`mlp_only_layers`; weights of experts, a tensor each. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping

from plait.errors import ConfigError
from plait.models import llama
from plait.models.reader import Reader
from plait.nn.spec import MLPSpec, MoESpec, SharedExpertSpec
from plait.weights.rules import Rules, stack


def mixture(
    reader: Reader, *, experts: int, width: int, renormalise: bool, shared: SharedExpertSpec | None = None
) -> MoESpec:
    """The feed-forward part of a sparse layer.

    Raises `ConfigError` where more experts are active than there are, and where training is asked to balance them.
    """
    reader.only(
        "output_router_logits",
        False,
        reason="it adds a loss that balances the load of the experts (router_aux_loss_coef), which is not computed",
    )
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
        renormalise=renormalise,
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
    experts: Mapping[str, str] = EXPERTS,
    *,
    count: int,
    prefix: str = "model.",
    other: str = "transformer.",
) -> Rules:
    """`llama.names` for `table`, and the weights of `count` experts, in whose names {e} is the expert."""
    stacks = [
        stack(prefix + theirs, ours, over="e", count=count, also=[other + theirs]) for theirs, ours in experts.items()
    ]
    return llama.names(table, *stacks, prefix=prefix, other=other)
