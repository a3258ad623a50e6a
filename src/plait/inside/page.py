"""A look inside a model as one HTML page with its pictures in it, complete: no other file, no script, no network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from html import escape
from pathlib import Path

from plait.disk import replaced
from plait.inside.pictures import draw, told
from plait.inside.reading import Look

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em; color: #222 }
img { max-width: 100%; height: auto } h2 { margin-top: 2em; font-size: 1.1em }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
td, th { padding: 2px 7px; border: 1px solid #ddd; white-space: nowrap; text-align: center } th { background: #f6f6f6 }
td.number { text-align: right; font-variant-numeric: tabular-nums }
"""


def write(look: Look, folder: Path) -> Path:
    """Write the pictures and `index.html`, which holds them as well; returns the page's path.

    Pictures that an earlier look left in `folder`, of more layers or of what they would say, are removed.
    Raises MissingExtraError without matplotlib.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = list(draw(look, folder))
    for file in {*folder.glob("attention-layer-*.png"), folder / "sayings.png"} - {path for _, path in pictures}:
        file.unlink(missing_ok=True)
    page = folder / "index.html"
    with replaced(page) as aside:
        aside.write_text("".join(_lines(look, pictures)), encoding="utf-8")
    return page


def _lines(look: Look, pictures: list[tuple[str, Path]]) -> Iterator[str]:
    title = escape(look.title)
    yield f"<!doctype html>\n<html><head><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style></head>\n"
    heads = look.attentions.shape[1]
    layers = f"{look.layers} layers" + (f" of the {look.stack}" if look.stack else "")
    tokens = f"{len(look.tokens)} tokens" + (f" ({look.left_out} more were left out)" if look.left_out else "")
    yield f"<body><h1>{title}</h1>\n<p>{layers}, {heads} heads, {tokens}: "
    yield " ".join(f"<code>{escape(token)}</code>" for token in look.tokens) + "</p>\n"
    yield from _statistics(look)
    if look.sayings is not None:
        yield from _sayings(look)
    for caption, path in pictures:
        data = b64encode(path.read_bytes()).decode("ascii")
        yield f"<h2>{escape(caption)}</h2>\n<img alt='{escape(caption)}' src='data:image/png;base64,{data}'>\n"
    yield "</body></html>\n"


def _statistics(look: Look) -> Iterator[str]:
    yield "<h2>Layers</h2>\n<div class='scroll'><table><tr><th>layers passed</th><th>mean length of vectors</th>"
    yield "<th>entropy of attention (bits), by head</th></tr>\n"
    for index, norm in enumerate(look.norms.mean(dim=1).tolist()):
        bits = ", ".join(f"{value:.2f}" for value in look.entropies[index - 1].tolist()) if index else ""
        length = f"{norm:.3g}" if norm < 999.5 else f"{norm:,.0f}"
        yield f"<tr><td>{index}</td><td class='number'>{length}</td><td>{bits}</td></tr>\n"
    yield "</table></div>\n"


def _sayings(look: Look) -> Iterator[str]:
    """The likeliest word in each cell, the others behind it when the pointer rests there."""
    assert look.sayings is not None
    yield f"<h2>{told(look)}</h2>\n<div class='scroll'><table><tr><th></th>"
    yield "".join(f"<th>{escape(token)}</th>" for token in look.tokens) + "</tr>\n"
    for index in range(len(look.sayings) - 1, -1, -1):
        yield f"<tr><th>{index}</th>"
        for words in look.sayings[index]:
            word, odds = words[0]
            others = escape(" · ".join(f"{each} {value:.0%}" for each, value in words), quote=True)
            # from white to green; beyond 0.7 the green is dark enough for white letters
            style = f"background: rgb(35 132 67 / {odds:.2f})" + ("; color: white" if odds > 0.7 else "")
            yield f"<td title=\"{others}\" style='{style}'>{escape(word)}</td>"
        yield "</tr>\n"
    yield "</table></div>\n"
