"""The downloader under faults: cut connections, wrong bytes, kills, two at once. Nothing wrong ever lands."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub, sha256

from plait.errors import HubError, IntegrityError, NotFoundError
from plait.hub import resolve

Python = Callable[..., subprocess.CompletedProcess[str]]
BIG = random.Random(0).randbytes(5_000_000)
FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": BIG}


def gets(hub: FakeHub) -> list[str | None]:
    """The Range of each request for the big file."""
    return [headers.get("range") for _, path, headers in hub.log if path.endswith("model.safetensors")]


def test_a_cut_connection_goes_on_where_it_stopped(hub: FakeHub) -> None:
    hub.add("org/bert", FILES)
    hub.cuts["model.safetensors"] = [1_000_000, 0, 2_500_000, 1]
    assert resolve("org/bert").path("model.safetensors").read_bytes() == BIG
    ranges = gets(hub)
    assert ranges[0] is None
    starts = [int(str(text).removeprefix("bytes=").rstrip("-")) for text in ranges[1:]]
    assert starts[:2] == [1_000_000, 1_000_000]
    assert starts == sorted(starts)
    # what was sent twice is at most what was in flight when the connection broke
    assert hub.sent < 1.05 * len(BIG)


def test_a_hub_without_ranges_starts_again(hub: FakeHub) -> None:
    hub.add("org/bert", FILES)
    hub.ranges = False
    hub.cuts["model.safetensors"] = [1_000_000, 2_000_000]
    assert resolve("org/bert").path("model.safetensors").read_bytes() == BIG


def test_an_answer_that_begins_elsewhere_is_not_appended(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.add("org/bert", FILES)
    hub.shift = 10
    hub.cuts["model.safetensors"] = [1_000_000]
    with caplog.at_level(logging.WARNING, "plait.hub"):
        assert resolve("org/bert").path("model.safetensors").read_bytes() == BIG
    assert caplog.messages == [], "no digest had to fail for that"
    assert gets(hub) == [None, "bytes=1000000-", None]


def test_a_connection_that_always_breaks_gives_up(hub: FakeHub, cache: Path) -> None:
    hub.add("org/bert", FILES)
    hub.cuts["model.safetensors"] = [1_000_000] + [0] * 50
    with pytest.raises(HubError) as caught:
        resolve("hf:org/bert")
    assert not isinstance(caught.value, NotFoundError)
    assert "model.safetensors: broke off at byte 1000000 of 5000000, 5 times: RemoteProtocolError" in str(caught.value)
    assert [path.stat().st_size for path in cache.rglob("*.part")] == [1_000_000], "kept, for the next try"
    hub.cuts.clear()
    hub.log.clear()
    assert resolve("hf:org/bert").path("model.safetensors").read_bytes() == BIG
    assert gets(hub) == ["bytes=1000000-"]


def test_wrong_bytes_are_fetched_again(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.add("org/bert", FILES)
    hub.flips = {"model.safetensors": 1, "config.json": 1}
    with caplog.at_level(logging.WARNING, "plait.hub"):
        snapshot = resolve("org/bert")
    assert {name: snapshot.path(name).read_bytes() for name in FILES} == FILES
    assert caplog.messages == [f"{name}: the bytes do not match their digest; fetching them again" for name in FILES]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_bytes_never_land(name: str, hub: FakeHub, cache: Path) -> None:
    hub.add("org/bert", FILES)
    hub.flips = {name: 100}
    with pytest.raises(IntegrityError) as caught:
        resolve("org/bert")
    text = str(caught.value)
    assert text.startswith(f"{name} from {hub.address} does not match its digest: expected ")
    assert text.endswith(
        ", twice. Nothing was kept. The hub or something on the way changes the file; try another hub or mirror."
    )
    assert not [path for path in cache.rglob("*") if path.name.startswith(name)]
    assert not list(cache.rglob("*.part"))


def test_too_many_bytes_never_land(hub: FakeHub, cache: Path) -> None:
    hub.add("org/bert", FILES)
    hub.lengthen = True
    with pytest.raises(IntegrityError) as caught:
        resolve("org/bert")
    assert str(caught.value) == (
        f"config.json from {hub.address} is longer than the 22 bytes of its listing. Nothing was kept."
    )
    assert not list(cache.rglob("*.part"))


def test_a_file_that_is_shorter_than_listed(hub: FakeHub, cache: Path) -> None:
    def listing(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [entry | {"size": 30} if entry["path"] == "config.json" else entry for entry in entries]

    hub.add("org/bert", FILES)
    hub.listing = listing
    with pytest.raises(HubError, match="config.json: broke off at byte 22 of 30, 5 times: no more bytes"):
        resolve("hf:org/bert")
    assert not list(cache.rglob("config.json"))


def test_a_part_that_is_too_long_or_wrong_is_thrown_away(hub: FakeHub, cache: Path) -> None:
    hub.add("org/bert", FILES)
    (cache / "blobs").mkdir(parents=True)
    part = cache / "blobs" / f"{sha256(BIG)}.part"
    part.write_bytes(BIG + b"more")
    assert resolve("org/bert").path("model.safetensors").read_bytes() == BIG
    hub.add("org/next", {"config.json": b"{}", "model.safetensors": BIG[::-1]})
    part = cache / "blobs" / f"{sha256(BIG[::-1])}.part"
    part.write_bytes(b"from another file")
    assert resolve("org/next").path("model.safetensors").read_bytes() == BIG[::-1]
    part.unlink(missing_ok=True)
    hub.add("org/last", {"config.json": b"{}", "model.safetensors": BIG[1:]})
    part = cache / "blobs" / f"{sha256(BIG[1:])}.part"
    part.write_bytes(BIG[1:])  # complete: killed just before the rename
    hub.log.clear()
    assert resolve("org/last").path("model.safetensors").read_bytes() == BIG[1:]
    assert gets(hub) == []


def test_empty_files_and_files_without_digest_or_size(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    def listing(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"type": "file", "path": entry["path"]} for entry in entries if entry["type"] == "file"]

    files = FILES | {"vocab.txt": b""}
    hub.add("org/bert", files)
    assert resolve("org/bert").path("vocab.txt").read_bytes() == b""
    hub.add("org/vague", files)
    hub.listing = listing
    hub.cuts["model.safetensors"] = [1_000_000]
    with caplog.at_level(logging.WARNING, "plait.hub"):
        snapshot = resolve("org/vague")
    assert {name: snapshot.path(name).read_bytes() for name in files} == files
    assert caplog.messages == [f"{hub.address} gives no digest for {name}: it is not verified" for name in files]


def test_force_download_repairs_what_is_damaged_and_fetches_nothing_else(hub: FakeHub) -> None:
    hub.add("org/bert", FILES)
    blob = resolve("org/bert").path("model.safetensors").resolve()
    os.chmod(blob, 0o644)
    blob.write_bytes(BIG[:-1] + b"?")
    hub.log.clear()
    assert resolve("org/bert", force_download=True).path("model.safetensors").read_bytes() == BIG
    assert [path for path in hub.paths() if "/resolve/" in path] == [
        path for path in hub.paths() if path.endswith("model.safetensors")
    ]
    assert len(gets(hub)) == 1


def test_blobs_are_read_only(hub: FakeHub) -> None:
    hub.add("org/bert", FILES)
    assert resolve("org/bert").path("config.json").stat().st_mode & 0o222 == 0


def test_without_links_files_are_copied(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError("a privilege is not held by the client")

    monkeypatch.setattr("plait.hub.repository.os.symlink", refuse)
    hub.add("org/bert", FILES)
    snapshot = resolve("org/bert")
    assert not snapshot.path("model.safetensors").is_symlink()
    assert snapshot.path("model.safetensors").read_bytes() == BIG
    hub.log.clear()
    assert resolve("org/bert").folder == snapshot.folder
    assert hub.log == []


def test_no_room(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/bert", FILES)
    monkeypatch.setattr("plait.hub.cache.shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(HubError, match=r"model.safetensors needs 5.00 MB and the disk of .* has 0.00 MB free."):
        resolve("org/bert")


# The child dies when the k-th block of the big file has been written.
KILLED = """
import os, signal, sys
import plait.hub.download as module
from plait.hub import resolve
point = int(sys.argv[1])
count = 0
class Killer:
    def __init__(self, hash): self.hash = hash
    def update(self, data):
        global count
        self.hash.update(data)
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
    def hexdigest(self): return self.hash.hexdigest()
make = module.fresh_hash
module.fresh_hash = lambda digest, size: Killer(make(digest, size)) if size and size > 1000 else make(digest, size)
print(resolve("hf:org/bert").folder)
"""


def test_killed_and_resumed_in_another_process(hub: FakeHub, cache: Path, python: Python) -> None:
    hub.add("org/bert", FILES)
    result = python(KILLED, "4")
    assert result.returncode == -signal.SIGKILL, result.stderr
    (part,) = cache.rglob("*.part")
    size = part.stat().st_size
    assert 0 < size < len(BIG)
    assert not list(cache.rglob("model.safetensors")), "nothing half made is visible"
    hub.log.clear()
    assert resolve("hf:org/bert").path("model.safetensors").read_bytes() == BIG
    assert gets(hub) == [f"bytes={size}-"]
    assert not list(cache.rglob("*.part"))


def test_two_processes_fetch_each_file_once(hub: FakeHub) -> None:
    hub.add("org/bert", FILES)
    code = (
        "from plait.hub import resolve; print(resolve('hf:org/bert').path('model.safetensors').read_bytes().hex()[:64])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert out.strip() == BIG[:32].hex(), err
    assert len(gets(hub)) == 1


def test_threads_fetch_each_file_once(hub: FakeHub) -> None:
    hub.add("org/bert", FILES)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(resolve("hf:org/bert").path("model.safetensors").read_bytes()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BIG] * 4
    assert len(gets(hub)) == 1


@pytest.mark.parametrize("seed", range(40))
def test_any_mixture_of_faults(seed: int, hub: FakeHub, cache: Path) -> None:
    """Whatever happens, the result is the right bytes or an error; and the next quiet try succeeds."""
    chance = random.Random(seed)
    names = {"config.json": 30, "tokenizer.json": 5_000, "model.safetensors": 300_000}
    files = {name: chance.randbytes(size) for name, size in names.items()}
    hub.add("org/bert", files)
    hub.ranges = chance.random() < 0.7
    for name, size in names.items():
        hub.cuts[name] = [chance.randrange(size) for _ in range(chance.randrange(4))]
        hub.flips[name] = chance.choice([0, 0, 0, 1, 2])
        hub.statuses[f"/{name}"] = chance.choices([200, 500, 503, 429, 408, 404], [9, 2, 2, 2, 2, 0.3], k=3)
        hub.statuses[f"/{name}"] = [status for status in hub.statuses[f"/{name}"] if status != 200]
    try:
        snapshot = resolve("hf:org/bert")
    except HubError:
        pass
    else:
        assert {name: snapshot.path(name).read_bytes() for name in files} == files
    for path in cache.glob("hubs/**/snapshots/*/*"):
        assert path.read_bytes() == files[path.name]
    for blob in cache.glob("blobs/" + "?" * 64):
        assert sha256(blob.read_bytes()) == blob.name
    hub.cuts, hub.flips, hub.statuses = {}, {}, {}
    snapshot = resolve("hf:org/bert")
    assert {name: snapshot.path(name).read_bytes() for name in files} == files
