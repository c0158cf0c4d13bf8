"""The failing records of a request as dead letters, for collectors whose `on_error` is a sink."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from starlette.requests import Request

from raflow.errors import RecordError
from raflow.http.ingest.bodies import Brought
from raflow.http.ingest.conversion import Results
from raflow.http.reply import KEY, Reply, shown_path
from raflow.letters import letter, row_as_json


def of_result(collector: str, rows: pa.RecordBatch, place: int, error: Exception) -> dict[str, Any]:
    """Return the dead letter of an accepted result, whose request is gone when a sink refuses it."""
    return letter(
        row_as_json(rows, place), error, processor=collector, attempt=1, position="the result of an accepted record"
    )


class Failing:
    """Makes the dead letters of one request.

    Args:
        collector: Name of the collector.
        request: It.
        brought: By it, with what is wrong so far.
    """

    def __init__(self, collector: str, request: Request, brought: Brought) -> None:
        self._collector = collector
        self._scope = request.scope
        self._brought = brought
        self._rows = brought.rows
        self._told: BaseException | None = None

    def into(self, results: Results) -> None:
        """Have a request's failing records written with its results, and those that fail only then."""
        problems = self._brought.problems
        results.letters = [
            self._record(row, problems[row].error or RecordError(problems[row].message)) for row in sorted(problems)
        ]
        results.letter = self._result

    def _result(self, place: int, error: Exception) -> dict[str, Any]:
        return self._record(self._rows[place], error)

    def _record(self, row: int, error: BaseException) -> dict[str, Any]:
        reply: Reply = self._scope[KEY]
        request = f"{self._scope['method']} {shown_path(self._scope)}, request {reply.request_id.decode()}"
        position, traced = f"{request}, record {row}", error is not self._told
        self._told = error
        record = self._brought.text(row)
        return letter(record, error, processor=self._collector, attempt=1, position=position, traced=traced)
