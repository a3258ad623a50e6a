"""A question and a table as ids, complete: tokens that know their column, row and rank (TAPAS, arXiv:2004.02349 §2).

    [CLS] how many [SEP] name age ann 56 bob 45
      0    0   0     0    1   2   1   2  1   2     column
      0    0   0     0    0   0   1   1  2   2     row; the header is row 0

A table is a DataFrame, {column: cells}, or a list of {column: cell}. Cells that are no texts are written as `str` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.disk import replaced, write_json
from plait.errors import OptionError, TokenizerError
from plait.text import options, pad, quantities
from plait.text.encoding import BatchEncoding
from plait.text.load import read_json
from plait.text.tokenizer import Tokenizer

KINDS = ("segment_ids", "column_ids", "row_ids", "prev_labels", "column_ranks", "inv_column_ranks", "numeric_relations")
EMPTY = "[EMPTY]"
CLASS = "TapasTokenizer"
_NAN = float("nan")
_NOTHING = ("n/a", "?", "nan")


@dataclass(frozen=True)
class Table:
    """The names of the columns, and rows of texts."""

    columns: list[str]
    rows: list[list[str]]

    @classmethod
    def of(cls, given: Any) -> Table:
        """From any of the forms above. Raises OptionError for another, and for columns of different lengths."""
        if isinstance(given, Table):
            return given
        if hasattr(given, "columns") and hasattr(given, "itertuples"):
            columns, rows = list(given.columns), [list(row) for row in given.itertuples(index=False, name=None)]
        elif isinstance(given, Mapping):
            columns, lengths = list(given), {len(cells) for cells in given.values()}
            if len(lengths) > 1:
                raise OptionError(f"The columns of a table must have the same length, but have {sorted(lengths)}.")
            rows = [list(row) for row in zip(*given.values(), strict=True)]
        elif isinstance(given, Sequence) and given and all(isinstance(row, Mapping) for row in given):
            columns = list(given[0])
            rows = [[row[name] for name in columns] for row in given]
        else:
            raise OptionError(
                f"A table is a DataFrame, {{column: cells}} or a list of {{column: cell}}, but this is a "
                f"{type(given).__name__}."
            )
        return cls([str(name) for name in columns], [[str(cell) for cell in row] for row in rows])


@dataclass(frozen=True)
class _Piece:
    """A token of a cell: its column from 1, its row (0 the header), and where in the cell its word begins."""

    token: str
    column: int
    row: int
    begins: int


class TableTokenizer:
    """A BERT tokenizer for questions on tables; everything else is that tokenizer's.

    `cell_trim_length` is the most tokens of a cell (-1: as many as fit), `max_row_id` and `max_column_id` are one more
    than the most rows and columns, by default `model_max_length`. `strip_column_names` leaves their names out.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        cell_trim_length: int = -1,
        max_column_id: int | None = None,
        max_row_id: int | None = None,
        strip_column_names: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.cell_trim_length = cell_trim_length
        self.max_column_id = max_column_id or tokenizer.model_max_length
        self.max_row_id = max_row_id or tokenizer.model_max_length
        self.strip_column_names = strip_column_names

    @classmethod
    def around(cls, tokenizer: Tokenizer) -> TableTokenizer:
        """With the settings that tokenizer_config.json has beside those of the tokenizer itself."""
        names = ("cell_trim_length", "max_column_id", "max_row_id", "strip_column_names")
        given = {name: tokenizer.init_kwargs[name] for name in names if name in tokenizer.init_kwargs}
        return cls(tokenizer, **given)

    def __getattr__(self, name: str) -> Any:
        if name == "tokenizer":  # copy and pickle ask before it is there
            raise AttributeError(name)
        return getattr(self.tokenizer, name)

    def __len__(self) -> int:
        return len(self.tokenizer)

    # -- encoding -----------------------------------------------------------------------------------------------------

    def __call__(
        self,
        table: Any,
        queries: str | Sequence[str] | None = None,
        answer_coordinates: Any = None,
        *,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        previous: Sequence[Sequence[tuple[int, int]]] | None = None,
    ) -> BatchEncoding:
        """`input_ids` (T), `attention_mask` (T) and `token_type_ids` (T, 7) of one query; of a list, a list of each.

        `answer_coordinates`: for one query the (row, column) of each cell of the answer, from 0, for several a list of
        those; makes `labels` (T), 1 at the tokens of the answer, and for learning from answers alone `numeric_values`
        (T), the number of each token's cell or NaN, and `numeric_values_scale` (T), how many tokens the cell has. In a
        list, the answers of a query mark the cells of the next one, as in a conversation; `previous` says them instead.
        `truncation` ("drop_rows_to_fit") shortens
        cells to whole words and then drops rows, to fit `max_length`, by default the model's. Raises TokenizerError
        where even the header does not fit, or a cell of an answer is not there.
        """
        if queries is None:
            raise OptionError("A question on a table needs both: tokenizer(table=…, queries=…).")
        if truncation not in (False, True, "drop_rows_to_fit", "do_not_truncate"):
            raise OptionError(f"truncation={truncation!r} is not a choice: 'drop_rows_to_fit' or 'do_not_truncate'.")
        single = isinstance(queries, str)
        asked = [queries] if isinstance(queries, str) else list(queries)
        answers = [answer_coordinates] if single and answer_coordinates is not None else answer_coordinates
        if answers is not None and len(answers) != len(asked):
            raise OptionError(f"There are {len(asked)} queries, but answer_coordinates for {len(answers)}.")
        before = previous if previous is not None else [[], *answers[:-1]] if answers else [[]] * len(asked)
        whole, cuts = Table.of(table), truncation in (True, "drop_rows_to_fit")
        pieces = self._pieces(whole, cuts=cuts)
        numbers = [quantities.column([row[index] for row in whole.rows]) for index in range(len(whole.columns))]
        rows = []
        for index, query in enumerate(asked):
            answer = None if answers is None else answers[index]
            rows.append(self._row(query, pieces, numbers, answer, before[index], cuts=cuts, limit=max_length))
        return self._batch(rows, padding, max_length, return_tensors, single=single)

    def _row(
        self,
        query: str,
        pieces: list[_Piece],
        numbers: list[dict[int, quantities.Value]],
        answer: Any,
        before: Sequence[tuple[int, int]],
        *,
        cuts: bool,
        limit: int | None,
    ) -> dict[str, Any]:
        """The columns of one question."""
        question = self.tokens(query)
        room = (self.tokenizer.model_max_length if limit is None else limit) - len(question) - 2
        kept = self._fitting(pieces, room) if cuts else pieces
        frame = [self.tokenizer.cls_token, *question, self.tokenizer.sep_token]
        ids = self.tokenizer.convert_tokens_to_ids([*frame, *(piece.token for piece in kept)])
        if limit is not None and len(ids) > limit:
            raise TokenizerError(
                f"The question and the header of the table take {len(ids)} tokens, more than max_length={limit}. Pass "
                "truncation=True to drop rows, or a larger max_length."
            )
        asked = quantities.values(quantities.simple(query))
        ranks = [quantities.ranks(found) for found in numbers]
        related = [quantities.relations(asked, found) for found in numbers]
        marked = self._marked(kept, before)
        kinds = [[0] * len(KINDS)] * len(frame)
        for piece, mark in zip(kept, marked, strict=True):
            column, row = piece.column - 1, piece.row - 1
            low, high = ranks[column].get(row, (0, 0))
            kinds.append([1, piece.column, piece.row, mark, low, high, related[column].get(row, 0)])
        made = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": kinds}
        if answer is None:
            return made
        lengths = Counter((piece.row, piece.column) for piece in kept if piece.row)
        read = [numbers[piece.column - 1].get(piece.row - 1) for piece in kept]
        scales = [float(lengths.get((piece.row, piece.column), 1)) for piece in kept]
        return {
            **made,
            "labels": [0] * len(frame) + self._marked(kept, answer),
            "numeric_values": [_NAN] * len(frame) + [value if isinstance(value, float) else _NAN for value in read],
            "numeric_values_scale": [1.0] * len(frame) + scales,
        }

    @staticmethod
    def _marked(pieces: list[_Piece], cells: Sequence[tuple[int, int]]) -> list[int]:
        """1 at the tokens of the `cells`, (row, column) from 0."""
        wanted = {(row + 1, column + 1) for row, column in cells}
        if missing := wanted - {(piece.row, piece.column) for piece in pieces}:
            row, column = min(missing)
            raise TokenizerError(
                f"The answer is in row {row - 1} and column {column - 1}, which the table does not have, or not any "
                "more after truncation."
            )
        return [int((piece.row, piece.column) in wanted) for piece in pieces]

    # -- the table's tokens -------------------------------------------------------------------------------------------

    def tokens(self, text: str) -> list[str]:
        """The tokens of a question, a name or a cell; `[EMPTY]` for one without letters and digits, or "n/a"."""
        plain = text.strip().lower()
        if text and (plain in _NOTHING or not any(letter.isalnum() for letter in plain)):
            return [EMPTY]
        return self.tokenizer.tokenize(text)

    def _pieces(self, table: Table, *, cuts: bool) -> list[_Piece]:
        """All tokens of a table, row by row. Raises TokenizerError for one that is too large."""
        if len(table.columns) >= self.max_column_id:
            raise TokenizerError(f"The table has {len(table.columns)} columns; at most {self.max_column_id - 1} fit.")
        if len(table.rows) >= self.max_row_id and not cuts:
            raise TokenizerError(
                f"The table has {len(table.rows)} rows; at most {self.max_row_id - 1} fit. Pass truncation=True to "
                "drop the others."
            )
        names = [""] * len(table.columns) if self.strip_column_names else table.columns
        pieces = []
        for row, cells in enumerate([names, *table.rows[: self.max_row_id - 1]]):
            for column, cell in enumerate(cells):
                begins = 0
                for place, token in enumerate(self.tokens(cell)):
                    begins = begins if token.startswith("##") else place
                    pieces.append(_Piece(token, column + 1, row, begins))
        return pieces

    def _fitting(self, pieces: list[_Piece], room: int) -> list[_Piece]:
        """The tokens that fit: as many of each cell as possible, whole words, and then as many rows."""
        longest = max((piece.begins for piece in pieces), default=0) + 1
        trim = self.cell_trim_length
        most = longest if trim < 0 else min(longest, trim)
        last = max((piece.row for piece in pieces), default=0)
        for rows in range(last, 0, -1) if last else [0]:
            above = [piece for piece in pieces if piece.row <= rows]
            # With a trim length cells are that long and no shorter.
            for length in range(most, 0, -1) if trim < 0 else [most]:
                kept = [piece for piece in above if piece.begins < length]
                if len(kept) <= room:
                    return kept
        return [piece for piece in pieces if piece.row == 0 and piece.begins < 1]

    # -- a batch ------------------------------------------------------------------------------------------------------

    def _batch(
        self,
        rows: list[dict[str, Any]],
        padding: bool | str,
        max_length: int | None,
        tensors: str | None,
        *,
        single: bool,
    ) -> BatchEncoding:
        plan = options.plan(
            padding=padding,
            truncation=False,
            max_length=max_length,
            stride=0,
            overflow=False,
            pad_to_multiple_of=None,
            padding_side=self.tokenizer.padding_side,
            truncation_side="right",
            model_max_length=self.tokenizer.model_max_length,
            special=0,
        )
        width = plan.width(max((len(row["input_ids"]) for row in rows), default=0)) if plan.padding else 0
        fills: dict[str, Any] = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": [0] * len(KINDS)}
        fills |= {"numeric_values": _NAN, "numeric_values_scale": 1.0}
        columns = {
            name: pad.fill_lists([row[name] for row in rows], width, value=fills.get(name, 0), side=plan.padding_side)
            for name in (rows[0] if rows else ())
        }
        if pad.framework(tensors) is not None:
            return BatchEncoding(columns, tensor_type=tensors)
        return BatchEncoding({name: values[0] if single else values for name, values in columns.items()})

    def save_pretrained(self, save_directory: str | Path) -> tuple[str, ...]:
        """The tokenizer's files, with the settings of tables, and vocab.txt, which transformers' tokenizer reads."""
        folder = Path(save_directory)
        paths = self.tokenizer.save_pretrained(folder)
        config = read_json(folder / "tokenizer_config.json")
        own = ("cell_trim_length", "max_column_id", "max_row_id", "strip_column_names")
        config |= {"tokenizer_class": CLASS, **{name: getattr(self, name) for name in own}}
        write_json(folder / "tokenizer_config.json", config)
        words = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        with replaced(folder / "vocab.txt") as aside:
            aside.write_text("".join(f"{word}\n" for word, _ in words), encoding="utf-8")
        return (*paths, str(folder / "vocab.txt"))

    # -- answers ------------------------------------------------------------------------------------------------------

    def convert_logits_to_predictions(
        self, data: Mapping[str, Any], logits: Any, logits_agg: Any = None, cell_classification_threshold: float = 0.5
    ) -> tuple[Any, ...]:
        """The cells of each answer, (row, column) from 0 in order, and the number of its operation.

        A cell is chosen where the mean probability of its tokens exceeds the threshold. `data` is what `__call__`
        returned as tensors, `logits` (B, T) and `logits_agg` (B, A) what the model made of it.
        """
        answers = []
        for index in range(len(logits)):
            chances = probabilities(data["token_type_ids"][index], data["attention_mask"][index], logits[index])
            answers.append(sorted(cell for cell, chance in chances.items() if chance > cell_classification_threshold))
        return (answers,) if logits_agg is None else (answers, logits_agg.argmax(-1).tolist())


def probabilities(kinds: Any, valid: Any, logits: Any) -> dict[tuple[int, int], float]:
    """The mean probability of the tokens of each cell, (row, column) from 0, of one question.

    `kinds` (T, 7), `valid` (T) and `logits` (T): tensors or arrays.
    """
    import numpy as np

    kinds, valid, scores = (np.asarray(part) for part in (kinds, valid, logits))
    chances = valid / (1 + np.exp(-scores.clip(min=-88.7)))  # exp(88.8) is beyond float32
    found: dict[tuple[int, int], list[float]] = {}
    for (segment, column, row), chance in zip(kinds[:, :3].tolist(), chances.tolist(), strict=True):
        if segment == 1 and column > 0 and row > 0:
            found.setdefault((row - 1, column - 1), []).append(chance)
    return {cell: float(np.mean(each)) for cell, each in found.items()}


def reads_tables(tokenizer: Tokenizer, folder: Path) -> bool:
    """Whether a folder's tokenizer is one of tables: by its class, or by the model type where no class is named."""
    kind = tokenizer.init_kwargs.get("tokenizer_class")
    if kind is not None:
        return bool(kind in (CLASS, "TapasTokenizerFast"))
    return read_json(folder / "config.json").get("model_type") == "tapas"
