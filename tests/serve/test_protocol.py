"""Requests and answers as pure functions: every field takes effect, is harmless, or is refused by name."""

from __future__ import annotations

import pytest

from plait.errors import RequestError
from plait.serve import protocol

HELLO = [{"role": "user", "content": "hello"}]
HEAD = {"id": "x", "created": 1, "model": "m"}


def chat(**fields: object) -> protocol.Request:
    return protocol.parse({"messages": HELLO, **fields}, kind="chat")


def test_fields_become_options() -> None:
    request = chat(
        model="m", max_tokens=9, max_completion_tokens=5, temperature=0.5, top_p=0.9, top_k=3, seed=7, stop="x",
        stream=True, stream_options={"include_usage": True}, chat_template_kwargs={"enable_thinking": False},
    )  # fmt: skip
    assert request.options == {
        "max_new_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "stop_strings": ["x"], "do_sample": True,
    }  # fmt: skip
    assert (request.model, request.seed, request.stream, request.usage_in_stream) == ("m", 7, True, True)
    assert request.template_options == {"enable_thinking": False}


def test_temperature_0_is_greedy_and_silence_leaves_the_models_own_options() -> None:
    assert chat(temperature=0, top_p=0.5, top_k=4).options == {"do_sample": False}
    assert chat().options == {}
    assert chat(repetition_penalty=1.2).options == {"repetition_penalty": 1.2}


def test_null_and_off_values_ask_for_nothing() -> None:
    request = chat(
        n=1, presence_penalty=0.0, frequency_penalty=0, logit_bias={}, logprobs=False, tools=[], tool_choice="auto",
        response_format={"type": "text"}, top_p=None, stop=None, reasoning_effort=None, user="me", metadata={"a": "b"},
    )  # fmt: skip
    assert request.options == {}


def test_messages_are_read_in_every_spelling() -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "me"},
        {"role": "assistant", "content": "c", "reasoning": "thought", "tool_calls": None},
    ]
    assert protocol.parse({"messages": messages}, kind="chat").messages == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c", "reasoning_content": "thought"},
    ]


def test_a_prompt_is_one_text() -> None:
    assert protocol.parse({"prompt": "a"}, kind="text").prompt == "a"
    assert protocol.parse({"prompt": ["a"], "echo": False}, kind="text").prompt == "a"


CHAT_ERRORS = [
    ({"tools": [{"type": "function"}]}, "tools", "`tools` is not supported by this server; leave it out"),
    ({"n": 2}, "n", "`n` is not supported"),
    ({"logprobs": True}, "logprobs", "`logprobs` is not supported"),
    ({"response_format": {"type": "json_object"}}, "response_format", "`response_format` is not supported"),
    ({"reasoning_effort": "low"}, "reasoning_effort", "`reasoning_effort` is not supported"),
    ({"max_token": 3}, "max_token", "There is no field `max_token`. Did you mean 'max_tokens'?"),
    ({"prompt": "x"}, "prompt", "There is no field `prompt`."),
    ({"max_tokens": 0}, "max_tokens", "`max_tokens` must be at least 1, but is 0."),
    ({"max_tokens": 1.5}, "max_tokens", "`max_tokens` must be a whole number, but is 1.5."),
    ({"max_tokens": True}, "max_tokens", "`max_tokens` must be a whole number, but is True."),
    ({"temperature": 3}, "temperature", "`temperature` must be between 0 and 2, but is 3."),
    ({"temperature": "hot"}, "temperature", "`temperature` must be a number, but is 'hot'."),
    ({"stream": 1}, "stream", "`stream` must be true or false, but is 1."),
    ({"stop": ["a", ""]}, "stop", "`stop` must be up to 4 texts that are not empty, but is ['a', '']."),
    ({"stop": ["a"] * 5}, "stop", "`stop` must be up to 4 texts"),
    ({"stop": 3}, "stop", "`stop` must be a text or a list, but is 3."),
    ({"messages": []}, "messages", "`messages` is missing or empty"),
    ({"messages": ["hi"]}, "messages[0]", "`messages[0]` must be an object, but is a text."),
    (
        {"messages": [{"role": "bot"}]},
        "messages[0].role",
        "must be one of system, developer, user, assistant, but is 'bot'",
    ),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "must be a text or a list of text parts, but is null"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0]",
        "part of type text",
    ),
    (
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]},
        "messages[0].tool_calls",
        "`messages[0].tool_calls` is not supported",
    ),
    (
        {"chat_template_kwargs": {"chat_template": "{{ x }}"}},
        "chat_template_kwargs.chat_template",
        "`chat_template_kwargs.chat_template` is set by the server",
    ),
]


@pytest.mark.parametrize(("fields", "field", "text"), CHAT_ERRORS, ids=[str(case[1]) for case in CHAT_ERRORS])
def test_a_chat_request_at_fault_is_refused_by_name(fields: dict, field: str, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        chat(**fields)
    assert caught.value.status == 400
    assert caught.value.field == field
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "The body must be a JSON object, but is a list."),
        ({}, "`prompt` must be one text that is not empty"),
        ({"prompt": ["a", "b"]}, "this server takes one at a time"),
        ({"prompt": [1, 2]}, "`prompt` must be one text"),
        ({"prompt": "a", "echo": True}, "`echo` is not supported"),
        ({"prompt": "a", "suffix": "b"}, "`suffix` is not supported"),
        ({"prompt": "a", "messages": HELLO}, "There is no field `messages`."),
    ],
)
def test_a_text_request_at_fault_is_refused(body: object, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        protocol.parse(body, kind="text")
    assert text in str(caught.value)


def test_answers_and_chunks_have_the_protocols_shape() -> None:
    request, used = chat(stream_options={"include_usage": True}), protocol.usage(3, 4)
    assert used == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert protocol.answer(request, HEAD, "hi", reason="stop", usage=used) == {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": "hi", "refusal": None},
            }
        ],
        "usage": used,
    }
    deltas = [
        protocol.chunk(request, HEAD, "", first=True),
        protocol.chunk(request, HEAD, "hi"),
        protocol.chunk(request, HEAD, "", reason="length"),
    ]
    assert [part["choices"][0]["delta"] for part in deltas] == [
        {"role": "assistant", "content": ""},
        {"content": "hi"},
        {},
    ]
    assert [part["choices"][0]["finish_reason"] for part in deltas] == [None, None, "length"]
    assert all(part["object"] == "chat.completion.chunk" and part["usage"] is None for part in deltas)
    assert protocol.last_chunk(request, HEAD, used)["usage"] == used
    text = protocol.parse({"prompt": "a"}, kind="text")
    assert protocol.answer(text, HEAD, "b", reason="stop", usage=used)["choices"][0]["text"] == "b"
    assert "usage" not in protocol.chunk(text, HEAD, "b")
    assert protocol.chunk(text, HEAD, "b")["choices"] == [
        {"index": 0, "finish_reason": None, "logprobs": None, "text": "b"}
    ]


def test_errors_have_the_protocols_shape() -> None:
    body = protocol.error(RequestError("no", field="n", code="unsupported"))
    assert body == {"error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": "unsupported"}}
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "server_error"}
    for status, kind in kinds.items():
        assert protocol.error(RequestError("no", status=status))["error"]["type"] == kind
