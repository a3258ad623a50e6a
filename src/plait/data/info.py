"""What is said about a data set, complete: the fields of dataset_info.json that describe it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from plait.data.features import Features


@dataclass
class DatasetInfo:
    """A description, a citation, where the data come from, and the features."""

    description: str = ""
    citation: str = ""
    homepage: str = ""
    license: str = ""
    features: Features | None = None
    builder_name: str | None = None
    dataset_name: str | None = None
    config_name: str | None = None
    version: Any = None
    splits: dict[str, Any] | None = None
    download_size: int | None = None
    dataset_size: int | None = None
    others: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self, features: Features) -> dict[str, Any]:
        """The JSON object that datasets writes beside the data; fields without a value are left out."""
        found: dict[str, Any] = dict(self.others)
        for name in (
            "builder_name",
            "config_name",
            "dataset_name",
            "dataset_size",
            "download_size",
            "splits",
            "version",
        ):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        found |= {name: getattr(self, name) for name in ("citation", "description", "homepage", "license")}
        return {**found, "features": features.to_dict()}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> DatasetInfo:
        """The description in a JSON object; what is not known here is kept as it is."""
        known = {name for name in cls.__dataclass_fields__ if name not in ("features", "others")}
        info = cls(**{name: value for name, value in found.items() if name in known and value is not None})
        if found.get("features") is not None:
            info.features = Features.from_dict(found["features"])
        info.others = {name: value for name, value in found.items() if name not in known and name != "features"}
        return info
