"""The place in a context that answers a question, complete: long contexts are read in overlapping windows."""

from __future__ import annotations

from typing import Any

import torch

from plait.errors import OptionError
from plait.pipelines.base import Pipeline


class QuestionAnsweringPipeline(Pipeline):
    """`pipe(question=…, context=…)`, or dicts of the two, to {"score": …, "start": …, "end": …, "answer": …}.

    `start` and `end` are characters of the context. The score of a span is the product of the probabilities of its
    first and its last token within its window. Answers have up to `max_answer_len` tokens; `top_k` above 1 gives a list
    of different answers; `doc_stride` tokens are shared by neighbouring windows of `max_seq_len` tokens.
    """

    def __call__(self, inputs: Any = None, *, question: Any = None, context: Any = None, **options: Any) -> Any:
        """Answer one question or many."""
        if (inputs is None) == (question is None or context is None):
            raise OptionError("Give question=… and context=…, or dicts that hold the two.")
        if inputs is None and isinstance(question, str):
            inputs = {"question": question, "context": context}
        elif inputs is None:
            contexts = [context] * len(question) if isinstance(context, str) else list(context)
            if len(contexts) != len(question):
                raise OptionError(f"There are {len(question)} questions, but {len(contexts)} contexts.")
            inputs = [{"question": q, "context": c} for q, c in zip(question, contexts, strict=True)]
        return super().__call__(inputs, **options)

    def answer(
        self,
        items: list[dict[str, str]],
        *,
        top_k: int = 1,
        max_answer_len: int = 15,
        max_seq_len: int = 384,
        doc_stride: int = 128,
    ) -> list[Any]:
        """The best spans of each context."""
        for item in items:
            if not isinstance(item, dict) or not {"question", "context"} <= item.keys():
                raise OptionError(f"Each input must be a dict of `question` and `context`, but one is {item!r}.")
        window = min(max_seq_len, self.tokenizer.model_max_length)
        encoded = self.tokenizer(
            [(item["question"].strip(), item["context"]) for item in items],
            truncation="only_second",
            max_length=window,
            stride=min(doc_stride, window // 2),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        count = len(encoded["input_ids"])
        rows = [{name: encoded[name][row] for name in encoded} for row in range(count)]
        found: list[dict[tuple[int, int], float]] = [{} for _ in items]
        for index, outputs, row in self.forward(rows):
            inside = torch.tensor([part == 1 for part in encoded.sequence_ids(index)])
            width = len(inside)
            start = outputs.start_logits[row, :width].float().cpu().masked_fill(~inside, -float("inf")).softmax(dim=-1)
            end = outputs.end_logits[row, :width].float().cpu().masked_fill(~inside, -float("inf")).softmax(dim=-1)
            spans = found[rows[index]["overflow_to_sample_mapping"]]
            for score, first, last in best_spans(start, end, count=top_k, longest=max_answer_len):
                place = (rows[index]["offset_mapping"][first][0], rows[index]["offset_mapping"][last][1])
                spans[place] = max(score, spans.get(place, 0.0))
        answers = [ranked(item["context"], spans, top_k) for item, spans in zip(items, found, strict=True)]
        return answers if top_k > 1 else [answer[0] for answer in answers]


def best_spans(start: torch.Tensor, end: torch.Tensor, *, count: int, longest: int) -> list[tuple[float, int, int]]:
    """The `count` best (score, first, last) with first <= last < first + longest, from probabilities (T,) and (T,)."""
    scores = (start[:, None] * end[None, :]).triu().tril(longest - 1)  # (T, T)
    values, places = scores.flatten().topk(min(count, scores.numel()))
    width = scores.shape[1]
    pairs = zip(values.tolist(), places.tolist(), strict=True)
    return [(value, place // width, place % width) for value, place in pairs if value > 0]


def ranked(context: str, spans: dict[tuple[int, int], float], count: int) -> list[dict[str, Any]]:
    """The spans of one context as results, best first; an empty one when the context holds nothing."""
    best = sorted(spans.items(), key=lambda item: item[1], reverse=True)[:count]
    results = [
        {"score": score, "start": start, "end": end, "answer": context[start:end]} for (start, end), score in best
    ]
    return results or [{"score": 0.0, "start": 0, "end": 0, "answer": ""}]
