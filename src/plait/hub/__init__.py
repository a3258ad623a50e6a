"""Models and data sets by name: a reference becomes a verified local folder. The public names, complete."""

from plait.hub.reference import Reference, parse_reference
from plait.hub.resolve import resolve
from plait.hub.snapshot import Snapshot

__all__ = ["Reference", "Snapshot", "parse_reference", "resolve"]
