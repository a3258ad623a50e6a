"""PretrainedModel:

its arguments and their contradictions, head masks, recall, freezing, base model, generation, files.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plait.errors import OptionError
from plait.models.auto import AutoModel, AutoModelForCausalLM
from plait.models.config import Config
from plait.models.files import new_model
from plait.models.model import PretrainedModel
from plait.models.outputs import Output
from plait.nn.cache import Cache
from plait.nn.loss import LossTerms

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "vocab_size": 29,
    "initializer_range": 0.3,
}


def model_of(family: str = "llama", task: str = "causal_lm", **values: Any) -> PretrainedModel:
    torch.manual_seed(0)
    extra: dict[str, Any] = {"num_key_value_heads": 2} if family != "bert" else {}
    return new_model(Config({"model_type": family, **SIZES, **extra, **values}), task=task).eval()


def ids(rows: int = 2, tokens: int = 7) -> Tensor:
    return torch.randint(1, 29, (rows, tokens), generator=torch.Generator().manual_seed(1))


# -- outputs
# ------------------------------------------------------------------------------------------------------------


def test_output_is_read_by_attribute_name_and_place() -> None:
    states, pooled = torch.zeros(1), torch.ones(1)
    fields = ("last_hidden_state", "pooler_output", "past_key_values", "hidden_states")
    output = Output(fields, {"last_hidden_state": states, "pooler_output": pooled, "hidden_states": None})
    assert output.last_hidden_state is output["last_hidden_state"] is output[0] is states
    assert output[1:] == (pooled,)
    assert output.to_tuple() == (states, pooled)
    assert list(output) == ["last_hidden_state", "pooler_output"]
    assert output.hidden_states is None
    assert output.past_key_values is None
    assert output.loss_terms is None
    with pytest.raises(AttributeError, match="no 'last_hidden_states'; it holds .* Did you mean 'last_hidden_state'"):
        _ = output.last_hidden_states
    with pytest.raises(IndexError):
        _ = output[2]
    with pytest.raises(KeyError):
        _ = output["hidden_states"]
    output.hidden_states = (states,)
    assert output["hidden_states"] == output[2] == (states,)


def test_output_survives_copy_and_pickle() -> None:
    output = model_of()(ids())
    for twin in (copy.copy(output), pickle.loads(pickle.dumps(output))):
        assert torch.equal(twin.logits, output.logits)
        assert twin.hidden_states is None  # nothing to recall from


@pytest.mark.parametrize(("family", "task"), [("bert", "base"), ("llama", "base"), ("llama", "causal_lm")])
def test_hidden_states_and_attentions_are_there_when_asked_afterwards(family: str, task: str) -> None:
    """As the article reads them: without having asked for them in the call."""
    model = model_of(family, task)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    with torch.no_grad():
        output = model(ids(), mask)
        asked = model(ids(), mask, output_hidden_states=True, output_attentions=True)
    assert "hidden_states" not in output
    assert len(output.hidden_states) == 5
    assert len(output.attentions) == 4
    for later, now in zip(
        (*output.hidden_states, *output.attentions), (*asked.hidden_states, *asked.attentions), strict=True
    ):
        assert torch.equal(later, now)
        assert not later.requires_grad
    assert output.hidden_states is output.hidden_states  # computed once
    assert model.train()(ids()).hidden_states is None  # dropout would draw again


def test_return_dict_false_is_a_tuple() -> None:
    model = model_of("bert", "base")
    states, pooled = model(ids(), return_dict=False)
    output = model(ids())
    assert torch.equal(states, output.last_hidden_state)
    assert torch.equal(pooled, output.pooler_output)
    model.config.return_dict = False
    assert isinstance(model(ids()), tuple)


# -- arguments
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "Give exactly one of input_ids and inputs_embeds."),
        (
            {"input_ids": ids(), "inputs_embeds": torch.zeros(2, 7, 16)},
            "Give exactly one of input_ids and inputs_embeds.",
        ),
        ({"input_ids": ids()[0]}, "`input_ids` must have the shape (B, T), but has (7,)."),
        (
            {"inputs_embeds": torch.zeros(2, 7, 15)},
            "`inputs_embeds` must have the shape (B, T, 16), but has (2, 7, 15).",
        ),
        (
            {"input_ids": ids(), "attention_mask": torch.ones(2, 1, 7, 7)},
            "`attention_mask` must have the shape (B, T) with 0 at padding, but has (2, 1, 7, 7). Masks of queries by",
        ),
        (
            {"input_ids": ids(), "attention_mask": torch.ones(2, 6)},
            "`attention_mask` must have the shape (2, 7), but has (2, 6).",
        ),
        (
            {"input_ids": ids(), "attention_mask": torch.full((2, 7), -1e9)},
            "`attention_mask` holds negative numbers. It must be 1 at tokens and 0 at padding.",
        ),
        (
            {"input_ids": ids(), "position_ids": torch.arange(6)[None]},
            "`position_ids` must have the shape (2, 7), but has (1, 6).",
        ),
        (
            {"input_ids": ids(), "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3]])},
            "`position_ids` must increase along each row",
        ),
        (
            {"input_ids": ids(), "token_type_ids": torch.ones(2, 7).long()},
            "`token_type_ids` other than 0 were given, but this model has no segments. Leave them out.",
        ),
        (
            {"input_ids": ids(), "past_key_values": ((torch.zeros(1),),)},
            "`past_key_values` must be the cache that an earlier call returned, but is a tuple.",
        ),
        (
            {"input_ids": ids(), "labels": ids(), "logits_to_keep": 1},
            "`logits_to_keep` leaves out scores that the loss needs: give either it or labels.",
        ),
        (
            {"input_ids": ids(), "start_positions": ids()},
            "`start_positions` was given, but this model of text generation takes labels.",
        ),
        (
            {"input_ids": ids(), "head_mask": torch.ones(3, 4)},
            "`head_mask` must have the shape (heads,) or (4, heads), but has (3, 4).",
        ),
        ({"input_ids": [[1, 2]]}, "`input_ids` must be a tensor, but is a list. Use return_tensors='pt'."),
        (
            {"input_ids": ids(), "labels": [[1, 2, 3]]},
            "`labels` must be a tensor, but is a list. Use torch.tensor(…).",
        ),
        ({"input_ids": {"input_ids": ids()}}, "`input_ids` must be a tensor, but is a dict. Call model(**inputs)."),
        (
            {"input_ids": ids(), "attention_mask": [[1, 1, 1]]},
            "`attention_mask` must be a tensor, but is a list. Use return_tensors='pt'.",
        ),
        ({"input_ids": ids(), "head_mask": torch.ones(3)}, "`head_mask` names 3 heads, but the layers have 4."),
    ],
)
def test_contradictions(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        model_of()(**arguments)
    assert text in str(caught.value)


def test_arguments_of_other_tasks() -> None:
    with pytest.raises(OptionError, match="this model of the bare network has no loss; load the AutoModelFor… of your"):
        model_of("bert", "base")(ids(), labels=ids())
    with pytest.raises(OptionError, match="`use_cache` needs a causal network"):
        model_of("bert", "base")(ids(), use_cache=True)
    with pytest.raises(OptionError, match="`end_positions` was given alone"):
        model_of("bert", "question_answering")(ids(), end_positions=torch.tensor([1, 2]))
    with pytest.raises(OptionError, match=r"takes input_ids of shape \(B, choices, T\), but was given \(2, 7\)"):
        model_of("bert", "multiple_choice")(ids())
    with pytest.raises(TypeError, match="attention_masks"):
        model_of()(ids(), attention_masks=ids())


def test_segments_of_zeros_mean_nothing_to_a_family_without_them() -> None:
    model = model_of()
    assert torch.equal(model(ids(), token_type_ids=torch.zeros(2, 7).long()).logits, model(ids()).logits)


def test_positions_need_no_batch_dimension() -> None:
    model = model_of()
    assert torch.equal(model(ids(), position_ids=torch.arange(7)).logits, model(ids()).logits)


def test_packed_rows_are_refused_and_padding_in_between_is_not() -> None:
    model = model_of()
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1]])
    positions = torch.tensor([[0, 0, 0, 1, 2, 3, 4]])  # as generation counts them
    expected = model(ids(1)[:, 2:]).logits
    found = model(ids(1), mask, position_ids=positions).logits[:, 2:]
    assert float((found - expected).detach().abs().max()) <= 1e-5 * float(expected.detach().abs().max())


def test_embeddings_of_another_dtype_go_in_and_out() -> None:
    """The article puts a float32 layer in front of a network and one behind, whatever the dtype of the file."""
    model = model_of("llama", "base").to(torch.bfloat16)
    vectors = torch.randn(2, 1, 16, requires_grad=True)
    states = model(inputs_embeds=vectors).last_hidden_state
    assert states.dtype == torch.float32
    assert torch.equal(states, model(inputs_embeds=vectors.bfloat16()).last_hidden_state.float())
    states.sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.abs().max() > 0
    assert model(ids()).last_hidden_state.dtype == torch.bfloat16


def test_logits_to_keep() -> None:
    model = model_of()
    # The last layer computes these positions alone: its sums, of a few values of order 1, are taken in another order.
    torch.testing.assert_close(model(ids(), logits_to_keep=2).logits, model(ids()).logits[:, -2:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("family", "task"), [("llama", "causal_lm"), ("bert", "base")])
def test_a_model_without_numbers_says_what_shape_comes_out(family: str, task: str) -> None:
    model, mask = model_of(family, task).to("meta"), torch.ones(2, 7, device="meta")
    with torch.no_grad():
        for given in (mask, mask.long(), None):
            found, expected = model(ids().to("meta"), given)[0], model_of(family, task)(ids())[0]
            assert found.is_meta
            assert found.shape == expected.shape


@pytest.mark.parametrize("given", [-1, 2.0, torch.tensor([1, 2])])
def test_what_is_no_number_of_logits_to_keep(given: Any) -> None:
    sizes = {"d_model": 16, "d_ff": 24, "d_kv": 4, "num_heads": 4, "num_layers": 1, "decoder_start_token_id": 0}
    pair = new_model(Config({"model_type": "t5", "vocab_size": 90, **sizes}), task="seq2seq_lm").eval()
    for model, more in ((model_of(), {}), (pair, {"decoder_input_ids": ids()})):
        with pytest.raises(OptionError) as error:
            model(ids(), logits_to_keep=given, **more)
        text = f"`logits_to_keep` must be a number of last positions, or 0 for all, but is {given!r}."
        assert str(error.value) == text


def test_a_language_model_returns_its_cache_outside_training() -> None:
    model = model_of()
    assert "past_key_values" not in model(ids())  # gradients are on
    with torch.no_grad():
        output = model(ids())
        assert output.past_key_values.length == 7
        assert "past_key_values" not in model(ids(), use_cache=False)
        assert "past_key_values" not in model.train()(ids())
        assert "past_key_values" not in model_of("llama", "base")(ids())
        assert model_of("llama", "base")(ids(), use_cache=True).past_key_values.length == 7
        model.eval().config.use_cache = False
        assert "past_key_values" not in model(ids())


def test_a_cache_that_is_given_is_appended_to() -> None:
    model = model_of()
    with torch.no_grad():
        first = model(ids()[:, :4], past_key_values=Cache(4))
        second = model(ids()[:, 4:], past_key_values=first.past_key_values, use_cache=False)
        assert "past_key_values" not in second
        assert first.past_key_values.length == 7
        whole = model(ids()).logits
    assert float((second.logits - whole[:, 4:]).abs().max()) <= 1e-5 * float(whole.abs().max())


# -- head masks
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_head_mask_silences_heads(family: str) -> None:
    """The same as a zero in the columns of the output projection that read the head."""
    model, cut = model_of(family, "base"), model_of(family, "base")
    mask = torch.ones(4, 4)
    mask[1, 2], mask[3, 0] = 0.0, 0.5
    with torch.no_grad():
        cut.layers[1].attention.output.weight[:, 8:12] = 0
        cut.layers[3].attention.output.weight[:, 0:4] *= 0.5
        masked = model(ids(), head_mask=mask, output_attentions=True)
        expected = cut(ids())
        plain = model(ids())
        assert torch.equal(model(ids()).last_hidden_state, plain.last_hidden_state)  # nothing stays behind
    # Weights that are asked for are made by another kernel: float32 rounding, some layers on.
    assert float((masked.last_hidden_state - expected.last_hidden_state).abs().max()) < 1e-5
    assert float((masked.last_hidden_state - plain.last_hidden_state).abs().max()) > 1e-3
    assert masked.attentions[1][:, 2].abs().max() == 0
    assert torch.allclose(masked.attentions[3][:, 0].sum(-1), torch.tensor(0.5))


def test_a_head_mask_for_all_layers() -> None:
    model = model_of()
    row = torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert torch.equal(model(ids(), head_mask=row).logits, model(ids(), head_mask=row.expand(4, 4)).logits)


# -- what one does with a model
# -------------------------------------------------------------------------------------------


def trainable(model: PretrainedModel) -> set[str]:
    return {name for name, part in model.network.named_parameters() if part.requires_grad}


def test_freeze_and_unfreeze() -> None:
    model = model_of("bert", "sequence_classification")
    everything = trainable(model)
    assert trainable(model.freeze()) == {"head.projection.weight", "head.projection.bias"}
    last = trainable(model.unfreeze(last=2))
    assert last == {
        name for name in everything if name.startswith(("stack.layers.2.", "stack.layers.3.", "pool.", "head."))
    }
    assert trainable(model.freeze().unfreeze(last=0)) == {
        name for name in everything if name.startswith(("pool.", "head."))
    }
    assert trainable(model.unfreeze()) == everything
    assert trainable(model_of("llama", "base").freeze()) == set()
    with pytest.raises(OptionError, match="`last` must be between 0 and the 4 layers of the model, but is 5."):
        model.unfreeze(last=5)


def test_a_shared_head_stays_frozen_with_its_embedding() -> None:
    model = model_of(tie_word_embeddings=True)
    assert trainable(model.freeze()) == set()
    found = trainable(model.unfreeze(last=1))
    assert found == {
        name for name in trainable(model.unfreeze()) if name.startswith(("stack.layers.3.", "stack.norm."))
    }


def test_counts() -> None:
    model = model_of(tie_word_embeddings=True)
    # embedding, four layers of (q, k, v, o, three MLP matrices, two norms), norm; the head is the embedding
    layer = 16 * 16 + 2 * 8 * 16 + 16 * 16 + 3 * 16 * 24 + 2 * 16
    assert model.num_parameters() == 29 * 16 + 4 * layer + 16
    assert model.get_memory_footprint() == 4 * model.num_parameters()
    assert model.unfreeze().freeze().unfreeze(last=1).num_parameters(only_trainable=True) == layer + 16
    assert len(model.layers) == 4
    assert model.get_input_embeddings().weight.shape == (29, 16)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)


def test_the_base_model_shares_everything_but_the_head() -> None:
    model = model_of("bert", "sequence_classification")
    base = model.base_model
    output = base(ids())
    assert set(output) == {"last_hidden_state", "pooler_output"}
    assert {id(part) for part in base.parameters()} < {id(part) for part in model.parameters()}
    assert len(list(model.parameters())) - len(list(base.parameters())) == 2
    assert base.base_model is base
    assert model.network.head is not None
    assert not base.training
    llama = model_of("llama", "sequence_classification").base_model(ids())
    assert set(llama) == {"last_hidden_state"}


def test_generate_is_for_language_models() -> None:
    model = model_of(tie_word_embeddings=True)
    with torch.no_grad():
        expected = ids()
        for _ in range(3):
            expected = torch.cat(
                (expected, model(expected, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)), dim=1
            )
    assert torch.equal(model.generate(ids(), max_new_tokens=3, eos_token_id=None), expected)
    assert torch.equal(model.generate(input_ids=ids(), max_new_tokens=3, eos_token_id=None), expected)
    with pytest.raises(
        OptionError, match="Only a language model generates; this one is for the bare network. Load AutoModel"
    ):
        model_of("llama", "base").generate(ids())
    with pytest.raises(
        OptionError, match=r"`input_ids` must be a tensor \(B, T\), but is a list. Use return_tensors='pt'"
    ):
        model.generate([[1, 2]])


def test_next_logits_is_what_generation_needs() -> None:
    from plait.generate import LanguageModel

    model = model_of().to(torch.bfloat16)
    assert isinstance(model, LanguageModel)
    with torch.no_grad():
        cache = model.new_cache(2, capacity=16)
        logits = model.next_logits(ids(), cache=cache)
        assert logits.dtype == torch.float32
        # The last layer is computed for one position alone: roundings of bfloat16, 2^-9 each, fall otherwise there.
        expected = model(ids(), use_cache=False).logits[:, -1].float()
        assert float((logits - expected).norm() / expected.norm()) < 0.01
    assert (cache.length, cache.capacity) == (7, 16)


def test_files_round_trip_in_every_dtype(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = model_of(dtype=None).to(dtype)
        folder = tmp_path / str(dtype)
        model.save_pretrained(folder)
        again = AutoModelForCausalLM.from_pretrained(folder)
        assert (again.dtype, again.config.dtype) == (dtype, str(dtype).removeprefix("torch."))
        for (name, mine), other in zip(again.named_parameters(), model.named_parameters(), strict=True):
            assert torch.equal(mine, other[1]), name
        assert again.generation_config is not None
        assert again.generation_config.eos_token_id == 2


def test_saving_a_model_without_numbers(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="This model is on 'meta' and has no weights to save"):
        AutoModel.from_config(Config(model_type="bert", **SIZES), device_map="meta").save_pretrained(tmp_path)


def test_a_model_can_be_copied(tmp_path: Path) -> None:
    model = model_of("bert", "sequence_classification")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.network.head.projection.bias.add_(1)
        assert float((twin(ids()).logits - model(ids()).logits - 1).abs().max()) < 1e-6


def test_loss_terms_travel_with_the_output() -> None:
    model = model_of("llama", "causal_lm")
    labels = ids().clone()
    labels[0, :3] = -100
    output = model(ids(), labels=labels)
    assert isinstance(output.loss_terms, LossTerms)
    assert (
        float(output.loss_terms.count) == 4 + 6
    )  # words 3 to 6 of row 0, 1 to 6 of row 1: the first has nothing before
    assert "loss_terms" not in output
    assert output[0] is output.loss
