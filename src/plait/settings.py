"""Every environment variable and path that plait reads, complete; nothing else in the package touches `os.environ`.

Values are read when asked for, never at import, so a test or a program may change them at any time.

| variable | meaning | default |
|---|---|---|
| PLAIT_HOME | root of plait's own cache | ~/.cache/plait (below XDG_CACHE_HOME when set) |
| PLAIT_CACHE | "0": results of `map` and `filter` are neither kept nor used | on |
| PLAIT_OFFLINE, HF_HUB_OFFLINE | "1": no socket is ever opened | off |
| PLAIT_HUBS | hubs at which a plain name is tried, in order: names, or https://… of a mirror | huggingface,modelscope |
| HF_ENDPOINT, MODELSCOPE_ENDPOINT | address of the hub or of a mirror of it | the hubs' own |
| HF_HOME, HF_HUB_CACHE, MODELSCOPE_CACHE | where the other libraries keep their files | theirs |
| HF_TOKEN, MODELSCOPE_API_TOKEN | access token, sent to its own hub alone | that of `hf auth login` |
| HF_TOKEN_PATH | the file where `hf auth login` keeps the token | $HF_HOME/token |
| PLAIT_PROGRESS | "0": no progress bars; "1": always | bars on a terminal |
| PLAIT_API_KEY | the key that `plait serve` demands (read by its command line) | none |
| PLAIT_DEBUG | "1": the command line shows where an error came from | off |
| RAY_ADDRESS | the Ray cluster for `engine="ray"`; Ray sets and reads it too | one that is started here |
| RANK, LOCAL_RANK, WORLD_SIZE | this process among those of a `torchrun` launch; torchrun sets them | one process |
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_TRUE = {"1", "true", "yes", "on"}


def _flag(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in _TRUE


def environment(**changes: str) -> dict[str, str]:
    """The environment for a child process: this one's, with `changes`."""
    return {**os.environ, **changes}


def worker_environment(threads: int) -> dict[str, str]:
    """The environment for one of several worker processes: its libraries use so many threads, unless told otherwise."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), **os.environ}


@contextmanager
def changed(**values: str) -> Iterator[None]:
    """The environment with some values, for libraries that read them, inside a `with` block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def ray_address() -> str | None:
    """The address of a Ray cluster to connect to."""
    return os.environ.get("RAY_ADDRESS", "").strip() or None


def home() -> Path:
    """The root of plait's own cache."""
    if path := os.environ.get("PLAIT_HOME"):
        return Path(path).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "plait"


def caching() -> bool:
    """Whether results of `map` and `filter` are kept and used."""
    return os.environ.get("PLAIT_CACHE", "1").strip().lower() in _TRUE


def set_caching(state: bool) -> None:
    """Set what `caching` answers, in this process and its children."""
    os.environ["PLAIT_CACHE"] = "1" if state else "0"


def offline() -> bool:
    """Whether the network is switched off."""
    return _flag("PLAIT_OFFLINE") or _flag("HF_HUB_OFFLINE")


def debug() -> bool:
    """Whether the command line shows where an error came from."""
    return _flag("PLAIT_DEBUG")


def hubs() -> tuple[str, ...]:
    """The hubs at which a plain name is tried, in order."""
    text = os.environ.get("PLAIT_HUBS", "huggingface,modelscope")
    return tuple(name.strip().rstrip("/") for name in text.split(",") if name.strip())


def huggingface_endpoint() -> str:
    """Address of the Hugging Face hub or of the mirror in its place; it may carry a path prefix."""
    return _address("HF_ENDPOINT", "https://huggingface.co")


def modelscope_endpoint() -> str:
    """Address of the ModelScope hub or of the mirror in its place."""
    return _address("MODELSCOPE_ENDPOINT", "https://www.modelscope.cn")


def _address(variable: str, default: str) -> str:
    """The address in a variable; `hf-mirror.com` alone means https://hf-mirror.com, and an empty one is none."""
    text = os.environ.get(variable, "").strip().rstrip("/") or default
    return text if "://" in text else f"https://{text}"


def huggingface_cache() -> Path:
    """Where huggingface_hub keeps its files."""
    if path := os.environ.get("HF_HUB_CACHE"):
        return Path(path).expanduser()
    base = os.environ.get("HF_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache" / "huggingface") / "hub"


def modelscope_cache() -> Path:
    """Where modelscope keeps its files."""
    path = os.environ.get("MODELSCOPE_CACHE")
    return Path(path).expanduser() if path else Path.home() / ".cache" / "modelscope" / "hub"


def huggingface_token() -> str | None:
    """The access token of the Hugging Face hub: HF_TOKEN, which goes to HF_ENDPOINT; or the one that `hf auth login`
    keeps in a file, which goes to huggingface.co itself and to no mirror."""
    if token := os.environ.get("HF_TOKEN", "").strip():  # a secret read from a file often ends with its line end
        return token
    if huggingface_endpoint() != "https://huggingface.co":
        return None
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    file = Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token").expanduser()
    return (file.read_text(encoding="utf-8").strip() or None) if file.is_file() else None


def modelscope_token() -> str | None:
    """The access token of ModelScope, if one is set in the environment."""
    return os.environ.get("MODELSCOPE_API_TOKEN", "").strip() or None


def progress() -> bool | None:
    """Whether progress bars are forced on (True), forced off (False) or left to the terminal (None)."""
    text = os.environ.get("PLAIT_PROGRESS", "").strip().lower()
    return None if not text else text in _TRUE


class Launch(NamedTuple):
    """This process among those that torchrun started: its number of all, its number on this machine, how many."""

    rank: int = 0
    local_rank: int = 0
    processes: int = 1


def torchrun() -> Launch:
    """The place of this process in a torchrun launch; one process when there was none."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Launch()
    rank = int(os.environ["RANK"])
    return Launch(rank, int(os.environ.get("LOCAL_RANK", rank)), int(os.environ["WORLD_SIZE"]))


def force_progress(state: bool | None) -> None:
    """Set what `progress` answers, in this process and its children."""
    if state is None:
        os.environ.pop("PLAIT_PROGRESS", None)
    else:
        os.environ["PLAIT_PROGRESS"] = "1" if state else "0"
