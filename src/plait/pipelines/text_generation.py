"""Texts and chats continued, complete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from plait.errors import OptionError
from plait.pipelines.base import Pipeline

Chat = list[dict[str, Any]]
DEFAULT_NEW_TOKENS = 256


class TextGenerationPipeline(Pipeline):
    """Texts, or chats (lists of messages with role and content), to lists of {"generated_text": …}.

    A chat comes back with the assistant's message at its end; one that ends with an assistant's message is continued.
    `return_full_text=False` gives the new text alone, `return_tensors=True` the ids as "generated_token_ids".
    `template_options` go to the chat template (`enable_thinking=False`); all other options are those of `generate`.
    Without a limit of the model's or the caller's, up to 256 tokens are generated.
    """

    def items_of(self, inputs: Any) -> tuple[list[Any], bool]:
        """A list of messages is one chat; a list of texts or of chats is many inputs."""
        items, single = super().items_of(inputs)
        if not single and items and all(isinstance(item, dict) for item in items):
            return [items], True
        return items, single

    def answer(
        self,
        items: list[str | Chat],
        *,
        return_full_text: bool = True,
        return_tensors: bool = False,
        skip_special_tokens: bool = True,
        add_special_tokens: bool = True,
        template_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> list[list[dict[str, Any]]]:
        """The continuations of each text or chat, `num_return_sequences` of them."""
        rows = [self._encode(item, add_special_tokens, template_options or {}) for item in items]
        options = limited(self.model, options)
        results: list[list[dict[str, Any]]] = [[] for _ in items]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
        for start in range(0, len(order), self.batch_size):
            indices = order[start : start + self.batch_size]
            prompts = self.padded([rows[index] for index in indices], side="left")
            sequences = self._sequences(self.model.generate(**prompts, tokenizer=self.tokenizer, **options))
            copies, width = len(sequences) // len(indices), prompts["input_ids"].shape[1]
            for place, index in enumerate(indices):
                for row in sequences[place * copies : (place + 1) * copies].tolist():
                    new = row[width:]
                    if return_tensors:
                        results[index].append({"generated_token_ids": rows[index]["input_ids"] + new})
                        continue
                    text = self.tokenizer.decode(new, skip_special_tokens=skip_special_tokens)
                    full = continued(items[index], text) if return_full_text else text
                    results[index].append({"generated_text": full})
        return results

    def _encode(self, item: str | Chat, special: bool, template_options: dict[str, Any]) -> dict[str, list[int]]:
        if isinstance(item, str):
            return {"input_ids": self.tokenizer(item, add_special_tokens=special)["input_ids"]}
        if not (isinstance(item, Iterable) and item and all(isinstance(m, dict) and "role" in m for m in item)):
            raise OptionError(
                f"Each input must be a text or a list of messages with role and content, but one is {item!r}."
            )
        unfinished = is_unfinished(item)
        ids = self.tokenizer.apply_chat_template(
            item,
            tokenize=True,
            return_dict=False,
            add_generation_prompt=not unfinished,
            continue_final_message=unfinished,
            **template_options,
        )
        return {"input_ids": list(ids)}

    def _sequences(self, output: Any) -> Tensor:
        sequences: Tensor = output if isinstance(output, Tensor) else output["sequences"]
        return sequences


def limited(model: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Options of `generate` with a limit of tokens: the caller's, the model's, or 256."""
    places = (options.get("generation_config"), getattr(model, "generation_config", None))
    limits = [options.get("max_new_tokens"), options.get("max_length")]
    limits += [getattr(place, name, None) for place in places for name in ("max_new_tokens", "max_length")]
    if any(limit is not None for limit in limits):
        return options
    return {**options, "max_new_tokens": DEFAULT_NEW_TOKENS}


def is_unfinished(chat: Chat) -> bool:
    """Whether the last message is the assistant's, so that it is to be continued."""
    return bool(chat[-1]["role"] == "assistant")


def continued(item: str | Chat, text: str) -> str | Chat:
    """The input with what was generated at its end."""
    if isinstance(item, str):
        return item + text
    if is_unfinished(item):
        return [*item[:-1], {**item[-1], "content": item[-1]["content"] + text}]
    return [*item, {"role": "assistant", "content": text}]
