"""The README of a trained model, complete: what it came from, what it was trained on, how, and what it scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from plait.train.arguments import TrainingArguments

# Arguments that say where and how often, not what was learnt.
_ASIDE = ("output_dir", "logging_dir", "run_name", "report_to", "disable_tqdm", "label_names", "save_total_limit")


def card(
    args: TrainingArguments, history: Sequence[Mapping[str, Any]], *, name: str, facts: Mapping[str, Any]
) -> str:  # fmt: skip
    """A page of Markdown. `facts` go to its YAML, where they are given: language, license, base_model, tags, datasets.

    `history` is the log of the run; each evaluation is a row of the table.
    """
    given = {key: value for key, value in facts.items() if value}
    top = ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in given.items()), "---"]
    defaults = type(args)().to_dict()
    changed = {key: value for key, value in args.to_dict().items() if value != defaults[key] and key not in _ASIDE}
    lines = [*top, "", f"# {name}", ""]
    if origin := given.get("base_model"):
        lines += [f"Trained from {origin}.", ""]
    if data := given.get("datasets"):
        lines += [f"Trained on {', '.join(data)}.", ""]
    lines += ["## Training", "", "| argument | value |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in sorted(changed.items())] or ["| all | as by default |"]
    if scores := [entry for entry in history if any(key.startswith("eval_") for key in entry)]:
        lines += ["", "## Evaluations", "", *_table(scores)]
    return "\n".join([*lines, ""])


def _table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    speeds = ("_runtime", "_per_second")
    names = dict.fromkeys(key for entry in entries for key in entry if not key.endswith(speeds) and key != "step")
    columns = ["step", *names]
    rows = [[_shown(entry.get(column)) for column in columns] for entry in entries]
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
