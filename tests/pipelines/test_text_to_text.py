"""Summaries, translations and other texts from texts: what `generate` writes, text by text, with the task's prefix."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_folders import t5

from plait.errors import OptionError
from plait.models.auto import AutoModelForSeq2SeqLM, AutoTokenizer
from plait.pipelines import pipeline

TEXTS = ["hello", "the sun over the sea, and the wind of a long day", "yes"]
PREFIXES = {"summarization": "summarize: ", "translation_en_to_de": "translate English to German: "}


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return t5(tmp_path_factory.mktemp("t5"), minilm, PREFIXES)


def written(folder: Path, text: str, tokens: int) -> str:
    """What the model writes about one text, without any pipeline."""
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    return str(tokenizer.decode(model.eval().generate(ids, max_new_tokens=tokens)[0], skip_special_tokens=True))


@pytest.mark.parametrize(
    ("task", "key", "prefix"),
    [
        ("text2text-generation", "generated_text", ""),
        ("summarization", "summary_text", "summarize: "),
        ("translation_en_to_de", "translation_text", "translate English to German: "),
        ("translation_en_to_fr", "translation_text", ""),
        ("translation", "translation_text", ""),
    ],
)
def test_texts_are_written_with_the_prefix_of_the_task(folder: Path, task: str, key: str, prefix: str) -> None:
    write = pipeline(task, folder, batch_size=2)
    expected = [{key: written(folder, prefix + text, 6)} for text in TEXTS]
    assert len({row[key] for row in expected}) == 3, "answers that are alike would show nothing"
    assert write(TEXTS, max_new_tokens=6) == expected
    assert write(TEXTS[0], max_new_tokens=6) == expected[:1]


def test_several_answers_to_each_text(folder: Path) -> None:
    torch.manual_seed(0)
    drawn = {"do_sample": True, "temperature": 50.0, "top_k": 0, "num_return_sequences": 3}
    found = pipeline("summarization", folder)(TEXTS[:2], max_new_tokens=4, **drawn)
    assert [len(answers) for answers in found] == [3, 3]
    assert len({answer["summary_text"] for answer in found[0]}) == 3


def test_the_best_beams_of_each_text(folder: Path) -> None:
    options = {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 5}
    found = pipeline("text2text-generation", folder, batch_size=2)(TEXTS, **options)
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for text, answers in zip(TEXTS, found, strict=True):
        alone = model.generate(tokenizer(text, return_tensors="pt")["input_ids"], **options)
        texts = tokenizer.batch_decode(alone, skip_special_tokens=True)
        assert [answer["generated_text"] for answer in answers] == texts
        assert len(set(texts)) == 2


def test_long_texts_are_cut_where_it_is_said(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=6)
    write = pipeline("text2text-generation", AutoModelForSeq2SeqLM.from_pretrained(folder), tokenizer=tokenizer)
    cut = write("one two three four five six seven", truncation=True, max_new_tokens=5)
    assert cut == write("one two three four", max_new_tokens=5)  # and the two special tokens


def test_an_option_that_does_not_exist_is_named(folder: Path) -> None:
    with pytest.raises(OptionError, match="There is no generation option 'max_lenght'. Did you mean 'max_length'"):
        pipeline("translation", folder)("hello", max_lenght=5)
