"""A real model and tokenizer behind the server: answers equal those of the pipeline, streamed or whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from plait.models.auto import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from plait.pipelines import pipeline
from plait.serve import serve
from plait.serve.engine import Engine
from plait.serve.http import application

CHAT = "/v1/chat/completions"
# Random weights speak in random tokens: parts of emoji, CJK and accents, which is what a stream must survive.
ASKED = ["Hello", "naïve 你好", "👩‍👩‍👧", "a much longer question about the sun and the wind", "x"]


@pytest.fixture(scope="module")
def folder(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with SmolLM2's tokenizer and chat template."""
    folder = tmp_path_factory.mktemp("served")
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer), intermediate_size=40, initializer_range=0.25, **size, **ids
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    engine = Engine(AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    with TestClient(application(engine, name="tiny"), base_url="http://localhost") as client:
        yield client


def ask(client: TestClient, text: str, **fields: Any) -> str:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 24, **fields}
    response = client.post(CHAT, json=body)
    assert response.status_code == 200, response.text
    if not fields.get("stream"):
        content: str = response.json()["choices"][0]["message"]["content"]
        return content
    frames = [frame.removeprefix("data: ") for frame in response.text.split("\n\n")][:-2]
    return "".join(json.loads(frame)["choices"][0]["delta"].get("content", "") for frame in frames)


def test_answers_equal_the_pipelines(folder: Path, client: TestClient) -> None:
    write = pipeline("text-generation", folder, max_new_tokens=24, return_full_text=False)
    for text in ASKED:
        expected = write([{"role": "user", "content": text}])[0]["generated_text"]
        assert ask(client, text, temperature=0) == ask(client, text, temperature=0, stream=True) == expected


def test_a_seed_repeats_a_draw(client: TestClient) -> None:
    options = {"temperature": 1.0, "top_p": 0.9, "top_k": 0}
    drawn = {ask(client, "Hello", seed=seed, **options) for seed in (1, 2, 3)}
    assert len(drawn) == 3
    assert ask(client, "Hello", seed=1, **options) in drawn
    assert ask(client, "Hello", seed=1, stream=True, **options) == ask(client, "Hello", seed=1, **options)


def test_a_stop_string_cuts_stream_and_answer_alike(client: TestClient) -> None:
    whole = ask(client, "Hello", temperature=0)
    stop = whole[6:9]
    expected = whole[: whole.index(stop)]
    assert ask(client, "Hello", temperature=0, stop=stop) == expected
    assert ask(client, "Hello", temperature=0, stop=[stop, "never said"], stream=True) == expected


def test_thirty_two_clients_get_their_own_answers(client: TestClient) -> None:
    alone = {f"{text} {number}": "" for number in range(7) for text in ASKED[:5]}
    texts = list(alone)[:32]
    expected = [ask(client, text, temperature=0, max_tokens=8) for text in texts]
    got: dict[str, str] = {}

    def one(text: str) -> None:
        got[text] = ask(client, text, temperature=0, max_tokens=8)

    threads = [threading.Thread(target=one, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[text] for text in texts] == expected


def test_serve_loads_and_listens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` blocks until interrupted, so the server is taken where uvicorn would run it."""
    taken: dict[str, Any] = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **options: taken.update(app=app, **options))
    serve(str(folder), port=8123, api_key="k", name="mine")
    assert (taken["host"], taken["port"]) == ("127.0.0.1", 8123)
    with TestClient(taken["app"]) as client:
        headers = {"Authorization": "Bearer k"}
        assert client.get("/v1/models", headers=headers).json()["data"][0]["id"] == "mine"
        body = {"model": "mine", "prompt": "Hello", "max_tokens": 3, "temperature": 0}
        response = client.post("/v1/completions", json=body, headers=headers)
        assert response.json()["usage"]["completion_tokens"] == 3
