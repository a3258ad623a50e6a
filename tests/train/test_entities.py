"""Entities found whole: counted by hand, and against a slow second way of counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import TrainingError
from plait.train import load_metric
from plait.train.entities import spans

TRUE = [["B-PER", "I-PER", "O", "B-LOC", "O"], ["B-LOC", "B-LOC", "I-LOC"]]
SAID = [["B-PER", "I-PER", "O", "O", "B-LOC"], ["B-LOC", "I-LOC", "I-LOC"]]


def test_counted_by_hand() -> None:
    found = load_metric("seqeval").compute(predictions=SAID, references=TRUE)
    # PER: the one is found. LOC: two are said, three are there, none has both ends right.
    assert found["PER"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "number": 1}
    assert found["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "number": 3}
    assert found["overall_precision"] == pytest.approx(1 / 3)
    assert found["overall_recall"] == pytest.approx(1 / 4)
    assert found["overall_f1"] == pytest.approx(2 / 7)
    assert found["overall_accuracy"] == pytest.approx(5 / 8)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-A I-A B-A", [("A", 0, 1), ("A", 2, 2)]),
        ("I-A I-A O I-B", [("A", 0, 1), ("B", 3, 3)]),  # without a beginning
        ("B-A I-B", [("A", 0, 0), ("B", 1, 1)]),
        ("S-A S-A B-B I-B E-B I-B", [("A", 0, 0), ("A", 1, 1), ("B", 2, 4), ("B", 5, 5)]),
        ("B-ORG-GOV I-ORG-GOV", [("ORG-GOV", 0, 1)]),
        ("O O", []),
        ("", []),
    ],
)
def test_spans(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert list(spans(tags.split())) == expected


sentences = st.lists(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=8), min_size=1, max_size=5)


@given(sentences, st.randoms(use_true_random=False))
def test_parts_add_up_to_the_whole(true: list[list[str]], random: object) -> None:
    said = [[random.choice(["O", "B-A", "I-A", "I-B"]) for _ in row] for row in true]  # type: ignore[attr-defined]
    whole = load_metric("seqeval").compute(predictions=said, references=true)
    parts = load_metric("seqeval")
    for one, other in zip(said, true, strict=True):
        parts.add_batch(predictions=[one], references=[other])
    assert parts.compute() == whole
    ours = {(row, span) for row, tags in enumerate(said) for span in spans(tags)}
    theirs = {(row, span) for row, tags in enumerate(true) for span in spans(tags)}
    assert whole["overall_precision"] == pytest.approx(len(ours & theirs) / max(1, len(ours)))
    assert whole["overall_recall"] == pytest.approx(len(ours & theirs) / max(1, len(theirs)))


def test_what_cannot_be_counted_is_named() -> None:
    metric = load_metric("seqeval")
    with pytest.raises(TrainingError, match=r"'PER' is no tag of an entity: those are 'O', or 'B-'"):
        metric.compute(predictions=[["PER"]], references=[["O"]])
    with pytest.raises(TrainingError, match="sentence 1 has 1 predicted tags, but 2 references"):
        metric.compute(predictions=[["O"], ["O"]], references=[["O"], ["O", "O"]])
    with pytest.raises(TrainingError, match="seqeval compares tags by their names"):
        metric.add_scores([[0.5]], [1])  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="seqeval has no option 'scheme'"):
        metric.compute(predictions=[["O"]], references=[["O"]], scheme="IOB2")
