"""An OpenAI-compatible server over one model.

protocol: requests and answers as pure functions · prompt: from a request to token ids · engine: the queue and its
worker · http: the thin face.
"""

from __future__ import annotations

from typing import Any

from plait.console import logger
from plait.errors import OptionError, require

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # names of this computer that no other one can take


def serve(
    reference: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    waiting: int = 32,
    name: str | None = None,
    **options: Any,
) -> None:
    """Load `reference` and answer at http://host:port/v1 until interrupted.

    `api_key` is demanded of every request under /v1; a `host` that other computers can reach requires one. `waiting`
    requests may queue. `name` is what clients call the model (default: the reference); `options` go to
    `AutoModelForCausalLM.from_pretrained`. Raises OptionError for a missing key, MissingExtraError without uvicorn.
    """
    if api_key == "" or (api_key is None and host not in LOOPBACK):
        raise OptionError(
            f"host {host!r} can be reached from other computers, so an `api_key` that is not empty is required."
            if api_key is None
            else "`api_key` is empty; leave it out, or give a key."
        )
    uvicorn = require("uvicorn", extra="serve", purpose="serve a model")
    require("starlette", extra="serve", purpose="serve a model")
    from plait.models.auto import AutoModelForCausalLM, AutoTokenizer
    from plait.serve.engine import Engine
    from plait.serve.http import application

    tokenizer = AutoTokenizer.from_pretrained(reference)
    model = AutoModelForCausalLM.from_pretrained(reference, **options)
    engine = Engine(model, tokenizer, waiting=waiting)
    logger("serve").info("%s is served at http://%s:%d/v1", reference, host, port)
    uvicorn.run(application(engine, name=name or reference, api_key=api_key), host=host, port=port, log_level="warning")
