"""A label for each token, complete for single tokens and for runs of equal labels (named entities)."""

from __future__ import annotations

from typing import Any

import torch

from plait.errors import OptionError, nearest
from plait.pipelines.base import Pipeline

STRATEGIES = ("none", "simple")


class TokenClassificationPipeline(Pipeline):
    """Texts to lists of entities: entity, score, index, word, start and end (characters in the text).

    `aggregation_strategy="simple"` joins neighbours of one label (B-PER I-PER) to an entity_group with the mean score.
    Labels in `ignore_labels` (default "O") are left out.
    """

    def answer(
        self, items: list[str], *, aggregation_strategy: str = "none", ignore_labels: list[str] | None = None
    ) -> list[list[dict[str, Any]]]:
        """The entities of each text."""
        if aggregation_strategy not in STRATEGIES:
            raise OptionError(
                f"`aggregation_strategy` must be one of {', '.join(STRATEGIES)}, but is {aggregation_strategy!r}."
                f"{nearest(aggregation_strategy, STRATEGIES)}"
            )
        ignored = ["O"] if ignore_labels is None else ignore_labels
        rows = self.encoded(items, truncation=True, return_special_tokens_mask=True, return_offsets_mapping=True)
        results: list[list[dict[str, Any]]] = [[] for _ in rows]
        for index, outputs, row in self.forward(rows):
            scores = outputs.logits[row].float().softmax(dim=-1).cpu()  # (T, labels)
            entities = self._tokens(items[index], rows[index], scores)
            if aggregation_strategy == "simple":
                entities = [self._joined(group) for group in grouped(entities)]
            names = ("entity_group", "entity")
            results[index] = [item for item in entities if not any(item.get(name) in ignored for name in names)]
        return results

    def _tokens(self, text: str, row: dict[str, Any], scores: torch.Tensor) -> list[dict[str, Any]]:
        entities = []
        words = self.tokenizer.convert_ids_to_tokens(row["input_ids"])
        for index, (token, (start, end)) in enumerate(zip(row["input_ids"], row["offset_mapping"], strict=True)):
            if row["special_tokens_mask"][index]:
                continue
            score, label = scores[index].max(dim=-1)
            unknown = token == self.tokenizer.unk_token_id
            entities.append(
                {
                    "entity": self.model.config.id2label[int(label)],
                    "score": float(score),
                    "index": index,
                    "word": text[start:end] if unknown else words[index],
                    "start": start,
                    "end": end,
                }
            )
        return entities

    def _joined(self, group: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": sum(item["score"] for item in group) / len(group),
            "word": self.tokenizer.convert_tokens_to_string([item["word"] for item in group]),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }


def grouped(entities: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of one label; B- begins a new run even behind its own label, as CoNLL-2003 writes it."""
    groups: list[list[dict[str, Any]]] = []
    last = None
    for entity in entities:
        begins = entity["entity"].startswith("B-")
        tag = entity["entity"][2:] if entity["entity"][:2] in ("B-", "I-") else entity["entity"]
        if groups and tag == last and not begins:
            groups[-1].append(entity)
        else:
            groups.append([entity])
        last = tag
    return groups
