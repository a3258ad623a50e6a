"""CSV as blocks of text, complete: Arrow's parser over a stream, with rows of any length.

Small blocks are parsed in memory that is used again and again, which is much faster than large ones. A row that is
longer than a block is found out by the parser: the file is then read anew in larger blocks, and what was given is
passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv

BLOCK_BYTES = 1 << 20
LONGEST_BYTES = 1 << 30  # of a row


def text_blocks(
    open_stream: Callable[[], Any],
    names: list[str],
    chosen: list[str],
    skip_rows: int,
    missing: list[str],
    options: pyarrow.csv.ParseOptions,
) -> Iterator[pa.RecordBatch]:
    """The rows of one file as text: record batches of the `chosen` ones of its columns, called `names`.

    `skip_rows` are lines above the first row; unquoted fields that are one of `missing` are null. Raises
    `pa.ArrowInvalid` for what is no CSV.
    """
    given, size = 0, BLOCK_BYTES
    while True:
        known = given  # rows that smaller blocks gave already
        try:
            with open_stream() as stream:
                for batch in _parser(stream, names, chosen, skip_rows, missing, options, size):
                    fresh = batch.slice(known)
                    known = max(0, known - batch.num_rows)
                    given += fresh.num_rows
                    yield fresh
            return
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error) or size >= LONGEST_BYTES:
                raise
            size *= 8


def _parser(
    stream: Any,
    names: list[str],
    chosen: list[str],
    skip_rows: int,
    missing: list[str],
    options: pyarrow.csv.ParseOptions,
    size: int,
) -> Any:
    return pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(
            block_size=size, use_threads=False, column_names=names, skip_rows=skip_rows
        ),
        parse_options=options,
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=missing,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            include_columns=chosen,
        ),
    )
