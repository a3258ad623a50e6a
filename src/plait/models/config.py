"""The configuration of a model, complete: the JSON of config.json with a family's defaults beneath it.

A `Config` keeps every key that it was given, known or not, so that what is read can be written back unchanged. It
answers for both generations of the file format: `torch_dtype` and `dtype` are one value, and so are `rope_theta` with
`rope_scaling` and `rope_parameters`. Labels stay consistent: `num_labels`, `id2label` and `label2id` are three views of
one list. No torch here: dtypes are strings such as "bfloat16".
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plait.console import logger
from plait.disk import replaced
from plait.errors import ConfigError, nearest

# Defaults of every family. They answer for a key that a file leaves out, but are not printed or saved: absence says the
# same.
COMMON: dict[str, Any] = {
    "add_cross_attention": False,
    "architectures": None,
    "bos_token_id": None,
    "chunk_size_feed_forward": 0,
    "dtype": None,
    "eos_token_id": None,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "pad_token_id": None,
    "problem_type": None,
    "return_dict": True,
    "tie_word_embeddings": True,
}
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
_LABEL_KEYS = ("num_labels", "id2label", "label2id")
_ROPE_KEYS = ("rope_theta", "rope_scaling")
_SPELLINGS = {"torch_dtype": "dtype"}
_ABSENT = object()
_SLOTS = ("_values", "_defaults", "_title", "_label", "_spellings")


class View(dict[Any, Any]):
    """What a configuration works out of the values it keeps, to be read: a change would be lost, so it is refused.

    `of` is its key. A copy is an ordinary dictionary.
    """

    def __init__(self, values: Mapping[Any, Any], *, of: str) -> None:
        super().__init__(values)
        self._key = of

    def _refuse(self, *arguments: Any, **named: Any) -> Any:
        raise ConfigError(
            f"`{self._key}` is one of several views of the same values, and a change in it would be lost. Set it as a "
            f"whole: config.{self._key} = {{**config.{self._key}, …}}."
        )

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class Config:
    """The configuration of one model; `Config(model_type="bert", hidden_size=64)` or, from a file, `Config.from_file`.

    Every key of the JSON is an attribute; a key that is absent answers with the family's default. `label` says in error
    messages where the values came from. Raises `ConfigError` for an unknown `model_type` and for labels that contradict
    each other.
    """

    __slots__ = _SLOTS
    _values: dict[str, Any]
    _defaults: dict[str, Any]
    _title: str
    _label: str
    _spellings: Mapping[str, str]

    def __init__(
        self, values: Mapping[str, Any] | None = None, *, label: str = "the configuration", **more: Any
    ) -> None:
        from plait.models.registry import family_of

        given = {**(values or {}), **more}
        family = family_of(given.get("model_type"), label=label)
        object.__setattr__(self, "_label", label)
        object.__setattr__(self, "_title", f"{family.NAME}Config")
        object.__setattr__(self, "_defaults", {**COMMON, **family.DEFAULTS})
        object.__setattr__(self, "_spellings", {**_SPELLINGS, **getattr(family, "SPELLINGS", {})})
        object.__setattr__(self, "_values", {})
        self.update(given)

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, label: str | None = None, model_type: str | None = None
    ) -> Config:
        """Read config.json; `model_type` stands in where the file does not say it.

        Raises `ConfigError` when the file is not a JSON object or no known `model_type` is named.
        """
        label = label or str(path)
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{label} is not valid JSON: {error}.") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{label} must hold a JSON object, but holds a {type(values).__name__}.")
        if model_type is not None:
            values.setdefault("model_type", model_type)
        return cls(values, label=label)

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """Where the values came from, for error messages."""
        return self._label

    @property
    def values(self) -> Mapping[str, Any]:
        """The keys that were given, without defaults, as they will be written."""
        return self._values

    def known(self) -> set[str]:
        """Every key that has a meaning here: given, or with a default."""
        return {
            *self._values,
            *self._defaults,
            *_LABEL_KEYS,
            *_ROPE_KEYS,
            *self._spellings,
            "rope_parameters",
            "name_or_path",
        }

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`: as given, else the family's default, else `default`."""
        key = self._spellings.get(key, key)
        if key in _LABEL_KEYS:
            return self._label_view(key)
        if key == "name_or_path":
            return self._values.get("_name_or_path", "")
        if key == "rope_parameters" or key in _ROPE_KEYS:
            return self._rope_view(key)
        if key in self._values:
            return self._values[key]
        return self._defaults.get(key, default)

    def __getattr__(self, key: str) -> Any:
        if key in _SLOTS:  # copy and pickle ask before the slots are filled
            raise AttributeError(key)
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise AttributeError(f"{self._title} has no key {key!r}.{nearest(key, self.known())}")
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def _label_view(self, key: str) -> Any:
        names: dict[int, str] = self._values.get("id2label") or _numbered(2)
        if key == "num_labels":
            return len(names)
        return View(names if key == "id2label" else {name: index for index, name in names.items()}, of=key)

    def _rope_view(self, key: str) -> Any:
        stored = self._values.get("rope_parameters")
        own = self._spellings.get("rope_theta", "rope_theta")
        theta = self._values.get(own, self._defaults.get(own))
        scaling = self._values.get("rope_scaling")
        if key == "rope_parameters":
            if stored is not None:
                return stored
            if theta is None:
                return None
            kind = {} if scaling and "type" in scaling else {"rope_type": "default"}
            return View({**kind, **(scaling or {}), "rope_theta": theta}, of=key)
        if stored is None:
            return theta if key == "rope_theta" else scaling
        if key == "rope_theta":
            return stored.get("rope_theta", theta)
        rest = {name: value for name, value in stored.items() if name != "rope_theta"}
        return None if rest.get("rope_type", "default") == "default" else View(rest, of=key)

    # -- writing ------------------------------------------------------------------------------------------------------

    def __setattr__(self, key: str, value: Any) -> None:
        if key in _SLOTS:  # copy and pickle restore the slots by name
            object.__setattr__(self, key, value)
        else:
            self.update({key: value})

    def __delattr__(self, key: str) -> None:
        """Take out a key that was given, so that the family's default counts again."""
        stored = "id2label" if key in _LABEL_KEYS else self._spellings.get(key, key)
        if stored not in self._values:
            raise AttributeError(f"{self._title} was given no key {key!r}.{nearest(key, self._values)}")
        del self._values[stored]

    def update(self, values: Mapping[str, Any]) -> None:
        """Set several keys at once.

        Raises `ConfigError` when labels, or a problem type and the labels, contradict each other.
        """
        # Where a file has both spellings, the family's own counts.
        spelled = {self._spellings[key]: value for key, value in values.items() if key in self._spellings}
        values = spelled | {key: value for key, value in values.items() if key not in self._spellings}
        if "name_or_path" in values:
            values["_name_or_path"] = values.pop("name_or_path")
        if values.get("dtype") is not None:
            values["dtype"] = str(values["dtype"]).removeprefix("torch.")
        for key in ("rope_scaling", "rope_parameters"):
            if not isinstance(values.get(key), Mapping | None):
                raise ConfigError(f"`{key}` must be an object or null, but is {values[key]!r:.80} ({self._label}).")
        if "rope_parameters" in values:
            for key in _ROPE_KEYS:
                self._values.pop(key, None)
        elif (stored := self._values.get("rope_parameters")) and any(key in values for key in _ROPE_KEYS):
            # One spelling is stored; the other one is written through to it.
            theta = values.pop("rope_theta", stored.get("rope_theta"))
            if "rope_scaling" in values:
                values["rope_parameters"] = {
                    **(values.pop("rope_scaling") or {"rope_type": "default"}),
                    "rope_theta": theta,
                }
            else:
                values["rope_parameters"] = {**stored, "rope_theta": theta}
        labels = {key: values.pop(key) for key in _LABEL_KEYS if key in values}
        self._values.update(values)
        self._set_labels(**labels)
        self._check_problem_type()

    def _set_labels(
        self,
        *,
        num_labels: int | None = None,
        id2label: Mapping[Any, str] | None = None,
        label2id: Mapping[str, Any] | None = None,
    ) -> None:
        names: dict[int, str] | None = None
        if id2label is not None:
            names = _ordered(dict(_pairs("id2label", id2label, self._label)), self._label)
            if label2id is not None and sorted(_pairs("label2id", label2id, self._label)) != sorted(names.items()):
                logger("models").warning(
                    "`label2id` of %s is not the inverse of `id2label`, which is kept.", self._label
                )
        elif label2id is not None:
            names = _ordered(dict(_pairs("label2id", label2id, self._label)), self._label)
        if num_labels is not None:
            if not isinstance(num_labels, int) or num_labels < 1:
                raise ConfigError(
                    f"`num_labels` must be a whole number of at least 1, but is {num_labels!r} ({self._label})."
                )
            if names is not None and len(names) != num_labels:
                raise ConfigError(
                    f"`num_labels` is {num_labels}, but {len(names)} labels are named ({self._label}). Give one of the "
                    "two."
                )
            if names is None and num_labels != self.num_labels:
                names = _numbered(num_labels)
        if names is not None:
            self._values["id2label"] = names

    def _check_problem_type(self) -> None:
        kind = self.problem_type
        if kind is not None and kind not in PROBLEM_TYPES:
            raise ConfigError(
                f"`problem_type` must be one of {', '.join(PROBLEM_TYPES)}, but is {kind!r} "
                f"({self._label}).{nearest(str(kind), PROBLEM_TYPES)}"
            )
        if kind == "single_label_classification" and self.num_labels == 1:
            raise ConfigError(
                f"`problem_type` is single_label_classification, but there is one label ({self._label}). "
                "Set num_labels=2 for a choice of two, or problem_type='regression' for a number."
            )

    # -- as text ------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All keys as JSON values: what was given, and the family's defaults for the rest where they are not None."""
        shown = {key: value for key, value in self._defaults.items() if value is not None and key not in COMMON}
        shown.update((key, value) for key, value in self._defaults.items() if key in COMMON and value != COMMON[key])
        if "rope_parameters" in self._values:
            shown = {key: value for key, value in shown.items() if key not in _ROPE_KEYS}
        shown.update(copy.deepcopy(self._values))
        if "id2label" in self._values:
            shown["id2label"] = {str(index): name for index, name in self.id2label.items()}
            shown["label2id"] = dict(self.label2id)
        return shown

    def to_json_string(self) -> str:
        """The keys of `to_dict`, sorted, as JSON with an indent of two."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False)

    def to_json_file(self, path: str | os.PathLike[str]) -> None:
        """Write the text of `to_json_string` into a file; a reader never sees half of it."""
        with replaced(Path(path)) as aside:
            aside.write_text(self.to_json_string() + "\n", encoding="utf-8")

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write config.json into a folder, which is created when absent; a reader never sees half a file."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.to_json_file(folder / "config.json")

    def __repr__(self) -> str:
        return f"{self._title} {self.to_json_string()}\n"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __dir__(self) -> Iterable[str]:
        return {*super().__dir__(), *self.known()}


def _numbered(count: int) -> dict[int, str]:
    return {index: f"LABEL_{index}" for index in range(count)}


def _pairs(key: str, given: Any, label: str) -> list[tuple[int, str]]:
    """The numbers and names that `id2label` or `label2id` holds. Raises `ConfigError` when it holds something else."""
    numbered = key == "id2label"
    if isinstance(given, Mapping):
        pairs = given.items() if numbered else ((index, name) for name, index in given.items())
        try:
            return [(int(index), str(name)) for index, name in pairs]
        except (TypeError, ValueError):
            pass  # said below
    form, other = ("{0: name, 1: name, …}", "label2id") if numbered else ("{name: 0, name: 1, …}", "id2label")
    raise ConfigError(
        f"`{key}` must have the form {form}, but is {given!r:.80} ({label}). The other way round it is `{other}`."
    )


def _ordered(names: dict[int, str], label: str) -> dict[int, str]:
    if not names or sorted(names) != list(range(len(names))):
        raise ConfigError(f"Labels must be numbered 0 to {len(names) - 1}, but are numbered {sorted(names)} ({label}).")
    if len(set(names.values())) != len(names):
        raise ConfigError(
            f"Labels must have different names, but are {[names[index] for index in sorted(names)]} ({label})."
        )
    return {index: names[index] for index in sorted(names)}
