"""Fixtures of the hub's tests: an empty cache, and a folder of small wheels that pip is told to look in."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_hub import FakeHub


@dataclass(frozen=True)
class Wheelhouse:
    """A folder of wheels."""

    folder: Path

    def add(
        self,
        name: str,
        version: str,
        files: Mapping[str, bytes],
        *,
        recorded: Mapping[str, bytes | None] | None = None,
        links: Mapping[str, str] | None = None,
    ) -> Path:
        """Build a wheel. `recorded` changes what RECORD is told of a member (None: nothing); `links` adds symlinks."""
        info = f"{name}-{version}.dist-info"
        content = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = f"{info}/RECORD,,\n"
        for member, data in {**content, **(recorded or {})}.items():
            if data is not None:
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                record += f'"{member}",sha256={digest},{len(data)}\n'
        path = self.folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in content.items():
                archive.writestr(member, data)
            for member, target in (links or {}).items():
                entry = zipfile.ZipInfo(member)
                entry.external_attr = 0o120777 << 16
                archive.writestr(entry, target)
            archive.writestr(f"{info}/RECORD", record)
        return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PLAIT_HOME and the other libraries' caches in a fresh folder; no variable of the person who runs the tests."""
    for variable in ("PLAIT_OFFLINE", "HF_HUB_OFFLINE", "PLAIT_HUBS", "HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "plait"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return tmp_path / "plait"


@pytest.fixture
def wheels(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Wheelhouse:
    """An empty wheelhouse, the only place where pip looks."""
    house = Wheelhouse(tmp_path / "wheels")
    house.folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(house.folder))
    return house


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that inherits the environment; the caller judges the exit status."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)


NO_SOCKETS = """
import sys
def forbid(event, arguments):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec"):
        print("FORBIDDEN", event, arguments, flush=True)
        raise SystemExit(9)
sys.addaudithook(forbid)
"""


@pytest.fixture
def no_sockets() -> str:
    """Code to run first in a child: the interpreter itself then refuses every socket and every subprocess."""
    return NO_SOCKETS


@pytest.fixture
def python() -> object:
    """`run_python`, as a fixture."""
    return run_python


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that stands for Hugging Face and, at the same address, for ModelScope; no retry waits."""
    fake = FakeHub()
    monkeypatch.setenv("HF_ENDPOINT", fake.address)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", fake.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("plait.hub.session.time.sleep", lambda seconds: None)
    yield fake
    fake.close()


@pytest.fixture
def other_hub() -> Iterator[FakeHub]:
    """A second hub, of another origin."""
    fake = FakeHub()
    yield fake
    fake.close()
