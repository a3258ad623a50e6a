"""Texts written from texts, complete: any task of an encoder with a decoder, summaries and translations among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plait.pipelines.base import Pipeline
from plait.pipelines.text_generation import limited


class TextToTextPipeline(Pipeline):
    """Texts to {"generated_text": …}: what the decoder writes about each.

    With `num_return_sequences` above 1, and as many `num_beams` or `do_sample=True`, a list of as many for each text.
    `truncation=True` cuts texts that are longer than the model reads. All other options are those of `generate`;
    without a limit of the model's or the caller's, up to 256 tokens are written.
    """

    key = "generated_text"
    entry = ""  # what the configuration calls the task; its prefix stands in front of each text

    def answer(
        self,
        items: list[str],
        *,
        truncation: bool = False,
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> list[Any]:
        """What is written about each text."""
        prefix = self._prefix(self.entry)
        rows = self.encoded([prefix + text for text in items], truncation=truncation)
        options = limited(self.model, options)
        results: list[Any] = [None] * len(items)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
        for start in range(0, len(order), self.batch_size):
            indices = order[start : start + self.batch_size]
            sources = self.padded([rows[index] for index in indices])
            written = self.model.generate(**sources, tokenizer=self.tokenizer, **options)
            texts = self.tokenizer.batch_decode(
                written,
                skip_special_tokens=skip_special_tokens,
                clean_up_tokenization_spaces=clean_up_tokenization_spaces,
            )
            copies = len(texts) // len(indices)
            for place, index in enumerate(indices):
                found = [{self.key: text} for text in texts[place * copies : (place + 1) * copies]]
                results[index] = found[0] if copies == 1 else found
        return results

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Answer one text or many; one text has a list of answers as well."""
        found = super().__call__(inputs, **options)
        return [found] if isinstance(found, Mapping) else found

    def _prefix(self, entry: str) -> str:
        """What the configuration puts in front of the texts of a task, such as "summarize: "."""
        tasks = self.model.config.get("task_specific_params") or {}
        return str((tasks.get(entry) or {}).get("prefix") or "")


class SummarizationPipeline(TextToTextPipeline):
    """Texts to {"summary_text": …}; see `TextToTextPipeline`."""

    key = "summary_text"
    entry = "summarization"


class TranslationPipeline(TextToTextPipeline):
    """Texts to {"translation_text": …}; see `TextToTextPipeline`.

    `direction`, such as "translation_en_to_de", is for models of several languages whose configuration has a prefix
    for each.
    """

    key = "translation_text"

    def answer(self, items: list[str], *, direction: str = "translation", **options: Any) -> list[Any]:
        """The translation of each text."""
        self.entry = direction
        return super().answer(items, **options)
