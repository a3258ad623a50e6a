"""What encoder families refuse, name otherwise, and know of files; their numbers are compared in tests/parity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from plait.errors import ConfigError
from plait.models.auto import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
)
from plait.models.config import Config
from plait.models.family import rules_for, topology
from plait.models.files import read_topology
from plait.models.model import PretrainedModel
from plait.models.reader import Reader
from plait.models.registry import family_of
from plait.nn.build import build
from plait.nn.spec import Topology

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
        ("albert", {"is_decoder": True}, "`is_decoder` is True .*: it was never trained to write"),
        ("deberta-v2", {"relative_attention": False}, "`relative_attention` is False .* all that is known of places"),
        ("deberta-v2", {"position_biased_input": True}, "`position_biased_input` is True .* are not added"),
        ("deberta-v2", {"share_att_key": False}, "`share_att_key` is False .* the projections of the tokens"),
        (
            "deberta-v2",
            {"conv_kernel_size": 4},
            "`conv_kernel_size` must be odd and `conv_groups` divide `hidden_size`, but they are 4 and 1",
        ),
        ("deberta-v2", {"embedding_size": 4}, "`embedding_size` is 4 .* have the width of the layers"),
        ("deberta-v2", {"pooler_hidden_size": 4}, "`pooler_hidden_size` is 4 .* keeps its width"),
        ("deberta-v2", {"pos_att_type": "c2p"}, "`pos_att_type` must name c2p and p2c, .* but is 'c2p'"),
        ("deberta-v2", {"is_decoder": True}, "`is_decoder` is True .*: it was never trained to write"),
        ("modernbert", {"classifier_pooling": "last"}, "`classifier_pooling` must be cls or mean, but is 'last'"),
        ("modernbert", {"hidden_size": 6}, r"must be an even multiple of `num_attention_heads` \(2\), but is 6"),
        ("mpnet", {"is_decoder": True}, "`is_decoder` is True .*: it was never trained to write"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "`relative_attention_num_buckets` is 16 .* into so many"),
    ],
)
def test_what_is_refused(model_type: str, changes: dict[str, Any], text: str) -> None:
    own = {
        "distilbert": {"intermediate_size": None},
        "deberta-v2": {**PUBLISHED["deberta-v2"], "pooler_hidden_size": 8},
    }
    changes = {**own.get(model_type, {}), **changes}
    with pytest.raises(ConfigError, match=text):
        made(model_type, AutoModelForSequenceClassification, **changes)


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


@pytest.mark.parametrize("wrong", [29, -1])
def test_a_token_that_the_model_does_not_know_is_named(wrong: int) -> None:
    model = made("bert")
    assert model.config.vocab_size == 29
    with pytest.raises(
        ConfigError, match=f"token id {wrong} does not exist: this model knows 29 tokens, 0 to 28. .*resize"
    ):
        model(torch.tensor([[5, 6], [7, wrong]]))


OWN: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 6},
    "distilbert": {"intermediate_size": None, "hidden_dim": 12},
    "electra": {"embedding_size": 6},
    "modernbert": {"local_attention": 4, "pad_token_id": 0},
}


@pytest.mark.parametrize(
    "model_type", ["bert", "distilbert", "roberta", "mpnet", "electra", "albert", "modernbert", "deberta-v2"]
)
def test_positions_decide_and_slots_do_not(model_type: str) -> None:
    """Tokens in another order, each with the position it had, have the states they had: masks and distances follow."""
    own = OWN.get(model_type, {})
    if model_type == "deberta-v2":
        own = {**PUBLISHED["deberta-v2"], "pooler_hidden_size": 8, "position_buckets": 4}
    torch.manual_seed(0)
    model = made(model_type, **own, initializer_range=0.5)
    first = 2 if model_type in ("roberta", "mpnet") else 0
    ids, order = torch.tensor([[7, 3, 9, 4, 11, 2, 8, 6, 5]]), torch.tensor([4, 0, 7, 2, 8, 1, 6, 3, 5])
    where = first + torch.arange(9)[None]
    with torch.no_grad():
        straight = model(ids, position_ids=where).last_hidden_state
        shuffled = model(ids[:, order], position_ids=where[:, order]).last_hidden_state
        # Sums of a few values of order 1 in another order.
        torch.testing.assert_close(shuffled, straight[:, order], rtol=1e-5, atol=1e-5)
        assert float((model(ids[:, order]).last_hidden_state - straight[:, order]).abs().max()) > 1e-2


def test_a_genuine_token_that_equals_the_padding_id_has_a_position() -> None:
    """What is padding, the mask says: ids with the padding's id in between count on. The reference skips them."""
    torch.manual_seed(0)
    model = made("roberta", initializer_range=0.5)
    ids = torch.tensor([[7, 1, 9, 4]])
    with torch.no_grad():
        counted = model(ids).last_hidden_state
        assert torch.equal(counted, model(ids, torch.ones(1, 4)).last_hidden_state)
        assert torch.equal(counted, model(ids, position_ids=torch.tensor([[2, 3, 4, 5]])).last_hidden_state)
        reference_counts = model(ids, position_ids=torch.tensor([[2, 1, 3, 4]])).last_hidden_state
        assert float((counted - reference_counts).abs().max()) > 1e-2


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


def test_the_trained_head_of_deberta_is_loaded() -> None:
    """Published files hold it under the names of its training, without the weight that it shares."""
    rules = rules_for(family_of("deberta-v2", label="x"), "masked_lm")
    names = [f"lm_predictions.lm_head.{name}" for name in ("dense.weight", "dense.bias", "LayerNorm.weight", "bias")]
    assert rules.to_ours(names) == ["head.dense.weight", "head.dense.bias", "head.norm.weight", "head.projection.bias"]


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("electra", "discriminator_predictions.dense.weight"),
        ("albert", "sop_classifier.classifier.bias"),
        ("deberta-v2", "mask_predictions.dense.weight"),
        ("deberta-v2", "deberta.embeddings.position_embeddings.weight"),
    ],
)
def test_heads_of_pretraining_are_known_and_ignored(model_type: str, name: str) -> None:
    config = Config({"model_type": model_type})
    plan = rules_for(family_of(model_type, label="x"), "sequence_classification", config).plan([name])
    assert set(plan.ignored) == {name}


REFERENCES = {
    "deberta-v2": "DebertaV2Config",
    "albert": "AlbertConfig",
    "bert": "BertConfig",
    "distilbert": "DistilBertConfig",
    "electra": "ElectraConfig",
    "modernbert": "ModernBertConfig",
    "mpnet": "MPNetConfig",
    "roberta": "RobertaConfig",
    "xlm-roberta": "XLMRobertaConfig",
}


def read(**values: Any) -> Topology:
    config = Config(values, label="config.json of x")
    family = family_of(config.model_type, label="x")
    return topology(family, "masked_lm", Reader(config, label="config.json of x", family=family.NAME))


@pytest.mark.parametrize("family", REFERENCES)
def test_defaults_are_those_of_the_reference(family: str) -> None:
    """A configuration leaves out what equals the default; one that means something else is another network."""
    reference = getattr(transformers, REFERENCES[family])()
    defaults = family_of(family, label="x").DEFAULTS
    ours = {key: value for key, value in defaults.items() if value is not None and hasattr(reference, key)}
    assert ours == {key: getattr(reference, key) for key in ours}
    assert len(ours) > 10
    published = PUBLISHED.get(family, {}) if family == "deberta-v2" else {}  # whose defaults are not one network
    assert read(**{**reference.to_dict(), **published}) == read(model_type=family, **published)


# What published files hold beside the keys above.
PUBLISHED: dict[str, dict[str, Any]] = {
    "distilbert": {"sinusoidal_pos_embds": False, "tie_weights_": True},
    "roberta": {
        "gradient_checkpointing": False,
        "position_embedding_type": "absolute",
        "transformers_version": "4.6.0",
    },
    "xlm-roberta": {"output_past": True, "position_embedding_type": "absolute"},
    "deberta-v2": {
        "max_relative_positions": -1,
        "norm_rel_ebd": "layer_norm",
        "pooler_dropout": 0,
        "pooler_hidden_act": "gelu",
        "pooler_hidden_size": 1536,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "position_buckets": 256,
        "relative_attention": True,
        "share_att_key": True,
    },
    "electra": {"position_embedding_type": "absolute", "transformers_version": "4.2.2"},
    "mpnet": {"architectures": ["MPNetForMaskedLM"], "relative_attention_num_buckets": 32},
    "albert": {
        "down_scale_factor": 1,
        "gap_size": 0,
        "inner_group_num": 1,
        "layers_to_keep": [],
        "net_structure_type": 0,
        "num_hidden_groups": 1,
        "num_memory_blocks": 0,
    },
    "modernbert": {
        "cls_token_id": 50281,
        "deterministic_flash_attn": False,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "initializer_cutoff_factor": 2.0,
        "layer_norm_eps": 1e-05,
        "local_attention": 128,
        "local_rope_theta": 10000.0,
        "position_embedding_type": "absolute",
        "reference_compile": True,
        "repad_logits_with_grad": False,
        "sparse_pred_ignore_index": -100,
        "sparse_prediction": False,
    },
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_files_are_read(family: str) -> None:
    if family != "deberta-v2":
        assert read(model_type=family, **PUBLISHED[family]) == read(model_type=family)
    with pytest.raises(ConfigError, match="`attention_window` = 7"):
        read(model_type=family, **PUBLISHED[family], attention_window=7)


def test_the_published_deberta_with_a_convolution() -> None:
    """deberta-v2-xlarge, https://huggingface.co/microsoft/deberta-v2-xlarge: its keys, and the reference's count."""
    published = {
        **PUBLISHED["deberta-v2"],
        "attention_head_size": 64,
        "conv_act": "gelu",
        "conv_kernel_size": 3,
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "num_attention_heads": 24,
        "num_hidden_layers": 24,
        "pos_att_type": "p2c|c2p",
    }
    config = Config({"model_type": "deberta-v2", **published})
    network = build(read_topology(config, "masked_lm"))
    assert sum(part.numel() for part in network.parameters()) == 887_085_156


def test_a_deberta_that_does_not_say_what_it_is_is_refused() -> None:
    """Absent keys mean a network without distances, with places added: not the one that is built here."""
    with pytest.raises(ConfigError, match="`relative_attention` is False"):
        read(model_type="deberta-v2")
    for key in ("position_biased_input", "share_att_key", "pos_att_type"):
        rest = {name: value for name, value in PUBLISHED["deberta-v2"].items() if name != key}
        with pytest.raises(ConfigError, match=f"`{key}`"):
            read(model_type="deberta-v2", **rest)


def test_older_keys_of_modernbert_say_the_same() -> None:
    older = {"global_attn_every_n_layers": 2, "global_rope_theta": 70.0, "local_rope_theta": 30.0}
    newer = {
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 70.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 30.0},
        },
    }
    of_older = read(model_type="modernbert", num_hidden_layers=3, **older)
    assert of_older == read(model_type="modernbert", num_hidden_layers=3, **newer)
    assert of_older != read(model_type="modernbert", num_hidden_layers=3, **{**older, "local_rope_theta": 31.0})
