"""Where a reference was looked for, complete: every place with its result, in order, and the error made of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from plait.errors import HubError, NotFoundError, OfflineError
from plait.hub.reference import Reference


class NotHere(Exception):
    """One place does not have it: `reason` says why; `sure` whether the place itself said so (and did not just fail).

    It never leaves the package: `Trail` turns the collected reasons into one error.
    """

    def __init__(self, reason: str, *, sure: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sure = sure


@dataclass(kw_only=True)
class Trail:
    """The places tried for one reference."""

    reference: Reference
    offline: bool
    steps: list[tuple[str, str]] = field(default_factory=list)
    sure: bool = True

    def add(self, place: str, miss: NotHere) -> None:
        """Record that `place` did not have it."""
        self.steps.append((place, miss.reason))
        self.sure = self.sure and miss.sure

    def error(self, advice: str) -> HubError:
        """The error that lists all places: `OfflineError` when offline, `NotFoundError` when every place answered no,
        else `HubError`."""
        kind = OfflineError if self.offline else NotFoundError if self.sure else HubError
        if self.offline:
            first = f"{str(self.reference)!r} is not on this computer, and the network is switched off."
            advice = (
                "Run once with the network (without PLAIT_OFFLINE, HF_HUB_OFFLINE and local_files_only) to fetch it."
            )
        else:
            first = (
                f"{str(self.reference)!r} was not found." if self.sure else f"{str(self.reference)!r} was not fetched."
            )
        places = "".join(f"\n  - {place}: {result}" for place, result in self.steps)
        return kind(f"{first} Places tried, in order:{places}\n{advice}")
