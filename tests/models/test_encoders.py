"""What encoder families refuse, name otherwise, and know of files; their numbers are compared in tests/parity."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from plait.errors import ConfigError
from plait.models.auto import AutoModel, AutoModelForCausalLM, AutoModelForMultipleChoice
from plait.models.config import Config
from plait.models.family import rules_for
from plait.models.model import PretrainedModel
from plait.models.registry import family_of

TINY = {
    "vocab_size": 29,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 20,
}


def made(model_type: str, cls: Any = AutoModel, **changes: Any) -> PretrainedModel:
    model: PretrainedModel = cls.from_config(Config({**TINY, "model_type": model_type, **changes}))
    return model.eval()


def test_a_family_answers_to_usual_and_own_names() -> None:
    config = Config(model_type="distilbert", hidden_size=32, n_heads=4)
    assert (config.hidden_size, config.dim) == (32, 32)
    assert (config.num_attention_heads, config.n_heads) == (4, 4)
    assert config.num_hidden_layers == config.n_layers == 6
    assert {"dim", "n_heads"} <= set(config.values)
    assert "hidden_size" not in config.to_dict()
    config.num_hidden_layers = 3
    assert config.n_layers == 3


@pytest.mark.parametrize(
    ("model_type", "changes", "text"),
    [
        ("distilbert", {"hidden_dim": 12, "dim": 9}, r"`dim` must be a multiple of `n_heads` \(2\), but is 9"),
        ("roberta", {"pad_token_id": None}, "`pad_token_id` is missing"),
        ("albert", {"num_hidden_groups": 2}, "`num_hidden_groups` is 2 .*: all its layers share their weights"),
        ("albert", {"is_decoder": True}, "`is_decoder` is True .*: it was never trained to write"),
        ("mpnet", {"is_decoder": True}, "`is_decoder` is True .*: it was never trained to write"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "`relative_attention_num_buckets` is 16 .* into so many"),
    ],
)
def test_what_is_refused(model_type: str, changes: dict[str, Any], text: str) -> None:
    changes = {**({"intermediate_size": None} if model_type == "distilbert" else {}), **changes}
    with pytest.raises(ConfigError, match=text):
        made(model_type, **changes)


def test_what_the_heads_of_electra_refuse() -> None:
    with pytest.raises(ConfigError, match="`summary_type` is 'last' .*: a text is summed up by its first token"):
        made("electra", AutoModelForMultipleChoice, summary_type="last")
    with pytest.raises(ConfigError, match="`summary_use_proj` is False .*: a dense layer follows"):
        made("electra", AutoModelForMultipleChoice, summary_use_proj=False)


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "electra"])
def test_an_encoder_does_not_generate(model_type: str) -> None:
    with pytest.raises(ConfigError, match="sees those behind it .* pass is_decoder=True"):
        made(model_type, AutoModelForCausalLM)
    text = made(model_type, AutoModelForCausalLM, is_decoder=True).generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4)
    assert text.shape[1] > 3


def test_the_table_of_positions_begins_behind_the_padding() -> None:
    """20 rows, of which 0 and 1 belong to no token: 18 tokens, whose position ids are 2 to 19."""
    model = made("roberta")
    ids = torch.full((1, 18), 5)
    with torch.no_grad():
        counted = model(ids).last_hidden_state
        given = model(ids, position_ids=torch.arange(2, 20)[None]).last_hidden_state
        assert torch.equal(counted, given)
        with pytest.raises(ConfigError, match="learned positions for 0 to 17. Cut the text to 18 tokens"):
            model(torch.full((1, 19), 5))


def test_repeated_layers_take_one_head_mask() -> None:
    """The same factors in each of the three passes; weights are reported for each."""
    model = made("albert", num_hidden_layers=3, embedding_size=8)
    ids = torch.tensor([[4, 9, 2, 7]])
    with torch.no_grad():
        plain = model(ids, output_attentions=True)
        masked = model(ids, output_attentions=True, head_mask=torch.tensor([1.0, 0.0]))
        whole = model(ids, output_attentions=True, head_mask=torch.ones(1, 2))
    assert len(plain.attentions) == len(masked.attentions) == 3
    assert all(part[:, 1].abs().max() == 0 and part[:, 0].sum() > 3.99 for part in masked.attentions)
    assert torch.equal(whole.last_hidden_state, plain.last_hidden_state)
    assert not torch.equal(masked.last_hidden_state, plain.last_hidden_state)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("electra", "discriminator_predictions.dense.weight"), ("albert", "sop_classifier.classifier.bias")],
)
def test_heads_of_pretraining_are_known_and_ignored(model_type: str, name: str) -> None:
    plan = rules_for(family_of(model_type, label="x"), "sequence_classification").plan([name])
    assert set(plan.ignored) == {name}
