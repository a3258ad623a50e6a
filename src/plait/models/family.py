"""What a family file holds, complete: its specs, the names of its weights, its heads and what it knows of its
configuration.

A family is a module named as its `model_type`. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from plait.errors import ConfigError, nearest
from plait.models.config import Config
from plait.models.reader import Reader
from plait.nn.spec import (
    AttentionSpec,
    HeadSpec,
    LayerSpec,
    MaskSpec,
    MLPSpec,
    NormSpec,
    PoolSpec,
    ProjectionBias,
    SublayerSpec,
    Topology,
)
from plait.weights.rules import Rule, Rules, ignore


@dataclass(frozen=True, kw_only=True)
class Head:
    """What one task puts behind the stack of a family.

    `architecture` is the name of the model class in config.json. `pool` makes a vector per sequence first; `spec` reads
    the head itself, None for none. `rules` are the names of the weights of both; `stack` those of the stack where they
    differ from RULES, and `network` reads the stacks where they are not those of the family. `first` is what a decoder
    that learns to write labels reads first: the start token of the configuration, or the last word of the labels, which
    names their language. `bare` are names in files that lack the prefix of the family, as those of a base model do.
    """

    architecture: str
    pool: PoolSpec | Callable[[Reader], PoolSpec] | None = None
    spec: Callable[[Reader], HeadSpec] | None = None
    rules: tuple[Rule, ...] = ()
    stack: Rules | Callable[[Config], Rules] | None = None
    network: Callable[[Reader], Topology] | None = None
    first: Literal["start_token", "last_word"] = "start_token"
    bare: bool = False


class Family(Protocol):
    """The module of one family."""

    NAME: str  # as in "BertConfig"
    # first_position(config) -> int, only where the `position_ids` of a text do not begin with 0
    # SPELLINGS: Mapping[str, str], only where the family has its own names for usual keys: "hidden_size" -> "dim"
    DEFAULTS: Mapping[str, Any]  # of its configuration
    IGNORED: Mapping[str, str]  # keys of its configuration that change nothing, each with the reason
    RULES: Rules | Callable[[Config], Rules]  # names of the stack's weights, made for a configuration where it matters
    HEADS: Mapping[str, Head]  # by task
    # initialise(network, config, *, only), only where weights are not drawn with the deviation `initializer_range`

    @staticmethod
    def spec(reader: Reader) -> Topology:
        """The stack or stacks, without pool and head."""


def rules_for(family: Family, task: str, config: Config | None = None) -> Rules:
    """The names of all weights for a task; those that belong to the other heads of the family are known and ignored.

    `config` is needed by families whose files join tensors in proportions that it says.
    """
    head = family.HEADS[task]
    own = {template.text for rule in head.rules for template in (*rule.theirs.templates, *rule.also)}
    others = {
        template.text
        for other in family.HEADS.values()
        for rule in other.rules
        for template in (*rule.theirs.templates, *rule.also)
    }
    foreign = [ignore(text, "belongs to another head") for text in sorted(others - own)]
    rules = head.stack or family.RULES
    if not isinstance(rules, Rules):
        assert config is not None, family.NAME
        rules = rules(config)
    return rules.plus(*head.rules, *foreign)


def prefixed(family: Family, task: str) -> bool:
    """Whether names in the files of a task have the prefix of the family."""
    return task != "base" and not family.HEADS[task].bare


def topology(family: Family, task: str, reader: Reader) -> Topology:
    """The whole network for a task, with every key of the configuration accounted for.

    Raises ConfigError for a task that the family does not have, and for keys that nobody understood.
    """
    if task not in family.HEADS:
        raise ConfigError(
            f"{family.NAME} has no {task} head ({reader.label}).{nearest(task, family.HEADS)} It has: "
            f"{', '.join(family.HEADS)}."
        )
    head = family.HEADS[task]
    pool = head.pool(reader) if callable(head.pool) else head.pool
    stacks = (head.network or family.spec)(reader)
    whole = replace(stacks, pool=pool, head=head.spec(reader) if head.spec else None)
    reader.account(family.IGNORED)
    return whole


def multi_head(heads: int, dim: int, *, causal: bool = False, bias: bool = True, dropout: float = 0.0) -> AttentionSpec:
    """The attention of arXiv:1706.03762 §3.2: as many keys as queries, scores divided by the root of a head's width."""
    return AttentionSpec(
        heads=heads,
        kv_heads=heads,
        head_dim=dim,
        scale=dim**-0.5,
        mask=MaskSpec(causal=causal),
        bias=ProjectionBias.all(bias),
        dropout=dropout,
    )


def coder_layer(
    attention: AttentionSpec, mlp: MLPSpec, around: SublayerSpec, *, memory: AttentionSpec | None = None
) -> LayerSpec:
    """A layer of an encoder, or with `memory`, its attention over the encoder's output, of a decoder."""
    return LayerSpec(
        attention=attention,
        mlp=mlp,
        around_attention=around,
        around_mlp=around,
        cross=memory,
        around_cross=around if memory else None,
    )


def pre_norm_layer(norm: NormSpec, attention: AttentionSpec, mlp: MLPSpec, *, dropout: float = 0.0) -> LayerSpec:
    """`x + dropout(f(norm(x)))` twice: the layer of most decoders."""
    around = SublayerSpec(before=norm, dropout=dropout)
    return LayerSpec(attention=attention, mlp=mlp, around_attention=around, around_mlp=around)


def post_norm_layer(norm: NormSpec, attention: AttentionSpec, mlp: MLPSpec, *, dropout: float) -> LayerSpec:
    """`norm(x + dropout(f(x)))` twice: the layer of most encoders."""
    around = SublayerSpec(after=norm, dropout=dropout)
    return LayerSpec(attention=attention, mlp=mlp, around_attention=around, around_mlp=around)
