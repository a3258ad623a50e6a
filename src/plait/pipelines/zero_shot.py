"""Labels that the model was never trained on, complete: each becomes a sentence, and the model says whether it follows.

Yin et al. 2019, arXiv:1909.00161; the model is one of natural language inference.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from plait.errors import OptionError
from plait.pipelines.base import Pipeline

_COMMAS = re.compile("[,，、]")


class ZeroShotClassificationPipeline(Pipeline):
    """Texts to {"sequence": …, "labels": […], "scores": […]}, best label first.

    `candidate_labels` is a list or a text with commas, Chinese ones too; `hypothesis_template` holds {} for the label.
    With `multi_label` each label is judged by itself, otherwise the scores of a text add up to 1.
    """

    def __call__(self, inputs: Any, candidate_labels: Any = None, **options: Any) -> Any:
        """Classify one text or many."""
        return super().__call__(
            inputs, **({} if candidate_labels is None else {"candidate_labels": candidate_labels}), **options
        )

    def answer(
        self,
        items: list[str],
        *,
        candidate_labels: str | list[str] | None = None,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
    ) -> list[dict[str, Any]]:
        """The labels of each text in the order of their scores."""
        labels = candidate_labels or []
        if isinstance(labels, str):
            labels = [label.strip() for label in _COMMAS.split(labels) if label.strip()]
        if not labels:
            raise OptionError("`candidate_labels` is missing: give the labels to choose from.")
        if "{}" not in hypothesis_template:
            raise OptionError(f"`hypothesis_template` must hold {{}} for the label, but is {hypothesis_template!r}.")
        pairs = [(text, hypothesis_template.replace("{}", label)) for text in items for label in labels]
        logits = torch.empty(len(pairs), self.model.config.num_labels)
        for index, outputs, row in self.forward(self.encoded(pairs, truncation="only_first")):
            logits[index] = outputs.logits[row].float().cpu()
        entails = self._entailment()
        shaped = logits.view(len(items), len(labels), -1)  # (texts * labels, C) -> (texts, labels, C)
        if multi_label or len(labels) == 1:
            against = -1 if entails == 0 else 0
            scores = shaped[..., [against, entails]].softmax(dim=-1)[..., 1]
        else:
            scores = shaped[..., entails].softmax(dim=-1)
        return [ranked(text, labels, row.tolist()) for text, row in zip(items, scores, strict=True)]

    def _entailment(self) -> int:
        names: dict[str, int] = self.model.config.label2id
        for name, index in names.items():
            if name.lower().startswith("entail"):
                return index
        raise OptionError(
            f"This model's labels are {', '.join(names)}, none of which begins with 'entail': zero-shot classification "
            "needs a model of natural language inference."
        )


def ranked(text: str, labels: list[str], scores: list[float]) -> dict[str, Any]:
    """One result, best label first."""
    order = sorted(range(len(labels)), key=lambda index: scores[index], reverse=True)
    return {"sequence": text, "labels": [labels[i] for i in order], "scores": [scores[i] for i in order]}
