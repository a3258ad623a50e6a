"""The OpenAI protocol for text, complete as pure functions: a body in, options out; text in, a body or a chunk out.

A field is one of three: it takes effect; it cannot change the answer and is accepted; or it is refused with status 400
and its name. Nothing that would change the answer is ever ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from plait.errors import RequestError, nearest

Body: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["chat", "text"]

NUMBER = (int, float)
# Field -> (types, smallest, largest): what takes effect.
FIELDS: dict[str, tuple[type | tuple[type, ...], float | None, float | None]] = {
    "model": (str, None, None),
    "stream": (bool, None, None),
    "stream_options": (dict, None, None),
    "max_tokens": (int, 1, None),
    "temperature": (NUMBER, 0, 2),
    "top_p": (NUMBER, 0, 1),
    "seed": (int, -(1 << 63), (1 << 64) - 1),  # what torch's generator takes
    "stop": ((str, list), None, None),
    "top_k": (int, 0, None),
    "min_p": (NUMBER, 0, 1),
    "repetition_penalty": (NUMBER, 0.01, 100),
}
OWN_FIELDS: dict[Kind, dict[str, tuple[type | tuple[type, ...], float | None, float | None]]] = {
    "chat": {
        "messages": (list, None, None),
        "max_completion_tokens": (int, 1, None),
        "chat_template_kwargs": (dict, None, None),
        "separate_reasoning": (bool, None, None),
    },
    "text": {"prompt": ((str, list), None, None), "echo": (bool, None, None)},
}
# Field -> values that ask for nothing; any other value would change the answer and is refused.
OFF: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "suffix": ("",),
    "reasoning_effort": (),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "guided_json": (),
}
# Arguments of the chat template that a client may not set: they belong to the server.
RESERVED = {
    *("conversation", "messages", "chat_template", "tools", "documents", "add_generation_prompt", "tokenize"),
    *("continue_final_message", "padding", "truncation", "max_length", "return_tensors", "return_dict"),
    *("tokenizer_kwargs", "return_assistant_tokens_mask"),
}
WITHOUT_EFFECT = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
ROLES = ("system", "developer", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asks for: `messages` of a chat or a `prompt`, and the `options` for GenerationConfig."""

    kind: Kind
    model: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)
    prompt: str = ""
    template_options: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    separate_thinking: bool = True
    stream: bool = False
    usage_in_stream: bool = False


def parse(body: Any, *, kind: Kind) -> Request:
    """A decoded JSON body -> the request. Raises RequestError with status 400 for the first field at fault."""
    if not isinstance(body, dict):
        raise RequestError(f"The body must be a JSON object, but is {_kind_of(body)}.")
    given = {name: value for name, value in body.items() if value is not None}
    known = FIELDS | OWN_FIELDS[kind]
    for name, value in given.items():
        if name in known:
            _check(name, value, *known[name])
        elif name in OFF:
            if value not in OFF[name]:
                raise RequestError(
                    f"`{name}` is not supported by this server; leave it out.", field=name, code="unsupported"
                )
        elif name not in WITHOUT_EFFECT:
            raise RequestError(
                f"There is no field `{name}`.{nearest(name, known | OFF)}", field=name, code="unknown_field"
            )
    return Request(
        kind=kind,
        model=given.get("model"),
        messages=_messages(given) if kind == "chat" else [],
        prompt=_prompt(given) if kind == "text" else "",
        template_options=_template_options(given),
        options=_options(given),
        seed=given.get("seed"),
        separate_thinking=given.get("separate_reasoning", True),
        stream=given.get("stream", False),
        usage_in_stream=bool(given.get("stream_options", {}).get("include_usage")),
    )


def _kind_of(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), repr(value))


def _check(name: str, value: Any, types: Any, smallest: float | None, largest: float | None) -> None:
    wanted = types if isinstance(types, tuple) else (types,)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        words = {
            str: "a text",
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            list: "a list",
            dict: "an object",
        }
        expected = "a number" if wanted == NUMBER else " or ".join(words[kind] for kind in wanted)
        raise RequestError(f"`{name}` must be {expected}, but is {value!r}.", field=name)
    if (smallest is not None and value < smallest) or (largest is not None and value > largest):
        limits = f"at least {smallest}" if largest is None else f"between {smallest} and {largest}"
        raise RequestError(f"`{name}` must be {limits}, but is {value!r}.", field=name)


def _messages(given: Mapping[str, Any]) -> list[dict[str, str]]:
    messages = given.get("messages")
    if not messages:
        raise RequestError("`messages` is missing or empty; give at least one message.", field="messages")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: Any, place: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise RequestError(f"`{place}` must be an object, but is {_kind_of(message)}.", field=place)
    role = message.get("role")
    if role not in ROLES:
        raise RequestError(f"`{place}.role` must be one of {', '.join(ROLES)}, but is {role!r}.", field=f"{place}.role")
    for name in sorted(message.keys() - {"role", "content", "name", "refusal", "reasoning", "reasoning_content"}):
        if message[name]:
            raise RequestError(
                f"`{place}.{name}` is not supported by this server.", field=f"{place}.{name}", code="unsupported"
            )
    out = {"role": "system" if role == "developer" else role, "content": _content(message.get("content"), place)}
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str):
            out.setdefault("reasoning_content", message[name])
    return out


def _template_options(given: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = given.get("chat_template_kwargs", {})
    for name in sorted(options.keys() & RESERVED):
        where = f"chat_template_kwargs.{name}"
        raise RequestError(f"`{where}` is set by the server; leave it out.", field=where)
    return options


def _content(content: Any, place: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = []
        for index, part in enumerate(content):
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                where = f"{place}.content[{index}]"
                raise RequestError(f"`{where}` must be a part of type text; this server reads no other.", field=where)
            texts.append(part["text"])
        return "".join(texts)
    raise RequestError(
        f"`{place}.content` must be a text or a list of text parts, but is {_kind_of(content)}.",
        field=f"{place}.content",
    )


def _prompt(given: Mapping[str, Any]) -> str:
    prompt = given.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise RequestError(
            "`prompt` must be one text that is not empty; this server takes one at a time.", field="prompt"
        )
    if given.get("echo"):
        raise RequestError("`echo` is not supported by this server; leave it out.", field="echo", code="unsupported")
    return prompt


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that shape the text, as options of GenerationConfig; what is not given stays the model's own."""
    options = {name: given[name] for name in ("top_p", "top_k", "min_p", "repetition_penalty") if name in given}
    limits = [given[name] for name in ("max_tokens", "max_completion_tokens") if name in given]
    if limits:
        options["max_new_tokens"] = min(limits)
    if "stop" in given:
        stops = [given["stop"]] if isinstance(given["stop"], str) else given["stop"]
        if len(stops) > 4 or not all(isinstance(stop, str) and stop for stop in stops):
            raise RequestError(
                f"`stop` must be up to 4 texts that are not empty, but is {given['stop']!r}.", field="stop"
            )
        options["stop_strings"] = stops
    if given.get("temperature") == 0:  # the protocol's way to say greedy
        return {
            **{name: value for name, value in options.items() if name not in ("top_p", "top_k", "min_p")},
            "do_sample": False,
        }
    if "temperature" in given:
        options["temperature"] = float(given["temperature"])
    if options.keys() & {"temperature", "top_p", "top_k", "min_p"}:
        options["do_sample"] = True
    return options


def usage(prompt_tokens: int, new_tokens: int) -> Body:
    """How many tokens were read and written."""
    return {"prompt_tokens": prompt_tokens, "completion_tokens": new_tokens, "total_tokens": prompt_tokens + new_tokens}


def _thinking(text: str) -> Body:
    """Thinking under both names that clients read."""
    return {"reasoning_content": text, "reasoning": text} if text else {}


def answer(request: Request, head: Body, text: str, *, reason: str, usage: Body, thinking: str = "") -> Body:
    """The body of a whole answer. `head` holds id, created and model."""
    choice: Body = {"index": 0, "finish_reason": reason, "logprobs": None}
    if request.kind == "chat":
        choice["message"] = {"role": "assistant", "content": text, "refusal": None, **_thinking(thinking)}
    else:
        choice["text"] = text
    name = "chat.completion" if request.kind == "chat" else "text_completion"
    return {**head, "object": name, "choices": [choice], "usage": usage}


def chunk(
    request: Request, head: Body, text: str, *, reason: str | None = None, first: bool = False, thinking: str = ""
) -> Body:
    """The body of one part of a streamed answer; `first` announces the role of a chat message."""
    choice: Body = {"index": 0, "finish_reason": reason, "logprobs": None}
    if request.kind == "chat":
        role = {"role": "assistant"} if first else {}
        choice["delta"] = {**role, **_thinking(thinking), **({"content": text} if text or first else {})}
    else:
        choice["text"] = text
    name = "chat.completion.chunk" if request.kind == "chat" else "text_completion"
    body = {**head, "object": name, "choices": [choice]}
    return {**body, "usage": None} if request.usage_in_stream else body


def last_chunk(request: Request, head: Body, usage: Body) -> Body:
    """The part behind the last one, when the client asked for `stream_options.include_usage`."""
    name = "chat.completion.chunk" if request.kind == "chat" else "text_completion"
    return {**head, "object": name, "choices": [], "usage": usage}


def error(problem: RequestError) -> Body:
    """The body of an error."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    return {"error": {"message": str(problem), "type": kind, "param": problem.field, "code": problem.code}}


def models(names: list[str], created: int) -> Body:
    """The list of models."""
    return {"object": "list", "data": [model(name, created) for name in names]}


def model(name: str, created: int) -> Body:
    """One model of the list."""
    return {"id": name, "object": "model", "created": created, "owned_by": "plait"}
