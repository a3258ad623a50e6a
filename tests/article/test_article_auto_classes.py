"""Every class that the article lists is there, and loads what the article says it is for, or says what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import plait
from plait.errors import ConfigError, OptionError
from plait.models.config import Config
from plait.models.files import new_model

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 29}
BERT = {"model_type": "bert", **SIZES}
LLAMA = {"model_type": "llama", **SIZES, "num_key_value_heads": 2}
T5 = {"model_type": "t5", "d_kv": 8, "d_ff": 40, "d_model": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 29}
TAPAS = {"model_type": "tapas", **SIZES, "type_vocab_sizes": [3, 8, 8, 2, 8, 8, 10]}
NLI = {"id2label": {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}}

# The article's list in its order: the class, and a configuration with the task that it loads.
TEXT: dict[str, tuple[dict[str, Any], str]] = {
    "AutoModel": (BERT, "base"),
    "AutoModelForCausalLM": (LLAMA, "causal_lm"),
    "AutoModelForMaskedLM": (BERT, "masked_lm"),
    "AutoModelForSeq2SeqLM": (T5, "seq2seq_lm"),
    "AutoModelForSequenceClassification": ({**BERT, "num_labels": 1}, "sequence_classification"),
    "AutoModelForTokenClassification": (BERT, "token_classification"),
    "AutoModelForQuestionAnswering": (BERT, "question_answering"),
    "AutoModelForMultipleChoice": (BERT, "multiple_choice"),
    "AutoModelForNextSentencePrediction": (BERT, "next_sentence"),
    "AutoModelForTextClassification": (BERT, "sequence_classification"),
    "AutoModelForTextToTextGeneration": (T5, "seq2seq_lm"),
    "AutoModelForTableQuestionAnswering": (TAPAS, "table_question_answering"),
    "AutoModelForZeroShotClassification": ({**BERT, **NLI}, "sequence_classification"),
    "AutoModelForTextGeneration": (LLAMA, "causal_lm"),
}
ABSENT = {
    "pictures": (
        *("AutoModelForImageClassification", "AutoModelForSemanticSegmentation", "AutoModelForObjectDetection"),
        *("AutoModelForVision2Seq", "AutoModelForVisionTextDualEncoder", "AutoModelForImageToImage"),
        *("AutoModelForImageClassificationWithAttention", "AutoModelForImageSegmentation"),
        "AutoModelForImageSuperResolution",
    ),
    "sound": (
        *("AutoModelForSpeechSeq2Seq", "AutoModelForAudioClassification", "AutoModelForCTC"),
        *("AutoModelForSpeechClassification", "AutoModelForSpeechToText", "AutoModelForTextToSpeech"),
    ),
}


@pytest.mark.parametrize("name", TEXT)
def test_a_class_loads_the_task_that_the_article_gives_it(name: str, tmp_path: Path) -> None:
    values, task = TEXT[name]
    torch.manual_seed(0)
    saved = new_model(Config(values), task=task)
    saved.save_pretrained(tmp_path)
    model = getattr(plait, name).from_pretrained(tmp_path)
    assert model.task == task
    assert all(torch.equal(value, saved.state_dict()[key]) for key, value in model.state_dict().items())
    assert getattr(plait, name).from_config(Config(values)).task == task


@pytest.mark.parametrize(("of", "name"), [(of, name) for of, names in ABSENT.items() for name in names])
def test_classes_without_models_say_so(of: str, name: str) -> None:
    made = getattr(plait, name)
    for use in (lambda: made.from_pretrained("org/name", device_map="auto"), lambda: made.from_config({}), made):
        with pytest.raises(OptionError) as caught:
            use()
        assert str(caught.value).startswith(
            f"{name} has no models yet: plait reads models of text, and none of {of}. For texts there are AutoModel,"
        )


def test_zero_shot_needs_a_model_of_entailment(tmp_path: Path) -> None:
    new_model(Config(BERT), task="sequence_classification").save_pretrained(tmp_path)
    with pytest.raises(
        OptionError, match="does not say whether a text entails another: its labels are LABEL_0, LABEL_1"
    ):
        plait.AutoModelForZeroShotClassification.from_pretrained(tmp_path)


def test_a_family_without_the_task_says_which_it_has() -> None:
    with pytest.raises(ConfigError, match="Bert has no table_question_answering head"):
        plait.AutoModelForTableQuestionAnswering.from_config(Config(BERT))
