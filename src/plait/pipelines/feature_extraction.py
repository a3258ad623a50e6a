"""The model's states as numbers, complete."""

from __future__ import annotations

from typing import Any

from plait.pipelines.base import Pipeline


class FeatureExtractionPipeline(Pipeline):
    """Texts to nested lists (1, T, D): a vector for each token, special ones included.

    `return_tensors=True` gives tensors of that shape.
    """

    def answer(
        self,
        items: list[str],
        *,
        return_tensors: bool = False,
        truncation: bool | str = False,
        max_length: int | None = None,
    ) -> list[Any]:
        """The states of each text."""
        rows = self.encoded(items, truncation=truncation, max_length=max_length)
        results: list[Any] = [None] * len(rows)
        for index, outputs, row in self.forward(rows):
            states = outputs[0][row : row + 1, : len(rows[index]["input_ids"])].cpu()  # (1, T, D)
            results[index] = states.clone() if return_tensors else states.tolist()
        return results
