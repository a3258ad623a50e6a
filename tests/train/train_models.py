"""Small models and data sets that the tests of the trainer share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from plait.nn.loss import LossTerms, cross_entropy


class Regressor(nn.Module):
    """Four numbers in, one out, with dropout; it only predicts."""

    def __init__(self, *, seed: int = 0, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features).squeeze(-1)


class Answer(dict[str, Any]):
    """An output with an attribute of loss terms, as plait's models have."""

    loss_terms: LossTerms | None = None


class Tagger(nn.Module):
    """A label per token, with its own loss; labels of -100 count nothing. Its mean is `loss`, its sums `loss_terms`."""

    def __init__(self, *, seed: int = 0, terms: bool = True, vocabulary: int = 11) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(vocabulary, 8)
        self.head = nn.Linear(8, 3)
        self.terms = terms

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Answer:
        output = Answer(logits=self.head(self.embedding(input_ids)))
        if labels is not None:
            terms = cross_entropy(output["logits"], labels)
            output["loss"] = terms.mean()
            output.loss_terms = terms if self.terms else None
        return output


def numbers(rows: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of four features and a label that depends on them."""
    features = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))
    labels = features @ torch.tensor([1.0, -2.0, 0.5, 0.0])
    return [{"features": x, "labels": float(y)} for x, y in zip(features, labels, strict=True)]


class Counted:
    """A data set that remembers which rows were read."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        return self.rows[index]


def pad_rows(features: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Collate token rows of any length: zeros behind the tokens, -100 behind the labels."""
    longest = max(len(row["input_ids"]) for row in features)

    def padded(name: str, value: int) -> Tensor:
        return torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in features])

    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100)}


def tokens(rows: int, *, seed: int = 0, vocabulary: int = 11) -> list[dict[str, Any]]:
    """Rows of 1 to 6 tokens, each with a label; some labels count nothing."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(rows):
        length = int(torch.randint(1, 7, (), generator=random))
        ids = torch.randint(1, vocabulary, (length,), generator=random).tolist()
        found.append({"input_ids": ids, "labels": [-100 if i % 5 == 0 else i % 3 for i in ids]})
    return found
