"""The server in process: routes, keys, streams, failures, and one real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from mock_engine import ByteTokenizer, EchoModel
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from plait.errors import MissingExtraError, OptionError
from plait.generate import GenerationConfig
from plait.serve import serve
from plait.serve.engine import Engine
from plait.serve.http import application

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = {"messages": [{"role": "user", "content": "hi"}]}
ZWJ = "👩‍👩‍👧 naïve 你好 🇩🇪"


@contextlib.contextmanager
def client_of(model: EchoModel, *, api_key: str | None = None, waiting: int = 32) -> Iterator[TestClient]:
    engine = Engine(model, ByteTokenizer(), waiting=waiting)
    with TestClient(application(engine, name="m", api_key=api_key), base_url="http://localhost:8000") as client:
        yield client


def frames(text: str) -> list[dict | str]:
    parts = text.split("\n\n")
    assert parts[-1] == ""
    assert all(part.startswith("data: ") for part in parts[:-1])
    return [part[6:] if part == "data: [DONE]" else json.loads(part[6:]) for part in parts[:-1]]


def test_a_chat_is_answered() -> None:
    with client_of(EchoModel("你好!")) as client:
        response = client.post(CHAT, json={"model": "m", **HELLO})
        body = response.json()
        assert response.status_code == 200
        assert body["choices"][0]["message"]["content"] == "你好!"
        assert body["choices"][0]["finish_reason"] == "stop"
        # "user:hi\n" has 8 bytes; the answer 7 and the end
        assert body["usage"] == {"prompt_tokens": 8, "completion_tokens": 8, "total_tokens": 16}
        assert body["id"].startswith("chatcmpl-")
        assert body["model"] == "m"


def test_the_template_gets_the_clients_options() -> None:
    with client_of(EchoModel()) as client:
        body = {**HELLO, "chat_template_kwargs": {"enable_thinking": False}}
        content = client.post(CHAT, json=body).json()["choices"][0]["message"]["content"]
        assert content == "user:hi\nenable_thinking=False\n"


def test_limits_and_stop_strings_take_effect() -> None:
    with client_of(EchoModel("abcdef")) as client:

        def choice(**fields: object) -> tuple[str, str]:
            body = client.post(TEXT, json={"prompt": "p", **fields}).json()["choices"][0]
            return body["text"], body["finish_reason"]

        assert choice(max_tokens=2) == ("ab", "length")
        assert choice(stop="de") == ("abc", "stop")
        assert choice(stop=["zz", "f"]) == ("abcde", "stop")
        assert choice() == ("abcdef", "stop")
    with client_of(EchoModel("x" * 100)) as client:  # the model reads 64 tokens in all
        body = client.post(TEXT, json={"prompt": "p" * 60, "max_tokens": 99}).json()
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 4


def test_a_stream_joined_is_the_whole_answer() -> None:
    with client_of(EchoModel(ZWJ)) as client:
        whole = client.post(CHAT, json=HELLO).json()["choices"][0]["message"]["content"]
        response = client.post(CHAT, json={**HELLO, "stream": True, "stream_options": {"include_usage": True}})
        assert response.headers["content-type"].startswith("text/event-stream")
        *parts, last, done = frames(response.text)
        assert done == "[DONE]"
        deltas = [part["choices"][0]["delta"] for part in parts]
        assert deltas[0] == {"role": "assistant", "content": ""}
        assert "".join(delta.get("content", "") for delta in deltas) == whole == ZWJ
        assert not any("\ufffd" in delta.get("content", "") for delta in deltas)
        assert [part["choices"][0]["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + ["stop"]
        assert len({part["id"] for part in parts}) == 1
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == len(ZWJ.encode()) + 1


def test_half_a_character_at_the_end_is_marked_not_lost() -> None:
    with client_of(EchoModel("a你", cut=1)) as client:
        streamed = client.post(TEXT, json={"prompt": "p", "stream": True}).text
        text = "".join(frame["choices"][0]["text"] for frame in frames(streamed)[:-1])
        assert text == "a\ufffd" == client.post(TEXT, json={"prompt": "p"}).json()["choices"][0]["text"]


def test_a_failure_inside_a_stream_is_a_frame_and_done() -> None:
    with client_of(EchoModel("abcdef", fail_at=3)) as client:
        parts = frames(client.post(CHAT, json={**HELLO, "stream": True}).text)
        assert parts[-1] == "[DONE]"
        assert parts[-2]["error"]["code"] == "internal_error"
        assert "secret" not in json.dumps(parts), "what went wrong inside is for the log"
        assert [part["choices"][0]["delta"].get("content") for part in parts[:-2]] == ["", "a", "b"]


def test_a_failure_of_the_server_itself_inside_a_stream_reaches_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine logs what fails in it; nothing else may end in a frame alone."""

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr("plait.serve.protocol.last_chunk", broken)
    asked = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
    with client_of(EchoModel("ab")) as client, pytest.raises(ZeroDivisionError, match="broken"):
        client.post(CHAT, json=asked)


def test_a_failure_of_a_whole_answer_is_500() -> None:
    with client_of(EchoModel("abcdef", fail_at=3)) as client:
        response = client.post(CHAT, json=HELLO)
        assert response.status_code == 500
        assert response.json()["error"]["message"] == "The server failed to answer; its log says why."
        assert client.post(CHAT, json=HELLO).status_code == 200


@pytest.mark.parametrize(
    ("path", "content", "status", "param", "text"),
    [
        (CHAT, b"{", 400, None, "The body is not valid JSON"),
        (CHAT, b"[" * 100000, 400, None, "The body is not valid JSON"),
        (TEXT, b'{"prompt": "p", "temperature": NaN}', 400, None, "not valid JSON in UTF-8: NaN is no JSON number"),
        (TEXT, b'{"prompt": "\\ud800"}', 400, None, "surrogates not allowed"),
        (TEXT, b'{"\\ud800": 1}', 400, None, "surrogates not allowed"),
        (TEXT, b"\xff\xfe{\x00}\x00", 400, None, "not valid JSON in UTF-8: 'utf-8' codec can't decode byte 0xff"),
        (CHAT, json.dumps({**HELLO, "tools": [1]}).encode(), 400, "tools", "`tools` is not supported"),
        (
            TEXT,
            b'{"prompt": "p", "seed": %d}' % 2**64,
            400,
            "seed",
            "between -9223372036854775808 and 18446744073709551615",
        ),
        (TEXT, b'{"prompt": "p", "repetition_penalty": 1%s}' % (b"0" * 400), 400, "repetition_penalty", "0.01 and 100"),
        (CHAT, json.dumps({**HELLO, "model": "x"}).encode(), 404, "model", "no model 'x' here; this server has 'm'"),
        (TEXT, json.dumps({"prompt": "p" * 64}).encode(), 400, "prompt", "64 tokens, but the model reads 64 in all"),
        (CHAT, b" " * (17 << 20), 413, None, "more than 16777216 bytes"),
        ("/v1/nothing", b"{}", 404, None, "POST /v1/nothing: Not Found."),
        ("/v1/models", b"{}", 405, None, "POST /v1/models: Method Not Allowed."),
        (
            CHAT,
            json.dumps({**HELLO, "chat_template_kwargs": {"fail": True}}).encode(),
            400,
            "messages",
            "The prompt cannot be made: the template failed on line 1",
        ),
    ],
)
def test_errors_are_in_the_protocols_shape(
    path: str, content: bytes, status: int, param: str | None, text: str
) -> None:
    with client_of(EchoModel("a")) as client:
        response = client.post(path, content=content)
        assert response.status_code == status
        assert text in response.json()["error"]["message"]
        assert response.json()["error"]["param"] == param


def test_options_of_the_model_that_are_not_supported_are_told() -> None:
    model = EchoModel("a")
    model.generation_config = GenerationConfig(guidance_scale=2.0)
    with client_of(model) as client:
        response = client.post(CHAT, json=HELLO)
        assert response.status_code == 400
        assert "`guidance_scale=2.0` is not supported" in response.json()["error"]["message"]


def test_beams_that_the_files_of_a_model_ask_for_are_one_here() -> None:
    answers = []
    for config in (GenerationConfig(), GenerationConfig(num_beams=4, length_penalty=2.0, early_stopping=True)):
        model = EchoModel("a")
        model.generation_config = config
        with client_of(model) as client:
            response = client.post(CHAT, json=HELLO)
            assert response.status_code == 200
            answers.append(response.json()["choices"])
    assert answers[0] == answers[1]


def test_the_key_guards_all_but_health() -> None:
    with client_of(EchoModel("a"), api_key="s3cret-ключ") as client:
        assert client.get("/health").json() == {"status": "ok"}
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
            response = client.get("/v1/models", headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert client.post(CHAT, json=HELLO, headers=headers).status_code == 401
    with client_of(EchoModel("a"), api_key="s3cret") as client:
        headers = {"Authorization": "Bearer s3cret"}
        assert client.get("/v1/models", headers=headers).json()["data"][0]["id"] == "m"
        assert client.get("/v1/models/m", headers=headers).json()["object"] == "model"
        assert client.get("/v1/models/x", headers=headers).status_code == 404
        assert client.post(CHAT, json=HELLO, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Host", "evil.example"),
        ("Host", "localhost.evil.example:8000"),
        ("Host", "127.0.0.1.evil.example"),
        ("Host", "[::1"),
        ("Host", ""),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
    ],
)
def test_without_a_key_no_foreign_page_gets_in(header: str, value: str) -> None:
    with client_of(EchoModel("a")) as client:
        response = client.post(CHAT, json=HELLO, headers={header: value})
        assert response.status_code == 403
        assert response.json()["error"]["message"] == (
            f"The header {header} is {value!r}, but a server without an API key answers only http://127.0.0.1 and "
            "http://localhost. Start it with an API key to reach it by another name."
        )
        for ours in ("127.0.0.1:8000", "LOCALHOST", "[::1]:8000"):
            assert client.get("/v1/models", headers={"Host": ours, "Origin": f"http://{ours}"}).status_code == 200
    with client_of(EchoModel("a"), api_key="k") as client:
        headers = {header: value, "Authorization": "Bearer k"}
        assert client.post(CHAT, json=HELLO, headers=headers).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_key_of_any_letters(scheme: str) -> None:
    """The name of the scheme is free of case (RFC 9110, 11.1); a key beyond ASCII is sent in UTF-8."""
    with client_of(EchoModel("a"), api_key="s3cret-ключ") as client:
        headers = {"Authorization": f"{scheme} s3cret-ключ".encode()}
        assert client.get("/v1/models", headers=headers).status_code == 200
        assert client.get("/v1/models", headers={"Authorization": "s3cret-ключ".encode()}).status_code == 401


def test_a_wrong_method_is_told_the_right_one() -> None:
    with client_of(EchoModel("a")) as client:
        response = client.get(CHAT)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_client_that_is_gone_before_the_stream_begins_frees_the_engine() -> None:
    """The server learns of it with the status line, before it asks for a first frame."""
    model = EchoModel("x" * 50)
    model.gate.clear()
    engine = Engine(model, ByteTokenizer())
    body = json.dumps({"prompt": "p", "stream": True}).encode()

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict) -> None:
        raise OSError("the client is gone")

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST"}
    scope |= {"path": TEXT, "raw_path": TEXT.encode(), "root_path": "", "query_string": b"", "headers": []}
    with pytest.raises(ClientDisconnect):
        asyncio.run(application(engine, name="m")(scope, receive, send))
    model.gate.set()
    deadline = time.monotonic() + 10
    while engine.running is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    engine.close()
    assert model.steps <= 1, "the token that was being made, and no other"


def test_the_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def compare(given: bytes, key: bytes) -> bool:
        seen.append((given, key))
        return False

    monkeypatch.setattr("plait.serve.http.hmac.compare_digest", compare)
    with client_of(EchoModel("a"), api_key="k") as client:
        client.get("/v1/models", headers={"Authorization": "Bearer k"})
    assert seen == [(b"k", b"k")]


def test_a_full_queue_is_429_with_a_time_to_wait() -> None:
    model = EchoModel("a")
    model.gate.clear()
    with client_of(model, waiting=1) as client:
        threads = [threading.Thread(target=client.post, args=(CHAT,), kwargs={"json": HELLO}) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.2)  # the first one runs, the second one waits
        response = client.post(CHAT, json=HELLO)
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["type"] == "rate_limit_error"
        model.gate.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def address() -> Iterator[tuple[str, EchoModel, Engine]]:
    """A server on a real socket of the loopback, and its model."""
    model = EchoModel("x" * 50)
    engine = Engine(model, ByteTokenizer())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(application(engine, name="m"), log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", model, engine
        model.gate.set()
        server.should_exit = True
        thread.join()


def test_a_real_socket_streams(address: tuple[str, EchoModel, Engine]) -> None:
    base, _, _ = address
    with httpx.stream("POST", base + CHAT, json={**HELLO, "stream": True}, timeout=20) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert "".join(json.loads(line[6:])["choices"][0]["delta"].get("content", "") for line in lines[:-1]) == "x" * 50


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_the_engine(address: tuple[str, EchoModel, Engine], stream: bool) -> None:
    base, model, engine = address
    model.gate.clear()
    host, port = base.removeprefix("http://").split(":")
    body = json.dumps({**HELLO, "stream": stream}).encode()
    with socket.create_connection((host, int(port))) as connection:
        fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        head = f"POST {CHAT} HTTP/1.1\r\n{fields}\r\n\r\n"
        connection.sendall(head.encode() + body)
        deadline = time.monotonic() + 20
        while engine.running is None:
            assert time.monotonic() < deadline, "the request never reached the engine"
            time.sleep(0.01)
        job = engine.running
    while not job.cancelled.is_set():
        assert time.monotonic() < deadline, "the engine never heard that the client left"
        time.sleep(0.01)
    model.gate.set()
    while engine.running is not None:
        time.sleep(0.01)
    assert model.steps <= 2


def test_serve_wants_a_key_beyond_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"host '0.0.0.0' can be reached from other computers, so an `api_key`"):
        serve("x", host="0.0.0.0")
    with pytest.raises(OptionError, match="`api_key` is empty"):
        serve("x", api_key="")
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r"needed to serve a model.*pip install 'plait\[serve\]'"):
        serve("x")
