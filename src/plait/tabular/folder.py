"""The folder of a fitted `TabularRegressor`, complete: JSON and safetensors, nothing that runs when it is read.

    regressor.json         features in order with units, means and scales; targets likewise; arguments; backbone
    regressor.safetensors  the adapter and the head
    backbone/              a copy of the backbone, where no hub holds it

A backbone from a hub is kept as its reference and the digest of its tensors; with other weights behind the same name
the folder does not load, rather than predict something else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from plait.errors import ConfigError, NotFoundError, WeightsError
from plait.tabular.estimator import TabularRegressor
from plait.tabular.regressor import FrozenRegressor, fingerprint
from plait.tabular.scaler import Scaler

_FORMAT, _VERSION = "plait.tabular", 1
_JSON, _TENSORS, _BACKBONE = "regressor.json", "regressor.safetensors", "backbone"


def save(regressor: TabularRegressor, folder: Path) -> Path:
    """Write `regressor` into `folder`, the description last: a folder with one is complete. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _JSON).unlink(missing_ok=True)
    model = regressor.model_
    state = {name: value.detach().cpu().contiguous() for name, value in model.trained_state().items()}
    _replace(folder / _TENSORS, lambda path: save_file(state, path, metadata={"format": "pt"}))
    description = {
        "format": _FORMAT,
        "version": _VERSION,
        "features": _with_units(regressor.feature_scaler_, regressor),
        "targets": _with_units(regressor.target_scaler_, regressor),
        "flat": regressor.flat_,
        "backbone": {**_keep_backbone(regressor, folder), "sha256": fingerprint(model.backbone)},
        "arguments": _arguments(regressor),
    }
    text = json.dumps(description, ensure_ascii=False, indent=2) + "\n"
    _replace(folder / _JSON, lambda path: path.write_text(text, encoding="utf-8"))
    return folder


def load(folder: Path, *, backbone: nn.Module | None = None) -> TabularRegressor:
    """Read `folder`; raises `NotFoundError`, `ConfigError` or `WeightsError` when it is not what `save` wrote."""
    description = _description(folder)
    kept = description["backbone"]
    if backbone is None:
        backbone = _open_backbone(folder, kept)
    if fingerprint(backbone) != kept["sha256"]:
        raise WeightsError(
            f"the backbone of {folder} is not the one it was fitted with: {_named(kept)} now holds other tensors. "
            "Pin its version or revision, or pass the right model as backbone="
        )
    arguments = dict(description["arguments"])
    if isinstance(arguments.get("target"), list):
        arguments["target"] = tuple(arguments["target"])
    reference = kept.get("reference") or (str(folder / _BACKBONE) if kept["kind"] == "copy" else backbone)
    regressor = TabularRegressor(reference, **arguments)
    regressor.feature_scaler_ = Scaler.from_json(description["features"])
    regressor.target_scaler_ = Scaler.from_json(description["targets"])
    regressor.flat_ = bool(description["flat"])
    regressor.history_ = []
    model = FrozenRegressor(backbone, len(regressor.feature_scaler_.names), targets=len(regressor.target_scaler_.names))
    _load_tensors(model, folder / _TENSORS)
    regressor.model_ = model.eval()
    return regressor


def _description(folder: Path) -> dict[str, Any]:
    path = folder / _JSON
    if not path.is_file():
        raise NotFoundError(f"{folder} holds no {_JSON}; give a folder that TabularRegressor.save_pretrained wrote")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(description, dict) or description.get("format") != _FORMAT:
        raise ConfigError(f"{path} does not describe a TabularRegressor")
    if description["version"] != _VERSION:
        raise ConfigError(f"{path} is of version {description['version']}; this plait reads version {_VERSION}")
    return description


def _keep_backbone(regressor: TabularRegressor, folder: Path) -> dict[str, Any]:
    """How the folder will find its backbone again: a reference, a copy, or (a foreign module) what its reader gives."""
    source, model = regressor.backbone, regressor.model_.backbone
    if isinstance(source, str | Path) and regressor.pretrained and not Path(source).exists():
        return {"kind": "reference", "reference": str(source)}
    if callable(write := getattr(model, "save_pretrained", None)):
        write(folder / _BACKBONE)
        return {"kind": "copy"}
    return {"kind": "given", "class": type(model).__name__}


def _open_backbone(folder: Path, kept: dict[str, Any]) -> nn.Module:
    from plait.models.auto import AutoModel

    if kept["kind"] == "given":
        raise ConfigError(
            f"{folder} was fitted on a {kept['class']} that cannot be saved with it; pass that module as backbone="
        )
    model: nn.Module = AutoModel.from_pretrained(
        kept["reference"] if kept["kind"] == "reference" else folder / _BACKBONE
    )
    return model


def _load_tensors(model: FrozenRegressor, path: Path) -> None:
    state = load_file(path)
    wanted = {name: tuple(value.shape) for name, value in model.trained_state().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != found:
        raise WeightsError(f"{path} holds {found}, but {_JSON} beside it describes {wanted}")
    with torch.no_grad():
        model.load_trained_state(state)


def _with_units(scaler: Scaler, regressor: TabularRegressor) -> list[dict[str, Any]]:
    units = regressor.units or {}
    return [{**entry, "unit": units.get(entry["name"])} for entry in scaler.to_json()]


def _arguments(regressor: TabularRegressor) -> dict[str, Any]:
    """The constructor's arguments as JSON, without those that are for one computer; a copy of the backbone has the
    weights, however they came about."""
    arguments = {**regressor.get_params(), "pretrained": True, "output_dir": None}
    del arguments["backbone"], arguments["transposed"]
    return arguments


def _named(kept: dict[str, Any]) -> str:
    return str(kept.get("reference") or ("backbone/" if kept["kind"] == "copy" else "the given module"))


def _replace(path: Path, write: Any) -> None:
    """Write beside `path`, then rename over it: a reader sees the old file or the new one, never half of one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
