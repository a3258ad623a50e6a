"""The queue and its worker: order, limit, cancelling, failure, and the end."""

from __future__ import annotations

import queue

import pytest
from mock_engine import ByteTokenizer, EchoModel

from plait.errors import RequestError
from plait.generate import GenerationConfig
from plait.generate.text import Piece
from plait.serve.engine import Engine, Job

OPTIONS = GenerationConfig(eos_token_id=0, max_new_tokens=40)


class Client:
    """Hears the events of one job."""

    def __init__(self, engine: Engine, text: str) -> None:
        self.events: queue.Queue[Piece | Exception] = queue.Queue()
        self.job = engine.submit(Job(tokens=list(text.encode()), config=OPTIONS, deliver=self.events.put))

    def answer(self) -> str:
        text = ""
        while True:
            event = self.events.get(timeout=20)
            if isinstance(event, Exception):
                raise event
            text += event.text
            if event.finish_reason:
                return text


def test_jobs_are_answered_in_order_and_never_crossed() -> None:
    model = EchoModel()
    engine = Engine(model, ByteTokenizer())
    clients = [Client(engine, f"client {number} 你好") for number in range(20)]
    assert [client.answer() for client in clients] == [f"client {number} 你好" for number in range(20)]
    assert model.finished_prompts == [f"client {number} 你好" for number in range(20)]
    engine.close()


def test_a_full_queue_refuses_with_429() -> None:
    model = EchoModel()
    model.gate.clear()
    engine = Engine(model, ByteTokenizer(), waiting=2)
    first = Client(engine, "a")
    while engine.running is None:
        pass
    rest = [Client(engine, "b"), Client(engine, "c")]
    with pytest.raises(RequestError, match="2 requests are waiting, which is the limit") as caught:
        Client(engine, "d")
    assert caught.value.status == 429
    assert engine.retry_after() >= 1
    engine.cancel(rest[0].job)  # leaves the queue at once
    late = Client(engine, "e")
    model.gate.set()
    assert [client.answer() for client in (first, rest[1], late)] == ["a", "c", "e"]
    assert model.finished_prompts == ["a", "c", "e"]
    engine.close()


def test_a_cancelled_job_frees_the_engine_within_two_steps() -> None:
    model = EchoModel("x" * 1000)
    model.gate.clear()
    engine = Engine(model, ByteTokenizer())
    long = Client(engine, "a")
    while engine.running is None:
        pass
    engine.cancel(long.job)
    model.reply = "y"
    model.gate.set()
    assert Client(engine, "b").answer() == "y"
    # One step of the cancelled job (it was inside), then "y" and the end.
    assert model.steps <= 2 + 2
    engine.close()


def test_a_failure_reaches_its_client_alone(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(EchoModel(fail_at=2), ByteTokenizer())
    with pytest.raises(ZeroDivisionError):
        Client(engine, "abc").answer()
    assert "a generation failed" in caplog.text
    assert Client(engine, "abc").answer() == "abc"
    engine.close()


def test_closing_tells_everybody() -> None:
    model = EchoModel()
    model.gate.clear()
    engine = Engine(model, ByteTokenizer())
    clients = [Client(engine, "a"), Client(engine, "b")]
    while engine.running is None:
        pass
    engine.running.cancelled.set()
    engine._closed = True  # as close() does first; the gate must open before the thread can be waited for
    model.gate.set()
    engine.close()
    for client in clients:
        with pytest.raises(RequestError, match="shutting down"):
            client.answer()
    with pytest.raises(RequestError, match="shutting down") as caught:
        Client(engine, "c")
    assert caught.value.status == 503
