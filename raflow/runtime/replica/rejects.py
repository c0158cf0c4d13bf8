"""Records that fail: `on_error` says whether they end the run, are dropped, or are kept in a sink."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from raflow.errors import TooManyErrors
from raflow.letters import batch_of, letter, row_as_json
from raflow.sources import Rejected


class Rejects:
    """The failing records of one unit of work; filled by the threads that read and process it.

    Args:
        processor: Name of the processor.
        attempt: Of the unit.
        on_error: The processor's option: "fail", "skip" or a sink.
        max_errors: Most that may fail; None: any number.
        locate: Says where the n-th record of the unit came from.
    """

    def __init__(
        self,
        processor: str,
        attempt: int,
        *,
        on_error: object,
        max_errors: int | None,
        locate: Callable[[int], str],
    ) -> None:
        self.processor = processor
        self.attempt = attempt
        self.fail = on_error == "fail"
        self.keep = not isinstance(on_error, str)
        self.max_errors = max_errors
        self.locate = locate
        self.count = 0
        self.failed_at: str | None = None
        """The record that ended the run."""
        self._letters: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def unreadable(self, rejected: Rejected) -> None:
        """Take a record that the source could not read; raises if the run must not go on."""
        self._take(rejected.position, rejected.text, rejected.error)

    def record(self, row: int, batch: pa.RecordBatch, error: Exception) -> None:
        """Take a record that the processor failed on; `batch` holds just that record."""
        where = self.locate(row)
        if self.fail:
            self.failed_at = where
            raise error
        self._take(where, _as_text(batch), error)

    def result(self, what: str, error: Exception) -> None:
        """Take a result that cannot be written."""
        self._take("a result", what, error)

    def letters(self) -> pa.RecordBatch | None:
        """Return and forget the dead letters so far, as a batch; None if there are none."""
        with self._lock:
            letters, self._letters = self._letters, []
        return batch_of(letters) if letters else None

    def _take(self, position: str, text: str, error: Exception) -> None:
        if self.fail:
            raise error
        with self._lock:
            self.count += 1
            if self.keep:
                made = letter(text, error, processor=self.processor, attempt=self.attempt, position=position)
                self._letters.append(made)
        if self.max_errors is not None and self.count > self.max_errors:
            msg = f"{self.count} records failed, max_errors is {self.max_errors}; the last one at {position}: {error}"
            raise TooManyErrors(msg) from error


def _as_text(batch: pa.RecordBatch) -> str:
    rows = [row_as_json(batch, row) for row in range(batch.num_rows)]
    return rows[0] if len(rows) == 1 else f"[{', '.join(rows)}]"
