"""The caches of huggingface_hub and modelscope: used when they hold what is needed, checked once, never written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_hub import FakeHub, git_sha1, sha256

from plait.errors import OfflineError
from plait.hub import resolve

WEIGHTS = bytes(range(256)) * 64
BERT = {"config.json": b'{"model_type": "bert"}', "tokenizer.json": b"{}" * 99, "model.safetensors": WEIGHTS}


def tree_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(folder.rglob("*"))}


@pytest.fixture(autouse=True)
def offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_OFFLINE", "1")


COMMIT = "c" * 40


def huggingface(root: Path, name: str, files: dict[str, bytes], *, kind: str = "models") -> Path:
    """A cache as huggingface_hub lays it out; the snapshot's folder."""
    repository = root / "hub" / f"{kind}--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for path, data in files.items():
        blob = repository / "blobs" / (sha256(data) if len(data) > 100 else git_sha1(data))
        for file in (blob, snapshot / path):
            file.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        (snapshot / path).symlink_to(os.path.relpath(blob, (snapshot / path).parent))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("reference", ["org/bert", "hf:org/bert", "org/bert@main", f"org/bert@{COMMIT}"])
def test_huggingface(reference: str, cache: Path) -> None:
    folder = huggingface(cache.parent / "hf", "org/bert", BERT)
    before = tree_of(cache.parent / "hf")
    snapshot = resolve(reference)
    assert (snapshot.folder, snapshot.origin, snapshot.revision) == (folder, "huggingface cache", COMMIT)
    assert snapshot.path("model.safetensors").read_bytes() == WEIGHTS
    assert tree_of(cache.parent / "hf") == before, "read only"


def test_a_plain_name_and_one_file(cache: Path) -> None:
    huggingface(cache.parent / "hf", "bert-base-uncased", BERT)
    assert resolve("bert-base-uncased").origin == "huggingface cache"
    folder = huggingface(cache.parent / "hf", "org/gguf", {"a.gguf": b"GGUFa", "b.gguf": b"GGUFb"})
    assert resolve("org/gguf/b.gguf").file == folder / "b.gguf"


def test_what_huggingface_hub_itself_downloads(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import snapshot_download

    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    commit = hub.add("org/bert", BERT)
    options = {"endpoint": hub.address, "cache_dir": cache.parent / "hf" / "hub", "token": False}
    there = snapshot_download("org/bert", **options)
    hub.log.clear()
    snapshot = resolve("org/bert")
    assert (snapshot.folder, snapshot.revision) == (Path(there), commit)
    hub.add("org/part", BERT)
    snapshot_download("org/part", allow_patterns=["*.json"], **options)
    hub.log.clear()
    assert resolve("org/part", need="tokenizer").origin == "huggingface cache"
    with pytest.raises(
        OfflineError, match="huggingface_hub cache .*: its copy is incomplete: it lacks model.safetensors"
    ):
        resolve("org/part")
    assert hub.log == []


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        ({"config.json": b"{}"}, "holds no weights (*.safetensors, pytorch_model*.bin or *.gguf)"),
        ({"model.safetensors": WEIGHTS}, "its copy is incomplete: it lacks config.json"),
        (
            {
                "config.json": b"{}",
                "model-00001-of-00003.safetensors": WEIGHTS,
                "model-00003-of-00003.safetensors": WEIGHTS,
            },
            "its copy is incomplete: it lacks model-00002-of-00003.safetensors",
        ),
        (
            {
                "config.json": b"{}",
                "one.safetensors": WEIGHTS,
                "model.safetensors.index.json": b'{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}',
            },
            "its copy is incomplete: it lacks two.safetensors",
        ),
    ],
)
def test_an_incomplete_snapshot_is_not_used(files: dict[str, bytes], lacks: str, cache: Path) -> None:
    huggingface(cache.parent / "hf", "org/bert", files)
    with pytest.raises(OfflineError) as caught:
        resolve("hf:org/bert")
    assert f"  - huggingface_hub cache {cache.parent / 'hf' / 'hub'}: {lacks}\n" in str(caught.value)


def test_an_incomplete_snapshot_is_completed_from_the_hub(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLAIT_OFFLINE")
    huggingface(cache.parent / "hf", "org/bert", {"config.json": b"{}"})
    hub.add("org/bert", BERT)
    assert resolve("org/bert").origin == "huggingface"


def test_a_damaged_file_is_not_used(cache: Path) -> None:
    folder = huggingface(cache.parent / "hf", "org/bert", BERT)
    blob = (folder / "model.safetensors").resolve()
    blob.write_bytes(WEIGHTS[:-1] + b"?")
    with pytest.raises(OfflineError, match="huggingface_hub cache .*: its model.safetensors does not match its digest"):
        resolve("hf:org/bert")


def test_a_file_is_checked_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = huggingface(cache.parent / "hf", "org/bert", BERT)
    resolve("org/bert")

    def refuse(digest: str, size: int) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr("plait.hub.neighbours.fresh_hash", refuse)
    assert resolve("org/bert").folder == folder
    os.utime(folder / "config.json", (1, 1))
    with pytest.raises(AssertionError, match="hashed again"):
        resolve("org/bert")


def test_a_link_out_of_the_cache_is_not_followed(cache: Path) -> None:
    folder = huggingface(cache.parent / "hf", "org/bert", BERT)
    secret = cache.parent / "secret.json"
    secret.write_text("{}")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(secret)
    with pytest.raises(OfflineError, match="its tokenizer.json leads out of the cache, to "):
        resolve("hf:org/bert")


LAYOUTS = [
    "models/org--my.bert/snapshots/master",
    "models/org/my___bert",
    "hub/models/org/my___bert",
    "hub/org/my___bert",
    "org/my___bert",
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reference", ["org/my.bert", "ms:org/my.bert", "ms:org/my.bert@master"])
def test_modelscope(layout: str, reference: str, cache: Path) -> None:
    folder = cache.parent / "ms" / layout
    folder.mkdir(parents=True)
    for name, data in BERT.items():
        (folder / name).write_bytes(data)
    before = tree_of(cache.parent / "ms")
    snapshot = resolve(reference)
    assert (snapshot.folder, snapshot.origin) == (folder, "modelscope cache")
    assert tree_of(cache.parent / "ms") == before
    with pytest.raises(OfflineError):
        resolve("ms:org/my.bert@v2")
    with pytest.raises(OfflineError):
        resolve("hf:org/my.bert")


def test_modelscope_in_the_middle_of_a_download(cache: Path) -> None:
    folder = cache.parent / "ms" / LAYOUTS[0]
    folder.mkdir(parents=True)
    for name in [*BERT, "more.safetensors.incomplete"]:
        (folder / name).write_bytes(b"{}")
    with pytest.raises(OfflineError, match="modelscope cache .*: its copy is incomplete"):
        resolve("ms:org/my.bert")


def test_the_default_folders_of_both_libraries(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for variable in ("HF_HOME", "MODELSCOPE_CACHE"):
        monkeypatch.delenv(variable)
    huggingface(tmp_path / "home" / ".cache" / "huggingface", "org/a", BERT)
    assert resolve("org/a").origin == "huggingface cache"
    for layout in ("models/org--b/snapshots/master", "hub/models/org/c", "hub/org/d"):
        folder = tmp_path / "home" / ".cache" / "modelscope" / layout
        folder.mkdir(parents=True)
        for name, data in BERT.items():
            (folder / name).write_bytes(data)
    for name in "bcd":
        assert resolve(f"org/{name}").origin == "modelscope cache"
