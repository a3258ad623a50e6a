"""Arguments that people bring from elsewhere: what is taken, what has no effect and says so, what is named as wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_sizes import TINY

from plait.errors import OptionError
from plait.models import auto
from plait.models.auto import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTableQuestionAnswering,
    AutoTokenizer,
)
from plait.models.config import Config

T5 = {"vocab_size": 17, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2}


def ids(*shape: int) -> torch.Tensor:
    return torch.ones(shape or (2, 5), dtype=torch.long)


# -- loading -----------------------------------------------------------------------------------------------------------


def test_a_configuration_is_read_from_where_a_reference_says(bert: Path, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(bert)
    config.update({"id2label": {0: "no", 1: "perhaps", 2: "yes"}})
    config.save_pretrained(tmp_path)
    for given in (tmp_path, str(tmp_path)):
        model = AutoModelForSequenceClassification.from_pretrained(bert, config=given, hidden_dropout_prob=0.0)
        assert model.config.id2label[2] == "yes"
        assert model.config.hidden_dropout_prob == 0.0


class _Foreign:
    def to_dict(self) -> dict[str, Any]:
        return {"model_type": "bert"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("bert", "but this is a str. Read it with AutoConfig.from_pretrained('bert')."),
        (_Foreign(), "A configuration or a dictionary is needed, but this is a _Foreign. Give its to_dict()."),
        (7, "A configuration or a dictionary is needed, but this is a int."),
    ],
)
def test_what_is_no_configuration(bert: Path, given: Any, text: str) -> None:
    with pytest.raises(OptionError) as caught:
        AutoModel.from_config(given)
    assert str(caught.value).endswith(text)
    if not isinstance(given, str):
        with pytest.raises(OptionError, match="A configuration or a dictionary is needed"):
            AutoModel.from_pretrained(bert, config=given)


@pytest.mark.parametrize("name", ["AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoConfig"])
def test_a_class_that_is_called_says_what_to_call(name: str) -> None:
    with pytest.raises(OptionError, match=f"use {name}.from_pretrained"):
        getattr(auto, name)(Config(model_type="bert"), torch_dtype="auto")


def test_arguments_of_elsewhere_without_effect(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="plait.models"):
        AutoModel.from_pretrained(bert, mirror="tuna", _fast_init=True, use_flash_attention_2=True, code_revision=None)
    said = [record.getMessage() for record in caplog.records if "has no effect" in record.getMessage()]
    assert said == [
        "_fast_init has no effect: no number is drawn for what is loaded.",
        "mirror has no effect: the environment variable HF_ENDPOINT names a mirror, PLAIT_HUBS other hubs.",
        "use_flash_attention_2 has no effect: torch's attention chooses its kernel.",
    ]
    with pytest.raises(OptionError, match="key 'miror'. Did you mean 'mirror'"):
        AutoModel.from_pretrained(bert, miror="tuna")


def test_arguments_about_weights_where_there_are_none(
    bert: Path, minilm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="plait.models"):
        assert AutoConfig.from_pretrained(bert, torch_dtype="bfloat16", device_map="auto").dtype == "float32"
        AutoTokenizer.from_pretrained(minilm, device_map="auto")
        AutoConfig.from_pretrained(bert, revision=None, local_files_only=True)
    said = [record.getMessage() for record in caplog.records if "no effect" in record.getMessage()]
    assert said == [
        "torch_dtype, device_map: no effect on a configuration, which has no weights.",
        "device_map: no effect on a tokenizer, which has no weights.",
    ]


def test_everything_on_disk(bert: Path) -> None:
    model, whole = AutoModel.from_pretrained(bert, device_map="disk"), AutoModel.from_pretrained(bert)
    assert set(model.hf_device_map.values()) == {"disk"}
    with torch.no_grad():
        assert torch.equal(model(ids()).last_hidden_state, whole(ids()).last_hidden_state)


def test_new_weights_are_float32_and_the_configuration_says_so(caplog: pytest.LogCaptureFixture) -> None:
    values = {"model_type": "bert", "torch_dtype": "bfloat16", **TINY}
    config = Config(values)
    with caplog.at_level("INFO", logger="plait.models"):
        model = AutoModel.from_config(config)
    assert (model.dtype, model.config.dtype, config.dtype) == (torch.float32, "float32", "bfloat16")
    assert (
        "dtype 'bfloat16' of the configuration is that of its checkpoint; new weights are float32. dtype='bfloat16' "
        "makes others."
    ) in caplog.text
    asked = AutoModel.from_config(config, dtype="bfloat16")
    assert (asked.dtype, asked.config.dtype) == (torch.bfloat16, "bfloat16")


# -- calling -----------------------------------------------------------------------------------------------------------


def test_a_name_that_no_forward_takes() -> None:
    model = AutoModel.from_config({"model_type": "bert", **TINY})
    with pytest.raises(OptionError) as caught:
        model(ids(), attention_maks=ids())
    text = str(caught.value)
    assert text.startswith("The model takes no 'attention_maks'. Did you mean 'attention_mask'? It takes input_ids, ")
    assert text.endswith("; leave out the rest.")
    with pytest.raises(OptionError, match="takes no 'special_tokens_mask'"):
        model(input_ids=ids(), special_tokens_mask=ids())
    both = AutoModelForSeq2SeqLM.from_config({"model_type": "t5", **T5})
    with pytest.raises(OptionError, match="takes no 'decoder_inputs_ids'. Did you mean 'decoder_input_ids'"):
        both(ids(), decoder_inputs_ids=ids())  # type: ignore[call-arg]
    # What its forward hands on is known as well.
    table = AutoModelForTableQuestionAnswering.from_config({"model_type": "tapas", **TINY})
    with pytest.raises(OptionError, match="takes no 'token_types_ids'. Did you mean 'token_type_ids'"):
        table(ids(), token_types_ids=ids())  # type: ignore[call-arg]


def test_a_forward_of_ones_own_takes_what_it_likes() -> None:
    made = AutoModel.from_config({"model_type": "bert", **TINY})

    class Own(type(made)):  # type: ignore[misc]
        def forward(self, input_ids: torch.Tensor, *, twice: bool = False) -> Any:
            states = super().forward(input_ids).last_hidden_state
            return 2 * states if twice else states

    made.__class__ = Own
    made.eval()
    assert torch.equal(made(ids(), twice=True), 2 * made(ids()))
    with pytest.raises(OptionError, match="takes no 'twize'. Did you mean 'twice'"):
        made(ids(), twize=True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"input_ids": ids().float()},
            "`input_ids` must be whole numbers, but are float32. Convert them with .long().",
        ),
        (
            {"input_ids": ids(), "token_type_ids": ids().double()},
            "`token_type_ids` must be whole numbers, but are float64. Convert them with .long().",
        ),
        (
            {"input_ids": ids(), "token_type_ids": ids() * 2},
            "`token_type_ids` hold 2, but this model has segments 0 to 1. Leave them out where the tokenizer is "
            "another model's.",
        ),
        ({"input_ids": ids(), "token_type_ids": ids() * -1}, "`token_type_ids` hold -1, but this model has segments"),
    ],
)
def test_ids_that_cannot_be(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        AutoModel.from_config({"model_type": "bert", **TINY})(**arguments)
    assert text in str(caught.value)


def test_ids_of_two_stacks_are_whole_numbers() -> None:
    model = AutoModelForSeq2SeqLM.from_config({"model_type": "t5", **T5})
    with pytest.raises(OptionError, match="`input_ids` must be whole numbers, but are float32"):
        model(ids().float(), labels=ids())
    with pytest.raises(OptionError, match="`decoder_input_ids` must be whole numbers, but are float32"):
        model(ids(), decoder_input_ids=ids().float())


def test_ids_of_32_bits_are_as_good() -> None:
    model = AutoModelForCausalLM.from_config({"model_type": "llama", **TINY}).eval()
    assert torch.equal(model(ids().int()).logits, model(ids()).logits)
