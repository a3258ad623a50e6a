"""A look inside a model as PNG files, complete: maps of attention, statistics of the layers, and what they would say.

attention.png            every layer (down) and head (across)
attention-layer-03.png   the heads of one layer, with the tokens
statistics.png           lengths of vectors, and entropies of attention
sayings.png              of language models: the likeliest word after each layer
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from plait.errors import require
from plait.inside.reading import Look
from plait.train.report import figure

MOST_LABELS = 40  # more tokens than that are labelled one by two, three, …
_MOST_SAID = 16  # tokens in the picture of what would be said; the page has all
_LETTERS = 12  # of a token in a label


def draw(look: Look, folder: Path) -> Iterator[tuple[str, Path]]:
    """Write the pictures into `folder`, one after the other, each with what it shows."""
    yield "Attention of every layer (down) and head (across)", _overview(look, folder / "attention.png")
    yield "Statistics of the layers", _statistics(look, folder / "statistics.png")
    if look.sayings is not None:
        yield told(look), _sayings(look, folder / "sayings.png")
    for layer in range(look.layers):
        yield f"Attention in layer {layer}", _layer(look, layer, folder / f"attention-layer-{layer:02}.png")


def told(look: Look) -> str:
    """What the sayings of a look are."""
    return "What each layer would put in each place" if look.in_place else "What each layer would say next"


def _overview(look: Look, path: Path) -> Path:
    layers, heads, count = look.attentions.shape[:3]
    gap = max(1, count // 10)
    width, height = max(4.4, 0.5 * heads + 2.4), max(2.6, 0.5 * layers + 1.4)
    with figure(path, width=width, height=height, layout="compressed") as (canvas, _):
        axes = canvas.subplots()
        axes.set_title(_titled(look, "attention of each layer and head"), fontsize=10)
        image = _mosaic(axes, look.attentions.numpy(), columns=heads, gap=gap)
        axes.set_xticks([head * (count + gap) + count / 2 for head in range(heads)], range(heads), fontsize=8)
        axes.set_yticks([layer * (count + gap) + gap + count / 2 for layer in range(layers)], range(layers), fontsize=8)
        axes.set_xlabel("head (across), layer (down)")
        canvas.colorbar(image, ax=axes, shrink=min(1.0, 6 / layers), label="weight")
    return path


def _titled(look: Look, title: str) -> str:
    return f"{look.stack}, {title}" if look.stack else title


def _layer(look: Look, layer: int, path: Path) -> Path:
    """The heads of one layer beside each other, with a label for each token while these can be read."""
    heads, count = look.attentions.shape[1:3]
    columns = min(heads, 4 if count <= MOST_LABELS // 2 else 3)
    rows = -(-heads // columns)
    gap = max(2, count // 8)  # with the head's name in it
    side = min(6.0, max(2.2, 0.15 * min(count, MOST_LABELS) + 0.4))
    step = -(-count // MOST_LABELS)
    labelled = range(0, count, step)
    width, height = max(6.0, side * columns + 1.6), side * rows + 1.2  # the title takes 5 inches
    # The labels are the same in every layer: one line in the log is enough where they are escaped.
    with figure(path, width=width, height=height, layout="compressed", tells=layer == 0) as (canvas, fonts):
        axes = canvas.subplots()
        image = _mosaic(axes, look.attentions[layer, None].numpy(), columns=columns, gap=gap)
        for head in range(heads):
            x, y = head % columns * (count + gap), head // columns * (count + gap) + gap
            title = f"head {head} · {look.entropies[layer, head]:.1f} bits"
            axes.text(x + count / 2 - 0.5, y - 1, title, ha="center", va="bottom", fontsize=8)
        shown = [fonts.text(_short(look.tokens[place])) for place in labelled]
        across = [column * (count + gap) + place for column in range(columns) for place in labelled]
        down = [row * (count + gap) + gap + place for row in range(rows) for place in labelled]
        axes.set_xticks(across, shown * columns, rotation=90, fontsize=6.5)
        axes.set_yticks(down, shown * rows, fontsize=6.5)
        axes.tick_params(length=1, pad=1)
        title = f"layer {layer}: which tokens (across) each token (down) takes up"
        axes.set_title(_titled(look, title), fontsize=10)
        canvas.colorbar(image, ax=axes, shrink=0.5, label="weight")
    return path


def _mosaic(axes: Any, maps: Any, *, columns: int, gap: int) -> Any:
    """Maps (R, C, T, T) as one image, which is drawn as fast as one map: `columns` of them in a row, with `gap` cells
    between them and above each."""
    colors = require("matplotlib.colors", extra="train", purpose="draw attention maps")
    maps = maps.reshape(-1, *maps.shape[2:])
    count, rows = maps.shape[1], -(-len(maps) // columns)
    whole = np.full((rows * (count + gap), columns * (count + gap) - gap), np.nan, dtype=np.float32)
    for index, each in enumerate(maps):
        y, x = index // columns * (count + gap) + gap, index % columns * (count + gap)
        whole[y : y + count, x : x + count] = each
    axes.set_facecolor("#e4e4e4")
    for side in axes.spines.values():
        side.set_visible(False)
    # Colours go with the root of a weight, so that attention to many tokens is seen beside that to one.
    scale = colors.PowerNorm(0.5, vmin=0, vmax=1)
    return axes.imshow(whole, cmap="Blues", norm=scale, aspect="equal", interpolation="nearest")


def _short(token: str) -> str:
    return token if len(token) <= _LETTERS else token[: _LETTERS - 1] + "…"


def _statistics(look: Look, path: Path) -> Path:
    with figure(path, width=11, height=max(3.4, 0.16 * look.layers + 2.2)) as (canvas, _):
        lengths, entropies = canvas.subplots(1, 2)
        canvas.suptitle(_titled(look, "statistics of the layers"), fontsize=10)
        norms = look.norms.numpy()
        states = range(len(norms))
        lengths.fill_between(states, norms.min(axis=1), norms.max(axis=1), alpha=0.2, label="all tokens")
        lengths.plot(states, norms.mean(axis=1), marker="o", markersize=3, label="mean")
        if norms.max() > 20 * max(1e-9, norms.min()):
            lengths.set_yscale("log")
        lengths.set(xlabel="layers passed", ylabel="length of the tokens' vectors")
        lengths.xaxis.get_major_locator().set_params(integer=True)
        lengths.grid(alpha=0.3)
        lengths.legend()
        image = entropies.imshow(look.entropies.numpy(), cmap="viridis", vmin=0, aspect="auto")
        entropies.set(xlabel="head", ylabel="layer")
        for axis in (entropies.xaxis, entropies.yaxis):
            axis.get_major_locator().set_params(integer=True)
        canvas.colorbar(image, ax=entropies, label="entropy of attention (bits)")
    return path


def _sayings(look: Look, path: Path) -> Path:
    """The likeliest word in each cell, coloured by its probability; the last layer on top."""
    assert look.sayings is not None
    first = max(0, len(look.tokens) - _MOST_SAID)
    tokens, states = look.tokens[first:], look.sayings[::-1]
    with figure(path, width=max(5.0, 0.85 * len(tokens) + 1.6), height=0.26 * len(states) + 1.4) as (canvas, fonts):
        axes = canvas.subplots()
        best = [[state[first + place][0] for place in range(len(tokens))] for state in states]
        image = axes.imshow([[odds for _, odds in row] for row in best], cmap="YlGn", vmin=0, vmax=1, aspect="auto")
        for row, cells in enumerate(best):
            for column, (word, odds) in enumerate(cells):
                colour = "white" if odds > 0.7 else "black"
                shown = fonts.text(_short(word))
                axes.text(column, row, shown, ha="center", va="center", fontsize=7, color=colour, clip_on=True)
        axes.set_xticks(range(len(tokens)), [fonts.text(_short(token)) for token in tokens], fontsize=8)
        if max(map(len, tokens)) > 7:
            axes.tick_params(axis="x", rotation=30)
        axes.set_yticks(range(len(states)), [str(len(states) - 1 - row) for row in range(len(states))], fontsize=8)
        axes.set_title(told(look), fontsize=10)
        where = "in the place of the token" if look.in_place else "after the token"
        axes.set(xlabel=where + (f" (the last {len(tokens)})" if first else ""), ylabel="layers passed")
        canvas.colorbar(image, ax=axes, label="probability")
    return path
