"""The article's snippets about data sets and training run, and print what they should."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from article_harness import EXAMPLES, bert, run, snippet

REAL = ("datasets", "transformers")


def reviews() -> list[dict[str, str]]:
    """Short real reviews with a label, from the examples."""
    with (EXAMPLES / "reviews.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if len(row["text"]) < 120]
    return [{"text": row["text"], "label": row["label"]} for row in rows]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# As the card of the original names its configurations.
GLUE = """---
configs:
- config_name: mrpc
  data_files:
  - split: train
    path: mrpc/train*
  - split: validation
    path: mrpc/validation*
---
"""


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the article's names of data sets and of BERT lead to local ones."""
    folder = tmp_path_factory.mktemp("article_data")
    rows = reviews()
    write(folder / "imdb" / "train.csv", rows[:40])
    write(folder / "imdb" / "test.csv", rows[40:60])
    write(folder / "path" / "to" / "your" / "file.csv", rows[:7])
    # Pairs of one review are paraphrases, of two reviews are not: the columns of GLUE's MRPC.
    pairs = [
        {
            "sentence1": one["text"],
            "sentence2": one["text"] if index % 2 else rows[index + 1]["text"],
            "label": index % 2,
        }
        for index, one in enumerate(rows[:80])
    ]
    write(folder / "glue" / "mrpc" / "train.csv", pairs[:60])
    write(folder / "glue" / "mrpc" / "validation.csv", pairs[60:])
    (folder / "glue" / "README.md").write_text(GLUE)
    bert(folder, minilm)
    return folder


def test_load_map_filter_and_save_print_as_the_original(folder: Path) -> None:
    script = "\n".join(map(snippet, ("load_public", "map", "filter", "save")))
    printed = run(folder, script)
    assert printed == run(folder, script, keep=REAL)
    assert "num_rows: 40" in printed
    saved = "from datasets import load_from_disk\nprint(load_from_disk('path/to/save/dataset'))"
    # The last run was the original's, so plait reads the original's files; and the other way round.
    there = run(folder, saved)
    run(folder, script)
    assert run(folder, saved, keep=REAL) == there


def test_a_csv_file_is_loaded(folder: Path) -> None:
    printed = run(folder, snippet("load_csv"))
    assert printed == run(folder, snippet("load_csv"), keep=REAL)
    assert "num_rows: 7" in printed


def test_tokenising_prints_as_the_original(folder: Path) -> None:
    # Presupposed: a data set with texts, as the article loads it before.
    script = snippet("load_public") + snippet("preprocess") + "print(tokenized_datasets['test'][3])\n"
    printed = run(folder, script)
    assert printed == run(folder, script, keep=REAL)
    assert "'token_type_ids'" in printed


def test_a_data_set_of_a_dictionary(folder: Path) -> None:
    printed = run(folder, snippet("from_dict") + snippet("properties")).splitlines()
    assert printed[:4] == ["Dataset({", "    features: ['text', 'label'],", "    num_rows: 2", "})"]
    # The article prints int32; Python's whole numbers have always become int64.
    assert re.fullmatch(r"\{'text': Value\((dtype=)?'string'\), 'label': Value\((dtype=)?'int64'\)\}", printed[4])
    assert printed[5:] == ["2", "['text', 'label']"]


# The script of the article reports to Weights & Biases, which wants an account: a module of that name beside the script
# writes down what it is told.
WANDB = """
import json

class Run:
    def log(self, *arguments, **options):
        with open("wandb.jsonl", "a") as file:
            file.write(json.dumps(arguments, default=str) + "\\n")

    def __getattr__(self, name):
        return lambda *arguments, **options: None

run = Run()
log = run.log

def init(**options):
    return run

def __getattr__(name):
    return getattr(run, name)
"""


def test_the_trainer_fine_tunes_evaluates_and_predicts(folder: Path) -> None:
    (folder / "wandb.py").write_text(WANDB)
    # Presupposed: numpy, imported in another snippet; and for the optimizers the trainer of this one.
    script = "import numpy as np\n" + snippet("trainer") + snippet("metrics") + snippet("optimizers")
    script += "print(metric.compute(predictions=[1, 0, 1], references=[1, 1, 1]), lr_scheduler.get_last_lr())\n"
    printed = run(folder, script)
    results = re.search(r"\{.*'eval_loss'.*\}", printed)
    assert results is not None, printed
    assert "'eval_accuracy'" in results.group()
    assert "PredictionOutput(predictions=array(" in printed
    assert printed.strip().endswith("{'accuracy': 0.6666666666666666} [2e-05]")
    # 60 rows are 7 batches of 8, the last one dropped; two batches to a step make 4 steps an epoch, in 3 epochs.
    state = json.loads(max((folder / "results").glob("**/trainer_state.json")).read_text(encoding="utf-8"))
    assert state["global_step"] == 12
    assert list((folder / "logs").rglob("events.out.tfevents*"))
    assert (folder / "wandb.jsonl").read_text(encoding="utf-8").count("train/loss") == 1
