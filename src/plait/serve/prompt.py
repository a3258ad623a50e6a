"""From a request to a job, complete: the template, the ids, the limits of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plait.errors import PlaitError, RequestError, TokenizerError
from plait.generate import GenerationConfig
from plait.serve.engine import Engine, Event, Job
from plait.serve.protocol import Request
from plait.text.thinking import ThinkingStream, thinks


def job_of(request: Request, engine: Engine, *, deliver: Callable[[Event], None]) -> Job:
    """The job that answers `request`. Raises RequestError with status 400 when the model cannot."""
    tokens = _ids(request, engine.tokenizer)
    room = context_length(engine.model) - len(tokens)
    if room < 1:
        raise RequestError(
            f"The prompt has {len(tokens)} tokens, but the model reads {context_length(engine.model)} in all.",
            field="messages" if request.kind == "chat" else "prompt",
            code="context_length_exceeded",
        )
    own = getattr(engine.model, "generation_config", None) or GenerationConfig()
    wanted = request.options.get("max_new_tokens", room)
    # What the model's files ask for beside one beam cannot be told as it grows.
    options = {**request.options, "num_beams": 1, "max_new_tokens": min(wanted, room)}
    try:
        config = own.updated(**options)
        config.refuse_unsupported()
    except PlaitError as error:
        raise RequestError(str(error)) from error
    separate = request.kind == "chat" and request.separate_thinking and thinks(engine.tokenizer)
    splitter = ThinkingStream(engine.tokenizer, prompt=tokens) if separate else None
    return Job(tokens=tokens, config=config, deliver=deliver, seed=request.seed, splitter=splitter)


def context_length(model: Any) -> int:
    """How many tokens the model reads, prompt and answer together."""
    length = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return int(length) if length else 1 << 20


def _ids(request: Request, tokenizer: Any) -> list[int]:
    try:
        if request.kind == "text":
            return list(tokenizer(request.prompt)["input_ids"])
        ids = tokenizer.apply_chat_template(
            request.messages, tokenize=True, add_generation_prompt=True, return_dict=False, **request.template_options
        )
        return list(ids)
    except (TokenizerError, TypeError) as error:
        field = "messages" if request.kind == "chat" else "prompt"
        raise RequestError(f"The prompt cannot be made: {error}", field=field) from error
