"""Words in place of a mask, complete."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from plait.errors import OptionError
from plait.pipelines.base import Pipeline


class FillMaskPipeline(Pipeline):
    """Texts with the tokenizer's mask to the most probable words: score, token, token_str and the whole sequence.

    With several masks in a text there is one such list for each. `top_k` words, or only those among `targets`.
    """

    def answer(self, items: list[str], *, top_k: int = 5, targets: str | list[str] | None = None) -> list[Any]:
        """The best words of each text."""
        mask = self.tokenizer.mask_token_id
        if mask is None:
            raise OptionError("This tokenizer has no mask token, so there is nothing to fill.")
        rows = self.encoded(items)
        for text, row in zip(items, rows, strict=True):
            if mask not in row["input_ids"]:
                raise OptionError(f"There is no {self.tokenizer.mask_token} in {text!r}.")
        names = [targets] if isinstance(targets, str) else targets
        chosen = None if names is None else torch.tensor(sorted({self._target(name) for name in names}))
        results: list[Any] = [None] * len(rows)
        for index, outputs, place in self.forward(rows):
            ids = rows[index]["input_ids"]
            probabilities = outputs.logits[place, : len(ids)].float().softmax(dim=-1).cpu()  # (T, V)
            masks = [position for position, token in enumerate(ids) if token == mask]
            found = [
                self._words(ids, position, probabilities[position], top_k, chosen, single=len(masks) == 1)
                for position in masks
            ]
            results[index] = found[0] if len(found) == 1 else found
        return results

    def _target(self, word: str) -> int:
        index = self.tokenizer.get_vocab().get(word)
        if index is None:
            raise OptionError(f"The target {word!r} is not one token of this model's vocabulary.")
        return int(index)

    def _words(
        self, ids: list[int], place: int, probabilities: Tensor, count: int, chosen: Tensor | None, *, single: bool
    ) -> list[dict[str, Any]]:
        candidates = torch.arange(len(probabilities)) if chosen is None else chosen
        scores, order = probabilities[candidates].topk(min(count, len(candidates)))
        words = []
        for score, token in zip(scores.tolist(), candidates[order].tolist(), strict=True):
            filled = [*ids[:place], token, *ids[place + 1 :]]
            # With several masks the special tokens stay, or the other masks would vanish from the text.
            text = self.tokenizer.decode(filled, skip_special_tokens=single)
            words.append(
                {"score": score, "token": token, "token_str": self.tokenizer.decode([token]), "sequence": text}
            )
        return words
