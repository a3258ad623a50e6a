"""The picture of a regression, complete: predicted against actual values, as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plait.errors import require

if TYPE_CHECKING:
    from plait.tabular.report import Report

# Families that write Chinese, Japanese and Korean, after those that every installation has.
_FAMILIES = [
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
]


def family_for(text: str) -> str | None:
    """The first known font family installed here that has a glyph for every letter of `text`, or None."""
    manager = require("matplotlib.font_manager", extra="tabular", purpose="draw plots")
    installed = {font.name: font.fname for font in manager.fontManager.ttflist}
    for family in _FAMILIES:
        if family in installed:
            font = manager.get_font(installed[family])
            if all(font.get_char_index(ord(letter)) for letter in text if not letter.isspace()):
                return family
    return None


def predicted_against_actual(report: Report, path: Path) -> Path:
    """One panel for the model and one for its best baseline; on the diagonal a prediction is exact. Returns `path`."""
    figures = require("matplotlib.figure", extra="tabular", purpose="draw plots")
    model, *others = report.predictions
    scores = report.scores
    rivals = [name for name in others if name != "mean"] or others
    shown = [model, *([min(rivals, key=lambda name: scores[name].mae)] if rivals else [])]

    unit, in_unit = (f" [{report.unit}]", f" {report.unit}") if report.unit else ("", "")
    family = family_for(report.target)
    label = (report.target if family else report.label) + unit
    font = {"family": family} if family else {}
    everything = np.concatenate([report.actual, *(report.predictions[name] for name in shown)])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.03 * (high - low or 1.0)
    limits = (low - margin, high + margin)

    figure = figures.Figure(figsize=(5.2 * len(shown), 5.2), dpi=120, layout="constrained")
    panels: Any = figure.subplots(1, len(shown), squeeze=False)[0]
    for panel, name in zip(panels, shown, strict=True):
        panel.plot(limits, limits, color="0.45", linewidth=1, label="exact")
        panel.scatter(report.actual, report.predictions[name], s=9, alpha=0.35, linewidths=0, color="#1f6fb4")
        panel.set(xlim=limits, ylim=limits, aspect="equal")
        panel.set_xlabel(f"actual {label}", **font)
        panel.set_ylabel(f"predicted {label}", **font)
        score = scores[name]
        errors = f"MAE {score.mae:.3g}{in_unit}, RMSE {score.rmse:.3g}{in_unit}, R² {score.r2:.3f}"
        panel.set_title(f"{name}\n{errors}", fontsize=10)
        panel.grid(color="0.9")
        panel.set_axisbelow(True)
        panel.legend(loc="upper left", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
