"""Answers equal to transformers' pipelines on tiny random models, batched here and one by one there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_folders import bert, llama

from plait.errors import OptionError
from plait.models.auto import AutoModelForSequenceClassification, AutoTokenizer
from plait.pipelines import ALIASES, TASKS, pipeline
from plait.pipelines.question_answering import best_spans
from plait.pipelines.token_classification import grouped

TEXTS = [
    "Plait reads a table.",
    "A much longer sentence about weather, wind and the sun over the sea, which ends here.",
    "Yes!",
    "你好, naïve Zürich",
]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    return lambda kind, **values: bert(tmp_path_factory.mktemp(kind), minilm, kind, **values)


@pytest.fixture(scope="module")
def decoder(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("llama"), smollm2)


def same(got: Any, expected: Any, where: str = "") -> None:
    """Equal but for float32: logits of a few units are summed in another order when rows share a batch."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys(), where
        for key in expected:
            same(got[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(got) == len(expected), where
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            same(one, other, f"{where}[{index}]")
    elif isinstance(expected, float) or hasattr(expected, "dtype"):
        assert got == pytest.approx(float(expected), rel=1e-4, abs=1e-5), where
    else:
        assert got == expected, where


def both(task: str, folder: Path, **options: Any) -> tuple[Any, Any]:
    return pipeline(task, folder, batch_size=3, **options), transformers.pipeline(task, str(folder), **options)


@pytest.mark.parametrize(
    "values",
    [
        {"num_labels": 3, "id2label": {0: "bad", 1: "fair", 2: "good"}},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression"},
    ],
)
def test_text_classification(make: Make, values: dict) -> None:
    ours, theirs = both("text-classification", make("BertForSequenceClassification", **values))
    same(ours(TEXTS), theirs(TEXTS))
    same(ours(TEXTS[0]), theirs(TEXTS[0]))
    same(ours(TEXTS, top_k=2), theirs(TEXTS, top_k=2))
    same(ours(TEXTS[1], top_k=None), theirs(TEXTS[1], top_k=None))
    assert ours(TEXTS[1], return_all_scores=True) == ours(TEXTS[1], top_k=None)
    same(ours(TEXTS, function_to_apply="sigmoid"), theirs(TEXTS, function_to_apply="sigmoid"))
    pair = {"text": TEXTS[0], "text_pair": TEXTS[2]}
    same(ours([pair, *TEXTS[:1]]), [theirs(pair), theirs(TEXTS[0])[0]])
    same(ours(iter(TEXTS)), theirs(TEXTS))
    assert ours([]) == []


def test_long_texts_are_cut_when_asked(make: Make) -> None:
    ours, theirs = both("sentiment-analysis", make("BertForSequenceClassification"))
    long = "word " * 700
    same(ours(long, truncation=True), theirs(long, truncation=True))
    same(ours(long, truncation=True, max_length=20), theirs(long, truncation=True, max_length=20))


@pytest.mark.parametrize("options", [{}, {"multi_label": True}, {"hypothesis_template": "It is about {}!"}])
def test_zero_shot_classification(make: Make, options: dict) -> None:
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    names = {"id2label": labels, "label2id": {name: index for index, name in labels.items()}}
    ours, theirs = both("zero-shot-classification", make("BertForSequenceClassification", **names))
    same(
        ours(TEXTS, ["weather", "music", "tables"], **options), theirs(TEXTS, ["weather", "music", "tables"], **options)
    )
    same(
        ours(TEXTS[0], candidate_labels="wind, sea", **options),
        theirs(TEXTS[0], candidate_labels="wind, sea", **options),
    )
    same(ours(TEXTS[0], ["wind"], **options), theirs(TEXTS[0], ["wind"], **options))
    chinese = ["财经", "体育", "娱乐"]
    # In the order of their scores; where two agree to the last bits it is open.
    assert sorted(ours("今天", "财经，体育、娱乐", **options)["labels"]) == sorted(chinese)
    same(ours("今天", "财经，体育、娱乐", **options), ours("今天", chinese, **options))


def test_fill_mask(make: Make) -> None:
    ours, theirs = both("fill-mask", make("BertForMaskedLM"))
    one, two = "The [MASK] shines.", "A [MASK] over the [MASK], they say."
    same(ours(one), theirs(one))
    same(ours(two, top_k=2), theirs(two, top_k=2))
    same(ours([one, two, one], top_k=3), theirs([one, two, one], top_k=3))
    same(ours(one, targets=["sun", "moon", "sea"]), theirs(one, targets=["sun", "moon", "sea"]))


def test_feature_extraction(make: Make) -> None:
    ours, theirs = both("feature-extraction", make("BertModel"))
    same(ours(TEXTS), theirs(TEXTS))
    tensor = ours(TEXTS[0], return_tensors=True)
    torch.testing.assert_close(tensor, theirs(TEXTS[0], return_tensors=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"aggregation_strategy": "simple"}, {"ignore_labels": []}])
def test_token_classification(make: Make, options: dict) -> None:
    labels = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
    ours, theirs = both("ner", make("BertForTokenClassification", id2label=labels), **options)
    same(ours(TEXTS), theirs(TEXTS))
    same(ours(TEXTS[3]), theirs(TEXTS[3]))


def test_runs_of_a_label_are_joined_by_hand() -> None:
    names = ["B-PER", "I-PER", "B-PER", "I-LOC", "I-LOC", "O", "LOC", "I-LOC"]
    runs = grouped([{"entity": name} for name in names])
    assert [[item["entity"] for item in run] for run in runs] == [
        ["B-PER", "I-PER"], ["B-PER"], ["I-LOC", "I-LOC"], ["O"], ["LOC", "I-LOC"],
    ]  # fmt: skip


def test_spans_against_all_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    for longest in (1, 3, 20):
        start, end = torch.rand(12, generator=generator), torch.rand(12, generator=generator)
        every = {
            (first, last): float(start[first] * end[last])
            for first in range(12)
            for last in range(first, min(first + longest, 12))
        }
        expected = sorted(every.items(), key=lambda item: item[1], reverse=True)[:4]
        assert [(value, first, last) for (first, last), value in expected] == best_spans(
            start, end, count=4, longest=longest
        )


def test_question_answering_finds_the_best_span_of_all_windows(make: Make) -> None:
    """There is no such pipeline to compare with; every window and pair of places is tried by hand instead."""
    folder = make("BertForQuestionAnswering")
    ours = pipeline("question-answering", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder)
    question, context = "Where does the wind blow?", " ".join(TEXTS * 12)
    windows = tokenizer(
        question, context, truncation="only_second", max_length=64, stride=16, return_overflowing_tokens=True,
        return_offsets_mapping=True, padding=False,
    )  # fmt: skip
    best: dict[tuple[int, int], float] = {}
    for index in range(len(windows["input_ids"])):
        inside = [part == 1 for part in windows.sequence_ids(index)]
        inputs = {name: torch.tensor([windows[name][index]]) for name in ("input_ids", "token_type_ids")}
        with torch.no_grad():
            output = model(**inputs)
        masked = [
            logits[0].masked_fill(~torch.tensor(inside), -1e9).softmax(0)
            for logits in (output.start_logits, output.end_logits)
        ]
        offsets = windows["offset_mapping"][index]
        for first in range(len(inside)):
            for last in range(first, min(first + 5, len(inside))):
                place = (offsets[first][0], offsets[last][1])
                best[place] = max(best.get(place, 0.0), float(masked[0][first] * masked[1][last]))
    ranked = sorted(best.items(), key=lambda item: item[1], reverse=True)[:3]
    expected = [{"score": s, "start": a, "end": b, "answer": context[a:b]} for (a, b), s in ranked]
    options = {"max_answer_len": 5, "max_seq_len": 64, "doc_stride": 16}
    assert len(windows["input_ids"]) > 5
    same(ours(question=question, context=context, top_k=3, **options), expected)
    same(ours({"question": question, "context": context}, **options), expected[0])
    same(ours(question=[question] * 2, context=context, **options), [expected[0]] * 2)


def test_text_generation(decoder: Path) -> None:
    ours, theirs = both("text-generation", decoder, max_new_tokens=12, do_sample=False)
    same(ours(TEXTS), theirs(TEXTS))
    same(ours(TEXTS[0]), theirs(TEXTS[0]))
    same(ours(TEXTS[:2], return_full_text=False), theirs(TEXTS[:2], return_full_text=False))
    same(ours(TEXTS[0], return_tensors=True), theirs(TEXTS[0], return_tensors=True))
    torch.manual_seed(1)
    drawn = ours(TEXTS[0], do_sample=True, num_return_sequences=3, return_full_text=False)
    assert len({answer["generated_text"] for answer in drawn}) == 3


def test_chats(decoder: Path) -> None:
    ours, theirs = both("text-generation", decoder, max_new_tokens=8, do_sample=False)
    chat = [{"role": "user", "content": "Hello"}]
    begun = [*chat, {"role": "assistant", "content": "Well"}]
    same(ours(chat), theirs(chat))
    same(ours(begun), theirs(begun))
    same(ours([chat, chat]), theirs([chat, chat]))
    assert ours(chat)[0]["generated_text"][-1]["role"] == "assistant"


def test_stop_strings_reach_generation(decoder: Path) -> None:
    ours = pipeline("text-generation", decoder, max_new_tokens=12)
    whole = ours(TEXTS[0], return_full_text=False)[0]["generated_text"]
    stop = whole[len(whole) // 2]
    cut = ours(TEXTS[0], return_full_text=False, stop_strings=stop)[0]["generated_text"]
    assert stop in cut
    assert whole.startswith(cut)
    assert len(cut) < len(whole)


def test_loaded_models_and_other_names(make: Make) -> None:
    folder = make("BertForSequenceClassification")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    given = pipeline("sentiment-analysis", model, tokenizer=tokenizer, device=-1, top_k=None)
    same(given(TEXTS[0]), pipeline("text-classification", str(folder), tokenizer=str(folder))(TEXTS[0], top_k=None))
    assert given.device == torch.device("cpu")
    assert set(ALIASES.values()) <= set(TASKS)


def test_the_task_follows_from_the_model(make: Make, decoder: Path) -> None:
    folder = make("BertForSequenceClassification")
    found = pipeline(model=folder, framework="pt", use_fast=False)
    assert found(TEXTS[0]) == pipeline("text-classification", folder)(TEXTS[0])
    assert found.tokenizer.is_fast is False
    loaded = pipeline(model=AutoModelForSequenceClassification.from_pretrained(folder), tokenizer=folder)
    assert loaded(TEXTS[0]) == found(TEXTS[0])
    kinds = {
        "BertForMaskedLM": "FillMaskPipeline",
        "BertForTokenClassification": "TokenClassificationPipeline",
        "BertForQuestionAnswering": "QuestionAnsweringPipeline",
        "BertModel": "FeatureExtractionPipeline",
    }
    assert {kind: type(pipeline(model=make(kind))).__name__ for kind in kinds} == kinds
    assert type(pipeline(model=decoder)).__name__ == "TextGenerationPipeline"
    with pytest.raises(
        OptionError, match=r"does not say what it is for\. Name the task, one of feature-extraction, fill"
    ):
        pipeline(model=make("BertForMultipleChoice"))
    with pytest.raises(OptionError, match=r"pipeline\(\) needs a task, such as 'text-generation', a model, or both"):
        pipeline()
    with pytest.raises(OptionError, match="framework must be 'pt', but is 'tf'"):
        pipeline(model=folder, framework="tf")


def test_errors_name_the_cause(make: Make, decoder: Path) -> None:
    with pytest.raises(OptionError, match="no pipeline for 'text-clasification'. Did you mean 'text-classification'"):
        pipeline("text-clasification", "x")
    with pytest.raises(OptionError, match=r"pipeline\('ner'\) needs a model"):
        pipeline("ner")
    folder = make("BertForSequenceClassification")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with pytest.raises(OptionError, match="does not know its tokenizer: pass tokenizer="):
        pipeline("text-classification", model)
    with pytest.raises(OptionError, match="`revision` is for loading a model, but this one is loaded already"):
        pipeline("text-classification", model, tokenizer=folder, revision="main")
    with pytest.raises(OptionError, match="has no option 'topk'. Did you mean 'top_k'"):
        pipeline("text-classification", folder, topk=1)
    classify = pipeline("text-classification", folder)
    with pytest.raises(
        OptionError, match="must be one of softmax, sigmoid, none, but is 'softmx'. Did you mean 'softmax'"
    ):
        classify("a", function_to_apply="softmx")
    with pytest.raises(OptionError, match="a text or a list of texts, but got int"):
        classify(3)
    with pytest.raises(OptionError, match=r"a text or a dict of `text` and `text_pair`, but one is \['a', 'b'\]"):
        classify([["a", "b"]])
    with pytest.raises(OptionError, match="`batch_size` must be at least 1, but is 0"):
        pipeline("text-classification", folder, batch_size=0)
    with pytest.raises(OptionError, match="`batch_size` must be at least 1, but is -1"):  # and not answers of None
        classify(["a", "b"], batch_size=-1)
    for device in ("gpu", 1.5):
        with pytest.raises(
            OptionError, match=f"device={device!r} is no device of torch: 'cpu', 'cuda', 'cuda:0', 'mps'"
        ):
            pipeline("text-classification", folder, device=device)
    with pytest.raises(OptionError, match=r"device=99, but torch sees \d+ CUDA devices here\. Use device='cpu'"):
        pipeline("text-classification", folder, device=99)
    zero = pipeline("zero-shot-classification", folder)
    with pytest.raises(OptionError, match="labels are LABEL_0, LABEL_1, none of which begins with 'entail'"):
        zero("a", ["b"])
    with pytest.raises(OptionError, match="`candidate_labels` is missing"):
        zero("a")
    with pytest.raises(OptionError, match=r"must hold \{\} for the label, but is 'no place'"):
        zero("a", ["b"], hypothesis_template="no place")
    with pytest.raises(OptionError, match="must hold {} for the label, but is '{name'"):
        zero("a", ["b"], hypothesis_template="{name")
    fill = pipeline("fill-mask", make("BertForMaskedLM"))
    with pytest.raises(OptionError, match=r"There is no \[MASK\] in 'plain'"):
        fill("plain")
    with pytest.raises(OptionError, match="target 'sunshiny' is not one token"):
        fill("[MASK]", targets="sunshiny")
    fill.tokenizer.mask_token = None
    with pytest.raises(OptionError, match="no mask token, so there is nothing to fill"):
        fill("plain")
    ner = pipeline("ner", make("BertForTokenClassification"))
    with pytest.raises(OptionError, match="must be one of none, simple, but is 'simpel'. Did you mean 'simple'"):
        ner("a", aggregation_strategy="simpel")
    ask = pipeline("question-answering", make("BertForQuestionAnswering"))
    with pytest.raises(OptionError, match="Give question=… and context=…, or dicts"):
        ask(question="a")
    with pytest.raises(OptionError, match=r"There are 2 questions, but 1 contexts\."):
        ask(question=["a", "b"], context=["c"])
    with pytest.raises(OptionError, match="a dict of `question` and `context`, but one is 'a'"):
        ask(["a"])
    write = pipeline("text-generation", decoder)
    with pytest.raises(OptionError, match="a text or a list of messages with role and content, but one is 3"):
        write([3])
    with pytest.raises(OptionError, match="no generation option 'max_new_token'"):
        write("a", max_new_token=3)


def test_windows_of_a_model_that_reads_less_than_their_default_width(make: Make) -> None:
    """Windows of 40 tokens cannot overlap by the default of 128."""
    ask = pipeline("question-answering", make("BertForQuestionAnswering"))
    context = "The wind blows over the sea. " * 30
    wide = ask(question="Where?", context=context, max_seq_len=40, doc_stride=20)
    ask.tokenizer.model_max_length = 40
    assert ask(question="Where?", context=context) == wide


def test_loading_takes_the_arguments_of_from_pretrained(decoder: Path) -> None:
    made = pipeline("text-generation", decoder, torch_dtype="bfloat16", device_map="cpu", trust_remote_code=False)
    assert (made.model.dtype, made.device.type) == (torch.bfloat16, "cpu")
    assert pipeline("text-generation", decoder, dtype="float16").model.dtype == torch.float16
    assert pipeline("text-generation", decoder, model_kwargs={"dtype": "float16"}).model.dtype == torch.float16
    with pytest.raises(OptionError, match="trust_remote_code=True is refused"):
        pipeline("text-generation", decoder, trust_remote_code=True)
    with pytest.raises(OptionError, match="`device_map` is for loading a model, but this one is loaded already"):
        pipeline("text-generation", made.model, tokenizer=made.tokenizer, device_map="auto")
