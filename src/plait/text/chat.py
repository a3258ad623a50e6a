"""Conversations to text and ids, complete: which template is used, what it is given, and what comes back.

    tokenizer.apply_chat_template(messages, tokenize=False)                    → str
    tokenizer.apply_chat_template(messages)                                    → list of ids
    tokenizer.apply_chat_template(messages, return_tensors="pt")               → ids (1, T)
    tokenizer.apply_chat_template(messages, return_dict=True, …)               → BatchEncoding

A list of conversations gives a list of each. The template writes the special tokens itself, so none are added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plait.errors import OptionError, TemplateError, TokenizerError, nearest
from plait.text import pad, sandbox
from plait.text.encoding import BatchEncoding

if TYPE_CHECKING:
    from plait.text.tokenizer import Tokenizer

# Names under which chat interfaces hand over a model's thinking; templates read the first or the second.
REASONING = ("reasoning_content", "thinking", "reasoning")


def apply(
    tokenizer: Tokenizer,
    conversation: Any,
    tools: Sequence[Any] | None = None,
    *,
    documents: Sequence[Mapping[str, Any]] | None = None,
    chat_template: str | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
    tokenize: bool = True,
    padding: bool | str = False,
    truncation: bool | str | None = None,
    max_length: int | None = None,
    return_tensors: str | None = None,
    return_dict: bool = False,
    return_assistant_tokens_mask: bool = False,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
    **variables: Any,
) -> Any:
    """Write a conversation as the model was trained to read it.

    conversation             a list of messages ({"role": …, "content": …}), or a list of such lists
    tools                    functions with annotations and a docstring, or JSON schemas as dicts
    documents                dicts with title and text
    chat_template            a template, or the name of one of the tokenizer's; default: "tool_use" when there are tools
                             and the tokenizer has it, else the tokenizer's own
    add_generation_prompt    end with the opening of the assistant's turn
    continue_final_message   leave the last message open, for the model to go on; a str names the field to go on with
    tokenize, return_dict, return_tensors   see the table above
    padding, truncation, max_length         as in a tokenizer call; `tokenizer_kwargs` holds further ones
    return_assistant_tokens_mask   with return_dict: "assistant_masks", 1 for what the assistant said, which
                             the template marks by {% generation %}
    variables                anything else the template reads, such as enable_thinking=False

    Raises `TemplateError` for a template that is missing, fails, refuses the conversation or breaks its bounds, and
    `TokenizerError` for a conversation that is not one.
    """
    if return_assistant_tokens_mask and not (tokenize and return_dict):
        raise OptionError("return_assistant_tokens_mask=True needs tokenize=True and return_dict=True to return it in.")
    if continue_final_message:
        _refuse_closed(
            add_generation_prompt=add_generation_prompt, return_assistant_tokens_mask=return_assistant_tokens_mask
        )
    batched = _is_batch(conversation)
    template, label = choose(tokenizer, chat_template, with_tools=tools is not None)
    if return_assistant_tokens_mask and not re.search(r"\{%-?\s*generation\s*-?%\}", template):
        raise TemplateError(f"{label} has no {{% generation %}} block, so it does not say what the assistant wrote.")
    shared = {
        **tokenizer.special_tokens_map,
        **sandbox.plain(variables),
        "tools": None if tools is None else [_schema(tool) for tool in tools],
        "documents": sandbox.plain(documents),
        "add_generation_prompt": add_generation_prompt,
    }
    texts, spans = [], []
    for messages in conversation if batched else [conversation]:
        text, marked = _render(messages, template, label, shared, open_field=continue_final_message)
        texts.append(text)
        spans.append(marked)
    if not tokenize:
        return texts if batched else texts[0]
    batch = tokenizer(
        texts if batched else texts[0],
        add_special_tokens=False,
        padding=padding,
        truncation=truncation,
        max_length=max_length,
        return_tensors=return_tensors,
        **(tokenizer_kwargs or {}),
    )
    if return_assistant_tokens_mask:
        masks = [_mask(batch, row, marked) for row, marked in enumerate(spans)]
        kind = pad.framework(return_tensors)
        column = masks if batched or kind else masks[0]
        batch["assistant_masks"] = pad.as_tensor("assistant_masks", column, kind) if kind else column
    return batch if return_dict else batch["input_ids"]


def _refuse_closed(**options: bool) -> None:
    """Raise for an option that is for a conversation whose last message is closed."""
    for name, given in options.items():
        if given:
            raise OptionError(
                f"continue_final_message and {name} exclude each other: the first leaves the last message open, the "
                "other is for one that is closed."
            )


def choose(tokenizer: Tokenizer, wanted: str | None, *, with_tools: bool) -> tuple[str, str]:
    """The template to use, and its name for errors."""
    own = tokenizer.chat_template
    of = f" of {tokenizer.name_or_path}" if tokenizer.name_or_path else ""
    if isinstance(own, Mapping):
        if wanted is not None and wanted in own:
            return own[wanted], f"The chat template {wanted!r}{of}"
        if wanted is None:
            name = "tool_use" if with_tools and "tool_use" in own else "default"
            if name not in own:
                raise TemplateError(
                    f"The tokenizer{of} has the chat templates {', '.join(own)} and none is the default. "
                    "Name one: chat_template='…'."
                )
            return own[name], f"The chat template {name!r}{of}"
        if "{" not in wanted:
            raise TemplateError(f"There is no chat template {wanted!r}{of}: {', '.join(own)}.{nearest(wanted, own)}")
    if wanted is not None:
        return wanted, "The chat template given"
    if own is None:
        raise TemplateError(
            f"The tokenizer{of} has no chat template, so it does not know how its model reads a conversation. "
            "Use a model that was tuned for chat, or pass chat_template=…."
        )
    return str(own), f"The chat template{of}"


def _is_batch(conversation: Any) -> bool:
    """Whether this is a list of conversations; anything that is neither raises."""
    messages = getattr(conversation, "messages", conversation)
    if not isinstance(messages, list | tuple) or not messages:
        raise TokenizerError(
            "A conversation is a list of messages such as {'role': 'user', 'content': 'Hello'}, "
            f"but found {messages!r}."
        )
    return isinstance(messages[0], list | tuple) or hasattr(messages[0], "messages")


def _messages(conversation: Any) -> list[dict[str, Any]]:
    """The messages as plain dicts, without fields that are None, thinking under every name templates read it by."""
    messages = sandbox.plain(list(getattr(conversation, "messages", conversation)))
    made = []
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or "role" not in message:
            raise TokenizerError(
                f"Message {place} is {message!r}; a message is a dict with a 'role' and mostly a 'content'."
            )
        message = {key: value for key, value in message.items() if value is not None}
        thought = next((message[name] for name in REASONING if name in message), None)
        if thought is not None:
            message = {"thinking": thought, **message, "reasoning_content": thought}
        made.append(message)
    if not made:
        raise TokenizerError("A conversation has no messages; it needs one at least.")
    return made


# Where the last message ends, when it stays open: a noncharacter like the marks of the sandbox, and a space. When the
# space is gone from the text, the template trims the ends of messages, and so must the open end be trimmed.
_OPEN_END = "\ufdd2 "


def _render(
    conversation: Any, template: str, label: str, shared: Mapping[str, Any], *, open_field: bool | str
) -> tuple[str, list[tuple[int, int]]]:
    """The text of one conversation, and the spans of it that the assistant wrote."""
    messages = _messages(conversation)
    if not open_field:
        return sandbox.render(template, {**shared, "messages": messages}, label=label)
    field = open_field if isinstance(open_field, str) else "content"
    _mark_end(messages[-1], field)
    text, spans = sandbox.render(template, {**shared, "messages": messages}, label=label)
    place = text.rfind(_OPEN_END[0])
    if place < 0:
        raise TemplateError(
            f"{label} does not write the {field!r} of the last message, so there is nothing for "
            "continue_final_message to leave open. Write the beginning of the answer into another field."
        )
    return text[:place] if text.startswith(_OPEN_END, place) else text[:place].rstrip(), spans


def _mark_end(message: dict[str, Any], field: str) -> None:
    """Put the mark behind the text of a field, under all the names that hold it."""
    value = message.get(field)
    if isinstance(value, list):
        blocks = [block for block in value if isinstance(block, dict) and isinstance(block.get("text"), str)]
        if blocks:
            blocks[-1]["text"] += _OPEN_END
            return
    if not isinstance(value, str):
        raise TokenizerError(
            f"continue_final_message needs a text to go on with, but the {field!r} of the last message is {value!r}."
        )
    for name in REASONING if field in REASONING else (field,):
        if message.get(name) == value:
            message[name] = value + _OPEN_END


def _mask(batch: BatchEncoding, row: int, spans: Sequence[tuple[int, int]]) -> list[int]:
    """1 for the tokens of a row that lie in one of the spans of its text."""
    encoding = batch.encodings[row]
    return [
        int(sequence is not None and any(first < end and start < last for start, end in spans))
        for sequence, (first, last) in zip(encoding.sequence_ids, encoding.offsets, strict=True)
    ]


def _schema(tool: Any) -> Any:
    """A tool as a JSON schema."""
    if isinstance(tool, Mapping):
        return sandbox.plain(tool)
    if callable(tool):
        from plait.text import tools

        return tools.schema(tool)
    raise TokenizerError(f"A tool is a function or a dict with its JSON schema, but found {tool!r}.")
