"""What users of `pandas.read_csv` write, complete: options that mean nothing or are refused; words, types, names."""

from __future__ import annotations

from typing import Any

from plait.data.dtypes import arrow_type

# why they mean nothing here
WITHOUT_EFFECT = {
    "chunksize": "files are read in blocks of bytes, whatever their number of rows",
    "engine": "there is one parser",
    "low_memory": "memory does not grow with the file",
    "memory_map": "files are read as streams",
    "float_precision": "numbers are read exactly",
    "verbose": "the progress bar tells how far it is",
    "mangle_dupe_cols": "repeated names are numbered",
    "cache_dates": "dates are parsed by column",
}
# what to do instead
REFUSED = {
    "lineterminator": "lines end with \\n, \\r\\n or \\r",
    "prefix": "give names",
    "na_filter": "keep_default_na=False leaves empty fields alone as missing values",
    "delim_whitespace": "give sep=r'\\s+'",
    "error_bad_lines": "give on_bad_lines='skip'",
    "warn_bad_lines": "give on_bad_lines='warn'",
    "dayfirst": "give date_format, for example date_format='%d/%m/%Y'",
    "date_parser": "give date_format, for example date_format='%d/%m/%Y'",
    "infer_datetime_format": "give date_format, for example date_format='%d/%m/%Y'",
    "keep_date_col": "add the other column with map()",
    "squeeze": "a data set always has columns",
    "compression": "a file is decompressed by its suffix",
}


def distinct(names: list[str]) -> list[str]:
    """Names with repeated ones numbered as pandas does: a, a.1, a.2; a nameless column is "Unnamed: 3"."""
    names = [name or f"Unnamed: {index}" for index, name in enumerate(names)]
    found: list[str] = []
    for name in names:
        number, candidate = 0, name
        while candidate in found or (number and candidate in names):
            number += 1
            candidate = f"{name}.{number}"
        found.append(candidate)
    return found


def words_of(given: Any) -> list[str]:
    """Words for missing values, which may be given as numbers: -999 is also written -999.0."""
    found: list[str] = []
    for item in [] if given is None else [given] if isinstance(given, str | int | float) else given:
        found.append(str(item))
        if isinstance(item, int | float) and item == int(item):
            found += [str(int(item)), str(float(item))]
    return list(dict.fromkeys(found))


def type_name(kind: Any) -> str:
    """The name of a type given as pandas takes it: a name, a Python type or a NumPy dtype."""
    plain = {str: "string", int: "int64", float: "float64", bool: "bool", object: "string"}
    words = {"str": "string", "object": "string", "int": "int64", "float": "float64", "category": "string"}
    if isinstance(kind, type) and kind in plain:
        return plain[kind]
    text = str(getattr(kind, "name", kind)) if not isinstance(kind, type) else kind.__name__
    text = words.get(text, text)
    arrow_type(text)
    return text
