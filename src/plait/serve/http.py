"""The HTTP face of an engine, complete and thin: routes, the key, and the bridge from its thread to a response.

`/health` is open; everything under `/v1` wants the key, or, without one, an address of this computer. There are no
CORS headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from plait.console import logger
from plait.errors import PlaitError, RequestError
from plait.generate.text import Piece
from plait.serve import LOOPBACK, protocol
from plait.serve.engine import Engine, Event, Job
from plait.serve.prompt import job_of

MAX_BODY_BYTES = 16 << 20
Events = asyncio.Queue[Event]


def application(engine: Engine, *, name: str, api_key: str | None = None) -> Starlette:
    """The ASGI application: health, models, chat completions and completions of one engine."""
    started = int(time.time())

    async def health(_: HTTPRequest) -> Response:
        return _json({"status": "ok"})

    async def models(_: HTTPRequest) -> Response:
        return _json(protocol.models([name], started))

    async def model(request: HTTPRequest) -> Response:
        _check_model(request.path_params["model"], name)
        return _json(protocol.model(name, started))

    def completions(kind: protocol.Kind) -> Callable[[HTTPRequest], Awaitable[Response]]:
        async def endpoint(request: HTTPRequest) -> Response:
            asked = protocol.parse(await _body(request), kind=kind)
            _check_model(asked.model, name)
            events: Events = asyncio.Queue()
            job = await asyncio.to_thread(job_of, asked, engine, deliver=_bridge(events))
            engine.submit(job)
            prefix = "chatcmpl" if kind == "chat" else "cmpl"
            head = {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}
            if asked.stream:
                return _Stream(engine, job, _frames(job, events, asked, head))
            return await _whole(engine, job, events, asked, head, request)

        return endpoint

    def guarded(endpoint: Callable[[HTTPRequest], Awaitable[Response]]) -> Callable[[HTTPRequest], Awaitable[Response]]:
        async def checked(request: HTTPRequest) -> Response:
            try:
                _check_key(request, api_key)
                return await endpoint(request)
            except RequestError as problem:
                return _refusal(problem, engine)

        return checked

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(engine.close)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/v1/models", guarded(models)),
            Route("/v1/models/{model:path}", guarded(model)),
            Route("/v1/chat/completions", guarded(completions("chat")), methods=["POST"]),
            Route("/v1/completions", guarded(completions("text")), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
        lifespan=lifespan,
    )


def _json(body: protocol.Body, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(body, ensure_ascii=False)
    return Response(text.encode("utf-8"), status, media_type="application/json", headers=headers)


def _frame(body: protocol.Body) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def _refusal(problem: RequestError, engine: Engine) -> Response:
    headers = {"Retry-After": str(engine.retry_after())} if problem.status == 429 else {}
    headers |= {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
    return _json(protocol.error(problem), problem.status, headers)


async def _http_error(request: HTTPRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}."
    headers = dict(error.headers or {})  # Allow, of a 405
    return _json(protocol.error(RequestError(message, status=error.status_code)), error.status_code, headers)


async def _unexpected(_: HTTPRequest, error: Exception) -> Response:
    return _json(protocol.error(_as_problem(error)), 500)


def _as_problem(error: Exception) -> RequestError:
    """What a client may know: plait's own words, and of any other error nothing but that it happened."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, PlaitError):
        return RequestError(str(error), status=400)
    return RequestError("The server failed to answer; its log says why.", status=500, code="internal_error")


def _check_key(request: HTTPRequest, api_key: str | None) -> None:
    """Refuse a request without the key; where there is none, one that a foreign web page sends.

    A page may point a name of its own at 127.0.0.1 (DNS rebinding), or post to it blindly. Its browser then names that
    page in `Host` or in `Origin`.
    """
    if api_key is None:
        for header, prefix in (("host", "//"), ("origin", "")):
            value = request.headers.get(header)
            if value is not None and _host(prefix + value) not in LOOPBACK:
                raise RequestError(
                    f"The header {header.title()} is {value!r}, but a server without an API key answers only "
                    "http://127.0.0.1 and http://localhost. Start it with an API key to reach it by another name.",
                    status=403,
                )
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # In constant time, so that the duration of a refusal says nothing about the key. Headers come decoded as latin-1.
    right = hmac.compare_digest(given.encode("latin-1"), api_key.encode("utf-8"))
    if scheme.lower() != "bearer" or not right:
        raise RequestError(
            "The API key is missing or wrong; send `Authorization: Bearer KEY`.", status=401, code="invalid_api_key"
        )


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _check_model(asked: str | None, name: str) -> None:
    if asked not in (None, name):
        message = f"There is no model {asked!r} here; this server has {name!r}."
        raise RequestError(message, status=404, field="model", code="model_not_found")


async def _body(request: HTTPRequest) -> Any:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY_BYTES:
            raise RequestError(f"The body has more than {MAX_BODY_BYTES} bytes.", status=413)
    try:
        body = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
        if b"\\u" in data:  # an escape may be half of a character, which neither a tokenizer nor an answer can hold
            json.dumps(body, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is not valid JSON in UTF-8: {error}.") from error
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _bridge(events: Events) -> Callable[[Event], None]:
    """A callback for the worker's thread that puts events into a queue of this event loop."""
    loop = asyncio.get_running_loop()

    def deliver(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended, and nobody listens
            loop.call_soon_threadsafe(events.put_nowait, event)

    return deliver


class _Stream(StreamingResponse):
    """A response in frames; however it ends, and even if it never begins, the job does not go on without it."""

    def __init__(self, engine: Engine, job: Job, frames: AsyncIterator[bytes]) -> None:
        super().__init__(frames, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.engine, self.job = engine, job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.engine.cancel(self.job)


async def _pieces(events: Events) -> AsyncIterator[Piece]:
    """The pieces of a job to its last one. Raises `RequestError` for what failed in the engine, which has logged it."""
    while True:
        event = await events.get()
        if isinstance(event, Exception):
            raise _as_problem(event) from event
        yield event
        if event.finish_reason is not None:
            return


async def _frames(job: Job, events: Events, asked: protocol.Request, head: protocol.Body) -> AsyncIterator[bytes]:
    """The frames of a streamed answer; the status line is long gone, so an error is a frame too."""
    tokens = 0
    try:
        yield _frame(protocol.chunk(asked, head, "", first=True))
        async for piece in _pieces(events):
            tokens = piece.tokens
            if piece.text or piece.thinking or piece.finish_reason:
                part = protocol.chunk(asked, head, piece.text, reason=piece.finish_reason, thinking=piece.thinking)
                yield _frame(part)
        if asked.usage_in_stream:
            yield _frame(protocol.last_chunk(asked, head, protocol.usage(len(job.tokens), tokens)))
    except RequestError as problem:
        yield _frame(protocol.error(problem))
    yield b"data: [DONE]\n\n"


async def _whole(
    engine: Engine, job: Job, events: Events, asked: protocol.Request, head: protocol.Body, request: HTTPRequest
) -> Response:
    """The answer in one body; a client that hangs up frees the engine."""

    async def collect() -> list[Piece]:
        return [piece async for piece in _pieces(events)]

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, hung_up = asyncio.create_task(collect()), asyncio.create_task(gone())
    try:
        await asyncio.wait({work, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            logger("serve").info("the client of %s left", head["id"])
            return Response(status_code=499)
        pieces = work.result()
    finally:
        engine.cancel(job)
        work.cancel()
        hung_up.cancel()
    used = protocol.usage(len(job.tokens), pieces[-1].tokens)
    text, thinking = ("".join(parts) for parts in zip(*((p.text, p.thinking) for p in pieces), strict=True))
    reason = str(pieces[-1].finish_reason)
    return _json(protocol.answer(asked, head, text, reason=reason, usage=used, thinking=thinking))
