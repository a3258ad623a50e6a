"""What a hub says a repository holds, complete: the files of one commit, and which of them a use needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from plait.errors import IntegrityError, OptionError, nearest
from plait.hub.names import SHA1, SHA256, listing_problem
from plait.hub.reference import Reference
from plait.hub.trail import NotHere

Kind = Literal["model", "dataset"]
# the names of all files, and a function that brings one of them at once -> the names that are needed
Chooser = Callable[[Collection[str], Callable[[str], Path]], Sequence[str]]
Need = Literal["model", "tokenizer", "config", "all"] | Sequence[str] | Chooser

_CONFIG = ("*config.json",)
_TOKENIZER = (
    *(
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.*",
        "merges.txt",
    ),
    *("*.model", "*.tiktoken", "chat_template.*", "additional_chat_templates/*.jinja"),
)
# Beside the weights: all small texts at the top, and the pooling configuration of sentence encoders.
_MODEL = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "additional_chat_templates/*.jinja", "?_*/config.json")
_WEIGHTS = (r"model(-\d{5}-of-\d{5})?\.safetensors", r"[^/]+\.safetensors", r"pytorch_model(-\d{5}-of-\d{5})?\.bin")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is wanted of a hub: the reference, of which kind, for which use, below which folder; `offline`: no hub can
    be asked for more than other caches hold."""

    reference: Reference
    kind: Kind
    need: Need
    subfolder: str | None
    offline: bool = False


@dataclass(frozen=True)
class RemoteFile:
    """One file of a listing. `digest` is a sha256, or the sha1 that git gives a blob; None: the hub does not say."""

    path: str
    size: int | None
    digest: str | None
    address: str


@dataclass(frozen=True)
class Listing:
    """All files of one commit."""

    commit: str
    files: dict[str, RemoteFile]


def checked(commit: str, files: Iterable[RemoteFile], place: str) -> Listing:
    """A listing whose names, digests and sizes were validated. Raises `IntegrityError`."""
    files = list(files)
    if problem := listing_problem(file.path for file in files):
        raise IntegrityError(f"The listing of {place} is refused: {problem}.")
    if not (SHA1.fullmatch(commit) or SHA256.fullmatch(commit)):
        raise IntegrityError(f"The listing of {place} is refused: {commit!r} is not a commit.")
    for file in files:
        if file.digest is not None and not (SHA1.fullmatch(file.digest) or SHA256.fullmatch(file.digest)):
            raise IntegrityError(f"The listing of {place} is refused: {file.digest!r} is not a digest ({file.path}).")
        if file.size is not None and (not isinstance(file.size, int) or file.size < 0):
            raise IntegrityError(f"The listing of {place} is refused: {file.size!r} is not a size ({file.path}).")
    # git's sha1 covers the size: without it the digest cannot be checked
    files = [
        replace(file, digest=None) if file.size is None and len(file.digest or "") == 40 else file for file in files
    ]
    return Listing(commit, {file.path: file for file in files})


def needed(paths: Collection[str], request: Request, read: Callable[[str], Path]) -> list[str]:
    """The paths, of all of a repository's, that a request needs; sorted.

    "model": configuration, tokenizer and the weights in their safest form (safetensors before .bin, else the only
    GGUF); "tokenizer" and "config" only those; "all"; or patterns such as "data/*.parquet"; or what a function
    chooses, for which `read` brings files beforehand. A reference that names one file needs that (and, of a GGUF in
    several parts, all of them). Raises `NotHere` when there is nothing of the kind.
    """
    need, subfolder = request.need, request.subfolder
    prefix = f"{subfolder}/" if subfolder else ""
    if request.reference.file is not None:
        return _named(paths, prefix + request.reference.file)
    if callable(need):
        return list(need([path[len(prefix) :] for path in paths if path.startswith(prefix)], read))
    inside = sorted(path[len(prefix) :] for path in paths if path.startswith(prefix))
    found = _model(inside) if need == "model" else _matching(inside, _patterns(need))
    if not found:
        what = f"no {need} files" if isinstance(need, str) else f"nothing that matches {', '.join(need)}"
        raise NotHere(f"holds {what}" + (f" in {subfolder!r}" if subfolder else ""))
    return [prefix + path for path in found]


def _patterns(need: str | Sequence[str]) -> Sequence[str]:
    if not isinstance(need, str):
        return need
    named = {"tokenizer": (*_TOKENIZER, *_CONFIG), "config": _CONFIG, "all": ("*",)}
    if need not in named:
        raise OptionError(f"need={need!r} is none of model, tokenizer, config, all.{nearest(need, ['model', *named])}")
    return named[need]


def _matching(paths: list[str], patterns: Sequence[str]) -> list[str]:
    """The paths that match a pattern; `*` alone matches everything, elsewhere a pattern without '/' only the top."""
    return [
        path
        for path in paths
        if any(
            fnmatchcase(path, each) and (each == "*" or path.count("/") <= each.count("/") or "**" in each)
            for each in patterns
        )
    ]


def _model(paths: list[str]) -> list[str]:
    texts = _matching(paths, _MODEL)
    for pattern in _WEIGHTS:
        if weights := [path for path in paths if re.fullmatch(pattern, path)]:
            index = f"{PurePosixPath(weights[0]).suffix}.index.json"
            return sorted(
                {*weights, *(path for path in texts if not path.endswith(".index.json") or path.endswith(index))}
            )
    ggufs = [path for path in paths if path.lower().endswith(".gguf")]
    if len({re.sub(r"-\d{5}-of-\d{5}", "", path) for path in ggufs}) > 1:
        raise NotHere(f"holds several GGUF files; name one, as in org/name/file.gguf: {', '.join(ggufs[:30])}")
    if not ggufs:
        raise NotHere("holds no weights (*.safetensors, pytorch_model*.bin or *.gguf)")
    return sorted({*texts, *ggufs})


def _named(paths: Collection[str], file: str) -> list[str]:
    if file not in paths:
        raise NotHere(f"has no file {file!r}.{nearest(file, paths)}")
    match = re.fullmatch(r"(.+)-\d{5}-of-(\d{5})\.gguf", file)
    if not match:
        return [file]
    return sorted(path for path in paths if re.fullmatch(rf"{re.escape(match[1])}-\d{{5}}-of-{match[2]}\.gguf", path))


def complete(paths: Collection[str], need: Need) -> str | None:
    """What is missing for a use from files whose full listing is unknown (another library's cache), or None."""
    names = {PurePosixPath(path).name for path in paths}
    if need == "config":
        return None if "config.json" in names else "config.json"
    if need == "tokenizer":
        single = _matching(sorted(paths), ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken"))
        return None if single else "a tokenizer"
    if need == "model":
        return None if "config.json" in names or any(name.endswith(".gguf") for name in names) else "config.json"
    return "a list of its files"
