"""Derive reviews.csv: a thousand sentences of film reviews with what people felt in them, half of them positive.

Complete in one file: the sentences and their ratings are read from the source archive of vaderSentiment 3.3.2, which
holds the data set of Hutto & Gilbert (ICWSM 2014). See README.md beside this file for sources and licences.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python examples/data/derive_reviews.py vaderSentiment-3.3.2.tar.gz [output.csv]
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"  # id, mean rating from -4 to 4, sentence; by tabs
CLEAR = 1.0  # a mean rating nearer to neutral than this is no example of either label
LENGTHS = range(20, 201)  # characters
COUNT = 500  # sentences of each label


def sentences(archive: Path) -> Iterator[tuple[int, float, str]]:
    """Every sentence of the data set that is clear and of ordinary length, as (id, mean rating, sentence)."""
    with tarfile.open(archive) as outer:
        inner = outer.extractfile(INNER)
        if inner is None:
            raise FileNotFoundError(
                f"{archive} holds no {INNER}; it should be the source archive of vaderSentiment 3.3.2"
            )
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as data:
            table = data.extractfile(TABLE)
            if table is None:
                raise FileNotFoundError(f"{INNER} holds no {TABLE}")
            text = table.read().decode("utf-8")
    for line in text.splitlines():
        number, rating, sentence = line.split("\t", 2)
        sentence = " ".join(html.unescape(sentence).replace("''", '"').split())
        if abs(float(rating)) >= CLEAR and len(sentence) in LENGTHS:
            yield int(number), float(rating), sentence


def derive(archive: Path) -> list[dict[str, object]]:
    """The table as it is written: COUNT sentences of each label, chosen and ordered by the digest of their text."""

    def digest(row: tuple[int, float, str]) -> str:
        return hashlib.sha256(row[2].encode()).hexdigest()

    ordered = sorted({row[2]: row for row in sentences(archive)}.values(), key=digest)
    chosen = [row for row in ordered if row[1] > 0][:COUNT] + [row for row in ordered if row[1] < 0][:COUNT]
    return [
        {"id": number, "text": sentence, "rating": f"{rating:.2f}", "label": int(rating > 0)}
        for number, rating, sentence in sorted(chosen, key=digest)
    ]


if __name__ == "__main__":
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("reviews.csv")
    rows = derive(Path(sys.argv[1]))
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} sentences -> {output}")
