"""A label for each text, complete: one label, several, or a number."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from plait.errors import OptionError, nearest
from plait.pipelines.base import Pipeline

FUNCTIONS = ("softmax", "sigmoid", "none")


class TextClassificationPipeline(Pipeline):
    """Texts, or {"text": …, "text_pair": …}, to {"label": …, "score": …}.

    A single text gives a list of one, as users of this pipeline expect. `top_k=3` gives a list of the 3 best labels of
    each text, `top_k=None` of all; without `top_k` the best one comes by itself. `function_to_apply` turns logits into
    scores: "softmax", "sigmoid" or "none"; by default none for regression, sigmoid for one label or several at a time,
    and softmax otherwise. `return_all_scores=True` is the older way to say `top_k=None`.
    """

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Classify one text or many."""
        results = super().__call__(inputs, **options)
        return [results] if isinstance(results, dict) and isinstance(inputs, str) else results

    def answer(
        self,
        items: list[Any],
        *,
        top_k: int | None | Literal["best"] = "best",
        function_to_apply: str | None = None,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_all_scores: bool = False,
    ) -> list[Any]:
        """The labels of each text."""
        top_k = None if return_all_scores else top_k
        function = self._function(function_to_apply)
        names = self.model.config.id2label
        pairs = [
            (item["text"], item["text_pair"]) if "text_pair" in item else item["text"] for item in map(as_pair, items)
        ]
        rows = [row for pair in pairs for row in self.encoded([pair], truncation=truncation, max_length=max_length)]
        results: list[Any] = [None] * len(rows)
        for index, outputs, row in self.forward(rows):
            scores = scored(outputs.logits[row].float().cpu(), function).tolist()
            ranked = sorted(range(len(scores)), key=lambda label: scores[label], reverse=True)
            best = [{"label": names[label], "score": scores[label]} for label in ranked]
            results[index] = best[0] if top_k == "best" else best[:top_k]
        return results

    def _function(self, given: str | None) -> str:
        if given is not None:
            if given.lower() not in FUNCTIONS:
                choices = ", ".join(FUNCTIONS)
                raise OptionError(
                    f"`function_to_apply` must be one of {choices}, but is {given!r}.{nearest(given, FUNCTIONS)}"
                )
            return given.lower()
        config = self.model.config
        if config.problem_type == "regression":
            return "none"
        several = config.problem_type == "multi_label_classification" or config.num_labels == 1
        return "sigmoid" if several else "softmax"


def as_pair(item: Any) -> dict[str, str]:
    """A text, or a dict of text and text_pair, as such a dict."""
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, dict) and set(item) in ({"text"}, {"text", "text_pair"}):
        return item
    raise OptionError(f"Each input must be a text or a dict of `text` and `text_pair`, but one is {item!r}.")


def scored(logits: Tensor, function: str) -> Tensor:
    """Logits (labels,) as scores."""
    if function == "softmax":
        return logits.softmax(dim=-1)
    return logits.sigmoid() if function == "sigmoid" else logits
