"""The report that a run leaves in its folder, complete.

    log.jsonl          one line per logged entry, written as it happens
    arguments.json     the training arguments        versions.json   of Python, plait and what computes
    curves.png         losses, metrics and the learning rate over the steps
    eval-predictions.png, test-predictions.png
                       of numbers: predicted against actual; of labels: the confusion matrix

Plots need matplotlib (extra `train`); without it the log says how to get it, and the rest is written all the same.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from plait.console import logger
from plait.errors import MissingExtraError, require
from plait.train.callbacks import TrainerCallback
from plait.train.checkpoint import write_json

log = logger("train")

# Families with Chinese characters, as they are called on Linux, macOS and Windows.
_CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB", "Heiti SC", "STHeiti",
    "Arial Unicode MS", "Microsoft YaHei", "SimHei", "SimSun", "Noto Serif CJK SC", "AR PL UMing CN",
)  # fmt: skip
_LATIN = "DejaVu Sans"  # comes with matplotlib
_MOST_CLASSES = 20  # a confusion matrix of more is no longer read cell by cell
_NOISE = ("_runtime", "_per_second", "epoch", "step")


class Fonts:
    """Which fonts a figure uses, and labels as these can show them.

    Text with a character that no font has is escaped (`\\u5b9e`), and the figure carries a note: better than boxes.
    """

    def __init__(self) -> None:
        fonts = require("matplotlib.font_manager", extra="train", purpose="draw plots")
        installed = {font.name for font in fonts.fontManager.ttflist}
        self.families = [_LATIN, *[name for name in _CJK_FONTS if name in installed][:1]]
        self.characters: set[int] = set()
        for family in self.families:
            self.characters |= {*fonts.get_font(fonts.findfont(family)).get_charmap()}
        self.escaped = False

    def text(self, value: object) -> str:
        """`value` as text that can be drawn."""
        words = str(value)
        if {ord(character) for character in words} - {ord("\n")} <= self.characters:
            return words.replace("$", r"\$")  # a dollar sign is a dollar sign, not the start of a formula
        self.escaped = True
        return words.encode("ascii", "backslashreplace").decode()


@contextmanager
def figure(
    path: Path, *, width: float, height: float, layout: str = "constrained", tells: bool = True
) -> Iterator[tuple[Any, Fonts]]:
    """A matplotlib figure and its fonts; written to `path` as PNG at the end of the block. Size in inches.

    `layout` is matplotlib's: "compressed" where axes keep their proportions. `tells`: the log says it where labels are
    escaped, as the figure does.
    """
    matplotlib = require("matplotlib", extra="train", purpose="draw plots")
    figures = require("matplotlib.figure", extra="train", purpose="draw plots")
    fonts = Fonts()
    # Not pyplot: it keeps figures and a window system in global state.
    with matplotlib.rc_context({"font.family": fonts.families, "axes.unicode_minus": False, "font.size": 10}):
        canvas = figures.Figure(figsize=(width, height), layout=layout)
        yield canvas, fonts
        if fonts.escaped:
            note = "Labels are escaped: no installed font has their characters (on Debian: apt install fonts-noto-cjk)."
            # On one line the note takes 6.5 inches.
            canvas.supxlabel(note if width > 6.5 else note.replace(" (", "\n("), fontsize=8, color="gray")
            if tells:
                log.warning("%s: %s", path.name, note)
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, dpi=120)


def plot_curves(history: Sequence[Mapping[str, Any]], path: Path, *, title: str = "") -> None:
    """Draw a log history: losses together, the learning rate, and one panel for each other metric."""
    series: dict[str, list[tuple[int, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if isinstance(value, int | float) and not name.endswith(_NOISE) and name != "train_loss":
                series.setdefault(name, []).append((int(entry.get("step", 0)), float(value)))
    losses = [name for name in series if name.endswith("loss")]
    panels = [losses] * bool(losses) + [[name] for name in sorted(series) if name not in losses]
    if not panels:
        return
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    with figure(path, width=4.5 * columns, height=3.4 * rows) as (canvas, fonts):
        for index, names in enumerate(panels):
            axes = canvas.add_subplot(rows, columns, index + 1)
            for name in names:
                steps, values = zip(*series[name], strict=True)
                axes.plot(steps, values, marker="o" if len(steps) < 30 else None, markersize=3, label=fonts.text(name))
            axes.set_xlabel("step")
            axes.grid(alpha=0.3)
            if len(names) > 1:
                axes.legend()
            else:
                axes.set_title(fonts.text(names[0]))
        if title:
            canvas.suptitle(fonts.text(title))


def plot_regression(
    predicted: Any, actual: Any, path: Path, *, label: str = "target", unit: str = "", title: str = ""
) -> None:
    """Draw predicted against actual values with the line of perfect predictions, and the distribution of errors.

    Arrays of any equal shape, in the unit of the data.
    """
    predicted, actual = np.asarray(predicted, float).reshape(-1), np.asarray(actual, float).reshape(-1)
    error = predicted - actual
    spread = float(((actual - actual.mean()) ** 2).sum())
    scores = [f"MAE {np.abs(error).mean():.4g}", f"RMSE {np.sqrt((error**2).mean()):.4g}"]
    scores += [f"R² {1 - float(error @ error) / spread:.4f}"] if spread else []
    with figure(path, width=10, height=4.8) as (canvas, fonts):
        name = fonts.text(label) + (f" [{fonts.text(unit)}]" if unit else "")
        left, right = canvas.add_subplot(1, 2, 1), canvas.add_subplot(1, 2, 2)
        ends = [float(min(predicted.min(), actual.min())), float(max(predicted.max(), actual.max()))]
        left.plot(ends, ends, color="gray", linewidth=1, label="perfect")
        left.scatter(actual, predicted, s=8, alpha=min(1.0, max(0.1, 300 / len(actual))), edgecolors="none")
        left.set_xlabel(f"actual {name}")
        left.set_ylabel(f"predicted {name}")
        left.set_title(f"{', '.join(scores)}  (n = {len(actual)})")
        left.legend()
        right.hist(error, bins=min(50, max(5, len(error) // 10)))
        right.axvline(0, color="gray", linewidth=1)
        right.set_xlabel(f"predicted − actual {name}")
        right.set_ylabel("rows")
        if title:
            canvas.suptitle(fonts.text(title))


def plot_confusion(
    predicted: Any, actual: Any, path: Path, *, labels: Mapping[int, str] | None = None, title: str = ""
) -> None:
    """Draw how often each label (row) was predicted as each (column). `labels` maps numbers to names."""
    predicted, actual = np.asarray(predicted).reshape(-1), np.asarray(actual).reshape(-1)
    classes = sorted({*predicted.tolist(), *actual.tolist(), *(labels or ())})
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(matrix, (np.searchsorted(classes, actual), np.searchsorted(classes, predicted)), 1)
    accuracy = float(np.trace(matrix)) / max(1, int(matrix.sum()))
    size = min(12.0, 3.2 + 0.6 * len(classes))
    with figure(path, width=size + 1, height=size) as (canvas, fonts):
        names = [fonts.text((labels or {}).get(value, value)) for value in classes]
        axes = canvas.add_subplot()
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        canvas.colorbar(image, ax=axes, label="share of the row", shrink=0.8)
        if len(classes) <= _MOST_CLASSES:
            for row, column in np.ndindex(matrix.shape):
                shade = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=shade)
            axes.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 4 else 0)
            axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("actual")
        axes.set_title(f"accuracy {accuracy:.4f}  (n = {int(matrix.sum())})")
        if title:
            canvas.suptitle(fonts.text(title))


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("plait", "torch", "numpy", "pyarrow", "tokenizers", "safetensors"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


class ReportCallback(TrainerCallback):
    """Writes the report of a run into `folder` as the run goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what the run starts from; a resumed run keeps the lines up to its checkpoint."""
        if state.is_world_process_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "arguments.json", args.to_dict())
            write_json(self.folder / "versions.json", versions())
            lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in state.log_history]
            (self.folder / "log.jsonl").write_text("".join(lines), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Append the newest entry."""
        if state.is_world_process_zero and self.folder.is_dir():
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(state.log_history[-1], ensure_ascii=False) + "\n")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the curves."""
        if state.is_world_process_zero:
            self._draw(plot_curves, state.log_history, path=self.folder / "curves.png", title=args.run_name or "")

    def predictions(self, predicted: Any, actual: Any, *, name: str, labels: Mapping[int, str] | None = None) -> None:
        """Draw what was predicted against what was right as `name`-predictions.png.

        Numbers (as many as there are right ones) or scores of labels (one dimension more); nothing for anything else.
        """
        if not isinstance(predicted, np.ndarray) or not isinstance(actual, np.ndarray):
            return
        path = self.folder / f"{name}-predictions.png"
        if actual.dtype.kind in "iu" and predicted.ndim == actual.ndim + 1:
            counted = actual != -100
            self._draw(plot_confusion, predicted.argmax(-1)[counted], actual[counted], path=path, labels=labels)
        elif actual.dtype.kind == "f" and predicted.size == actual.size:
            self._draw(plot_regression, predicted, actual, path=path)

    def _draw(self, plot: Any, *data: Any, **options: Any) -> None:
        try:
            plot(*data, **options)
        except MissingExtraError as error:
            log.warning("%s is left out of the report: %s", options["path"].name, error)
