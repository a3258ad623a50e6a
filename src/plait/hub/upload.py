"""Uploads, complete: a repository of data sets at a hub of Hugging Face's protocol, looked at and committed to.

The requests are huggingface_hub's. A token goes to the origin that it belongs to: one that is passed or in HF_TOKEN to
HF_ENDPOINT, one of `hf auth login` to huggingface.co alone. A commit is one step: all of its files or none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plait import __version__, settings
from plait.errors import HubError, OfflineError, ReferenceFormatError
from plait.hub.names import path_problem, repository_problem, revision_problem
from plait.hub.session import Session
from plait.hub.sources.huggingface import HuggingFace
from plait.hub.trail import NotHere

_KIND = "dataset"
_HUGGINGFACE = "https://huggingface.co"
_TEXT_LIMIT = 16 << 20  # bytes of a README


class Moved(Exception):
    """Another commit came between looking and committing: look again."""


@dataclass(frozen=True)
class Seen:
    """A repository as it is at one commit: its files and their sizes in bytes."""

    commit: str
    files: Mapping[str, int] = field(default_factory=dict)


class Destination:
    """One repository of data sets to upload to, at one branch. Made when it does not exist; see `open`.

    Raises `ReferenceFormatError` for a name or branch that is none, `OfflineError` when the network is switched off,
    `HubError` when the hub refuses.
    """

    def __init__(self, name: str, *, token: str | None = None, revision: str | None = None) -> None:
        name = name.removeprefix("hf:")
        if problem := repository_problem(name) or (revision_problem(revision) if revision else None):
            raise ReferenceFormatError(f"{name!r} cannot be uploaded to: {problem}.")
        if settings.offline():
            raise OfflineError(f"{name} was not uploaded: the network is switched off (PLAIT_OFFLINE, HF_HUB_OFFLINE).")
        self.name = name
        self.revision = revision or "main"
        self.endpoint = settings.huggingface_endpoint()
        self.token = token or settings.huggingface_token()
        if not self.token:
            raise HubError(
                f"{name} was not uploaded to {self.endpoint}: uploading needs a token that may write. Pass token=, set "
                f"HF_TOKEN, or run `hf auth login`."
            )
        from huggingface_hub import HfApi

        self._api = HfApi(self.endpoint, token=self.token, library_name="plait", library_version=__version__)

    def open(self, *, private: bool | None = None) -> None:
        """Make the repository and the branch where they are not there yet; `private` counts for a new one only."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with _told(self, "opened"):
            try:
                self.name = self._api.repo_info(self.name, repo_type=_KIND).id
            except RepositoryNotFoundError:
                made = self._api.create_repo(self.name, repo_type=_KIND, private=private, exist_ok=True)
                self.name = made.repo_id
            if self.revision != "main" and not self.revision.startswith("refs/pr/"):
                self._api.create_branch(self.name, branch=self.revision, repo_type=_KIND, exist_ok=True)

    def look(self) -> Seen:
        """The files that the branch holds now."""
        with _told(self, "read"):
            info = self._api.dataset_info(self.name, revision=self.revision, files_metadata=True)
        return Seen(str(info.sha), {file.rfilename: int(file.size or 0) for file in info.siblings or ()})

    def text(self, path: str, seen: Seen) -> str | None:
        """A text file as it is at a commit; `None` when there is none."""
        if path not in seen.files:
            return None
        hub = HuggingFace(self.endpoint, self.token)
        address = f"{self.endpoint}/datasets/{self.name}/resolve/{seen.commit}/{path}"
        content = bytearray()
        try:
            with (
                Session(self.endpoint, headers=hub.headers(), proxies=None) as session,
                session.get(address) as response,
            ):
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _TEXT_LIMIT:
                        raise HubError(f"{path} of {self.name} has more than {_TEXT_LIMIT} bytes.")
        except NotHere as miss:
            raise HubError(f"{path} of {self.name} could not be read: {self.endpoint} {miss.reason}.") from miss
        return content.decode("utf-8")

    def commit(
        self,
        additions: Mapping[str, Path | bytes],
        deletions: Iterable[str],
        *,
        seen: Seen,
        message: str,
        description: str | None = None,
        create_pr: bool = False,
    ) -> Any:
        """Add and delete files in one step, on top of the commit that was seen; returns huggingface_hub's `CommitInfo`.

        Raises `Moved` when the branch has another commit by now.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        for path in additions:
            if problem := path_problem(path):
                raise ReferenceFormatError(f"{path!r} cannot be the name of a file to upload: {problem}.")
        with contextlib.ExitStack() as opened, _told(self, "written"):
            operations: list[Any] = []
            for path, content in additions.items():
                given: Any = content if isinstance(content, bytes) else str(content)
                if not isinstance(content, bytes) and self.endpoint != _HUGGINGFACE:
                    # open files go by LFS, which every mirror speaks; Xet is huggingface.co's own
                    given = opened.enter_context(content.open("rb"))
                operations.append(CommitOperationAdd(path, given))
            operations += [CommitOperationDelete(path) for path in deletions]
            return self._api.create_commit(
                self.name,
                operations=operations,
                commit_message=message,
                commit_description=description,
                repo_type=_KIND,
                revision=self.revision,
                create_pr=create_pr,
                parent_commit=seen.commit,
            )


@contextlib.contextmanager
def _told(destination: Destination, verb: str) -> Iterator[None]:
    """Errors of huggingface_hub as `HubError`s that name the repository, its hub and the remedy; or as `Moved`."""
    from huggingface_hub.errors import HfHubHTTPError

    place = f"{destination.name} could not be {verb}: {destination.endpoint}"
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if verb == "written" and status in (409, 412):
            raise Moved(f"{destination.name} has another commit by now") from error
        said = f" ({error.server_message.strip()})" if error.server_message else ""
        hint = " The token must be allowed to write there." if status in (401, 403, 404) else ""
        raise HubError(f"{place} answered {status}{said}.{hint}") from error
    except Exception as error:
        # by its name: huggingface_hub changes its HTTP library from version to version
        if isinstance(error, OSError) or any(kind.__name__ == "TransportError" for kind in type(error).__mro__):
            raise HubError(f"{place} could not be reached ({type(error).__name__}: {error}).") from error
        raise
