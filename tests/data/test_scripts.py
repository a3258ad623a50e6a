"""Scripts as users of datasets write them run unchanged but for their import, and print the same."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from PIL import Image

SCRIPTS = {
    "text for a model": """
dataset = load_dataset("csv", data_files={"train": "train.csv", "test": "test.csv"}, cache_dir="cache")
print(dataset.num_rows, dataset["train"].column_names)
dataset = dataset.cast_column("label", ClassLabel(names=["bad", "good"]))
print(dataset["train"].features["label"].int2str(1), dataset["train"][0])

def tokenize(examples):
    ids = [[len(word) for word in text.split()] for text in examples["text"]]
    longest = max(map(len, ids))
    return {"input_ids": [row + [0] * (longest - len(row)) for row in ids]}

dataset = dataset.map(tokenize, batched=True, batch_size=None)
dataset = dataset.map(lambda example: {"labels": example["label"]}, batched=True)
dataset.set_format(type="torch", columns=["input_ids", "labels"])
print(dataset["train"].format["type"], dataset["test"][:]["labels"])
for batch in DataLoader(dataset["train"], batch_size=2):
    print(batch)
""",
    "pictures for a model": """
dataset = load_dataset("imagefolder", data_dir="pictures", split="train", cache_dir="cache")
print(dataset, dataset.features["label"].names, dataset[0]["image"].size)

def transforms(examples):
    examples["pixel_values"] = [torch.tensor(list(image.convert("L").getdata())) for image in examples["image"]]
    return examples

def collate(examples):
    return torch.stack([example["pixel_values"] for example in examples]), [e["label"] for e in examples]

dataset = dataset.with_transform(transforms)
for pixels, labels in DataLoader(dataset, collate_fn=collate, batch_size=2):
    print(pixels.shape, pixels.sum().item(), labels)
""",
    "rows processed": """
dataset = load_dataset("csv", data_files="train.csv", split="train", cache_dir="cache")
print(dataset.sort("label")["label"][:], dataset.shuffle(seed=42)["text"][:], dataset.select([0, 2])[1])
print(dataset.filter(lambda example: example["text"].startswith("a")).num_rows)
print(dataset.filter(lambda example, idx: idx % 2 == 0, with_indices=True)["label"][:])
split = dataset.train_test_split(test_size=0.25, seed=1)
print(split, split["test"]["text"][:])
print(dataset.shard(num_shards=2, index=1)[:], dataset.rename_column("text", "sentence").column_names)
print(dataset.remove_columns(["label"])[0], dataset.select_columns(["label"])[0])
nested = Dataset.from_dict({"a": [{"t": ["x"], "n": 1}, {"t": [], "n": 2}]})
print(nested.flatten().column_names, nested.flatten()["a.n"][:])
print(dataset.map(lambda example: {"new": "> " + example["text"]}, remove_columns=["text"]).column_names)
print(dataset.map(lambda batch: {"part": [t[i:i + 4] for t in batch["text"] for i in range(0, len(t), 4)]},
                  batched=True, remove_columns=dataset.column_names)["part"][:])
print(concatenate_datasets([dataset, dataset.select([0])]).num_rows)
print(interleave_datasets([dataset, dataset], probabilities=[0.7, 0.3], seed=42)["label"][:])
dataset.save_to_disk("kept")
print(load_from_disk("kept"))
dataset.to_csv("out.csv")
print(open("out.csv").read())
print(dataset.to_pandas()["label"].mean(), next(iter(dataset.iter(batch_size=3))))
""",
    "a stream": """
stream = load_dataset("csv", data_files="train.csv", split="train", streaming=True)
stream = stream.map(lambda example: {"length": len(example["text"])}).filter(lambda example: example["length"] > 4)
print(list(stream.take(2)), [example["length"] for example in stream.skip(1)])
print(sorted(example["text"] for example in stream.shuffle(seed=42, buffer_size=10)))
state = None
for index, example in enumerate(stream):
    if index == 1:
        state = stream.state_dict()
        break
stream.load_state_dict(state)
print([example["text"] for example in stream])
ids = Dataset.from_dict({"x": list(range(6))}).to_iterable_dataset(num_shards=3)
print([batch for batch in DataLoader(ids.with_format("torch"), batch_size=4)], ids.num_shards)

def rows(shards):
    for shard in shards:
        yield {"shard": shard}

print(list(IterableDataset.from_generator(rows, gen_kwargs={"shards": [1, 2, 3]})))
""",
    "tables and frames": """
import pandas
frame = pandas.DataFrame({"n": [3, 1, 2], "x": [0.5, None, 1.5]})
dataset = Dataset.from_pandas(frame)
print(dataset.features, dataset[1], dataset.to_pandas().equals(frame))
print(dataset.with_format("numpy")["n"][:], dataset.with_format("pandas")[:2].shape)
print(dataset.with_format("arrow")[:].schema.types)
print(dataset.add_column("m", [1, 2, 3]).add_item({"n": 9, "x": 9.0, "m": 9})[3])
dataset.to_parquet("d.parquet")
print(Dataset.from_parquet("d.parquet", cache_dir="cache").to_dict() == dataset.to_dict())
features = Features({"n": Value("int8"), "y": ClassLabel(names=["no", "yes"])})
print(Dataset.from_list([{"n": 1, "y": "yes"}, {"n": 2, "y": "no"}], features=features)[:])
print(DatasetDict({"a": dataset, "b": dataset.select([0])}).map(lambda row: {"n": row["n"] + 1})["b"][0])
""",
}


def printed(script: str, library: str, folder: Path) -> str:
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\na fine film,1\ndull,0\nso so,0\na joy,1\n")
    (folder / "test.csv").write_text("text,label\nfine,1\nnever again please,0\n")
    for label, value in {"dark": 10, "light": 200}.items():
        (folder / "pictures" / label).mkdir(parents=True)
        for index in range(2):
            Image.new("L", (4, 3), value + index).save(folder / "pictures" / label / f"{index}.png")
    names = "ClassLabel, Dataset, DatasetDict, Features, IterableDataset, Value"
    names += ", concatenate_datasets, interleave_datasets, load_dataset, load_from_disk"
    first = f"import torch\nfrom torch.utils.data import DataLoader\nfrom {library} import {names}\n"
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(first + script, f"<{library}>", "exec"), {"__name__": "script"})
    return output.getvalue()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_prints_what_it_printed(name: str, tmp_path: Path) -> None:
    expected = printed(SCRIPTS[name], "datasets", tmp_path / "theirs")
    assert expected.count("\n") >= 3
    found = printed(SCRIPTS[name], "plait.data", tmp_path / "ours")
    assert found.splitlines() == expected.replace("large_string", "string").splitlines()
