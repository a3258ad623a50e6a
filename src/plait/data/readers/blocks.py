"""CSV as blocks of text and floats, complete: Arrow's parser over a stream, with rows of any length.

Small blocks are parsed in memory that is used again and again, which is much faster than large ones. A row that is
longer than a block is found out by the parser: the file is then read anew in larger blocks, and what was given is
passed over. In the same way columns that are known to be floats are parsed as such, without being text first, until
one holds something else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv

from plait.data.readers.fields import plain_floats

BLOCK_BYTES = 1 << 20
LONGEST_BYTES = 1 << 30  # of a row


def text_blocks(
    open_stream: Callable[[], Any],
    names: list[str],
    chosen: list[str],
    skip_rows: int,
    missing: list[str],
    options: pyarrow.csv.ParseOptions,
    floats: Callable[[], Collection[str]] = tuple,
    float_words: Collection[str] = (),
) -> Iterator[pa.RecordBatch]:
    """The rows of one file as text: record batches of the `chosen` ones of its columns, called `names`.

    `skip_rows` are lines above the first row; unquoted fields that are one of `missing` are null. `floats`, asked after
    the first batch, names columns to parse as floats from there on while they hold nothing else; `float_words` are then
    null as well, in every column. Raises `pa.ArrowInvalid` for what is no CSV.
    """
    given, size = 0, BLOCK_BYTES
    known: Collection[str] | None = None  # the columns that are parsed as floats; `None`: not asked yet
    while True:
        passed = given  # rows that were given already
        types = {name: pa.float64() if name in (known or ()) else pa.string() for name in names}
        words = [*missing, *float_words] if known else missing
        try:
            with open_stream() as stream:
                for batch in _parser(stream, types, chosen, skip_rows, words, options, size):
                    fresh = batch.slice(passed)
                    passed = max(0, passed - batch.num_rows)
                    if not fresh.num_rows:
                        continue
                    if given and known is None and (known := floats()):
                        break
                    if known and not _plain(fresh, known):
                        known = ()
                        break
                    given += fresh.num_rows
                    yield fresh
                else:
                    return
        except pa.ArrowInvalid as error:
            if known:
                known = ()  # a field that is no number, or something else that is told again
            elif "straddl" not in str(error) or size >= LONGEST_BYTES:
                raise
            else:
                size *= 8


def _plain(batch: pa.RecordBatch, known: Collection[str]) -> bool:
    return all(
        plain_floats(array) for name, array in zip(batch.schema.names, batch.columns, strict=True) if name in known
    )


def _parser(
    stream: Any,
    types: dict[str, pa.DataType],
    chosen: list[str],
    skip_rows: int,
    missing: list[str],
    options: pyarrow.csv.ParseOptions,
    size: int,
) -> Any:
    return pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(
            block_size=size, use_threads=False, column_names=[*types], skip_rows=skip_rows
        ),
        parse_options=options,
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types,
            null_values=missing,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            include_columns=chosen,
        ),
    )
