"""Every key of every family's config.json is read, or listed with a reason, or an error: none is skipped in silence.

The reference's own defaults say which keys there are. Each is set to another value, alone; whoever reads the network's
description must see it in one of three ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import transformers

from plait.errors import ConfigError
from plait.models.config import Config
from plait.models.family import topology
from plait.models.reader import HARMLESS, Reader
from plait.models.registry import FAMILIES, family_of

# What makes a configuration one that is built here, where the defaults are another network.
SAID: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "relative_attention": True,
        "position_biased_input": False,
        "share_att_key": True,
        "pos_att_type": ["c2p", "p2c"],
    },
}
MAY_DECODE = ("bert", "electra", "roberta", "xlm-roberta")
PUBLISHED = [name for name in FAMILIES if name != "transformer"]


def written(name: str) -> dict[str, Any]:
    """What the reference library writes for a configuration of the defaults."""
    values: dict[str, Any] = transformers.AutoConfig.for_model(name, **SAID.get(name, {})).to_dict()
    return values


class Noting(Reader):
    """A reader of the whole configuration that can be asked what was read."""

    @property
    def read(self) -> set[str]:
        return self._read


def described(name: str, values: Mapping[str, Any]) -> tuple[list[Any], set[str]]:
    """The networks of all tasks, and the keys that were read on the way."""
    family, networks, read = family_of(name, label="x"), [], set()
    for task in family.HEADS:
        given = {**values, "is_decoder": True} if task == "causal_lm" and name in MAY_DECODE else dict(values)
        reader = Noting(Config(given, label="config.json"), label="config.json", family=family.NAME)
        networks.append(topology(family, task, reader))
        read |= reader.read
    return networks, read


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_the_reference_writes_is_understood(name: str) -> None:
    networks, read = described(name, written(name))
    assert len(networks) == len(family_of(name, label="x").HEADS)
    assert len(read) > 10


def other(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value * 2 + 2
        case float():
            return value / 2 + 0.1
        case str():
            return "another"
        case None:
            return 2
        case list():
            return [*value, *value, 1]
        case _:
            return {**value, "another": 1}


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_key_is_skipped_in_silence(name: str) -> None:
    values = Config(written(name)).values  # under the family's own spellings
    family = family_of(name, label="x")
    _, read = described(name, values)
    excused = {*family.IGNORED, *HARMLESS}
    for key in values:
        if key in read or key in excused or key.startswith("_"):
            continue
        if key.endswith(("_token_id", "_token_ids", "_token_index")):
            continue  # the number of a word
        # Off, a switch that nobody knows is no switch; on, it must be refused by name.
        with pytest.raises(ConfigError, match=f"`{key}` = "):
            described(name, {**values, key: other(values[key])})


@pytest.mark.parametrize("name", FAMILIES)
def test_every_reason_is_a_sentence_about_a_key(name: str) -> None:
    ignored = family_of(name, label="x").IGNORED
    assert all(len(reason.split()) >= 2 and not reason.endswith(".") for reason in ignored.values()), ignored
    assert all(key == key.strip() and " " not in key for key in ignored)
