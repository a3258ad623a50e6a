"""The pipeline of questions on tables against the reference library's, on tiny random models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers

from plait.errors import OptionError
from plait.pipelines import pipeline

TABLE = {
    "Repository": ["Transformers", "Datasets", "Tokenizers"],
    "Stars": ["36542", "4512", "3934"],
    "Contributors": ["651", "77", "34"],
}
QUERIES = ["How many stars do the transformers have?", "Which has more than 50 contributors?", "And which has fewer?"]
OPERATIONS = {"num_aggregation_labels": 3, "aggregation_labels": {0: "NONE", 1: "SUM", 2: "COUNT"}}
OPERATIONS["no_aggregation_label_index"] = 0


@pytest.fixture(scope="module", params=[{}, OPERATIONS], ids=["cells", "operations"])
def both(request: pytest.FixtureRequest, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tapas")
    torch.manual_seed(3)
    config = transformers.TapasConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, initializer_range=0.4,
        **request.param,
    )  # fmt: skip
    model = transformers.TapasForQuestionAnswering(config).eval()
    with torch.no_grad():
        model.output_bias.fill_(8.0)  # so that some cells are chosen
    model.save_pretrained(folder)
    shutil.copy(minilm / "vocab.txt", folder / "vocab.txt")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "TapasTokenizer", "model_max_length": 512})
    )
    theirs = transformers.pipeline("table-question-answering", model=str(folder))
    return pipeline("table-question-answering", folder), theirs, request.param


def test_answers_equal_the_reference(both: Any) -> None:
    ours, theirs, operations = both
    found = ours(TABLE, QUERIES)
    assert found == theirs(dict(TABLE), list(QUERIES))
    assert any(each["cells"] for each in found)
    assert all(("aggregator" in each) == bool(operations) for each in found)
    assert ours(TABLE, QUERIES[0]) == theirs(dict(TABLE), QUERIES[0])
    assert ours(pd.DataFrame(TABLE), QUERIES[1]) == theirs(pd.DataFrame(TABLE), QUERIES[1])
    assert ours({"table": TABLE, "query": QUERIES[1]}) == ours(table=TABLE, query=QUERIES[1]) == found[1]
    items = [{"table": TABLE, "query": query} for query in QUERIES]
    assert ours(items) == [theirs(dict(item)) for item in items]


def test_questions_in_turn_equal_the_reference(both: Any) -> None:
    ours, theirs, _ = both
    # One table row less than the whole: the kind that marks the answer before is read by the model.
    assert ours(TABLE, QUERIES, sequential=True) == theirs(dict(TABLE), list(QUERIES), sequential=True)
    assert ours(TABLE, QUERIES[:1], sequential=True) == ours(TABLE, QUERIES[0])


def test_long_tables_lose_their_last_rows(both: Any) -> None:
    ours, theirs, _ = both
    long = {"Name": [f"the number {index}" for index in range(250)], "Value": [str(3 * index) for index in range(250)]}
    found = ours(long, QUERIES[1])
    assert found == theirs(dict(long), QUERIES[1])
    assert all(row < 249 for row, _ in found["coordinates"])


def test_what_cannot_be_answered_says_why(both: Any) -> None:
    ours, _, _ = both
    with pytest.raises(OptionError, match="Give a table and a query: pipeline"):
        ours(TABLE)
    with pytest.raises(OptionError, match="The query is empty"):
        ours(TABLE, "")
    with pytest.raises(OptionError, match="The table has no rows"):
        ours({"a": []}, "how many?")
    with pytest.raises(OptionError, match="has no option 'sequentiel'. Did you mean 'sequential'"):
        ours(TABLE, "how many?", sequentiel=True)
