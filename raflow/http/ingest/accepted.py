"""Accepted results that wait for a flush: as record batches, because many small objects cost too much while they wait.

The garbage collector looks at all that lives long again and again: for a second's results, a tenth of the time
and pauses of 60 ms in which nothing is answered, measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa

from raflow.batch import one_batch
from raflow.http.ingest.conversion import Conversion, Results

_LOT_S = 0.001
"""How long requests may wait for a conversion."""
_FIRST, _MOST = 64, 512


class Accepted:
    """Converts results in small lots, as they come. Used on the event loop only.

    Args:
        schema: As of `Conversion`.
        dropped: Told of each result that does not fit and has no dead letter.
        letter: Makes the dead letter of a row of a batch that does not fit only when it is written.
    """

    def __init__(
        self,
        schema: pa.Schema | None,
        dropped: Callable[[Exception], None],
        letter: Callable[[pa.RecordBatch, int, Exception], dict[str, Any]] | None = None,
    ) -> None:
        self._conversion = Conversion(schema)
        self._dropped = dropped
        self._letter = letter
        self._fresh: list[Results] = []
        self._records = 0
        self._lot_records = _FIRST
        self._lots: list[Results] = []

    def __bool__(self) -> bool:
        return bool(self._fresh or self._lots)

    def add(self, results: Results) -> None:
        """Take the results of a request; some are left for whoever takes them to convert.

        Those are large ones, and lists, which are the results of one record: all are written, or none.
        """
        if results.is_batch or results.size > _MOST or any(type(one) is list for one in results.values):
            self._convert()
            self._lots.append(results)
            return
        self._fresh.append(results)
        self._records += results.size
        if self._records >= self._lot_records:
            self._convert()

    def take(self) -> list[Results]:
        """Return all that was added, in its order; together of the same size."""
        self._convert()
        lots, self._lots = self._lots, []
        return lots

    def forget(self, schema: pa.Schema | None) -> None:
        """Know this schema only: a sink has refused what was of another one."""
        self._conversion.schema = schema

    def _convert(self) -> None:
        if not self._fresh:
            return
        fresh, records, began = self._fresh, self._records, time.perf_counter()
        self._fresh, self._records = [], 0
        try:
            batches = self._conversion.batches(fresh)
        except Exception:
            self._lots += fresh  # the flush meets the same error, and deals with it
            return
        letters = [letter for one in fresh for letter in one.all_letters()]
        for one in fresh:
            for misfit in one.misfits.values() if one.letter is None else ():
                self._dropped(misfit)
            one.misfits.clear()  # the reply tells of none that is found later, either
        self._lots.append(self._lot(batches, records - len(letters), letters))
        took = time.perf_counter() - began
        self._lot_records = max(1, min(int(records * _LOT_S / took), 2 * self._lot_records, _MOST))

    def _lot(self, batches: list[pa.RecordBatch], records: int, letters: list[dict[str, Any]]) -> Results:
        if not batches:
            return Results([], False, records, letters=letters)
        rows = one_batch(batches)
        letter = None if self._letter is None else partial(self._letter, rows)
        return Results(rows, True, records, letters=letters, letter=letter, is_lot=True)
