"""Questions on tables, complete: which cells answer, and what is done with them (TAPAS, arXiv:2004.02349)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from plait.errors import OptionError
from plait.pipelines.base import Pipeline
from plait.text.tables import Table, probabilities

_PREVIOUS = 3  # which kind of segment marks the cells of the answer before
_CHOSEN = 0.5


class TableQuestionAnsweringPipeline(Pipeline):
    """A table and a question to {"answer": …, "coordinates": [(row, column), …], "cells": [text, …]}, and the
    "aggregator" of a model that has some; several questions to a list.

    `sequential` asks one question after the other, each with the cells of the answer before marked, as models of
    conversations want it. `padding` and `truncation` are the tokenizer's; by default rows that do not fit are dropped.
    """

    def __call__(self, inputs: Any = None, query: Any = None, *, table: Any = None, **options: Any) -> Any:
        """`(table, query)`, {"table": …, "query": …}, or a list of those."""
        inputs = table if inputs is None else inputs
        if query is not None:
            inputs = {"table": inputs, "query": query}
        given = [inputs] if isinstance(inputs, Mapping) else inputs
        whole = isinstance(given, Sequence) and all(isinstance(item, Mapping) for item in given)
        if not whole or not all({"table", "query"} <= {*item} for item in given):
            raise OptionError(
                'Give a table and a query: pipeline(table, "…"), {"table": …, "query": …} or a list of those.'
            )
        return super().__call__(inputs, **options)

    def answer(
        self,
        items: list[Any],
        *,
        sequential: bool = False,
        padding: bool | str = True,
        truncation: bool | str = "drop_rows_to_fit",
    ) -> list[Any]:
        """The answers to each item's questions."""
        return [self._answered(item, sequential, padding, truncation) for item in items]

    def _answered(self, item: Mapping[str, Any], sequential: bool, padding: Any, truncation: Any) -> Any:
        table, query = Table.of(item["table"]), item["query"]
        if not table.rows or not query:
            raise OptionError("The table has no rows." if not table.rows else "The query is empty.")
        queries = [query] if isinstance(query, str) else list(query)
        inputs = self.tokenizer(table, queries, padding=padding, truncation=truncation, return_tensors="pt")
        with torch.no_grad():
            logits, operations = self._in_turn(inputs) if sequential else self._at_once(inputs)
        cells = self.tokenizer.convert_logits_to_predictions(inputs, logits)[0]
        chosen = [None] * len(queries) if operations is None else operations.argmax(dim=-1).tolist()
        answers = [self._told(table, each, operation) for each, operation in zip(cells, chosen, strict=True)]
        return answers[0] if len(answers) == 1 else answers

    def _at_once(self, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """Scores of tokens (B, T), and of operations (B, A) or None."""
        outputs = self.model(**{name: part.to(self.device) for name, part in inputs.items()})
        operations = outputs.logits_aggregation
        return outputs.logits.float().cpu(), None if operations is None else operations.float().cpu()

    def _in_turn(self, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """The same, each question with the answer before it marked."""
        logits, operations = [], []
        chances: dict[tuple[int, int], float] = {}
        for index in range(len(inputs["input_ids"])):
            alone = {name: part[index : index + 1] for name, part in inputs.items()}
            kinds = alone["token_type_ids"][0]
            for place, (_, column, row) in enumerate(kinds[:, :3].tolist()):
                kinds[place, _PREVIOUS] = int(chances.get((row - 1, column - 1), 0.0) > _CHOSEN)
            scores, chosen = self._at_once(alone)
            chances = probabilities(kinds, alone["attention_mask"][0], scores[0])
            logits.append(scores)
            operations.append(chosen)
        return torch.cat(logits), None if operations[0] is None else torch.cat(operations)

    def _told(self, table: Table, cells: list[tuple[int, int]], operation: int | None) -> dict[str, Any]:
        texts = [table.rows[row][column] for row, column in cells]
        answer = {"answer": ", ".join(texts), "coordinates": cells, "cells": texts}
        names = self.model.config.get("aggregation_labels")
        if operation is None or not names:
            return answer
        name = names.get(str(operation), names.get(operation))
        if operation != self.model.config.get("no_aggregation_label_index"):
            answer["answer"] = f"{name} > {answer['answer']}"
        return {**answer, "aggregator": name}
